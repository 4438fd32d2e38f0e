"""Read diffs and whole images without a cluster."""

import gc
import os
import struct
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import anyio
import pytest
from diff_bytes import Stream, diff, ranges_of, read, record, text
from helpers import ONE_LOOP

import aiorbd
from aiorbd import DiffData, DiffFormat, DiffHeader, DiffZeroes, ExportHeader

pytestmark = pytest.mark.anyio

MIB = 1 << 20


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("most", [1, 7, 1 << 20])
async def test_parts_of_a_diff(version: int, most: int) -> None:
    data = diff(version, "monday", "tuesday", 1 << 30, [(0, b"abc"), (4096, 1 << 20), (1 << 29, b"xyz")])
    assert await read(Stream(data + b"bytes after the end", most)) == [
        DiffHeader(DiffFormat(version), "monday", "tuesday", 1 << 30),
        DiffData(0, b"abc"),
        DiffZeroes(4096, 1 << 20),
        DiffData(1 << 29, b"xyz"),
    ]


async def test_diff_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "diff"
    content = os.urandom(9 * MIB)
    path.write_bytes(diff(1, None, None, 16 * MIB, [(MIB, content), (15 * MIB, 5)]))
    records = await read(path)
    assert records[0] == DiffHeader(DiffFormat.V1, None, None, 16 * MIB)
    assert max(record.length for record in records[1:]) == 4 * MIB
    assert all(record.offset % (4 * MIB) == 0 for record in records[2:4])
    assert b"".join(record.data for record in records[1:-1]) == content
    assert records[-1] == DiffZeroes(15 * MIB, 5)


async def test_whole_image() -> None:
    image = b"rbd image v2\n"
    image += record(2, b"O", struct.pack("<Q", 22)) + record(2, b"T", struct.pack("<Q", 61))
    image += record(2, b"U", struct.pack("<Q", 1 << 22)) + record(2, b"C", struct.pack("<Q", 1))
    image += record(2, b"M", text("key") + text("value")) + record(2, b"?", b"unknown") + b"E"
    image += b"rbd image diffs v2\n" + struct.pack("<Q", 2)
    first = b"rbd diff v2\n" + record(2, b"t", text("one")) + b"p" + struct.pack("<Q", 8) + b"\1"  # as rbd writes it
    first += record(2, b"s", struct.pack("<Q", 100)) + record(2, b"?", b"unknown") + b"e"
    records = await read(Stream(image + first + diff(2, "one", None, 200, [(0, 10)])))
    assert records == [
        ExportHeader(2, 22, 61, 1 << 22, 1, {"key": "value"}),
        DiffHeader(DiffFormat.V2, None, "one", 100, protected=True),
        DiffHeader(DiffFormat.V2, "one", None, 200),
        DiffZeroes(0, 10),
    ]


GOOD = diff(1, "a", "b", 100, [(0, b"data"), (50, 10)])
SIZE = record(1, b"s", struct.pack("<Q", 100))
BANNER = b"rbd diff v1\n"

MALFORMED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "the stream ends 12 bytes too early"),
    "something else": (b"hello world, this is no diff", "no diff: the banner is unknown"),
    "a banner of the future": (b"rbd diff v3\n" + GOOD[12:], "no diff: the banner is unknown"),
    "an almost right image": (b"rbd image v2 " + bytes(30), "no diff: the banner is unknown"),
    "no size": (BANNER + b"e", "the size of the image is missing"),
    "two sizes": (BANNER + SIZE + SIZE + b"e", "size comes twice"),
    "two start snapshots": (BANNER + b"f" + text("a") + b"f" + text("a"), "from_snapshot comes twice"),
    "an empty name": (BANNER + b"t" + text("") + SIZE + b"e", "the name of a snapshot is empty"),
    "a long name": (BANNER + b"t" + struct.pack("<I", 5000) + bytes(5000), "a text has 5000 bytes, more than 4096"),
    "a name with NUL": (BANNER + b"t" + text("a\0b"), "a text contains NUL"),
    "a huge size": (BANNER + b"s" + struct.pack("<Q", 1 << 63), "the number 9223372036854775808 is too large"),
    "an unknown tag": (BANNER + SIZE + b"x", "the tag b'x' is unknown"),
    "a size after data": (GOOD[:-1] + SIZE + b"e", "a part of the header comes after data"),
    "no end": (GOOD[:-1], "the stream ends 1 bytes too early"),
    "data past the end": (diff(1, None, None, 100, [(97, b"data")]), "reaches past the image of 100 bytes"),
    "zeroes past the end": (diff(1, None, None, 100, [(0, 101)]), "reaches past the image of 100 bytes"),
    "an empty range": (diff(1, None, None, 100, [(5, 0)]), "a record of 0 bytes at 5 is empty"),
    "less data than told": (BANNER + SIZE + b"w" + struct.pack("<QQ", 0, 50) + b"few", "ends 47 bytes too early"),
    "a wrong length": (
        b"rbd diff v2\n" + b"s" + struct.pack("<QQ", 9, 100) + b"e",
        "the length of size is wrong",
    ),
    "a wrong length of data": (
        b"rbd diff v2\n" + record(2, b"s", struct.pack("<Q", 100)) + b"z" + struct.pack("<QQQ", 17, 0, 10) + b"e",
        "the length of a record is wrong",
    ),
    "an image without diffs": (b"rbd image v2\nE" + bytes(30), "the banner of the diffs is missing"),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_streams_raise_typed_errors(name: str) -> None:
    data, message = MALFORMED[name]
    with pytest.raises(aiorbd.DiffFormatError) as caught:
        await read(Stream(data))
    assert message in str(caught.value)
    assert f"at byte {caught.value.position}" in str(caught.value)
    assert caught.value.position <= len(data)


