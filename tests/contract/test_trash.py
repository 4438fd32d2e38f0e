"""The trash of a pool."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fix_witness import Witness
from helpers import new_name

import aiorbd
from aiorbd import TrashImageSource

pytestmark = pytest.mark.anyio

MIB = 1 << 20


async def shown(witness: Witness, ioctx: aiorbd.IoCtx) -> Any:
    return json.loads(await witness.rbd("trash", "ls", "rbd", "--namespace", ioctx.namespace, "--format", "json"))


@pytest.fixture
async def trashed(aiorbd_ioctx: aiorbd.IoCtx) -> Any:
    """Move an image named "old" to the trash, and return its id."""
    await aiorbd_ioctx.create_image("old", MIB)
    async with aiorbd_ioctx.open_image("old") as image:
        await image.write(b"kept", 0)
        image_id = image.id
    await aiorbd_ioctx.trash.move("old")
    return image_id


async def test_move_and_list(aiorbd_ioctx: aiorbd.IoCtx, trashed: Any, witness: Witness) -> None:
    before = datetime.now(UTC)
    assert await aiorbd_ioctx.list_images() == []
    (entry,) = [entry async for entry in aiorbd_ioctx.trash.entries()]
    assert (entry.id, entry.name, entry.source) == (trashed, "old", TrashImageSource.USER)
    assert entry.deletion_time == entry.deferment_end_time
    assert abs(before - entry.deletion_time) < timedelta(minutes=1)
    assert await aiorbd_ioctx.trash.get(trashed) == entry
    assert [(e["id"], e["name"]) for e in await shown(witness, aiorbd_ioctx)] == [(trashed, "old")]


async def test_restore(aiorbd_ioctx: aiorbd.IoCtx, trashed: Any) -> None:
    await aiorbd_ioctx.trash.restore(trashed, "new")
    assert await aiorbd_ioctx.list_images() == ["new"]
    async with aiorbd_ioctx.open_image("new") as image:
        assert await image.read(0, 4) == b"kept"


async def test_remove(aiorbd_ioctx: aiorbd.IoCtx, trashed: Any, witness: Witness) -> None:
    reports = []
    await aiorbd_ioctx.trash.remove(trashed, progress=lambda done, total: reports.append((done, total)))
    assert await shown(witness, aiorbd_ioctx) == []
    assert all(0 <= done <= total for done, total in reports)


async def test_delay_defers_the_removal_from_the_trash(aiorbd_ioctx: aiorbd.IoCtx) -> None:
    for delay in (3600, timedelta(hours=1)):
        await aiorbd_ioctx.create_image("late", MIB)
        await aiorbd_ioctx.trash.move("late", delay)
        (entry,) = [entry async for entry in aiorbd_ioctx.trash.entries()]
        assert entry.deferment_end_time - entry.deletion_time == timedelta(hours=1)
        with pytest.raises(aiorbd.PermissionError, match="must stay in the trash for now"):
            await aiorbd_ioctx.trash.remove(entry.id)
        await aiorbd_ioctx.trash.remove(entry.id, force=True)
    await aiorbd_ioctx.create_image("late", MIB)
    for delay in (-1, 1 << 63):
        with pytest.raises(aiorbd.InvalidArgument, match=r"not a valid number of seconds|ends after"):
            await aiorbd_ioctx.trash.move("late", delay)


async def test_purge_removes_the_images_with_an_expired_delay(aiorbd_ioctx: aiorbd.IoCtx, witness: Witness) -> None:
    for name, delay in (("now", 0), ("soon", 3600), ("late", 1 << 20)):
        await aiorbd_ioctx.create_image(name, MIB)
        await aiorbd_ioctx.trash.move(name, delay)
    await aiorbd_ioctx.trash.purge()
    assert {entry["name"] for entry in await shown(witness, aiorbd_ioctx)} == {"soon", "late"}
    await aiorbd_ioctx.trash.purge(datetime.now(UTC) + timedelta(hours=2))
    assert {entry["name"] for entry in await shown(witness, aiorbd_ioctx)} == {"late"}
    with pytest.raises(aiorbd.InvalidArgument, match="has no time zone"):
        await aiorbd_ioctx.trash.purge(datetime.now())  # noqa: DTZ005
    for threshold in (-0.1, 1.1):
        with pytest.raises(aiorbd.InvalidArgument, match="between 0 and 1"):
            await aiorbd_ioctx.trash.purge(threshold=threshold)


async def test_missing_image_raises_image_not_found(aiorbd_ioctx: aiorbd.IoCtx, trashed: Any) -> None:
    trash = aiorbd_ioctx.trash
    with pytest.raises(aiorbd.ImageNotFound, match=r"image 'rbd/.*/no-such-image'"):
        await trash.move("no-such-image")
    for call in (trash.get, trash.remove, lambda image_id: trash.restore(image_id, "new")):
        with pytest.raises(aiorbd.ImageNotFound, match="image id '0123' in the trash of pool 'rbd' namespace"):
            await call("0123")
        for bad in ("", "a\0b"):
            with pytest.raises(aiorbd.InvalidArgument, match="must not"):
                await call(bad)


async def test_taken_names_open_images_and_snapshots_are_refused(aiorbd_ioctx: aiorbd.IoCtx, trashed: Any) -> None:
    await aiorbd_ioctx.create_image("taken", MIB)
    with pytest.raises(aiorbd.ImageExists, match="new name 'taken'"):
        await aiorbd_ioctx.trash.restore(trashed, "taken")
    for bad in ("", "a@b", "a/b"):
        with pytest.raises(aiorbd.InvalidArgument, match="must not"):
            await aiorbd_ioctx.trash.restore(trashed, bad)
    async with aiorbd_ioctx.open_image("taken") as image:
        image_id = image.id
        await aiorbd_ioctx.trash.move("taken")
        await image.write(b"still", 0)
        with pytest.raises(aiorbd.ImageBusy, match=f"image id '{image_id}' in the trash"):
            await aiorbd_ioctx.trash.remove(image_id)
        await image.create_snapshot("one")
    with pytest.raises(aiorbd.ImageHasSnapshots, match=image_id):
        await aiorbd_ioctx.trash.remove(image_id)


async def test_listing_returns_more_entries_than_the_first_buffer_holds(
    aiorbd_ioctx: aiorbd.IoCtx, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiorbd._core.handle.PAGE", 2)
    names = {new_name() for _ in range(9)}
    for name in names:
        await aiorbd_ioctx.create_image(name, 0, features=0)
        await aiorbd_ioctx.trash.move(name)
    assert {entry.name async for entry in aiorbd_ioctx.trash.entries()} == names
