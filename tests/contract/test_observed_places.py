"""Where observed calls take place, observers from the connect on, and figures that survive a reconnect."""

from typing import Any

import anyio
import pytest
from helpers import new_name

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio

MIB = 1 << 20


async def test_calls_tell_their_pool_namespace_image_and_range(aiorbd_cluster: DevCluster) -> None:
    name, namespace = new_name(), new_name()
    told: list[aiorbd.CompletedOperation] = []
    begun: list[aiorbd.StartedOperation] = []
    async with aiorbd.connect(aiorbd_cluster.conffile, observer=told.append, on_start=begun.append) as cluster:
        async with cluster.open_ioctx("rbd") as ioctx:
            await ioctx.namespaces.create(namespace)
        async with cluster.open_ioctx("rbd", namespace) as ioctx:
            await ioctx.create_image(name, 32 * MIB)
            async with ioctx.open_image(name) as image:
                await image.write(b"x" * 512, 1024)
                await image.read(1024, 512)
                await image.write(bytes(2 * MIB), 4 * MIB)
                await image.discard(8 * MIB, 65536)
                await image.flush()
                async with image.writer() as writer:
                    await writer.write(b"y" * 100, 7)
                assert [chunk.offset async for chunk in image.read_extents([(9, 3)])] == [9]
                await image.metadata.set("key", "value")
                async with image.quiesce_watch():
                    pass
            await ioctx.remove_image(name)

    def places(function: str) -> list[tuple[Any, ...]]:
        return [
            (one.pool, one.namespace, one.image, one.offset, one.length) for one in told if one.operation == function
        ]

    assert places("rados_connect") == [(None, "", None, None, 0)]
    assert places("rbd_create4") == [("rbd", namespace, None, None, 0)]
    here = ("rbd", namespace, name)
    assert places("rbd_aio_write2") == [(*here, 1024, 512), (*here, 4 * MIB, 2 * MIB), (*here, 7, 100)]
    assert places("rbd_aio_read2") == [(*here, 1024, 512), (*here, 9, 3)]
    assert places("rbd_aio_discard") == [(*here, 8 * MIB, 65536)]
    assert set(places("rbd_aio_flush")) == {(*here, None, 0)}
    assert places("rbd_metadata_set") == [(*here, None, 0)]
    assert places("rbd_quiesce_watch") == [(*here, None, 0)]
    assert {one.number: one.image for one in begun} == {one.number: one.image for one in told}
    async with aiorbd.connect(aiorbd_cluster.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        await ioctx.namespaces.remove(namespace)


async def test_figures_of_a_shared_connection_survive_a_reconnect(osd: DevCluster, name: str) -> None:
    told: list[aiorbd.CompletedOperation] = []
    counts: list[int] = []

    def writes() -> int:
        return shared.stats.operations["rbd_aio_write2"].count

    connect = lambda: aiorbd.connect(osd.conffile, timeout=30, observer=told.append)  # noqa: E731
    async with aiorbd.SharedConnection(connect) as shared:
        assert (shared.stats.in_flight, shared.stats.operations) == (0, {})
        async with shared.open_ioctx("rbd") as ioctx:
            await ioctx.create_image(name, MIB)
        for _ in range(3):
            with pytest.raises(aiorbd.ConnectionShutdown):
                async with shared.open_image("rbd", name) as image:
                    await image.write(b"x" * 512, 0)
                    await image.flush()
                    counts.append(writes())
                    addresses = {one.address async for one in image.watchers()}
                    for address in addresses:
                        await osd.run("ceph", "osd", "blocklist", "add", address)
                    with anyio.fail_after(30):
                        while True:
                            await image.write(b"y" * 512, 0)
                            await image.flush()
                            counts.append(writes())
        async with shared.open_image("rbd", name) as image:
            counts.append(writes())
    assert counts == sorted(counts)
    assert sum(one.operation == "rados_connect" for one in told) >= 4
    final = shared.stats
    assert final.operations["rados_connect"].count >= 4
    assert (final.in_flight, final.threads) == (0, 0)
