"""Reads of many extents at once."""

import errno
import gc
import random
import weakref
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from fix_content import CONTENT, MIB, fill
from fix_faults import fail_requests, opened
from fix_witness import Witness
from helpers import MakeImage
from inside import change, handle_of, stats_of

import aiorbd
from aiorbd import Extent
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("chunk_size", [4096, 100_000, 4 * MIB, 64 * MIB])
async def test_stream_returns_the_whole_image_in_chunks(full: Any, ordered: bool, chunk_size: int) -> None:
    image, content = full
    chunks = [chunk async for chunk in image.read_extents(chunk_size=chunk_size, ordered=ordered)]
    offsets = [chunk.offset for chunk in chunks]
    assert sorted(offsets) == list(range(0, 16 * MIB, chunk_size))
    assert offsets == sorted(offsets) or not ordered
    assert b"".join(chunk.data for chunk in sorted(chunks)) == content
    assert all(len(chunk.data) == chunk.length for chunk in chunks)
    assert image.in_flight == 0


async def test_range_is_split_at_multiples_of_the_chunk_size(full: Any) -> None:
    image, content = full
    chunks = [chunk async for chunk in image.read_extents(offset=5000, length=10000, chunk_size=4096)]
    assert [(chunk.offset, chunk.length) for chunk in chunks] == [(5000, 3192), (8192, 4096), (12288, 2712)]
    assert b"".join(chunk.data for chunk in chunks) == content[5000:15000]
    assert [chunk async for chunk in image.read_extents(offset=100, length=0)] == []
    assert [chunk async for chunk in image.read_extents(offset=16 * MIB)] == []
    assert [chunk async for chunk in image.read_extents([])] == []


@pytest.mark.parametrize("ordered", [True, False])
async def test_holes_empty_extents_and_errors_need_no_read(full: Any, ordered: bool) -> None:
    """The stream must not hang when no completion of a read wakes the waiting task."""
    image, _ = full
    holes = [Extent(number * 10, 10, False) for number in range(200)]
    with anyio.fail_after(10):
        assert [chunk.offset async for chunk in image.read_extents(holes, ordered=ordered)] == list(range(0, 2000, 10))
        assert [chunk async for chunk in image.read_extents([(0, 0)] * 300, ordered=ordered)] == []
        mixed = [*holes, (5, 0), (0, 4096), *holes, (0, 4096), (7, 0)]
        assert len([chunk async for chunk in image.read_extents(mixed, ordered=ordered)]) == 402
        for arguments in ({"offset": 16 * MIB + 1, "length": 5}, {"length": -1}):
            with pytest.raises(aiorbd.InvalidArgument):
                _ = [chunk async for chunk in image.read_extents(ordered=ordered, **arguments)]


@pytest.mark.parametrize("ordered", [True, False])
async def test_cancelled_waits_lose_no_chunk_and_repeat_none(full: Any, ordered: bool) -> None:
    """The image changes before every wait, and many waits are cancelled while the stream asks for the size."""
    image, content = full
    for places in (None, [(number * 4096, 4096) for number in range(200)]):
        length = 200 * 4096 if places is None else None
        stream = image.read_extents(places, length=length, chunk_size=4096, depth=4, ordered=ordered)
        chunks, cancelled = [], 0
        dice = random.Random(5)
        with anyio.fail_after(60):
            while True:
                change(image)
                with anyio.move_on_after(dice.choice((0, 0.0001, 0.0005, 0.002, 0.02))) as scope:
                    try:
                        chunks.append(await anext(stream))
                    except StopAsyncIteration:
                        break
                cancelled += scope.cancelled_caught
        assert cancelled > 5
        assert b"".join(chunk.data for chunk in sorted(chunks)) == content[: 200 * 4096]


