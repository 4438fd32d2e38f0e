"""Diffs: changed extents, streamed while librbd still searches for more."""

import gc
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from fix_lag import measured_lag, patience
from fix_witness import Witness
from helpers import MakeImage, new_name
from inside import bridge_of

import aiorbd
from aiorbd import Extent
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio

MIB = 1 << 20


async def witnessed(witness: Witness, image: aiorbd.Image, *options: Any) -> Any:
    shown = json.loads(await witness.rbd("diff", image.name, "--format", "json", *options))
    return {(extent["offset"], extent["length"], extent["exists"] == "true") for extent in shown}


def plain(extents: Any) -> Any:
    return {(extent.offset, extent.length, extent.exists) for extent in extents}


async def test_from_the_beginning(image: aiorbd.Image, witness: Witness) -> None:
    assert [extent async for extent in image.diff()] == []
    await image.write(b"x" * 4096, 0)
    await image.write(b"y" * 8192, 8 * MIB)
    await image.flush()
    extents = [extent async for extent in image.diff()]
    assert extents == [Extent(0, 4096, True), Extent(8 * MIB, 8192, True)]
    assert plain(extents) == await witnessed(witness, image)


async def test_since_a_snapshot(image: aiorbd.Image, witness: Witness) -> None:
    await image.write(b"x" * 4096, 0)
    await image.write(b"x" * (4 * MIB), 8 * MIB)
    one = await image.create_snapshot("one")
    await image.write(b"y" * 4096, 4 * MIB)
    await image.discard(8 * MIB, 4 * MIB)
    await image.flush()
    expected = {(4 * MIB, 4096, True), (8 * MIB, 4 * MIB, False)}
    for since in ("one", one):
        assert plain([extent async for extent in image.diff(from_snapshot=since)]) == expected
    assert await witnessed(witness, image, "--from-snap", "one") == expected
    await image.create_snapshot("two")
    await image.write(b"z", 15 * MIB)
    await image.set_snapshot("two")
    assert plain([extent async for extent in image.diff(from_snapshot="one")]) == expected


async def test_a_range(image: aiorbd.Image) -> None:
    for number in range(4):
        await image.write(b"x" * 4096, number * 4 * MIB)
    assert [e.offset async for e in image.diff(4 * MIB, 8 * MIB)] == [4 * MIB, 8 * MIB]
    assert [e async for e in image.diff(1024, 1024)] == [Extent(1024, 1024, True)]
    assert [e async for e in image.diff(12 * MIB)] == [Extent(12 * MIB, 4096, True)]


async def test_whole_objects(image: aiorbd.Image, witness: Witness) -> None:
    await image.write(b"x", 5 * MIB)
    await image.flush()
    extents = [extent async for extent in image.diff(whole_object=True)]
    assert extents == [Extent(4 * MIB, 4 * MIB, True)]
    assert plain(extents) == await witnessed(witness, image, "--whole-object")


async def test_the_parent(ioctx: aiorbd.IoCtx, image: aiorbd.Image, name: str) -> None:
    await image.write(b"x" * 4096, 0)
    await image.create_snapshot("one")
    await ioctx.clone_image(image.name, "one", ioctx, name, clone_format=2)
    async with ioctx.open_image(name) as clone:
        await clone.write(b"y" * 4096, 8 * MIB)
        await clone.flush()
        assert [e.offset async for e in clone.diff()] == [0, 8 * MIB]
        with pytest.warns(aiorbd.IncompleteDiffWarning, match="omits the ranges that were emptied"):
            assert [e.offset async for e in clone.diff(include_parent=False)] == [8 * MIB]


async def test_empty_ranges_yield_no_extents(ioctx: aiorbd.IoCtx, make_image: MakeImage, image: aiorbd.Image) -> None:
    """librbd 16.2 aborts the process for some of these ranges."""
    for whole_object in (False, True):
        assert [e async for e in image.diff(0, 0, whole_object=whole_object)] == []
        assert [e async for e in image.diff(16 * MIB, 0, whole_object=whole_object)] == []
        assert [e async for e in image.diff(16 * MIB, whole_object=whole_object)] == []
        async with ioctx.open_image(await make_image(0)) as empty:
            assert [e async for e in empty.diff(whole_object=whole_object)] == []


async def test_invalid_snapshots_and_ranges_are_refused(image: aiorbd.Image) -> None:
    one = await image.create_snapshot("one")
    with pytest.raises(aiorbd.SnapshotNotFound, match="snapshot 'nowhen' of image"):
        await anext(image.diff(from_snapshot="nowhen"))
    for offset, length in ((16 * MIB + 1, None), (0, 16 * MIB + 1), (16 * MIB, 1), (1 << 62, 1 << 62)):
        with pytest.raises(aiorbd.PastEndOfImage, match="16777216 bytes"):
            await anext(image.diff(offset, length))
    for arguments in ((-1, None), (0, -1), (1 << 64, None)):
        with pytest.raises(aiorbd.InvalidArgument, match="out of range"):
            image.diff(*arguments)
    await image.set_snapshot("one")
    await image.set_snapshot(None)
    await image.create_snapshot("two")
    await image.set_snapshot("one")
    with pytest.raises(aiorbd.InvalidArgument):
        await anext(image.diff(from_snapshot="two"))
    assert one.size
    assert image.in_flight == 0


