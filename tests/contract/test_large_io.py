"""Large reads and writes: no call blocks the event loop while librbd copies data."""

import hashlib
import os
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import anyio
import pytest
from fix_lag import measured_hold
from helpers import new_name

import aiorbd

pytestmark = pytest.mark.anyio

MIB = 1 << 20
SIZE = 256 * MIB

#: The longest time in seconds for which one call may block the event loop.
LIMIT = 0.005


@pytest.fixture
async def large(ioctx: aiorbd.IoCtx) -> AsyncIterator[Any]:
    """Yield an image of 256 MiB, and remove the image at the end."""
    name = new_name()
    await ioctx.create_image(name, SIZE)
    async with ioctx.open_image(name) as image:
        yield image
    await ioctx.remove_image(name)


@pytest.fixture(scope="module")
def content() -> Any:
    return os.urandom(MIB) * 64


WRITES = {
    "write": lambda image, data: image.write(data, 0),
    "write of a bytearray": lambda image, data: image.write(memoryview(data), 0),
    "writev": lambda image, data: image.writev([data[: 32 * MIB], data[32 * MIB :]], 0),
    "write_same": lambda image, data: image.write_same(data[: 2 * MIB], 0, 64 * MIB),
    "file.write": lambda image, data: image.file().write(data),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_large_write_blocks_the_loop_for_less_than_five_milliseconds(
    large: Any, content: Any, write: Any
) -> None:
    assert await least_hold(lambda: write(large, content)) < LIMIT
    await large.flush()
    digest = hashlib.sha256()
    async for _, _, data in large.read_extents(length=64 * MIB):
        digest.update(data)
    assert digest.digest() == hashlib.sha256(content).digest()


async def least_hold(make_call: Any) -> Any:
    """Return the longest time in seconds for which a call blocked the event loop: the least of up to three calls.

    A call that copies data on the event loop's thread does so each time. Page faults may come in one of them.
    """
    times: list[Any] = []
    while len(times) < 3 and min(times, default=LIMIT) >= LIMIT:
        call = make_call()  # slicing the data is not the library's work
        async with measured_hold() as held:
            result = await call
            times.append(held.worst)
        del result  # freeing much memory takes milliseconds, too
    return min(times)


async def test_writer_of_large_chunks_blocks_the_loop_for_less_than_five_milliseconds(large: Any, content: Any) -> None:
    chunks = [memoryview(content)[start : start + 16 * MIB] for start in range(0, 64 * MIB, 16 * MIB)]

    async def write_all() -> None:
        async with large.writer(depth=2) as writer:
            for number, chunk in enumerate(chunks):
                await writer.write(chunk, number * 16 * MIB)

    assert await least_hold(write_all) < LIMIT
    digest = hashlib.sha256()
    async for _, _, data in large.read_extents(length=64 * MIB):
        digest.update(data)
    assert digest.digest() == hashlib.sha256(content).digest()


READS = {
    "read": lambda image: image.read(0, SIZE),
    "file.read": lambda image: image.file().read(SIZE),
    "file.read of all": lambda image: image.file().read(),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
async def test_large_read_blocks_the_loop_for_less_than_five_milliseconds(large: Any, content: Any, read: Any) -> None:
    await large.write(content, 128 * MIB)
    assert await least_hold(lambda: read(large)) < LIMIT
    data = await read(large)
    assert len(data) == SIZE
    assert data[128 * MIB : 192 * MIB] == content
    assert not any(data[: 8 * MIB])


async def test_large_write_that_is_cancelled_before_its_start_never_happens(large: Any, content: Any) -> None:
    """The copies keep sixteen worker threads busy, and the last writes wait for a thread."""
    writes = 40
    async with anyio.create_task_group() as tasks:
        for _ in range(writes):
            tasks.start_soon(large.write, content, 0)
        await anyio.sleep(0)
        tasks.cancel_scope.cancel()
    await large.drain()
    assert large.in_flight == 0
    await large.write(b"later" * MIB, 0)
    await large.flush()
    await anyio.sleep(0.1)
    assert await large.read(0, 5 * MIB) == b"later" * MIB


async def test_large_write_past_the_end_writes_nothing(large: Any, content: Any) -> None:
    with pytest.raises(aiorbd.PastEndOfImage):
        await large.write(content, SIZE - 32 * MIB)
    assert not any(await large.read(SIZE - 32 * MIB, MIB))


async def test_large_write_is_counted_and_observed_once(cluster: aiorbd.Cluster, large: Any, content: Any) -> None:
    seen: list[Any] = []
    cluster.add_observer(seen.append)
    await large.write(content, 0)
    async with large.writer() as writer:
        await writer.write(content, 64 * MIB)
    cluster.remove_observer(seen.append)
    figures = cluster.stats.operations["rbd_aio_write2"]
    assert (figures.count, figures.failed, figures.bytes) == (2, 0, 128 * MIB)
    written = [call for call in seen if call.operation == "rbd_aio_write2"]
    assert [(call.length, call.error, call.abandoned) for call in written] == [(64 * MIB, None, False)] * 2


async def test_large_writes_during_a_resize_are_whole_or_refused(large: Any, content: Any) -> None:
    """A write that was checked against a different size is checked again before it is submitted."""
    outcomes = []

    async def write() -> None:
        try:
            await large.write(content, SIZE - 64 * MIB)
        except aiorbd.PastEndOfImage:
            outcomes.append("refused")
        else:
            outcomes.append("written")

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(write)
        tasks.start_soon(partial(large.resize, SIZE - MIB, allow_shrink=True))
    assert len(outcomes) == 4
    await large.resize(SIZE)
    assert not any(await large.read(SIZE - MIB, MIB))


async def test_writer_writes_large_chunks_while_the_image_changes(
    ioctx: aiorbd.IoCtx, large: Any, content: Any
) -> None:
    """Each write is refused while the size is unknown, and is submitted again once the size is known."""
    async with ioctx.open_image(large.name) as other:
        with anyio.fail_after(60):
            async with large.writer(depth=2) as writer:
                for number in range(8):
                    await writer.write(memoryview(content)[: 4 * MIB], number * 4 * MIB)
                    await large.create_snapshot(f"mine-{number}")
                    await other.create_snapshot(f"other-{number}")
        async for snapshot in large.snapshots():
            await snapshot.remove()
    assert await large.read(0, 32 * MIB) == content[: 4 * MIB] * 8
