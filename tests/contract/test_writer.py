"""Many writes with a bounded window."""

import errno
import hashlib
import itertools
import os
import random

import anyio
import pytest
from fix_faults import fail_requests, opened

import aiorbd
from aiorbd._image.request_queue import Request
from aiorbd._native.requests import WRITE

pytestmark = pytest.mark.anyio

MIB = 1 << 20


async def test_all_arrives(image, witness):
    content = os.urandom(16 * MIB)
    places = list(range(0, 16 * MIB, 50_000))
    random.Random(3).shuffle(places)
    async with image.writer(depth=8, max_bytes=MIB) as writer:
        for offset in places:
            await writer.write(content[offset : offset + 50_000], offset)
            assert writer.pending_bytes <= MIB
    assert image.in_flight == 0
    assert hashlib.sha256(await witness.export(image.name)).digest() == hashlib.sha256(content).digest()


async def test_zeroes_and_nothing(image, witness):
    await image.write(b"x" * MIB, 0)
    async with image.writer() as writer:
        await writer.write_zeroes(4096, 8192)
        await writer.write(b"", 16 * MIB)
        await writer.write_zeroes(0, 0)
    found = await witness.export(image.name)
    assert found[:MIB] == b"x" * 4096 + bytes(8192) + b"x" * (MIB - 4096 - 8192)


async def test_the_end_flushes(cluster, image):
    async with image.writer() as writer:
        await writer.write(b"x" * 4096, 0)
        await writer.flush()
        assert cluster.stats().operations["rbd_aio_flush"].count == 1
        await writer.write(b"y" * 4096, 0)
    assert cluster.stats().operations["rbd_aio_flush"].count == 2
    assert cluster.stats().operations["rbd_aio_write2"].bytes == 8192


async def test_it_holds_up_its_writer(osd):
    """Depth and bytes are bounds; what is larger than the bytes goes alone."""
    async with opened(osd, rbd_cache="false") as image:  # which would take writes that the OSD does not have
        osd.pause()
        accepted = []

        async def write(**bounds):
            async with image.writer(**bounds) as writer:
                for number in range(20):
                    await writer.write(bytes(65536), number * 65536)
                    accepted.append(number)

        for bounds, count in (({"depth": 3}, 6), ({"max_bytes": 200_000}, 3), ({"max_bytes": 1}, 1)):
            accepted.clear()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda bounds=bounds: write(**bounds))
                await anyio.sleep(0.1)
                assert len(accepted) == count
                assert image.in_flight == count
                osd.resume()
            assert len(accepted) == 20
            osd.pause()


async def test_the_first_error_is_raised(image):
    """By the next call, and by the end; nothing is flushed."""

    def failing(writer, bad):
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


async def test_an_error_in_the_block_goes_out(osd):
    async with opened(osd, rbd_cache="false") as image:  # which would take writes that the OSD does not have
        osd.pause()
        with pytest.raises(LookupError, match="mine"):
            async with image.writer(depth=2) as writer:
                for number in range(4):
                    await writer.write(bytes(4096), number * 4096)
                raise LookupError("mine")
        await anyio.sleep(0.05)
        assert image.in_flight == 2  # what librbd had not begun is given up
        assert image._handle.bridge.stats().abandoned == 2
        with pytest.raises(aiorbd.ClosedError, match="writer of image"):
            await writer.write(b"x", 0)
        osd.resume()
        await image.drain(timeout=30)


async def test_cancelled(osd):
    async with opened(osd, rbd_cache="false") as image:  # which would take writes that the OSD does not have
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


async def test_the_image_changes_meanwhile(image, witness):
    """Writes that wait when the header changes are submitted once the size is known again."""
    content = os.urandom(8 * MIB)
    async with image.writer(depth=4) as writer:
        for number, offset in enumerate(range(0, 8 * MIB, 4096)):
            await writer.write(content[offset : offset + 4096], offset)
            if number % 100 == 50:
                image._handle.lib.aiorbd_image_changed(image._handle.native)
    assert (await witness.export(image.name))[: 8 * MIB] == content
    with pytest.raises(aiorbd.PastEndOfImage):
        async with image.writer(depth=4) as writer:
            for number, offset in enumerate(range(0, 8 * MIB, 4096)):
                await writer.write(content[offset : offset + 4096], offset)
                if number == 1000:
                    await witness.rbd("resize", "--no-progress", "--allow-shrink", image.name, "--size", "1M")


