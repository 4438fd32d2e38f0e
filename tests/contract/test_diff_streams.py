"""Export and import diffs and whole images, with the ``rbd`` tool as the other side."""

import hashlib
import os
import random
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from diff_bytes import Sink, Stream, diff, ranges_of, read
from fix_witness import Witness
from helpers import ONE_LOOP, MakeImage, new_name

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio

MIB = 1 << 20
KEY = "aiorbd.import_diff"

SHAPES: dict[str, Any] = {
    "plain": {},
    "small objects": {"order": 16},
    "striped": {"order": 20, "stripe_unit": 65536, "stripe_count": 4},
    "data pool": {"data_pool": "data"},
    "no object map": {"features": aiorbd.Feature.LAYERING | aiorbd.Feature.EXCLUSIVE_LOCK},
}


@pytest.fixture
async def data_pool(cluster: aiorbd.Cluster) -> None:
    if not await cluster.pool_exists("data"):
        await cluster.create_pool("data")
        async with cluster.open_ioctx("data") as ioctx:
            await ioctx.init_pool()


async def change(image: aiorbd.Image, chance: random.Random, steps: int) -> None:
    """Make random changes, with sizes and zeroes among them."""
    for _ in range(steps):
        size = await image.size()
        offset = chance.randrange(size - 70000)
        length = chance.randrange(1, 70000)
        match chance.randrange(7):
            case 0 | 1 | 2:
                await image.write(chance.randbytes(length), offset)
            case 3:
                await image.write(bytes(length), offset)
            case 4:
                await image.discard(offset, length)
            case 5:
                await image.write_zeroes(offset, length)
            case 6:
                await image.resize(chance.randrange(2 * MIB, 12 * MIB), allow_shrink=True)


async def history(ioctx: aiorbd.IoCtx, name: str, chance: random.Random, shape: Any) -> list[str]:
    """Make an image with snapshots and a random past. Return the names of the snapshots."""
    await ioctx.create_image(name, 8 * MIB, **shape)
    names = [f"s{number}" for number in range(4)]
    async with ioctx.open_image(name) as image:
        for number, snapshot in enumerate(names):
            await change(image, chance, 12)
            taken = await image.create_snapshot(snapshot)
            if number % 2:
                await taken.protect()
        await change(image, chance, 5)
    return names


async def keys(image: aiorbd.Image) -> list[str]:
    return [key async for key, _ in image.metadata.items()]


async def hashes(witness: Witness, name: str, snapshots: list[str]) -> list[str]:
    return [hashlib.sha256(await witness.export(f"{name}@{snapshot}")).hexdigest() for snapshot in snapshots]


@ONE_LOOP
@pytest.mark.usefixtures("data_pool")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
async def test_random_histories_move_to_the_tool_and_back(
    ioctx: aiorbd.IoCtx, witness: Witness, name: str, tmp_path: Path, shape: str, seed: int
) -> None:
    """Through diffs, each by one side and applied by the other; merged; and as whole images."""
    chance = random.Random(f"{seed} {shape}")
    names = await history(ioctx, name, chance, SHAPES[shape])
    expected = await hashes(witness, name, names)
    by_us, by_tool = f"{name}-us", f"{name}-tool"
    await ioctx.create_image(by_us, MIB)
    await ioctx.create_image(by_tool, MIB)
    before: str | None = None
    async with ioctx.open_image(by_us) as target:
        for snapshot in names:
            ours, tools = tmp_path / f"ours-{snapshot}", tmp_path / f"tools-{snapshot}"
            async with ioctx.open_image(name, snapshot=snapshot) as image:
                await aiorbd.export_diff(image, ours, before)
            begin = [] if before is None else ["--from-snap", before]
            await witness.rbd("export-diff", "--no-progress", *begin, f"{name}@{snapshot}", str(tools))
            header = await aiorbd.import_diff(target, tools)
            assert (header.from_snapshot, header.to_snapshot) == (before, snapshot)
            await witness.rbd("import-diff", "--no-progress", str(ours), by_tool)
            before = snapshot
        assert KEY not in await keys(target)
    assert await hashes(witness, by_us, names) == expected
    assert await hashes(witness, by_tool, names) == expected
    if shape != "striped":
        await merge_all(ioctx, witness, tmp_path, names, expected)
    await move_whole(ioctx, witness, name, tmp_path, names, expected)


