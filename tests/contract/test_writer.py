"""Many writes with a bounded number in flight."""

import errno
import hashlib
import itertools
import os
import random
from functools import partial
from typing import Any

import anyio
import pytest
from fix_faults import fail_requests, opened
from fix_witness import Witness
from inside import change, handle_of, stats_of

import aiorbd
from aiorbd._image.request_queue import Request, RequestQueue
from aiorbd._native.requests import READ, STALE_BY_NOW, WRITE
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio

MIB = 1 << 20


async def test_all_writes_arrive_in_the_image(image: aiorbd.Image, witness: Witness) -> None:
    content = os.urandom(16 * MIB)
    places = list(range(0, 16 * MIB, 50_000))
    random.Random(3).shuffle(places)
    async with image.writer(depth=8, max_bytes=MIB) as writer:
        for offset in places:
            await writer.write(content[offset : offset + 50_000], offset)
            assert writer.pending_bytes <= MIB
    assert image.in_flight == 0
    assert hashlib.sha256(await witness.export(image.name)).digest() == hashlib.sha256(content).digest()


async def test_writer_writes_zeroes_and_accepts_empty_writes(image: aiorbd.Image, witness: Witness) -> None:
    await image.write(b"x" * MIB, 0)
    async with image.writer() as writer:
        await writer.write_zeroes(4096, 8192)
        await writer.write(b"", 16 * MIB)
        await writer.write_zeroes(0, 0)
    found = await witness.export(image.name)
    assert found[:MIB] == b"x" * 4096 + bytes(8192) + b"x" * (MIB - 4096 - 8192)


async def test_leaving_the_block_flushes(cluster: aiorbd.Cluster, image: aiorbd.Image) -> None:
    async with image.writer() as writer:
        await writer.write(b"x" * 4096, 0)
        await writer.flush()
        assert cluster.stats.operations["rbd_aio_flush"].count == 1
        await writer.write(b"y" * 4096, 0)
    assert cluster.stats.operations["rbd_aio_flush"].count == 2
    assert cluster.stats.operations["rbd_aio_write2"].bytes == 8192


async def test_depth_and_max_bytes_hold_back_the_caller(osd: DevCluster) -> None:
    """`depth` and `max_bytes` are limits. A write larger than `max_bytes` is in flight alone."""
    async with opened(osd, rbd_cache="false") as image:  # a cache would accept writes that the OSD does not have
        osd.pause()
        accepted = []

        async def write(**bounds: Any) -> None:
            async with image.writer(**bounds) as writer:
                for number in range(20):
                    await writer.write(bytes(65536), number * 65536)
                    accepted.append(number)

        for bounds, count in (({"depth": 3}, 6), ({"max_bytes": 200_000}, 3), ({"max_bytes": 1}, 1)):
            accepted.clear()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(write, **bounds))
                await anyio.sleep(0.1)
                assert len(accepted) == count
                assert image.in_flight == count
                osd.resume()
            assert len(accepted) == 20
            osd.pause()


async def test_next_call_and_end_of_block_raise_the_first_error(image: aiorbd.Image) -> None:
    """The end of the block does not flush after an error."""

    def failing(writer: Any, bad: Any) -> None:
        fail_requests(writer._queue, bad, -errno.ENOSPC)

    with pytest.raises(aiorbd.NoSpace, match="4096 bytes at 8192"):
        async with image.writer(depth=1) as writer:
            failing(writer, {8192, 16384})
            for number in range(100):
                await writer.write(bytes(4096), number * 4096)
    assert number < 20
    with pytest.raises(aiorbd.NoSpace, match="4096 bytes at 0"):
        async with image.writer() as writer:
            failing(writer, {0})
            await writer.write(bytes(4096), 0)
    with pytest.raises(aiorbd.NoSpace):
        async with image.writer() as writer:
            failing(writer, {0})
            await writer.write(bytes(4096), 0)
            with pytest.raises(aiorbd.NoSpace):
                await writer.flush()
            with pytest.raises(aiorbd.NoSpace):
                await writer.write(bytes(4096), 4096)


async def test_exception_in_the_block_propagates_and_cancels_queued_writes(osd: DevCluster) -> None:
    async with opened(osd, rbd_cache="false") as image:  # a cache would accept writes that the OSD does not have
        osd.pause()
        with pytest.raises(LookupError, match="mine"):
            async with image.writer(depth=2) as writer:
                for number in range(4):
                    await writer.write(bytes(4096), number * 4096)
                raise LookupError("mine")
        await anyio.sleep(0.05)
        assert image.in_flight == 2  # the writer cancelled the writes that librbd had not started
        assert stats_of(image).abandoned == 2
        with pytest.raises(aiorbd.ClosedError, match="writer of image"):
            await writer.write(b"x", 0)
        osd.resume()
        await image.drain(timeout=30)