async def test_slow_consumer_bounds_the_reads_ahead(full: Any) -> None:
    """A consumer that takes no chunks stops the reads.

    librbd has up to `depth` reads, and the stream holds up to twice as many chunks.
    """
    image, _ = full

    def reads() -> Any:
        return stats_of(image).operations["rbd_aio_read2"].count

    figures = stats_of(image).operations.get("rbd_aio_read2")
    before = figures.count if figures else 0
    async with image.read_extents(chunk_size=4096, depth=8) as stream:
        await anext(stream)
        with anyio.fail_after(20):
            while image.in_flight:
                await anyio.sleep(0.01)
        assert reads() - before <= 2 * 8 + 8
        taken = 1
        async for _ in stream:
            taken += 1
            if taken == 100:
                break
        await anyio.sleep(0.1)
        assert reads() - before <= 100 + 2 * 8 + 8


async def test_librbd_has_at_most_depth_reads(osd: DevCluster) -> None:
    async with opened(osd) as image:
        osd.pause()
        stream = image.read_extents(chunk_size=4096, depth=8)
        with anyio.move_on_after(0.1):
            await anext(stream)
        assert image.in_flight == 16
        await stream.aclose()  # aclose cancels the reads that librbd has not started
        await anyio.sleep(0.05)
        assert image.in_flight == 8
        assert stats_of(image).abandoned == 8
        osd.resume()
        await image.drain(timeout=30)
        assert image.in_flight == 0
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_unordered_chunks_arrive_while_other_reads_hang(osd: DevCluster) -> None:
    """Three reads complete from the cache while all other reads hang."""
    cache = {"rbd_cache": "true", "rbd_cache_policy": "writeback", "rbd_cache_writethrough_until_flush": "false"}

    async def extents() -> AsyncIterator[Any]:
        yield 0, 4096
        await anyio.sleep(0.1)  # the first completion is delivered at once
        for number in (*range(1000, 1007), 1, 2, *range(1007, 1017)):
            yield number * 4096, 4096

    async with opened(osd, **cache) as image:  # type: ignore[arg-type]
        await image.write(b"x" * 3 * 4096, 0)
        await image.read(0, 3 * 4096)
        osd.pause()
        stream = image.read_extents(extents(), depth=8, ordered=False)
        with anyio.fail_after(30):
            cached = [(await anext(stream)).offset for _ in range(3)]
        osd.resume()
        rest = [chunk.offset async for chunk in stream]
    assert cached == [0, 4096, 8192]
    assert len(rest) == 17


@pytest.mark.parametrize("ordered", [True, False])
async def test_bad_extent_raises_after_the_chunks_before_it(full: Any, ordered: bool) -> None:
    image, _ = full
    places = [(number * 4096, 4096) for number in range(30)]
    for bad, error in (
        ((16 * MIB - 1, 2), aiorbd.PastEndOfImage),
        ((-1, 2), aiorbd.InvalidArgument),
        ("x", ValueError),
    ):
        got = []
        with pytest.raises(error):
            async for chunk in image.read_extents([*places, bad, *places], ordered=ordered, depth=4):
                got.append((chunk.offset, chunk.length))  # noqa: PERF401 - the test needs them after the error
        assert got == places or (not ordered and set(got) <= set(places))
    await image.drain(timeout=5)
    assert image.in_flight == 0


async def test_failed_read_raises_after_the_chunks_before_it(full: Any) -> None:
    """One read in the middle fails when librbd processes the read."""
    image, _ = full
    stream = image.read_extents(chunk_size=4096, depth=2)
    got = [await anext(stream)]
    fail_requests(stream._queue, {10 * 4096}, -errno.EIO)
    with pytest.raises(OSError, match=r"rbd_aio_read2 on image .*, 4096 bytes at 40960") as caught:
        async for chunk in stream:
            got.append(chunk)  # noqa: PERF401
    assert caught.value.errno == errno.EIO
    assert [chunk.offset for chunk in got] == [number * 4096 for number in range(10)]