#: The number of extents in the image: more than librbd may be ahead of the reader.
MANY = 5_000


async def make_many(conffile: str, name: str) -> None:
    async with aiorbd.connect(conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        await ioctx.create_image(name, MANY * 8192, order=12, features=aiorbd.Feature.LAYERING)
        async with ioctx.open_image(name) as image, image.writer() as writer:
            for number in range(MANY):
                await writer.write(b"x" * 512, number * 8192)


@pytest.fixture(scope="module")
def name_of_many(aiorbd_cluster: DevCluster) -> Any:
    """Return the name of an image with `MANY` extents. Tests do not change the image."""
    name = new_name("many")
    anyio.run(make_many, aiorbd_cluster.conffile, name)
    return name


@pytest.fixture
async def many(ioctx: aiorbd.IoCtx, name_of_many: Any) -> AsyncIterator[Any]:
    async with ioctx.open_image(name_of_many) as image:
        yield image


async def gone(image: aiorbd.Image) -> None:
    with anyio.fail_after(10):
        while image.in_flight:
            await anyio.sleep(0.01)


async def test_librbd_waits_for_a_slow_reader(many: Any) -> None:
    """Memory is bounded: librbd is at most `AHEAD` extents ahead of the event loop. Other calls continue meanwhile."""
    from aiorbd._image.diff_walk import AHEAD, BATCH

    diff = many.diff()
    first = await anext(diff)
    await anyio.sleep(0.5)
    assert many.in_flight == 1, "the walk is over: nothing held it up"
    assert await many.read(0, 1) == b"x"
    snapshot = await many.create_snapshot("meanwhile")
    seen = [first]
    async with measured_lag() as lag:
        seen += [extent async for extent in diff]
    assert [e.offset for e in seen] == [number * 8192 for number in range(MANY)]
    assert AHEAD + BATCH < MANY
    assert lag.worst < patience(0.2)
    await gone(many)
    await snapshot.remove()


async def test_drain_during_a_diff_returns(many: Any) -> None:
    """librbd's walk waits for its reader. The reader's drain waits for the other operations of the image only."""
    count = 0
    async for _ in many.diff():
        if not count:
            assert many.in_flight
            await many.drain(timeout=10)
        count += 1
    assert count == MANY


async def test_leaving_a_diff_early_stops_librbd(many: Any) -> None:
    async for _ in many.diff():
        break
    gc.collect()
    await gone(many)
    async with many.diff() as diff:
        await anext(diff)
    await gone(many)
    with pytest.raises(StopAsyncIteration):
        await anext(diff)
    diff = many.diff()
    await anext(diff)
    await diff.aclose()
    await gone(many)
    never_begun = many.diff()
    await never_begun.aclose()
    del never_begun


async def test_cancelled_reader_continues_later_without_losing_extents(many: Any) -> None:
    diff = many.diff()
    seen = []
    for _ in range(5):
        with anyio.move_on_after(0.002):
            async for extent in diff:
                seen.append(extent)
                await anyio.sleep(0)
    seen += [extent async for extent in diff]
    assert [e.offset for e in seen] == [number * 8192 for number in range(MANY)]


async def test_closing_the_image_ends_its_diff_with_closed_error(ioctx: aiorbd.IoCtx, many: Any) -> None:
    """The reader must not take the missing extents for unchanged ones."""
    image = await ioctx.open_image(many.name)
    diff = image.diff()
    await anext(diff)
    with anyio.fail_after(5):
        await image.close()
    with pytest.raises(aiorbd.ClosedError, match="was closed meanwhile"):
        async for _ in diff:
            pass
    with pytest.raises(aiorbd.ClosedError):
        await anext(image.diff())


async def test_removed_snapshot_raises_snapshot_not_found(
    ioctx: aiorbd.IoCtx, image: aiorbd.Image, name: str, witness: Witness
) -> None:
    """librbd reports size 0 for a removed snapshot. A backup or a copy of the snapshot would be empty."""
    await image.write(b"x" * 4096, 0)
    await image.create_snapshot("one")
    await image.set_snapshot("one")
    assert [e.length async for e in image.diff()] == [4096]
    await witness.rbd("snap", "rm", "--no-progress", f"{image.name}@one")
    for call in (
        lambda: anext(image.diff()),
        image.size,
        lambda: image.copy(ioctx, name),
        lambda: image.file().read(),
        lambda: image.read(0, 1),
    ):
        with pytest.raises(aiorbd.SnapshotNotFound, match="snapshot 'one' of image"):
            await call()
    assert name not in await ioctx.list_images()
    await image.set_snapshot(None)
    assert await image.read(0, 1) == b"x"


async def test_renamed_snapshot_is_not_confused_with_a_new_one_of_its_name(
    ioctx: aiorbd.IoCtx, image: aiorbd.Image, witness: Witness
) -> None:
    """A diff from the new snapshot would omit changes."""
    mine = await image.create_snapshot("one")
    await image.write(b"x" * 4096, 0)
    await witness.rbd("snap", "rename", f"{image.name}@one", f"{image.name}@moved")
    await image.create_snapshot("one")
    if "rbd_diff_iterate3" in aiorbd.capabilities():  # this function accepts the snapshot's id
        assert [e.length async for e in image.diff(from_snapshot=mine)] == [4096]
    else:
        with pytest.raises(aiorbd.SnapshotNotFound, match=f"the id of this snapshot is {mine.id}"):
            await anext(image.diff(from_snapshot=mine))
    async with ioctx.open_image(image.name, snapshot=mine) as view:
        assert (view.snapshot, await view.read(0, 1)) == ("moved", b"\0")
    with pytest.raises(aiorbd.SnapshotNotFound, match=f"the id of this snapshot is {mine.id}"):
        await image.clone(mine, ioctx, "clone")
    assert [e.length async for e in image.diff(from_snapshot="moved")] == [4096]
    assert [e async for e in image.diff(from_snapshot="one")] == []


async def test_many_waiting_diffs_do_not_delay_other_calls(many: Any) -> None:
    """More diffs wait than there are worker threads for calls. The readers of these diffs make calls."""
    diffs = [many.diff() for _ in range(20)]
    for diff in diffs:
        await anext(diff)
    await anyio.sleep(0.3)
    assert many.in_flight == 20
    with anyio.fail_after(5):
        await many.metadata.set("meanwhile", "yes")
    for diff in diffs:
        await diff.aclose()
    await gone(many)


async def test_diff_can_start_again_after_its_thread_failed_to_start(
    image: aiorbd.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    await image.write(b"x" * 4096, 0)
    diff = image.diff()
    monkeypatch.setattr(bridge_of(image)._workers, "submit", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("no")))
    with pytest.raises(RuntimeError, match="no"):
        await anext(diff)
    monkeypatch.undo()
    assert (await anext(diff)).length == 4096
    await diff.aclose()


async def test_second_task_on_the_same_diff_raises_usage_error(osd: DevCluster) -> None:
    from fix_faults import opened

    async with opened(osd) as image:
        diff = image.diff()
        osd.pause()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anext, diff)
            await anyio.sleep(0.1)
            with pytest.raises(aiorbd.UsageError, match="another task"):
                await anext(diff)
            tasks.cancel_scope.cancel()
        osd.resume()
        assert (await anext(diff)).offset == 0


