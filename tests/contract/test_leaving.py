"""Leaving ``async with``: the writes are durable, or the block raises."""

import itertools
from typing import Any

import anyio
import pytest
from helpers import MakeImage, new_name

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio

MIB = 1 << 20


def flushes(cluster: aiorbd.Cluster) -> Any:
    figures = cluster.stats.operations.get("rbd_aio_flush")
    return 0 if figures is None else figures.count


WRITES = {
    "write": lambda image: image.write(b"x", 0),
    "write of a bytearray": lambda image: image.write(bytearray(b"x"), 0),
    "large write": lambda image: image.write(bytes(2 * MIB), 0),
    "writev": lambda image: image.writev([b"x", b"y"], 0),
    "write_same": lambda image: image.write_same(b"x", 0, 512),
    "write_zeroes": lambda image: image.write_zeroes(0, 4096),
    "discard": lambda image: image.discard(0, 65536),
    "compare_and_write": lambda image: image.compare_and_write(bytes(512), b"x" * 512, 0),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_leaving_an_image_after_a_write_flushes_the_image(
    cluster: aiorbd.Cluster, ioctx: aiorbd.IoCtx, make_image: MakeImage, write: Any
) -> None:
    async with ioctx.open_image(await make_image()) as image:
        await write(image)
        assert flushes(cluster) == 0
    assert flushes(cluster) == 1


async def test_leaving_an_image_without_new_writes_flushes_nothing(
    cluster: aiorbd.Cluster, ioctx: aiorbd.IoCtx, make_image: MakeImage
) -> None:
    """A flush asks for the exclusive lock, which another client may want to keep."""
    name = await make_image()
    async with ioctx.open_image(name) as image:
        await image.read(0, 1)
        await image.snapshot_exists("one")
    assert flushes(cluster) == 0
    async with ioctx.open_image(name) as image:
        await image.write(b"x", 0)
        await image.flush()
    assert flushes(cluster) == 1


async def test_leaving_the_target_of_a_copy_flushes_the_target(
    cluster: aiorbd.Cluster, ioctx: aiorbd.IoCtx, make_image: MakeImage
) -> None:
    async with ioctx.open_image(await make_image()) as source, ioctx.open_image(await make_image()) as target:
        await source.write(b"x", 0)
        await source.flush()
        before = flushes(cluster)
        await source.copy_to(target)
    assert flushes(cluster) == before + 1


async def test_leaving_with_an_exception_raises_the_exception_without_a_flush(
    cluster: aiorbd.Cluster, ioctx: aiorbd.IoCtx, make_image: MakeImage
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with ioctx.open_image(await make_image()) as image:
            await image.write(b"x", 0)
            raise ZeroDivisionError
    assert flushes(cluster) == 0


async def test_leaving_a_shared_image_after_a_write_flushes_the_image(
    aiorbd_cluster: DevCluster, make_image: MakeImage
) -> None:
    name = await make_image()
    async with aiorbd.SharedConnection(lambda: aiorbd.connect(aiorbd_cluster.conffile)) as connections:
        async with connections.connect() as cluster:
            async with connections.open_image("rbd", name) as image:
                await image.write(b"x", 0)
            assert flushes(cluster) == 1
            async with connections.open_image("rbd", name) as image:
                await image.read(0, 1)
            assert flushes(cluster) == 1


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("close", ["connection", "pool", "shared connection"])
async def test_block_raises_if_its_image_is_closed_from_above_with_new_writes(
    aiorbd_cluster: DevCluster, make_image: MakeImage, close: str, written: bool
) -> None:
    """librbd flushes during the close, but reports no error of that flush."""
    name = await make_image()

    async def use(image: aiorbd.Image, closes: Any) -> None:
        await image.write(b"first", 0)
        await image.flush()
        if written:
            await image.write(b"later", 0)
        await closes.close() if hasattr(closes, "close") else await closes.aclose()

    async def leave() -> None:
        connect: Any = lambda: aiorbd.connect(aiorbd_cluster.conffile)  # noqa: E731
        if close == "shared connection":
            async with aiorbd.SharedConnection(connect) as shared, shared.open_image("rbd", name) as image:
                await use(image, shared)
        else:
            async with connect() as cluster, cluster.open_ioctx("rbd") as ioctx, ioctx.open_image(name) as image:
                await use(image, cluster if close == "connection" else ioctx)

    if written:
        with pytest.raises(aiorbd.ClosedError, match="unknown whether the last writes are durable"):
            await leave()
    else:
        await leave()


async def test_closing_a_file_refuses_writes_that_wait_for_their_turn(image: aiorbd.Image) -> None:
    """Each write that returned is in the image. The other writes raise."""
    file = image.file()
    written, refused = [], []

    async def write(number: int) -> None:
        try:
            await file.write(bytes([number]) * 4096)
        except aiorbd.ClosedError:
            refused.append(number)
        else:
            written.append(number)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write, 1)
        await anyio.lowlevel.checkpoint()
        tasks.start_soon(file.aclose)
        await anyio.lowlevel.checkpoint()
        for number in range(2, 20):
            tasks.start_soon(write, number)
    assert sorted(written + refused) == list(range(1, 20))
    assert refused
    content = await image.read(0, 4096 * 19)
    assert sorted(content[start] for start in range(0, len(content), 4096) if content[start]) == sorted(written)


async def test_every_write_that_a_writer_took_while_its_block_ended_is_in_the_image(
    ioctx: aiorbd.IoCtx, cluster: aiorbd.Cluster
) -> None:
    name = new_name()
    await ioctx.create_image(name, 64 * MIB)
    async with ioctx.open_image(name) as image:
        for number in range(1, 6):
            accepted: list[Any]
            refused: list[Any]
            accepted, refused = [], []

            async def other(
                writer: Any, task: Any, number: Any = number, accepted: Any = accepted, refused: Any = refused
            ) -> None:
                try:
                    for step in itertools.count():
                        offset = 32 * MIB + (task * 40 + step % 40) * 16384
                        await writer.write(bytes([number]) * 16384, offset)
                        accepted.append(offset)
                except aiorbd.ClosedError:
                    refused.append(task)

            async with anyio.create_task_group() as tasks:
                async with image.writer(depth=4) as writer:
                    for task in range(20):
                        tasks.start_soon(other, writer, task)
                    for step in range(10):
                        await writer.write(bytes(65536), step * 65536)
                        await anyio.sleep(0.001)
                in_flight, flushed = image.in_flight, flushes(cluster)
            assert accepted
            assert in_flight == 0
            assert flushed == number
            assert len(refused) == 20
            for offset in set(accepted):
                assert await image.read(offset, 1) == bytes([number])


async def test_a_cancelled_write_lands_on_top_of_no_later_one(image: aiorbd.Image) -> None:
    """A write that librbd has not received when its task is cancelled never happens."""
    stop = False

    async def load(number: int) -> None:
        while not stop:
            await image.write(b"z" * 4096, (number + 100) * 65536)

    async with anyio.create_task_group() as tasks:
        for number in range(48):
            tasks.start_soon(load, number)
        for _ in range(30):
            async with anyio.create_task_group() as one:
                one.start_soon(image.write, b"A" * 4096, 0)
                await anyio.sleep(0)
                one.cancel_scope.cancel()
            await image.write(bytearray(b"B" * 4096), 0)
            await image.flush()
            await anyio.sleep(0.01)
            assert await image.read(0, 1) == b"B"
        stop = True


async def test_releasing_the_managed_lock_makes_writes_durable(
    cluster: aiorbd.Cluster, ioctx: aiorbd.IoCtx, make_image: MakeImage
) -> None:
    """Leaving the block after the release flushes nothing: a flush would ask for the lock again."""
    async with ioctx.open_image(await make_image()) as image:
        await image.exclusive_lock.acquire()
        await image.write(b"x", 0)
        await image.exclusive_lock.release()
    assert flushes(cluster) == 0
    async with ioctx.open_image(image.name, read_only=True) as image:
        assert await image.read(0, 1) == b"x"