async def merge_all(
    ioctx: aiorbd.IoCtx, witness: Witness, directory: Path, names: list[str], expected: list[str]
) -> None:
    """Merge all diffs with the library, and with the tool, and apply the results to empty images."""
    ours, tools = directory / f"tools-{names[0]}", directory / f"ours-{names[0]}"
    for snapshot in names[1:]:
        await aiorbd.merge_diff(ours, directory / f"ours-{snapshot}", directory / "merged")
        (directory / "merged").rename(directory / "ours")
        ours = directory / "ours"
        second, result = directory / f"tools-{snapshot}", directory / f"merged-{snapshot}"
        await witness.rbd("merge-diff", "--no-progress", str(tools), str(second), str(result))
        tools = result
    for source in (ours, tools):
        name = new_name()
        await ioctx.create_image(name, MIB)
        async with ioctx.open_image(name) as image:
            await aiorbd.import_diff(image, source)
        assert await hashes(witness, name, names[-1:]) == expected[-1:]


async def move_whole(
    ioctx: aiorbd.IoCtx, witness: Witness, name: str, directory: Path, names: list[str], expected: list[str]
) -> None:
    """Export the whole image with each side, and import it with the other side."""
    async with ioctx.open_image(name) as image:
        await image.metadata.set("key", "value")
        await aiorbd.export_history(image, directory / "ours-whole")
        features = await image.features() & ~aiorbd.Feature.DATA_POOL
    whole = ["--no-progress", "--export-format", "2"]
    await witness.rbd("export", *whole, name, str(directory / "tools-whole"))
    assert [type(one) for one in await read(directory / "tools-whole")][:2] == [aiorbd.ExportHeader, aiorbd.DiffHeader]
    await aiorbd.import_history(ioctx, directory / "tools-whole", f"{name}-whole-us")
    await witness.rbd("import", *whole, str(directory / "ours-whole"), f"{name}-whole-tool")
    head = hashlib.sha256(await witness.export(name)).hexdigest()
    for copy in (f"{name}-whole-us", f"{name}-whole-tool"):
        assert await hashes(witness, copy, names) == expected
        assert hashlib.sha256(await witness.export(copy)).hexdigest() == head
        async with ioctx.open_image(copy) as image:
            assert [await one.is_protected() for one in await image.snapshots()] == [False, True, False, True]
            assert [item async for item in image.metadata.items()] == [("key", "value")]
            assert await image.features() == features


async def test_diff_of_a_clone_contains_the_data_of_the_parent(
    ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness
) -> None:
    name, clone, copy = await make_image(4 * MIB), new_name(), new_name()
    async with ioctx.open_image(name) as image:
        await image.write(b"parent", MIB)
        await image.create_snapshot("one")
        await image.clone("one", ioctx, clone, clone_format=2)
    await ioctx.create_image(copy, MIB)
    sink = Sink()
    async with ioctx.open_image(clone) as image:
        await image.write(b"clone", 0)
        await image.create_snapshot("end")
        await aiorbd.export_diff(image, sink)  # the current data: no end snapshot
    async with ioctx.open_image(copy) as image:
        assert (await aiorbd.import_diff(image, Stream(sink.data))).to_snapshot is None
    assert await witness.export(copy) == await witness.export(clone)