@pytest.mark.parametrize("seed", range(3))
async def test_a_diff_restores_the_image(
    ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness, seed: Any
) -> None:
    """Each round makes sparse random changes and a snapshot. The diff turns the previous snapshot into the new one."""
    chance, size = random.Random(seed), 2 << 20
    name = await make_image(size, order=14)
    restored, before = bytearray(size), None
    async with ioctx.open_image(name) as image:
        for number in range(5):
            for _ in range(chance.randrange(1, 12)):
                offset = chance.randrange(size - 40000)
                length = chance.randrange(1, 40000)
                if chance.random() < 0.6:
                    await image.write(chance.randbytes(length), offset)
                else:
                    await image.write_zeroes(offset, length)
            snapshot = await image.create_snapshot(f"s{number}")
            async with ioctx.open_image(name, snapshot=snapshot) as view:
                async for extent in view.diff(from_snapshot=before):
                    end = extent.offset + extent.length
                    assert end <= size
                    data = await view.read(extent.offset, extent.length) if extent.exists else bytes(extent.length)
                    restored[extent.offset : end] = data
            assert bytes(restored) == await witness.export(f"{name}@{snapshot.name}")
            before = snapshot.name


async def test_clone_diff_warns_that_librbd_omits_zeroed_extents(
    image: aiorbd.Image, ioctx: aiorbd.IoCtx, name: str
) -> None:
    """librbd omits the extents that a clone zeroed, and a warning reports this.

    With the feature FAST_DIFF, librbd lists these extents if whole objects are asked for.
    """
    await image.write(b"p" * (16 * MIB), 0)
    await image.create_snapshot("one")
    await image.clone("one", ioctx, name, clone_format=2)
    async with ioctx.open_image(name) as clone:
        await clone.write(b"own", 0)
        await clone.write_zeroes(8 * MIB, 4 * MIB)
        with pytest.warns(aiorbd.IncompleteDiffWarning, match="FAST_DIFF"):
            extents = [e async for e in clone.diff(include_parent=False)]
        assert {e.offset // MIB for e in extents} == {0}
        extents = [e async for e in clone.diff(include_parent=False, whole_object=True)]  # without a warning
        assert {e.offset // MIB for e in extents} == {0, 8}
        await clone.create_snapshot("later")
        assert [e async for e in clone.diff(from_snapshot="later", include_parent=False)] == []  # without a warning