async def test_every_stream_that_was_cut_off_is_refused() -> None:
    for version in (1, 2):
        good = diff(version, "a", "b", 100, [(0, b"data"), (50, 10)])
        for length in range(len(good)):
            with pytest.raises(aiorbd.DiffFormatError, match="too early"):
                await read(Stream(good[:length]))


async def test_memory_stays_small_for_lengths_that_the_stream_does_not_have() -> None:
    hostile = [
        BANNER + b"s" + struct.pack("<Q", 1 << 62) + b"w" + struct.pack("<QQ", 0, 1 << 61) + bytes(100),
        BANNER + b"t" + struct.pack("<I", 1 << 31) + bytes(100),
        b"rbd diff v2\n" + b"?" + struct.pack("<Q", 1 << 62) + bytes(100),
        b"rbd image v2\n" + b"M" + struct.pack("<QI", 1 << 62, (1 << 32) - 1) + bytes(100),
        b"rbd image v2\nErbd image diffs v2\n" + struct.pack("<Q", 1 << 62) + bytes(100),
    ]
    tracemalloc.start()
    for data in hostile:
        with pytest.raises(aiorbd.DiffFormatError):
            await read(Stream(data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 9 * MIB


async def test_many_unknown_parts_are_skipped() -> None:
    unknown = record(2, b"?", b"") * 5000
    start = b"rbd diff v2\n" + unknown + record(2, b"s", struct.pack("<Q", 100)) + unknown
    zeroes = record(2, b"z", struct.pack("<QQ", 0, 10))
    assert ranges_of(await read(Stream(start + zeroes + unknown + zeroes + b"e"))) == [(0, 10), (0, 10)]


async def test_streams_stay_open_and_files_are_closed(tmp_path: Path) -> None:
    stream = Stream(GOOD)
    async with aiorbd.read_diff(stream) as records:
        assert isinstance(await anext(records), DiffHeader)
    assert not stream.closed
    path = tmp_path / "diff"
    path.write_bytes(GOOD)

    def opened() -> int:
        return sum(os.path.realpath(f"/proc/self/fd/{fd}") == str(path) for fd in os.listdir("/proc/self/fd"))

    reader = aiorbd.read_diff(path)
    assert opened() == 0
    await anext(reader)
    assert opened() == 1
    assert "at byte" in repr(reader)
    await reader.aclose()
    await reader.aclose()  # twice is allowed
    assert opened() == 0
    assert ranges_of([record async for record in aiorbd.read_diff(path)]) == [(0, b"data"), (50, 10)]
    assert opened() == 0  # the end closes it, too


async def test_arguments_are_checked(tmp_path: Path) -> None:
    wrong: Any = b"bytes"
    with pytest.raises(TypeError, match="a source is a path or a ByteReceiveStream, not bytes"):
        aiorbd.read_diff(wrong)
    with pytest.raises(FileNotFoundError):
        await read(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        await read(tmp_path)


async def test_rest_of_a_stream_belongs_to_its_owner() -> None:
    """Two diffs on one socket."""
    stream = Stream(GOOD + diff(2, "b", "c", 7, []) + b"rest")
    assert len(await read(stream)) == 3
    assert (await read(stream))[0].to_snapshot == "c"
    assert stream.data == b"rest"


@ONE_LOOP
async def test_small_pieces_need_no_more_memory() -> None:
    data = diff(1, None, None, 1 << 30, [(0, bytes(1 << 17))])
    tracemalloc.start()
    assert len(await read(Stream(data, 1))) == 2
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * MIB


async def test_wait_for_a_pipe_can_be_cancelled(tmp_path: Path) -> None:
    """A thread waits for the other end, which never comes."""
    (tmp_path / "one").write_bytes(GOOD)
    (tmp_path / "two").write_bytes(diff(1, "b", "c", 100, []))
    for name in ("in", "out"):
        os.mkfifo(tmp_path / name)
    with anyio.fail_after(5), anyio.move_on_after(0.1) as scope:
        await read(tmp_path / "in")
    assert scope.cancelled_caught
    with anyio.fail_after(5), anyio.move_on_after(0.1) as scope:
        await aiorbd.merge_diff(tmp_path / "one", tmp_path / "two", tmp_path / "out")
    assert scope.cancelled_caught
    for name in ("in", "out"):
        os.close(os.open(tmp_path / name, os.O_RDWR | os.O_NONBLOCK))  # the threads go on, and end
    await anyio.sleep(0.2)


async def test_reader_that_is_forgotten_warns(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(GOOD)

    async def forget() -> None:
        async for _ in aiorbd.read_diff(tmp_path / "one"):
            break

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await forget()
        gc.collect()
    assert ["a file was not closed" in str(one.message) for one in caught] == [True]


async def test_wait_for_a_stream_can_be_cancelled() -> None:
    class Silent(Stream):
        async def receive(self, max_bytes: int = 65536) -> bytes:
            await anyio.sleep_forever()
            raise AssertionError

    with anyio.move_on_after(0.05) as scope:
        await read(Silent(b""))
    assert scope.cancelled_caught