async def test_zero_data_becomes_ranges_of_zeroes(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> None:
    sink, reports = Sink(), []
    async with ioctx.open_image(await make_image(64 * MIB)) as image:
        await image.write(bytes(16 * MIB), 0)
        await image.write(b"data", 20 * MIB)
        moved = await aiorbd.export_diff(
            image, sink, whole_object=True, progress=lambda done, total: reports.append((done, total))
        )
    ranges = ranges_of(await read(Stream(sink.data)))
    assert ranges[0] == (0, 16 * MIB)
    assert moved == 4 * MIB == len(ranges[1][1])  # type: ignore[arg-type]
    assert reports == sorted(reports)
    assert reports[-1] == (24 * MIB, 64 * MIB)


async def test_diff_that_does_not_fit_changes_nothing(
    ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness
) -> None:
    name = await make_image(MIB)
    async with ioctx.open_image(name) as image:
        await image.write(b"before", 0)
        await image.create_snapshot("there")
        change = [(0, b"after!")]
        with pytest.raises(aiorbd.SnapshotNotFound, match="lacks the start snapshot 'missing'"):
            await aiorbd.import_diff(image, Stream(diff(1, "missing", "new", MIB, change)))
        with pytest.raises(aiorbd.SnapshotExists, match="has the end snapshot 'there'"):
            await aiorbd.import_diff(image, Stream(diff(1, None, "there", MIB, change)))
        with pytest.raises(aiorbd.DiffMismatchError, match="import_history"):
            await aiorbd.import_diff(image, Stream(b"rbd image v2\nErbd image diffs v2\n" + bytes(8)))
        with pytest.raises(aiorbd.DiffFormatError):
            await aiorbd.import_diff(image, Stream(b"no diff at all, and not short either"))
        assert KEY not in await keys(image)
        assert [snapshot.name for snapshot in await image.snapshots()] == ["there"]
        with pytest.raises(aiorbd.InvalidArgument, match="version 3"):
            await aiorbd.export_diff(image, Sink(), version=3)
        with pytest.raises(aiorbd.SnapshotNotFound):
            await aiorbd.export_diff(image, Sink(), "missing")
    async with ioctx.open_image(name, read_only=True) as image:
        with pytest.raises(aiorbd.ReadOnlyImage):
            await aiorbd.import_diff(image, Stream(diff(1, None, "new", MIB, change)))
    with pytest.raises(aiorbd.DiffMismatchError, match="import_diff"):
        await aiorbd.import_history(ioctx, Stream(diff(1, None, "a", MIB, [])), new_name())
    assert (await witness.export(name))[:6] == b"before"


@pytest.mark.parametrize("how", ["damaged", "cancelled"])
async def test_failed_import_is_recognisable_and_can_be_repeated(
    ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness, how: str
) -> None:
    name = await make_image(4 * MIB)
    ranges: list[Any] = [(number * 8192, os.urandom(4096)) for number in range(100)]
    good = diff(1, "begin", "end", 2 * MIB, ranges)
    cut = Stream(good[: len(good) // 2])

    class Stalling(Stream):
        async def receive(self, max_bytes: int = 65536) -> bytes:
            if len(self.data) < len(good) // 2:
                await anyio.sleep_forever()
            return await super().receive(5000)

    async with ioctx.open_image(name) as image:
        await image.create_snapshot("begin")
        if how == "damaged":
            with pytest.raises(aiorbd.DiffFormatError, match="too early"):
                await aiorbd.import_diff(image, cut)
        else:
            with anyio.move_on_after(1) as scope:
                await aiorbd.import_diff(image, Stalling(good))
            assert scope.cancelled_caught
        assert await image.metadata.get(KEY) == '{"from_snapshot": "begin", "to_snapshot": "end"}'
        assert not await image.snapshot_exists("end")
        await image.drain(30)
        await aiorbd.import_diff(image, Stream(good, 777))
        assert KEY not in await keys(image)
    exported = await witness.export(f"{name}@end")
    assert len(exported) == 2 * MIB
    assert all(exported[offset : offset + 4096] == data for offset, data in ranges)


async def test_import_of_another_diff_after_an_interrupted_one_is_refused(
    ioctx: aiorbd.IoCtx, make_image: MakeImage
) -> None:
    async with ioctx.open_image(await make_image(MIB)) as image:
        with pytest.raises(aiorbd.DiffFormatError):
            await aiorbd.import_diff(image, Stream(diff(1, None, "one", MIB, [(0, b"data")])[:-1]))
        with pytest.raises(aiorbd.DiffMismatchError, match="the import of another diff was interrupted"):
            await aiorbd.import_diff(image, Stream(diff(1, None, "two", MIB, [])))
        await aiorbd.import_diff(image, Stream(diff(1, None, "one", MIB, [(0, b"data")])))
        await aiorbd.import_diff(image, Stream(diff(1, "one", "two", MIB, [])))
        assert [snapshot.name for snapshot in await image.snapshots()] == ["one", "two"]


async def test_import_that_was_killed_after_its_snapshot_is_completed(
    ioctx: aiorbd.IoCtx, make_image: MakeImage
) -> None:
    async with ioctx.open_image(await make_image(MIB)) as image:
        await image.create_snapshot("one")
        await image.metadata.set(KEY, '{"from_snapshot": null, "to_snapshot": "one"}')
        protecting = diff(2, None, "one", MIB, []).replace(b"s\x08", b"p\x01" + bytes(7) + b"\1s\x08", 1)
        await aiorbd.import_diff(image, Stream(protecting))
        assert KEY not in await keys(image)
        assert [await snapshot.is_protected() for snapshot in await image.snapshots()] == [True]


async def test_size_that_librbd_refuses_changes_no_data_and_the_next_import_works(
    ioctx: aiorbd.IoCtx, make_image: MakeImage
) -> None:
    """The image grows while it gets its mark: the failure of the one must not lose the other."""
    async with ioctx.open_image(await make_image(MIB)) as image:
        await image.write(b"before", 0)
        with pytest.raises(aiorbd.InvalidArgument, match="rbd_resize2"):
            await aiorbd.import_diff(image, Stream(diff(1, None, "one", 1 << 62, [(0, b"after")])))
        await image.drain(20)
        assert await image.size() == MIB
        assert await image.read(0, 6) == b"before"
        assert await image.snapshots() == []
        await aiorbd.import_diff(image, Stream(diff(1, None, "one", 2 * MIB, [(MIB, b"after")])))
        assert await image.read(MIB, 5) == b"after"
        assert KEY not in await keys(image)
        assert [snapshot.size for snapshot in await image.snapshots()] == [2 * MIB]


async def test_import_asks_no_client_to_quiesce(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> None:
    """A client that does not answer would hold up the snapshot, although it must not write."""
    name = await make_image(MIB)
    requests: list[aiorbd.QuiesceRequest] = []
    async with ioctx.open_image(name) as watcher, ioctx.open_image(name) as image, anyio.create_task_group() as tasks:

        async def watch() -> None:
            async with watcher.quiesce_watch() as watch:
                tasks.start_soon(import_all)
                requests.append(await anext(watch))

        async def import_all() -> None:
            await aiorbd.import_diff(image, Stream(diff(1, None, "one", 2 * MIB, [(MIB, b"data")])))
            tasks.cancel_scope.cancel()

        tasks.start_soon(watch)
    assert requests == []
    async with ioctx.open_image(name, snapshot="one") as image:
        assert await image.read(MIB, 4) == b"data"


async def test_diffs_of_a_whole_image_must_follow_each_other(ioctx: aiorbd.IoCtx) -> None:
    whole = b"rbd image v2\nErbd image diffs v2\n" + (2).to_bytes(8, "little")
    wrong = whole + diff(2, None, "one", MIB, []) + diff(2, "other", None, MIB, [])
    with pytest.raises(aiorbd.DiffMismatchError, match="does not begin at the snapshot 'one'"):
        await aiorbd.import_history(ioctx, Stream(wrong), new_name())


async def test_export_and_import_through_pipes_of_processes(
    aiorbd_cluster: DevCluster, ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness
) -> None:
    """The tool's standard output is the source, and its standard input is the target."""
    name, copy, back = await make_image(16 * MIB), new_name(), new_name()
    for target in (copy, back):
        await ioctx.create_image(target, 16 * MIB)
    async with ioctx.open_image(name) as image:
        await image.write(os.urandom(9 * MIB), 12345)
        await image.create_snapshot("end")
    rbd = ["rbd", "-c", aiorbd_cluster.conffile]
    async with ioctx.open_image(copy) as image:
        command = [*rbd, "export-diff", "--no-progress", f"{name}@end", "-"]
        async with await anyio.open_process(command, stdin=subprocess.DEVNULL) as tool:
            assert tool.stdout is not None
            await aiorbd.import_diff(image, tool.stdout)
        assert tool.returncode == 0
    async with ioctx.open_image(copy, snapshot="end") as image:
        command = [*rbd, "import-diff", "--no-progress", "-", back]
        async with await anyio.open_process(command) as tool:
            assert tool.stdin is not None
            await aiorbd.export_diff(image, tool.stdin)
            await tool.stdin.aclose()
        assert tool.returncode == 0
    expected = await witness.export(name)
    assert await witness.export(f"{copy}@end") == await witness.export(f"{back}@end") == expected


async def test_overlapping_parts_apply_in_their_order(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> None:
    """No tool writes such a diff, but another program may."""
    ranges: list[Any] = [(0, bytes([number]) * 4096) for number in range(50)] + [(1024, 512)]
    async with ioctx.open_image(await make_image(MIB)) as image:
        await aiorbd.import_diff(image, Stream(diff(1, None, None, MIB, ranges)))
        assert await image.read(0, 4096) == b"1" * 1024 + bytes(512) + b"1" * 2560


@pytest.fixture
async def directory(tmp_path: Path) -> AsyncIterator[Path]:
    """Yield a directory which must hold no half-written files at the end."""
    yield tmp_path
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


async def test_failed_export_keeps_the_file_that_was_there(
    ioctx: aiorbd.IoCtx, make_image: MakeImage, directory: Path
) -> None:
    target = directory / "diff"
    target.write_bytes(b"before")
    async with ioctx.open_image(await make_image(64 * MIB)) as image:
        await image.write(os.urandom(32 * MIB), 0)

        def fail(done: int, total: int) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await aiorbd.export_diff(image, target, progress=fail)
        with anyio.CancelScope() as scope:
            await aiorbd.export_diff(image, target, progress=lambda done, total: scope.cancel())
        assert scope.cancelled_caught
        assert target.read_bytes() == b"before"
        target.chmod(0o600)
        link = directory / "link"
        link.symlink_to(target)
        await aiorbd.export_diff(image, link)
        assert link.is_symlink()
        assert target.stat().st_mode & 0o777 == 0o600
        assert len(target.read_bytes()) > 32 * MIB
        with pytest.raises(FileNotFoundError):
            await aiorbd.export_diff(image, directory / "missing" / "diff")
