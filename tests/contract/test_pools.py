"""Pools: initialisation, statistics and namespaces."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fix_witness import Witness
from helpers import new_name

import aiorbd
from aiorbd import PoolStats
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio

MIB = 1 << 20


@pytest.fixture
async def pool(cluster: aiorbd.Cluster) -> AsyncIterator[Any]:
    """Yield the I/O context of a new, initialised pool."""
    name = new_name("pool")
    await cluster.create_pool(name)
    async with cluster.open_ioctx(name) as ioctx:
        await ioctx.init_pool()
        yield ioctx
    await cluster.delete_pool(name)


async def test_init(cluster: aiorbd.Cluster, name: str) -> None:
    await cluster.create_pool(name)
    async with cluster.open_ioctx(name) as ioctx:
        with pytest.raises(aiorbd.PoolNotFound):
            async with cluster.open_ioctx("no-such-pool") as other:
                await other.init_pool()
        await ioctx.init_pool()
        await ioctx.init_pool()
        await ioctx.init_pool(force=True)
    command = {"prefix": "osd pool application get", "pool": name, "format": "json"}
    assert json.loads((await cluster.mon_command(command)).output) == {"rbd": {}}
    await cluster.delete_pool(name)


async def test_pool_init_of_a_pool_of_another_application_needs_force(cluster: aiorbd.Cluster, name: str) -> None:
    await cluster.create_pool(name)
    await cluster.mon_command({"prefix": "osd pool application enable", "pool": name, "app": "cephfs"})
    async with cluster.open_ioctx(name) as ioctx:
        with pytest.raises(aiorbd.PermissionError, match=name):
            await ioctx.init_pool()
        await ioctx.init_pool(force=True)
    await cluster.delete_pool(name)


async def test_stats(pool: Any, witness: Witness) -> None:
    assert await pool.pool_stats() == PoolStats(0, 0, 0, 0, 0, 0, 0, 0)
    for name in ("a", "b", "c"):
        await pool.create_image(name, 4 * MIB)
    async with pool.open_image("a") as image:
        await image.create_snapshot("one")
        await image.resize(MIB, allow_shrink=True)
    await pool.trash.move("c")
    stats = await pool.pool_stats()
    assert stats == PoolStats(
        image_count=2,
        image_provisioned_bytes=5 * MIB,
        image_max_provisioned_bytes=8 * MIB,
        image_snap_count=1,
        trash_count=1,
        trash_provisioned_bytes=4 * MIB,
        trash_max_provisioned_bytes=4 * MIB,
        trash_snap_count=0,
    )
    shown = json.loads(await witness.rbd("pool", "stats", pool.pool, "--format", "json"))
    assert shown["images"] == {"count": 2, "provisioned_bytes": 8 * MIB, "snap_count": 1}
    assert shown["trash"] == {"count": 1, "provisioned_bytes": 4 * MIB, "snap_count": 0}


async def test_namespaces(pool: Any, witness: Witness) -> None:
    namespaces = pool.namespaces
    assert await namespaces.names() == []
    assert not await namespaces.exists("one")
    await namespaces.create("one")
    assert await namespaces.exists("one")
    assert await namespaces.names() == ["one"]
    shown = json.loads(await witness.rbd("namespace", "ls", pool.pool, "--format", "json"))
    assert shown == [{"name": "one"}]
    with pytest.raises(aiorbd.NamespaceExists, match=f"namespace 'one' of pool '{pool.pool}'"):
        await namespaces.create("one")
    await namespaces.remove("one")
    assert await namespaces.names() == []
    with pytest.raises(aiorbd.NamespaceNotFound, match="namespace 'one' of pool"):
        await namespaces.remove("one")
    for bad in ("", "a@b", "a/b", "a\0b"):
        with pytest.raises(aiorbd.InvalidArgument, match="must not"):
            await namespaces.create(bad)


async def test_removing_a_namespace_with_images_raises_namespace_busy(cluster: aiorbd.Cluster, pool: Any) -> None:
    await pool.namespaces.create("full")
    async with cluster.open_ioctx(pool.pool, "full") as ioctx:
        await ioctx.create_image("image", MIB)
        with pytest.raises(aiorbd.NamespaceBusy, match="the namespace has images"):
            await pool.namespaces.remove("full")
        await ioctx.remove_image("image")
    await pool.namespaces.remove("full")
    async with cluster.open_ioctx(pool.pool, "gone") as ioctx:
        with pytest.raises(aiorbd.NamespaceNotFound, match=r"no such namespace .*namespace 'gone' of pool"):
            await ioctx.create_image("image", MIB)


async def test_list_returns_many_namespaces(pool: Any) -> None:
    names = {f"namespace-{number:04}" for number in range(120)}
    for name in names:
        await pool.namespaces.create(name)
    assert set(await pool.namespaces.names()) == names


def test_versions(aiorbd_cluster: DevCluster) -> None:
    text = aiorbd_cluster.run_blocking("rbd", "--version").decode()
    assert aiorbd.version() == (1, int(text.split()[2].split(".")[0]), 0)
    assert aiorbd.rados_version()[0] >= 3