async def test_cancelled_block_cancels_queued_writes(osd: DevCluster) -> None:
    async with opened(osd, rbd_cache="false") as image:  # a cache would accept writes that the OSD does not have
        osd.pause()
        with anyio.move_on_after(0.1) as scope:
            async with image.writer(depth=2) as writer:
                for number in range(100):
                    await writer.write(b"y" * 4096, number * 4096)
        assert scope.cancelled_caught
        await anyio.sleep(0.05)
        assert image.in_flight == 2
        osd.resume()
        await image.drain(timeout=30)
        async with image.writer() as writer:
            await writer.write(b"z" * 4096, 0)
        assert await image.read(0, 4096) == b"z" * 4096


async def test_writer_continues_after_the_image_changes(image: aiorbd.Image, witness: Witness) -> None:
    """Writes that wait when the header changes are submitted once the size is known again."""
    content = os.urandom(8 * MIB)
    async with image.writer(depth=4) as writer:
        for number, offset in enumerate(range(0, 8 * MIB, 4096)):
            await writer.write(content[offset : offset + 4096], offset)
            if number % 100 == 50:
                change(image)
    assert (await witness.export(image.name))[: 8 * MIB] == content
    with pytest.raises(aiorbd.PastEndOfImage):
        async with image.writer(depth=4) as writer:
            for number, offset in enumerate(range(0, 8 * MIB, 4096)):
                await writer.write(content[offset : offset + 4096], offset)
                if number == 1000:
                    await witness.rbd("resize", "--no-progress", "--allow-shrink", image.name, "--size", "1M")


async def test_interrupt_before_a_stale_write_is_submitted_does_not_lose_the_write(
    image: aiorbd.Image, witness: Witness
) -> None:
    """The write was refused because the image changed. `flush` must not return without submitting the write."""
    async with image.writer() as writer:
        queue: Any = writer._queue
        data = b"b" * 4096
        request = Request(queue, WRITE, 4096, 4096, 0)
        request.keep = request.buffer = data
        queue.stale.append(request)
        submit = queue.submit

        def interrupted(_: Any) -> None:
            queue.submit = submit
            raise KeyboardInterrupt

        queue.submit = interrupted
        with pytest.raises(KeyboardInterrupt):
            await writer.flush()
        await writer.flush()
        assert not len(queue)
    assert (await witness.export(image.name))[:8192] == bytes(4096) + b"b" * 4096


async def test_repeated_settling_of_a_request_changes_nothing(image: aiorbd.Image) -> None:
    """After an interrupt, C asks a request to settle again. By then, its task may have handled the request."""
    queue = RequestQueue(handle_of(image), 4, lambda: None)
    completed, stale = (Request(queue, READ, offset, 4096, 0) for offset in (0, 4096))
    queue.add(completed)
    await image.drain(timeout=30)
    assert list(queue.over) == [completed]
    del queue.over[completed]  # the chunk was handed out
    completed.settle_again()
    assert not queue.over
    assert not len(queue)

    queue.running.add(stale)  # as if the image had changed while the request waited
    stale.number, stale.value = 7, STALE_BY_NOW
    stale.settle()
    stale.settle_again()
    assert list(queue.stale) == [stale]
    assert not queue.running
    await queue.submit_stale()
    stale.settle_again()
    assert queue.running == {stale}
    await image.drain(timeout=30)
    assert list(queue.over) == [stale]
    assert stale.value == 4096


async def test_several_tasks_submit_each_stale_write_once(image: aiorbd.Image, witness: Witness) -> None:
    """Any of the tasks may find a stale write. Only one task submits the write."""
    content = os.urandom(8 * MIB)
    async with image.writer(depth=2, max_bytes=64 << 10) as writer:

        async def write(first: Any) -> None:
            for number, offset in enumerate(range(first * 4096, 8 * MIB, 4 * 4096)):
                await writer.write(content[offset : offset + 4096], offset)
                if number % 16 == first:
                    change(image)

        async with anyio.create_task_group() as tasks:
            for first in range(4):
                tasks.start_soon(write, first)
        await writer.flush()
        assert writer.pending_bytes == 0
    assert (await witness.export(image.name))[: 8 * MIB] == content


async def test_writer_continues_after_a_flush_and_a_shrink(image: aiorbd.Image) -> None:
    async with image.writer() as writer:
        await writer.write(b"x" * 4096, 10 * MIB)
        await writer.flush()
        await image.resize(MIB, allow_shrink=True)
        await writer.write(b"y" * 4096, 0)
    assert await image.read(0, 1) == b"y"


