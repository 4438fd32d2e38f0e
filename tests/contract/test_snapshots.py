"""Snapshots: create, list, protect, remove, rename, roll back and read."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from fix_witness import Witness
from inside import handle_of

import aiorbd
from aiorbd import SnapshotNamespaceType, SnapshotRemoveFlag
from aiorbd._image.gate import Mode

pytestmark = pytest.mark.anyio

MIB = 1 << 20


async def listed(witness: Witness, image: aiorbd.Image, *options: Any) -> Any:
    return json.loads(await witness.rbd("snap", "ls", image.name, "--format", "json", *options))


async def test_create_and_list(image: aiorbd.Image, witness: Witness) -> None:
    assert [snapshot async for snapshot in image.snapshots()] == []
    first = await image.create_snapshot("first")
    await image.resize(8 * MIB, allow_shrink=True)
    second = await image.create_snapshot("second")
    assert (first.name, first.size, second.name, second.size) == ("first", 16 * MIB, "second", 8 * MIB)
    seen = [snapshot async for snapshot in image.snapshots()]
    assert seen == [first, second]
    assert hash(seen[0]) == hash(first)
    assert first != second
    shown = await listed(witness, image)
    assert [(s["id"], s["name"], s["size"]) for s in shown] == [(s.id, s.name, s.size) for s in seen]
    assert "'first'" in repr(first)


async def test_snapshot_contains_writes_that_were_not_flushed(image: aiorbd.Image, witness: Witness) -> None:
    await image.write(b"before", 0)
    await image.create_snapshot("one")
    await image.write(b"after!", 0)
    await image.flush()
    assert (await witness.export(f"{image.name}@one"))[:6] == b"before"
    assert (await witness.export(image.name))[:6] == b"after!"


async def test_names_and_ids(image: aiorbd.Image) -> None:
    made = await image.create_snapshot("one")
    assert await image.get_snapshot("one") == made
    by_id = await image.get_snapshot(snapshot_id=made.id)
    assert (by_id.name, by_id.size) == ("one", 16 * MIB)
    assert await image.snapshot_exists("one")
    assert not await image.snapshot_exists("two")
    wrong: list[dict[str, Any]] = [{}, {"name": "one", "snapshot_id": made.id}]
    for arguments in wrong:
        with pytest.raises(TypeError, match="either a name or a snapshot_id"):
            await image.get_snapshot(**arguments)


async def test_missing_snapshot_raises_snapshot_not_found(image: aiorbd.Image) -> None:
    gone = await image.create_snapshot("gone")
    await gone.remove()
    unknown = 1 << 40
    calls = {
        "by name": lambda: image.get_snapshot("gone"),
        "by id": lambda: image.get_snapshot(snapshot_id=unknown),
        "largest id": lambda: image.get_snapshot(snapshot_id=(1 << 64) - 1),
        "set": lambda: image.set_snapshot("gone"),
        "remove": gone.remove,
        "remove_by_id": gone.remove_by_id,
        "protect": gone.protect,
        "unprotect": gone.unprotect,
        "is_protected": gone.is_protected,
        "rename": lambda: gone.rename("other"),
        "rollback": gone.rollback,
        "set itself": gone.set,
        "timestamp": gone.timestamp,  # librbd 16.2 would abort the process
        "trash namespace": gone.trash_namespace,
    }
    for label, call in calls.items():
        with pytest.raises(aiorbd.SnapshotNotFound, match=r"snapshot .* of image 'rbd/") as caught:
            await call()
        assert isinstance(caught.value, FileNotFoundError), label
        said = str(caught.value)
        assert any(word in said for word in ("'gone'", f"id {gone.id} ", str(unknown), str((1 << 64) - 1))), said
    assert await image.read(0, 1) == b"\0"


async def test_duplicate_name_raises_snapshot_exists(image: aiorbd.Image) -> None:
    await image.create_snapshot("one")
    two = await image.create_snapshot("two")
    with pytest.raises(aiorbd.SnapshotExists, match="snapshot 'one' of image"):
        await image.create_snapshot("one")
    with pytest.raises(aiorbd.SnapshotExists, match="new name 'one'"):
        await two.rename("one")


@pytest.mark.parametrize("bad", ["", "a@b", "a/b", "a\0b"])
async def test_names_nobody_should_make(image: aiorbd.Image, bad: str) -> None:
    one = await image.create_snapshot("one")
    for call in (lambda: image.create_snapshot(bad), lambda: one.rename(bad)):
        with pytest.raises(aiorbd.InvalidArgument, match="must not"):
            await call()


async def test_protect(image: aiorbd.Image, witness: Witness) -> None:
    snapshot = await image.create_snapshot("one")
    assert not await snapshot.is_protected()
    with pytest.raises(aiorbd.InvalidArgument, match="is not protected"):
        await snapshot.unprotect()
    await snapshot.protect()
    assert await snapshot.is_protected()
    assert (await listed(witness, image))[0]["protected"] == "true"
    with pytest.raises(aiorbd.SnapshotBusy, match="protected already"):
        await snapshot.protect()
    with pytest.raises(aiorbd.SnapshotBusy, match="the snapshot is protected"):
        await snapshot.remove()
    await snapshot.unprotect()
    assert (await listed(witness, image))[0]["protected"] == "false"


async def test_remove(image: aiorbd.Image, witness: Witness) -> None:
    one, two, three = [await image.create_snapshot(name) for name in ("one", "two", "three")]
    await three.protect()
    await one.remove()
    await two.remove_by_id()
    await three.remove(SnapshotRemoveFlag.UNPROTECT)
    assert await listed(witness, image) == []


async def test_rename(image: aiorbd.Image, witness: Witness) -> None:
    snapshot = await image.create_snapshot("old")
    await snapshot.rename("new")
    assert snapshot.name == "new"
    assert [s["name"] for s in await listed(witness, image)] == ["new"]
    await snapshot.protect()


async def test_calls_refuse_a_name_that_now_belongs_to_another_snapshot(image: aiorbd.Image, witness: Witness) -> None:
    """No call changes the other snapshot."""
    mine = await image.create_snapshot("one")
    await witness.rbd("snap", "rename", f"{image.name}@one", f"{image.name}@moved")
    other = await image.create_snapshot("one")
    for call in (mine.remove, mine.protect, mine.unprotect, mine.is_protected, mine.rollback, lambda: mine.rename("x")):
        with pytest.raises(aiorbd.SnapshotNotFound, match=f"another snapshot: the id of this snapshot is {mine.id}"):
            await call()
    assert [(s["id"], s["name"]) for s in await listed(witness, image)] == [(mine.id, "moved"), (other.id, "one")]
    await mine.remove_by_id()
    assert [s["id"] for s in await listed(witness, image)] == [other.id]


async def test_rollback_refuses_a_name_that_was_reassigned_during_the_wait(
    image: aiorbd.Image, witness: Witness
) -> None:
    snapshot = await image.create_snapshot("one")
    handle = handle_of(image)
    leave = await handle.pass_gate(Mode.OBJECTS)  # as a long flatten does
    refused = []

    async def roll_back() -> None:
        with pytest.raises(aiorbd.SnapshotNotFound, match="now belongs to another snapshot") as caught:
            await snapshot.rollback()
        refused.append(caught.value)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(roll_back)
        await anyio.sleep(0.05)
        await witness.rbd("snap", "rm", "--no-progress", f"{image.name}@one")
        await witness.rbd("snap", "create", "--no-progress", f"{image.name}@one")
        assert not refused
        assert leave
        leave()
    assert refused


async def test_listing_continues_after_an_early_break(image: aiorbd.Image) -> None:
    for number in range(3):
        await image.create_snapshot(f"snapshot-{number}")
    snapshots = image.snapshots()
    async for snapshot in snapshots:
        assert snapshot.name == "snapshot-0"
        break
    assert (await anext(snapshots)).name == "snapshot-1"
    await snapshots.aclose()
    assert [snapshot async for snapshot in snapshots] == []


async def test_rollback(image: aiorbd.Image, witness: Witness) -> None:
    await image.write(b"then" * 1024, 0)
    snapshot = await image.create_snapshot("then")
    await image.write(b"now!" * 1024, 0)
    reports = []
    await snapshot.rollback(progress=lambda done, total: reports.append((done, total)))
    assert await image.read(0, 4) == b"then"
    assert (await witness.export(image.name))[:4] == b"then"
    assert all(0 <= done <= total for done, total in reports)


async def test_rollback_restores_the_size_of_the_snapshot(image: aiorbd.Image) -> None:
    """Requests beyond the size of the snapshot are refused from the start of the rollback."""
    snapshot = await image.create_snapshot("small")
    await image.resize(64 * MIB)
    await image.write(b"x", 64 * MIB - 1)
    await snapshot.rollback()
    assert await image.size() == 16 * MIB
    with pytest.raises(aiorbd.PastEndOfImage):
        await image.write(b"x", 64 * MIB - 1)
    large = await image.create_snapshot("large")
    await image.resize(MIB, allow_shrink=True)
    await large.rollback()
    await image.write(b"x", 16 * MIB - 1)


async def test_read_view(image: aiorbd.Image) -> None:
    await image.write(b"then", 0)
    snapshot = await image.create_snapshot("then")
    await image.resize(32 * MIB)
    await image.write(b"now!", 0)
    assert image.snapshot is None
    for switch in (
        snapshot.set,
        lambda: image.set_snapshot("then"),
        lambda: image.set_snapshot(snapshot),
    ):
        await switch()
        assert image.snapshot == "then"
        assert await image.read(0, 4) == b"then"
        assert await image.size() == 16 * MIB
        with pytest.raises(aiorbd.PastEndOfImage):
            await image.read(16 * MIB, 1)
        with pytest.raises(aiorbd.ReadOnlyImage):
            await image.write(b"x", 0)
        await image.set_snapshot(None)
        assert image.snapshot is None
        assert await image.read(0, 4) == b"now!"
        await image.write(b"x", 32 * MIB - 1)


async def test_writes_during_a_switch_of_the_view_are_never_clipped(image: aiorbd.Image, witness: Witness) -> None:
    """librbd clips no write that was checked against the size of another view."""
    await image.create_snapshot("large")
    await image.resize(4 * MIB, allow_shrink=True)
    outcomes = []

    async def write(number: int) -> None:
        try:
            await image.write(b"x" * 4096, 4 * MIB - 2048 + number)
            outcomes.append("written")
        except (aiorbd.ReadOnlyImage, aiorbd.PastEndOfImage) as error:
            outcomes.append(type(error).__name__)

    for _ in range(10):
        await image.set_snapshot("large")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(image.set_snapshot, None)
            for number in range(32):
                tasks.start_soon(write, number)
    assert len(outcomes) == 320
    assert "written" not in outcomes
    assert not any((await witness.export(image.name))[-4096:])


async def test_image_opened_at_a_snapshot_reads_the_snapshot(ioctx: aiorbd.IoCtx, image: aiorbd.Image) -> None:
    await image.write(b"then", 0)
    await image.create_snapshot("then")
    await image.write(b"now!", 0)
    async with ioctx.open_image(image.name, snapshot="then") as old:
        assert (old.snapshot, await old.read(0, 4)) == ("then", b"then")
        await old.set_snapshot(None)
        assert (old.snapshot, await old.read(0, 4)) == (None, b"now!")
        with pytest.raises(aiorbd.ReadOnlyImage):
            await old.create_snapshot("more")


async def test_timestamp_and_namespace(image: aiorbd.Image) -> None:
    snapshot = await image.create_snapshot("one")
    stamp = await snapshot.timestamp()
    assert abs(datetime.now(UTC) - stamp) < timedelta(minutes=1)
    assert snapshot.namespace_type is SnapshotNamespaceType.USER
    with pytest.raises(aiorbd.InvalidArgument):
        await snapshot.trash_namespace()


async def test_the_trash_of_snapshots(ioctx: aiorbd.IoCtx, image: aiorbd.Image, name: str, witness: Witness) -> None:
    """Removing a snapshot that has a clone moves the snapshot to the trash of snapshots."""
    await witness.rbd("config", "image", "set", image.name, "rbd_move_parent_to_trash_on_remove", "false")
    snapshot = await image.create_snapshot("one")
    await image.clone("one", ioctx, name, clone_format=2)
    await snapshot.remove()
    (trashed,) = [s async for s in image.snapshots(any_namespace=True)]
    assert trashed.id == snapshot.id
    assert trashed.namespace_type is SnapshotNamespaceType.TRASH
    found = await trashed.trash_namespace()
    assert found.name == "one"
    told = "rbd_snap_get_trash_namespace2" in aiorbd.capabilities()
    assert found.namespace_type is (aiorbd.SnapshotNamespaceType.USER if told else None)
    assert aiorbd.OperationFeature.SNAP_TRASH in await image.op_features()
    with pytest.raises(aiorbd.SnapshotBusy):
        await trashed.remove_by_id()
    (shown,) = await listed(witness, image, "--all")
    assert shown["namespace"]["original_name"] == "one"
    async with ioctx.open_image(name) as clone:
        await clone.flatten()
    assert await listed(witness, image, "--all") == []  # librbd removes the snapshot with its last clone


async def test_snapshot_beyond_the_limit_raises_disk_quota_exceeded(image: aiorbd.Image) -> None:
    assert await image.snapshot_limit() is None
    await image.set_snapshot_limit(1)
    assert await image.snapshot_limit() == 1
    await image.create_snapshot("one")
    with pytest.raises(aiorbd.DiskQuotaExceeded, match="snapshot 'two'"):
        await image.create_snapshot("two")
    await image.set_snapshot_limit(None)
    await image.create_snapshot("two")
    with pytest.raises(aiorbd.InvalidArgument, match="out of range"):
        await image.set_snapshot_limit(-1)


async def test_read_only_images(ioctx: aiorbd.IoCtx, image: aiorbd.Image) -> None:
    snapshot = await image.create_snapshot("one")
    async with ioctx.open_image(image.name, read_only=True) as other:
        mine = await other.get_snapshot("one")
        assert mine.id == snapshot.id
        for call in (
            lambda: other.create_snapshot("two"),
            mine.remove,
            mine.protect,
            mine.unprotect,
            mine.rollback,
            lambda: mine.rename("two"),
            lambda: other.set_snapshot_limit(3),
        ):
            with pytest.raises(aiorbd.ReadOnlyImage):
                await call()