async def test_an_interrupt_before_a_stale_write_is_submitted(image, witness):
    """A write that was refused because the image changed is not forgotten after an interrupt: `flush` must not lie."""
    async with image.writer() as writer:
        queue, data = writer._queue, b"b" * 4096
        request = Request(queue, WRITE, 4096, 4096, 0)
        request.keep = request.buffer = data
        queue.stale.append(request)
        submit = queue.submit

        def interrupted(_):
            queue.submit = submit
            raise KeyboardInterrupt

        queue.submit = interrupted
        with pytest.raises(KeyboardInterrupt):
            await writer.flush()
        await writer.flush()
        assert not len(queue)
    assert (await witness.export(image.name))[:8192] == bytes(4096) + b"b" * 4096


async def test_several_tasks_while_the_image_changes(image, witness):
    """What came too late for the size that was known is submitted once, whoever finds it."""
    content = os.urandom(8 * MIB)
    async with image.writer(depth=2, max_bytes=64 << 10) as writer:

        async def write(first):
            for number, offset in enumerate(range(first * 4096, 8 * MIB, 4 * 4096)):
                await writer.write(content[offset : offset + 4096], offset)
                if number % 16 == first:
                    image._handle.lib.aiorbd_image_changed(image._handle.native)

        async with anyio.create_task_group() as tasks:
            for first in range(4):
                tasks.start_soon(write, first)
        await writer.flush()
        assert writer.pending_bytes == 0
    assert (await witness.export(image.name))[: 8 * MIB] == content


async def test_a_shrink_after_a_flush_is_nothing_to_a_writer(image):
    async with image.writer() as writer:
        await writer.write(b"x" * 4096, 10 * MIB)
        await writer.flush()
        await image.resize(MIB)
        await writer.write(b"y" * 4096, 0)
    assert await image.read(0, 1) == b"y"


async def test_what_cannot_be_written(ioctx, image):
    async with ioctx.open_image(image.name, read_only=True) as reader:
        with pytest.raises(aiorbd.ReadOnlyImage):
            async with reader.writer() as writer:
                await writer.write(b"x", 0)
    with pytest.raises(aiorbd.PastEndOfImage, match="2 bytes at 16777215"):
        async with image.writer() as writer:
            await writer.write(b"xx", 16 * MIB - 1)
    for bounds in ({"depth": 0}, {"max_bytes": 0}, {"depth": 1 << 30}):
        with pytest.raises(aiorbd.InvalidArgument):
            image.writer(**bounds)
    with pytest.raises(aiorbd.ClosedError):
        async with image.writer() as writer:
            await writer.write(b"x", 0)
            await image.close()
            await writer.write(b"x", 0)


async def test_flush_does_not_wait_for_what_others_write_meanwhile(image):
    async with image.writer(depth=2) as writer, anyio.create_task_group() as tasks:

        async def write_on():
            for number in itertools.count():
                await writer.write(bytes(4096), number % 1000 * 4096)

        tasks.start_soon(write_on)
        tasks.start_soon(write_on)
        with anyio.fail_after(20):
            for _ in range(5):
                await writer.flush()
        tasks.cancel_scope.cancel()


async def test_pending_bytes(osd):
    async with opened(osd, rbd_cache="false") as image:
        osd.pause()
        async with anyio.create_task_group() as tasks:
            async with image.writer(depth=2) as writer:
                for number in range(3):
                    await writer.write(bytes(4096), number * 4096)
                await writer.write_zeroes(1 << 20, 4096)
                assert writer.pending_bytes == 3 * 4096
                tasks.start_soon(anyio.to_thread.run_sync, osd.resume)
            assert writer.pending_bytes == 0


async def test_buffers_come_back_when_they_are_written(image, witness):
    free, made, at = [], [], 0
    async with image.writer(depth=2, release=free.append) as writer:
        for number in range(64):
            buffer = free.pop() if free else bytearray(4096)
            if not any(buffer is one for one in made):
                made.append(buffer)
            buffer[:] = bytes([number + 1]) * 4096
            await writer.write(buffer, at)
            at += 4096
    assert len(free) == len(made) <= 5  # 2 with librbd, 2 that wait, 1 in hand
    assert {id(one) for one in free} == {id(one) for one in made}
    assert (await witness.export(image.name))[:at] == b"".join(bytes([n + 1]) * 4096 for n in range(64))


async def test_what_release_raises(image):
    def refuse(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with image.writer(release=refuse) as writer:
            await writer.write(b"data", 0)
            await writer.flush()


async def test_no_buffer_comes_back_while_librbd_has_it(osd):
    free = []
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


async def test_what_comes_back_of_what_fails(image):
    """What librbd has refused; what had nothing to write; not what `write` raised for."""
    free = []
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


async def test_nothing_comes_back_once_the_block_is_left(osd):
    free = []
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
