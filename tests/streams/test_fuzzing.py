"""Random diffs and random damage, made by hypothesis."""

from typing import Any

import anyio
from diff_bytes import Range, Sink, Stream, applied, diff, ranges_of, read
from hypothesis import given, settings
from hypothesis import strategies as st

import aiorbd

SIZE = 300


@st.composite
def ranges(draw: Any, size: int) -> list[Range]:
    """Ranges in order, that lie within the image and do not overlap."""
    cuts = sorted(draw(st.lists(st.integers(0, size), max_size=12, unique=True)))
    found: list[Range] = []
    for begin, end in zip(cuts[::2], cuts[1::2], strict=False):
        length = end - begin
        found.append((begin, draw(st.binary(min_size=length, max_size=length)) if draw(st.booleans()) else length))
    return found


@st.composite
def diffs(draw: Any, begin: str | None, end: str | None) -> tuple[int, list[Range], bytes]:
    size = draw(st.integers(0, SIZE))
    found = draw(ranges(size))
    return size, found, diff(draw(st.sampled_from([1, 2])), begin, end, size, found)


@settings(max_examples=400, deadline=None)
@given(st.binary(min_size=SIZE, max_size=SIZE), diffs("a", "b"), diffs("b", "c"), st.integers(1, 50))
def test_merged_diffs_do_what_both_do(base: bytes, first: Any, second: Any, most: int) -> None:
    async def merge() -> list[Any]:
        sink = Sink()
        await aiorbd.merge_diff(Stream(first[2], most), Stream(second[2], most), sink)
        return await read(Stream(sink.data))

    records = anyio.run(merge)
    expected = applied(applied(base, first[0], first[1]), second[0], second[1])
    assert records[0].size == second[0]
    assert applied(base, second[0], ranges_of(records)) == expected


@settings(max_examples=600, deadline=None)
@given(
    diffs("start", "end"),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4),
    st.integers(0, 2000),
    st.binary(max_size=20),
)
def test_damaged_diffs_are_read_or_refused(made: Any, changes: list[tuple[int, int]], cut: int, more: bytes) -> None:
    data = bytearray(made[2])
    for at, value in changes:
        data[at % len(data)] = value
    if cut < len(data):
        data[cut:cut] = more
    try:
        records = anyio.run(read, Stream(bytes(data)))
    except aiorbd.DiffFormatError:
        return
    size = records[0].size
    assert all(0 < record.length <= size - record.offset for record in records[1:])


@settings(max_examples=600, deadline=None)
@given(
    st.sampled_from(
        [b"rbd diff v1\n", b"rbd diff v2\n", b"rbd image v2\n", b"rbd image v2\nErbd image diffs v2\n", b""]
    ),
    st.binary(max_size=200),
)
def test_random_bytes_are_read_or_refused(banner: bytes, data: bytes) -> None:
    try:
        records = anyio.run(read, Stream(banner + data))
    except aiorbd.DiffFormatError:
        return
    assert isinstance(records[0], aiorbd.DiffHeader | aiorbd.ExportHeader)
