"""Extents that a stream reads: from iterables of all kinds, with integers of all kinds."""

import gc
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest
from fix_content import MIB, fill

import aiorbd
from aiorbd import Chunk, Extent

pytestmark = pytest.mark.anyio


async def test_read_extents_reads_many_random_extents_in_order(full: Any) -> None:
    image, content = full
    dice = random.Random(1)
    places = [(dice.randrange(16 * MIB - 5000), dice.randrange(1, 5000)) for _ in range(3000)]
    chunks = [chunk async for chunk in image.read_extents(iter(places), chunk_size=16 * MIB, depth=100)]
    assert chunks == [Chunk(offset, length, content[offset : offset + length]) for offset, length in places]


async def test_read_extents_takes_extents_from_an_async_iterable(full: Any) -> None:
    image, content = full

    async def places() -> AsyncIterator[Any]:
        for number in range(200):
            if number % 7 == 0:
                await anyio.sleep(0.001)
            yield number * 4096, 4096

    stream = image.read_extents(places(), depth=4)
    assert b"".join([chunk.data async for chunk in stream]) == content[: 200 * 4096]


async def test_read_extents_takes_extents_from_a_diff(image: aiorbd.Image) -> None:
    """Holes become chunks without data."""
    await fill(image)
    await image.create_snapshot("one")
    await image.write(b"x" * 4096, 1 * MIB)
    await image.discard(12 * MIB, 4 * MIB)
    chunks = [chunk async for chunk in image.read_extents(image.diff(from_snapshot="one"))]
    assert chunks == [Chunk(1 * MIB, 4096, b"x" * 4096), Chunk(12 * MIB, 4 * MIB, None)]
    assert [chunk.offset async for chunk in image.read_extents([Extent(0, 10, False), Extent(5, 5, True)])] == [0, 5]


class Once:
    """An iterable that is its own iterator and restarts at each `iter` call."""

    def __iter__(self) -> Any:
        self.offset = 0
        return self

    def __next__(self) -> Any:
        self.offset += 4096
        if self.offset > 10 * 4096:
            raise StopIteration
        return self.offset, 4096


async def test_read_extents_asks_an_iterable_for_one_iterator(full: Any) -> None:
    image, _ = full
    assert [chunk.offset async for chunk in image.read_extents(Once())] == [4096 * number for number in range(1, 11)]


async def test_forgotten_stream_closes_its_iterator_at_once(full: Any) -> None:
    """The iterator may hold a file open. Reads of the stream may take long, and do not keep the iterator alive."""
    image, _ = full
    closed = []

    def extents() -> Iterator[Any]:
        try:
            for offset in range(0, MIB, 4096):
                yield offset, 4096
        finally:
            closed.append(True)

    gc.disable()
    try:
        async for _ in image.read_extents(extents(), depth=4):
            break
        assert closed == [True]
    finally:
        gc.enable()


class Index:
    """An integer type of another library."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __index__(self) -> Any:
        return self.value

    def __add__(self, other: Any) -> Any:
        return Index((self.value + other.value) % 4096)  # a sum of fixed width wraps around


async def test_read_extents_accepts_other_integer_types(full: Any) -> None:
    image, content = full
    extents = [(Index(offset), Index(3000)) for offset in range(0, 32768, 4096)]
    stream = image.read_extents(extents, ordered=0)
    got = {chunk.offset: chunk.data async for chunk in stream}
    assert got == {offset: content[offset : offset + 3000] for offset in range(0, 32768, 4096)}


@pytest.mark.parametrize("waits", [False, True])
async def test_extent_none_raises_type_error(full: Any, waits: bool) -> None:
    """The invalid extent is not skipped, and does not end the stream as if the stream were complete."""
    image, _ = full

    async def awaited() -> AsyncIterator[Any]:
        for extent in ((0, 4096), None, (4096, 4096)):
            yield extent

    stream = image.read_extents(awaited() if waits else [(0, 4096), None, (4096, 4096)])
    assert (await anext(stream)).offset == 0
    with pytest.raises(TypeError, match="not None"):
        await anext(stream)


@pytest.mark.parametrize("waits", [False, True])
async def test_iterator_that_reads_from_its_own_stream_gets_usage_error(full: Any, waits: bool) -> None:
    """The iterator gets the error. If the iterator does not catch the error, the reader of the stream gets it too.

    So the stream does not end as if it were complete.
    """
    image, _ = full
    told: list[Any] = []

    async def awaited() -> AsyncIterator[Any]:
        yield 0, 4096
        with pytest.raises(aiorbd.UsageError, match="the stream's own extents do"):
            await anext(stream)
        told.append(True)
        yield 4096, 4096

    class Extents:
        offset = 0

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            if self.offset == 3 * 4096:
                anext(stream).send(None)
            self.offset += 4096
            return self.offset, 4096

    stream = image.read_extents(awaited() if waits else Extents())
    with anyio.fail_after(5):
        if waits:
            assert [chunk.offset async for chunk in stream] == [0, 4096]
            assert told
        else:
            assert [(await anext(stream)).offset for _ in range(3)] == [4096, 2 * 4096, 3 * 4096]
            with pytest.raises(aiorbd.UsageError, match="the stream's own extents do"):
                await anext(stream)