async def test_closing_the_image_raises_closed_error_in_the_stream(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> None:
    image = await ioctx.open_image(await make_image())
    stream = image.read_extents(chunk_size=4096, depth=2)
    await anext(stream)
    await image.close()
    with pytest.raises(aiorbd.ClosedError, match="closed meanwhile"):
        async for _ in stream:
            pass


async def test_stream_continues_after_the_image_changes(image: aiorbd.Image, witness: Witness) -> None:
    """Reads that are queued when the header changes are submitted once the size is known again."""
    await fill(image)
    chunks = []
    async for chunk in image.read_extents(chunk_size=4096, depth=4):
        chunks.append(chunk)
        if len(chunks) % 500 == 0:
            change(image)
    assert b"".join(chunk.data or b"" for chunk in chunks) == CONTENT
    with pytest.raises(aiorbd.PastEndOfImage):
        async for chunk in image.read_extents(chunk_size=4096, depth=4):
            if chunk.offset == MIB:
                await witness.rbd("resize", "--no-progress", "--allow-shrink", image.name, "--size", "2M")


async def test_dropped_stream_is_garbage_collected_and_starts_no_more_reads(osd: DevCluster) -> None:
    async with opened(osd) as image:
        osd.pause()
        stream = image.read_extents(chunk_size=4096, depth=8)
        with anyio.move_on_after(0.05):
            await anext(stream)
        assert image.in_flight == 16
        source = weakref.ref(stream)
        del stream
        await anyio.sleep(0.05)  # frees the traceback of the cancellation
        gc.collect()
        assert source() is None
        osd.resume()
        await image.drain(timeout=30)  # drain would not return if more reads started
        assert stats_of(image).operations["rbd_aio_read2"].count == 8


async def test_observers_get_every_read(cluster: aiorbd.Cluster, full: Any) -> None:
    image, _ = full
    seen: list[Any] = []
    cluster.add_observer(seen.append)
    _ = [chunk async for chunk in image.read_extents(length=MIB, chunk_size=4096)]
    cluster.remove_observer(seen.append)
    assert len(seen) == 256
    assert {(one.operation, one.length, one.error) for one in seen} == {("rbd_aio_read2", 4096, None)}


@pytest.mark.parametrize(
    "arguments", [{"depth": 0}, {"chunk_size": 0}, {"chunk_size": 1 << 31}, {"depth": 1 << 30}, {"op_flags": -1}]
)
async def test_bad_arguments_are_refused_before_the_first_read(image: aiorbd.Image, arguments: Any) -> None:
    with pytest.raises(aiorbd.InvalidArgument):
        image.read_extents(**arguments)
    with pytest.raises(TypeError, match="either extents or one range"):
        image.read_extents([(0, 1)], length=4)


async def test_closing_between_two_extents_raises_closed_error(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> None:
    """An extent of length 0 lets other tasks run. The next extent must not reach a closed image."""
    image = await ioctx.open_image(await make_image())
    stream = image.read_extents([(0, 0), (0, 4096)])

    async def close() -> None:
        await image.close()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(close)
        with pytest.raises(aiorbd.ClosedError):
            while True:
                await anext(stream)


@pytest.mark.parametrize("ordered", [True, False])
async def test_lost_connection_raises_while_reads_wait_for_the_size(osd: DevCluster, ordered: bool) -> None:
    async with opened(osd) as image:
        handle = handle_of(image)
        osd.pause()
        stream = image.read_extents(chunk_size=4096, depth=2, ordered=ordered)
        with anyio.move_on_after(0.05):
            await anext(stream)
        handle.lib.aiorbd_image_changed(handle.native)
        osd.resume()
        await image.drain(timeout=30)
        assert len(stream._queue.stale) == 2  # both reads wait for submission after the change
        handle.bridge.dead = True
        try:
            with anyio.fail_after(5), pytest.raises(aiorbd.ConnectionShutdown):
                async for _ in stream:
                    pass
        finally:
            handle.bridge.dead = False


async def test_aclose_by_another_task_ends_a_wait_for_an_extent(full: Any) -> None:
    image, _ = full
    go_on = anyio.Event()

    async def places() -> AsyncIterator[Any]:
        await go_on.wait()
        for number in range(100):
            yield number * 4096, 4096

    before = stats_of(image).operations.get("rbd_aio_read2")
    stream = image.read_extents(places())
    async with anyio.create_task_group() as tasks:

        async def read() -> None:
            with pytest.raises(StopAsyncIteration):
                await anext(stream)

        tasks.start_soon(read)
        await anyio.sleep(0.01)
        await stream.aclose()
        go_on.set()
    assert image.in_flight == 0
    assert stats_of(image).operations.get("rbd_aio_read2") == before