async def test_read_only_image_bad_range_bad_bounds_and_closed_image_are_refused(
    ioctx: aiorbd.IoCtx, image: aiorbd.Image
) -> None:
    async with ioctx.open_image(image.name, read_only=True) as reader:
        with pytest.raises(aiorbd.ReadOnlyImage):
            async with reader.writer() as writer:
                await writer.write(b"x", 0)
    with pytest.raises(aiorbd.PastEndOfImage, match="2 bytes at 16777215"):
        async with image.writer() as writer:
            await writer.write(b"xx", 16 * MIB - 1)
    wrong: list[dict[str, Any]] = [{"depth": 0}, {"max_bytes": 0}, {"depth": 1 << 30}]
    for bounds in wrong:
        with pytest.raises(aiorbd.InvalidArgument):
            image.writer(**bounds)
    with pytest.raises(aiorbd.ClosedError):
        async with image.writer() as writer:
            await writer.write(b"x", 0)
            await image.close()
            await writer.write(b"x", 0)


async def test_flush_does_not_wait_for_later_writes_of_other_tasks(image: aiorbd.Image) -> None:
    async with image.writer(depth=2) as writer, anyio.create_task_group() as tasks:

        async def write_on() -> None:
            for number in itertools.count():
                await writer.write(bytes(4096), number % 1000 * 4096)

        tasks.start_soon(write_on)
        tasks.start_soon(write_on)
        with anyio.fail_after(20):
            for _ in range(5):
                await writer.flush()
        tasks.cancel_scope.cancel()


async def test_pending_bytes_counts_data_and_no_zeroes(osd: DevCluster) -> None:
    async with opened(osd, rbd_cache="false") as image:
        osd.pause()
        async with anyio.create_task_group() as tasks:
            async with image.writer(depth=2) as writer:
                for number in range(3):
                    await writer.write(bytes(4096), number * 4096)
                await writer.write_zeroes(1 << 20, 4096)
                assert writer.pending_bytes == 3 * 4096
                tasks.start_soon(partial(anyio.to_thread.run_sync, osd.resume))
            assert writer.pending_bytes == 0


async def test_release_returns_each_buffer_after_its_write(image: aiorbd.Image, witness: Witness) -> None:
    free: list[Any]
    made: list[Any]
    free, made, at = [], [], 0
    async with image.writer(depth=2, release=free.append) as writer:
        for number in range(64):
            buffer = free.pop() if free else bytearray(4096)
            if not any(buffer is one for one in made):
                made.append(buffer)
            buffer[:] = bytes([number + 1]) * 4096
            await writer.write(buffer, at)
            at += 4096
    assert len(free) == len(made) <= 5  # 2 in librbd, 2 in the queue, 1 with the caller
    assert {id(one) for one in free} == {id(one) for one in made}
    assert (await witness.export(image.name))[:at] == b"".join(bytes([n + 1]) * 4096 for n in range(64))


async def test_exception_from_release_is_raised(image: aiorbd.Image) -> None:
    def refuse(_: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with image.writer(release=refuse) as writer:
            await writer.write(b"data", 0)
            await writer.flush()


async def test_no_buffer_is_released_while_librbd_has_it(osd: DevCluster) -> None:
    free: list[Any] = []
    async with opened(osd, rbd_cache="false", rbd_disable_zero_copy_writes="false") as image:
        osd.pause()
        async with image.writer(depth=2, release=free.append) as writer:
            for number in range(4):
                await writer.write(b"%d" % number * 4096, number * 4096)
            await anyio.sleep(0.3)
            assert not free
            await anyio.to_thread.run_sync(osd.resume)
        assert sorted(free) == [b"%d" % number * 4096 for number in range(4)]
        assert await image.read(0, 4 * 4096) == b"".join(sorted(free))


async def test_release_gets_the_buffers_of_failed_and_empty_writes(image: aiorbd.Image) -> None:
    """`release` gets no buffer for which `write` raised."""
    free: list[Any] = []
    with pytest.raises(aiorbd.NoSpace):
        async with image.writer(release=free.append) as writer:
            await writer.write(b"", 0)
            assert free == [b""]
            with pytest.raises(aiorbd.PastEndOfImage):
                await writer.write(b"past", 1 << 40)
            fail_requests(writer._queue, {0}, -errno.ENOSPC)
            await writer.write(b"data", 0)
            with pytest.raises(aiorbd.NoSpace):
                await writer.flush()
            with pytest.raises(aiorbd.NoSpace):
                await writer.write(b"late", 0)
    assert free == [b"", b"data"]


async def test_no_buffer_is_released_after_the_block_raised(osd: DevCluster) -> None:
    free: list[Any] = []
    async with opened(osd, rbd_cache="false") as image:
        osd.pause()
        with pytest.raises(LookupError):
            async with image.writer(depth=2, release=free.append) as writer:
                for number in range(4):
                    await writer.write(bytes(4096), number * 4096)
                raise LookupError
        await anyio.to_thread.run_sync(osd.resume)
        await image.drain(timeout=30)
        assert not free
