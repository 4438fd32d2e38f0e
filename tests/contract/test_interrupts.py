"""Streams that continue after a cancellation or an exception of a signal handler.

The program catches the exception and continues the iteration.
"""

import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest
from fix_faults import opened

import aiorbd
from aiorbd import Extent
from aiorbd._core import stream
from aiorbd._image import read_stream
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio

MIB = 1 << 20


async def test_cancelled_wait_loses_no_chunk(osd: DevCluster) -> None:
    async with opened(osd) as image:
        for number in range(64):
            await image.write(bytes([number]) * 4096, number * 4096)
        stream = image.read_extents(length=64 * 4096, chunk_size=4096, depth=4)
        data = [(await anext(stream)).data for _ in range(3)]
        osd.pause()
        cancelled = 0
        while len(data) < 64:
            with anyio.move_on_after(0.02) as scope:
                data.append((await anext(stream)).data)
            cancelled += scope.cancelled_caught
            if scope.cancelled_caught:
                osd.resume()
        assert cancelled
        assert [block[0] for block in data if block] == list(range(64))


async def test_cancellation_in_a_generator_makes_the_stream_raise_usage_error(image: aiorbd.Image) -> None:
    """The cancellation ends the generator. The stream must report that extents are missing."""

    async def places() -> AsyncIterator[Any]:
        yield 0, 4096
        await anyio.sleep(30)
        yield 4096, 4096

    stream = image.read_extents(places())
    with anyio.move_on_after(0.1) as scope:
        await anext(stream)
    assert scope.cancelled_caught
    assert (await anext(stream)).offset == 0
    with pytest.raises(aiorbd.UsageError, match="a task was cancelled while it waited for the next extent"):
        await anext(stream)


class Interrupt(BaseException):
    """The exception that the signal handler raises."""


@pytest.mark.parametrize("ordered", [True, False])
async def test_interrupts_in_a_stream_neither_lose_nor_repeat_chunks(image: aiorbd.Image, ordered: bool) -> None:
    """After an exception anywhere in the stream's own code, a reader that continues gets each chunk exactly once."""
    extents = [Extent(offset, 4096, exists=offset % (7 * 4096) > 0) for offset in range(0, 16 * MIB, 4096)]
    interrupts, making = 0, True

    def interrupt(_: Any, frame: Any) -> None:
        nonlocal interrupts
        ours = frame.f_code.co_filename in (read_stream.__file__, stream.__file__)
        if ours and frame.f_code.co_name != "__del__" and not making and in_task():
            interrupts += 1
            raise Interrupt

    async def offsets() -> Any:
        nonlocal making
        making = True
        stream, got = image.read_extents(extents, chunk_size=4096, ordered=ordered), []
        making = False
        while True:
            try:
                got.append((await anext(stream)).offset)
            except Interrupt:
                continue
            except StopAsyncIteration:
                return got

    task = anyio.get_current_task().id

    def in_task() -> Any:  # elsewhere the event loop would get the exception
        try:
            return anyio.get_current_task().id == task
        except (AttributeError, RuntimeError):
            return False

    before = signal.signal(signal.SIGVTALRM, interrupt)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.001, 0.001)
    try:
        with anyio.fail_after(60):
            while interrupts < 30:
                got = await offsets()
                assert (got if ordered else sorted(got)) == [extent.offset for extent in extents]
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert image.in_flight == 0


async def test_interrupt_in_a_generator_makes_the_stream_raise_usage_error(image: aiorbd.Image) -> None:
    """The remaining extents of the generator are lost, and the stream reports this."""
    interrupts = [Interrupt()]

    def extents() -> Iterator[Any]:
        yield 0, 4096
        if interrupts:
            raise interrupts.pop()
        yield 4096, 4096

    stream = image.read_extents(extents(), depth=1)
    got: list[Any] = []
    with pytest.raises(aiorbd.UsageError, match="cancelled while it waited for the next extent"):
        while True:
            try:
                got.append(await anext(stream))
            except Interrupt:
                got.append("interrupted")
    assert got == ["interrupted"]


async def test_interrupt_that_loses_extents_of_a_diff_raises_usage_error(
    image: aiorbd.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extents that C handed over are lost. A diff that ends without an error must be complete."""
    for offset in range(4):
        await image.write(b"x", offset * 4 * MIB)
    await image.flush()
    diff = image.diff()
    await diff._go_on()  # starts the walk
    walk: Any = type(diff._walk)
    take = walk.take

    def interrupted(self: Any, numbers: Any) -> Any:
        if take(self, numbers):
            raise Interrupt
        return 0

    with monkeypatch.context() as patches, pytest.raises(Interrupt):
        patches.setattr(walk, "take", interrupted)
        await anext(diff)
    with pytest.raises(aiorbd.UsageError, match="start a new diff"):
        async for _ in diff:  # may yield extents that librbd found later
            pass
    assert len([extent async for extent in image.diff()]) == 4
