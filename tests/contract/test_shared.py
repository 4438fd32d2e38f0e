"""Connections, I/O contexts and images that tasks share."""

import json
from typing import Any

import anyio
import pytest
from fix_witness import Witness
from helpers import MakeImage

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio


@pytest.fixture
def connects(aiorbd_cluster: DevCluster) -> Any:
    """Return a connect function for a pool, and a list with one item for each call of the function."""
    made = []

    def connect() -> Any:
        made.append(1)
        return aiorbd.connect(aiorbd_cluster.conffile, timeout=30)

    return connect, made


async def watchers(witness: Witness, name: str) -> Any:
    return json.loads(await witness.rbd("status", name, "--format", "json"))["watchers"]


async def test_many_tasks_share_one_image_and_one_connection(
    connects: Any, make_image: MakeImage, witness: Witness
) -> None:
    connect, made = connects
    name, seen = await make_image(), []
    async with aiorbd.SharedConnection(connect) as connections:

        async def use(number: int) -> None:
            async with connections.open_image("rbd", name) as image:
                await image.write(bytes([number]) * 512, number * 512)
                seen.append(image)

        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(use, number)
        assert len(seen) == 50
        assert len(set(map(id, seen))) == 1
        async with connections.open_image("rbd", name, read_only=True) as other:
            assert other is not seen[0]
            assert other.read_only
        async with connections.connect() as cluster, connections.open_ioctx("rbd") as ioctx:
            assert name in await ioctx.list_images()
            assert not cluster.closed
        assert made == [1]
        assert len(await watchers(witness, name)) == 1
    assert seen[0].closed
    assert cluster.closed
    assert await watchers(witness, name) == []


async def test_idle_image_and_connection_are_closed(connects: Any, make_image: MakeImage, witness: Witness) -> None:
    """The image closes first. The I/O context and the connection close once they are idle as well."""
    connect, made = connects
    name = await make_image()
    async with aiorbd.SharedConnection(connect, idle_timeout=0.2) as connections:
        async with connections.open_image("rbd", name) as image:
            await anyio.sleep(0.5)
            assert not image.closed  # in use
        async with connections.open_image("rbd", name) as again:
            assert again is image
        with anyio.fail_after(10):
            while not image.closed:
                await anyio.sleep(0.02)
            while await watchers(witness, name):
                await anyio.sleep(0.02)
        with anyio.fail_after(10):
            while connections._shared:
                await anyio.sleep(0.02)
        async with connections.open_image("rbd", name) as another:
            assert another is not image
        assert made == [1, 1]


async def test_zero_idle_timeout_closes_the_image_at_once(connects: Any, make_image: MakeImage) -> None:
    connect, made = connects
    async with aiorbd.SharedConnection(connect, idle_timeout=0) as connections:
        async with connections.open_image("rbd", await make_image()) as image:
            pass
        assert image.closed
        assert not connections._shared
    assert made == [1]


async def test_failed_or_cancelled_open_is_tried_again(
    connects: Any, ioctx: aiorbd.IoCtx, make_image: MakeImage, name: str
) -> None:
    connect, _ = connects
    async with aiorbd.SharedConnection(connect) as connections:
        for _ in range(2):
            with pytest.raises(aiorbd.ImageNotFound):
                async with connections.open_image("rbd", name):
                    pass
        await ioctx.create_image(name, 1 << 20)
        done = []

        async def use() -> None:
            async with connections.open_image("rbd", name) as image:
                done.append(await image.size())

        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                tasks.start_soon(use)
                tasks.start_soon(use)
                scope.cancel()
                async with connections.open_image("rbd", name):
                    pass
        assert done == [1 << 20] * 2


async def test_blocklisted_connection_is_replaced(osd: DevCluster, name: str) -> None:
    async with aiorbd.SharedConnection(lambda: aiorbd.connect(osd.conffile, timeout=30)) as connections:
        async with connections.open_ioctx("rbd") as ioctx:
            await ioctx.create_image(name, 1 << 20)
        with pytest.raises(aiorbd.ConnectionShutdown):  # the last write of the block is not durable
            async with connections.open_image("rbd", name) as old:
                await old.write(b"x" * 512, 0)
                await old.flush()
                (watcher,) = [one async for one in old.watchers()]
                await old.write(b"y" * 512, 0)
                await osd.run("ceph", "osd", "blocklist", "add", watcher.address)
                with pytest.raises(aiorbd.ConnectionShutdown):
                    while True:
                        await old.flags()
                        async with connections.open_ioctx("rbd") as ioctx:
                            await ioctx.list_images()
                async with connections.open_image("rbd", name, read_only=True) as new:
                    assert await new.read(0, 1) in (b"x", b"y")
                assert not old.closed  # the task that opened the image may still use the object
        assert old.closed
        assert not connections._outdated


async def test_shared_connection_raises_closed_error_outside_its_block(connects: Any) -> None:
    connect, made = connects
    connections = aiorbd.SharedConnection(connect)
    with pytest.raises(aiorbd.ClosedError, match="use it within"):
        async with connections.connect():
            pass
    async with connections:
        with pytest.raises(aiorbd.UsageError, match="open already"):
            await connections.__aenter__()
    with pytest.raises(aiorbd.ClosedError):
        async with connections.open_ioctx("rbd"):
            pass
    assert not made
    with pytest.raises(ValueError, match="negative"):
        aiorbd.SharedConnection(connect, idle_timeout=-1)


async def test_close_closes_all_objects_before_the_block_ends(connects: Any, name: str) -> None:
    connect, _ = connects
    async with aiorbd.SharedConnection(connect, idle_timeout=None) as shared:
        async with shared.open_ioctx("rbd") as ioctx:
            await ioctx.create_image(name, 1 << 20)
        async with shared.open_image("rbd", name) as image, shared.connect() as cluster:
            assert await image.read(0, 1) == b"\0"
        assert not image.closed
        await shared.close()
        assert image.closed
        assert cluster.closed
        await shared.aclose()
        with pytest.raises(aiorbd.ClosedError, match="is not open"):
            async with shared.open_image("rbd", name):
                pass
