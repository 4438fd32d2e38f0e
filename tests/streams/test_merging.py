"""Merge diffs without a cluster."""

import os
from pathlib import Path
from typing import Any

import anyio
import pytest
from diff_bytes import Range, Sink, Stream, applied, diff, ranges_of, read

import aiorbd
from aiorbd import DiffFormat, DiffHeader

pytestmark = pytest.mark.anyio


async def merged(first: bytes, second: bytes, most: int = 1 << 20) -> list[Any]:
    sink = Sink()
    await aiorbd.merge_diff(Stream(first, most), Stream(second, most), sink)
    assert not sink.closed
    return await read(Stream(sink.data))


CASES: dict[str, tuple[int, list[Range], int, list[Range]]] = {
    "apart": (100, [(0, b"one")], 100, [(50, b"two")]),
    "the second hides the first": (100, [(10, b"one")], 100, [(5, b"twotwotwotwo")]),
    "the second hides a middle": (100, [(10, b"0123456789")], 100, [(13, b"ab")]),
    "the second hides a start": (100, [(10, b"0123456789")], 100, [(5, b"abcdefgh")]),
    "the second hides an end": (100, [(10, b"0123456789")], 100, [(15, b"abcdefgh")]),
    "zeroes over data": (100, [(10, b"0123456789")], 100, [(12, 3), (15, b"x"), (16, 2)]),
    "data over zeroes": (100, [(0, 100)], 100, [(12, b"x"), (50, b"y")]),
    "shrunk": (100, [(10, b"0123456789"), (90, b"xyz")], 15, [(0, b"a")]),
    "grown": (50, [(10, b"abc")], 100, [(60, b"d")]),
    "shrunk and grown": (20, [(0, b"abc")], 100, [(30, b"d"), (99, 1)]),
    "nothing": (100, [], 100, []),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("versions", [(1, 1), (1, 2), (2, 1), (2, 2)])
@pytest.mark.parametrize("most", [3, 1 << 20])
async def test_merged_diff_does_what_both_diffs_do(name: str, versions: tuple[int, int], most: int) -> None:
    one_size, one, two_size, two = CASES[name]
    base = os.urandom(100)
    first, second = diff(versions[0], "a", "b", one_size, one), diff(versions[1], "b", "c", two_size, two)
    records = await merged(first, second, most)
    assert records[0] == DiffHeader(DiffFormat(max(versions)), "a", "c", two_size)
    expected = applied(applied(base, one_size, one), two_size, two)
    assert applied(base, two_size, ranges_of(records)) == expected
    offsets = [offset for offset, _ in ranges_of(records)]
    assert offsets == sorted(offsets)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            diff(1, "a", "b", 9, []),
            diff(1, "c", "d", 9, []),
            "the first diff ends at 'b', and the second begins at 'c'",
        ),
        (diff(1, "a", None, 9, []), diff(1, None, "d", 9, []), "the first diff ends at None"),
        (b"rbd image v2\nErbd image diffs v2\n" + bytes(8), diff(1, "a", "b", 9, []), "whole image"),
    ],
)
async def test_diffs_that_do_not_follow_each_other_are_refused(first: bytes, second: bytes, message: str) -> None:
    with pytest.raises(aiorbd.DiffMismatchError, match=message):
        await merged(first, second)


async def test_diffs_out_of_order_are_refused() -> None:
    """As diffs of striped images are: they cannot be merged in bounded memory."""
    jumping = diff(1, "b", "c", 100, [(50, b"x"), (0, b"y")])
    with pytest.raises(aiorbd.DiffFormatError, match="not in the order of their offsets"):
        await merged(diff(1, "a", "b", 100, []), jumping)


async def test_failed_merge_keeps_the_file_that_was_there(tmp_path: Path) -> None:
    target = tmp_path / "merged"
    target.write_bytes(b"before")
    (tmp_path / "one").write_bytes(diff(1, "a", "b", 100, [(0, b"x" * 100)]))
    (tmp_path / "two").write_bytes(diff(1, "b", "c", 100, [])[:-1])
    with pytest.raises(aiorbd.DiffFormatError):
        await aiorbd.merge_diff(tmp_path / "one", tmp_path / "two", target)
    assert target.read_bytes() == b"before"

    class Endless(Stream):
        async def receive(self, max_bytes: int = 65536) -> bytes:
            await anyio.sleep_forever()
            raise AssertionError

    with anyio.move_on_after(0.05) as scope:
        await aiorbd.merge_diff(tmp_path / "one", Endless(b""), target)
    assert scope.cancelled_caught
    assert target.read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["merged", "one", "two"]
    (tmp_path / "two").write_bytes(diff(1, "b", "c", 100, []))
    await aiorbd.merge_diff(tmp_path / "one", tmp_path / "two", target)
    assert ranges_of(await read(target)) == [(0, b"x" * 100)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["merged", "one", "two"]


async def test_merge_into_a_pipe_and_a_device(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(diff(1, "a", "b", 100, [(0, b"x" * 100)]))
    two.write_bytes(diff(1, "b", "c", 100, []))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    results = []

    async def receive() -> None:
        results.append(await read(pipe))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receive)
        await aiorbd.merge_diff(one, two, pipe)
    assert ranges_of(results[0]) == [(0, b"x" * 100)]
    await aiorbd.merge_diff(one, two, "/dev/null")
    with pytest.raises(IsADirectoryError):
        await aiorbd.merge_diff(one, two, tmp_path)
    with pytest.raises(TypeError, match="a target is a path or a ByteSendStream, not NoneType"):
        await aiorbd.merge_diff(one, two, None)  # type: ignore[arg-type]


async def test_progress_leads_to_the_end_and_its_error_ends_the_merge(tmp_path: Path) -> None:
    one, two, target = tmp_path / "one", tmp_path / "two", tmp_path / "merged"
    one.write_bytes(diff(1, "a", "b", 100, [(0, b"x" * 10), (40, 20)]))
    two.write_bytes(diff(1, "b", "c", 100, [(20, b"y" * 30), (90, b"z" * 10)]))
    reports: list[tuple[int, int]] = []
    await aiorbd.merge_diff(one, two, target, progress=lambda done, total: reports.append((done, total)))
    assert reports == [(10, 100), (50, 100), (60, 100), (100, 100)]
    target.unlink()

    def refuse(_done: int, _total: int) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await aiorbd.merge_diff(one, two, target, progress=refuse)
    assert not target.exists()
    with pytest.raises(TypeError, match="progress must be a function, not int"):
        await aiorbd.merge_diff(one, two, target, progress=1)  # type: ignore[arg-type]
