"""Snapshots of other kinds than the user's: of groups, of mirroring, and in the trash of snapshots."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from fix_witness import Witness
from helpers import new_name

import aiorbd
from aiorbd import SnapshotNamespaceType as Kind
from aiorbd import SnapshotRemoveFlag

pytestmark = pytest.mark.anyio

MIB = 1 << 20
OTHERS = [Kind.GROUP, Kind.TRASH, Kind.MIRROR]
BY_ID = "rbd_diff_iterate3" in aiorbd.capabilities()


async def of_a_group(image: aiorbd.Image, ioctx: aiorbd.IoCtx, witness: Witness) -> None:
    group = new_name("group")
    await witness.rbd("group", "create", f"rbd/{group}")
    await witness.rbd("group", "image", "add", f"rbd/{group}", f"{ioctx.pool}/{image.name}")
    await witness.rbd("group", "snap", "create", f"rbd/{group}@one")


async def in_the_trash(image: aiorbd.Image, ioctx: aiorbd.IoCtx, _witness: Any) -> None:
    snapshot = await image.create_snapshot("one")
    await image.clone(snapshot, ioctx, new_name("clone"), clone_format=2)
    await snapshot.remove()


async def of_mirroring(image: aiorbd.Image, ioctx: aiorbd.IoCtx, witness: Witness) -> None:
    await witness.rbd("mirror", "pool", "enable", ioctx.pool, "image")
    await witness.rbd("mirror", "image", "enable", f"{ioctx.pool}/{image.name}", "snapshot")


MAKERS = {Kind.GROUP: of_a_group, Kind.TRASH: in_the_trash, Kind.MIRROR: of_mirroring}


@pytest.fixture
async def make(cluster: aiorbd.Cluster, witness: Witness) -> AsyncIterator[Any]:
    """Yield a function that creates an image with a snapshot "users" and a snapshot of another kind.

    The image is open for writing.
    """
    images = []

    async def make(kind: Any) -> Any:
        pool = new_name("pool") if kind is Kind.MIRROR else "rbd"
        if kind is Kind.MIRROR:
            await cluster.create_pool(pool)
        ioctx = await cluster.open_ioctx(pool)
        await ioctx.init_pool()
        name = new_name()
        await ioctx.create_image(name, 16 * MIB)
        image = await ioctx.open_image(name)
        images.append((ioctx, image))
        await image.write(b"old", 0)
        await image.create_snapshot("users")
        await MAKERS[kind](image, ioctx, witness)
        await image.write(b"new", 0)
        await image.write(b"more", 8 * MIB)
        await image.flush()
        return ioctx, image

    yield make
    for ioctx, image in images:
        await image.close()
        await ioctx.close()


async def other(image: aiorbd.Image, kind: Any) -> Any:
    """Return the only snapshot of this kind."""
    (found,) = [s async for s in image.snapshots(any_namespace=True) if s.namespace_type is kind]
    return found


@pytest.mark.parametrize("kind", OTHERS)
async def test_listing_includes_other_kinds_only_on_request(make: Any, kind: Any) -> None:
    _, image = await make(kind)
    (users,) = [s async for s in image.snapshots()]
    assert (users.name, users.namespace_type, users.protected) == ("users", Kind.USER, False)
    await users.protect()
    listed = {s.namespace_type: s async for s in image.snapshots(any_namespace=True)}
    assert set(listed) == {Kind.USER, kind}
    assert (listed[Kind.USER].protected, listed[kind].protected) == (True, False)
    assert (await image.get_snapshot("users")).protected
    assert repr(listed[kind]).endswith(f", {kind.name}>")
    again = await image.get_snapshot(snapshot_id=listed[kind].id)
    assert (again, again.namespace_type, again.size) == (listed[kind], kind, 16 * MIB)


@pytest.mark.parametrize("kind", OTHERS)
async def test_calls_by_id_work_for_all_kinds(make: Any, kind: Any) -> None:
    ioctx, image = await make(kind)
    snapshot = await other(image, kind)
    assert snapshot.namespace_type is kind
    assert (await snapshot.timestamp()).year > 2000
    assert not await snapshot.is_protected()
    await snapshot.set()
    assert await image.read(0, 3) == b"old"
    await image.set_snapshot(None)
    assert await image.read(0, 3) == b"new"
    async with ioctx.open_image(image.name, snapshot=snapshot) as view:
        assert (await view.read(0, 3), view.snapshot, await view.size()) == (b"old", snapshot.name, 16 * MIB)
        await view.copy(ioctx, new_name("copy"))


@pytest.mark.parametrize("kind", OTHERS)
async def test_errors_of_calls_by_name_state_the_kind(make: Any, kind: Any, name: str) -> None:
    ioctx, image = await make(kind)
    snapshot = await other(image, kind)
    said = {Kind.GROUP: "is a group's", Kind.TRASH: "is in the trash", Kind.MIRROR: "is mirroring's"}[kind]
    for call in (
        snapshot.protect,
        snapshot.unprotect,
        snapshot.rollback,
        lambda: snapshot.rename("x"),
        lambda: snapshot.remove(SnapshotRemoveFlag.FORCE),
    ):
        with pytest.raises(aiorbd.OperationNotSupported, match=said):
            await call()
    if not BY_ID:
        with pytest.raises(aiorbd.OperationNotSupported, match=said):
            image.diff(from_snapshot=snapshot)
    if "rbd_clone4" not in aiorbd.capabilities():
        with pytest.raises(aiorbd.OperationNotSupported, match=said):
            await image.clone(snapshot, ioctx, name, clone_format=2)
    elif kind is not Kind.TRASH:
        await image.clone(snapshot, ioctx, name, clone_format=2)
        async with ioctx.open_image(name, read_only=True) as clone:
            assert await clone.read(0, 3) == b"old"
    else:
        with pytest.raises(aiorbd.Error):
            await image.clone(snapshot, ioctx, name, clone_format=2)


@pytest.mark.skipif(not BY_ID, reason="this librbd knows no diff since a snapshot's id")
@pytest.mark.parametrize("kind", [Kind.USER, *OTHERS])
async def test_diff_since_a_snapshot_of_any_kind_has_the_changed_extents(make: Any, kind: Any) -> None:
    _, image = await make(Kind.GROUP if kind is Kind.USER else kind)
    extents = [e async for e in image.diff(from_snapshot=await other(image, kind))]
    assert {e.offset // MIB for e in extents} == {0, 8}
    assert all(e.exists for e in extents)


@pytest.mark.parametrize("kind", [Kind.GROUP, Kind.MIRROR])
async def test_group_and_mirror_snapshots_are_removed_only_with_any_namespace(make: Any, kind: Any) -> None:
    _, image = await make(kind)
    snapshot = await other(image, kind)
    for call in (snapshot.remove, snapshot.remove_by_id):
        with pytest.raises(aiorbd.OperationNotSupported, match="any_namespace=True removes it"):
            await call()
    async for users in image.snapshots():  # a service cleans up like this
        await users.remove()
    assert [s async for s in image.snapshots(any_namespace=True)] == [snapshot]
    await snapshot.remove(any_namespace=True)
    assert [s async for s in image.snapshots(any_namespace=True)] == []


async def test_snapshot_in_the_trash_is_removed_with_its_last_clone(make: Any) -> None:
    ioctx, image = await make(Kind.TRASH)
    snapshot = await other(image, Kind.TRASH)
    for call in (snapshot.remove, snapshot.remove_by_id):
        with pytest.raises(aiorbd.SnapshotBusy, match="the snapshot has clones"):
            await call()
    (child,) = [child async for child in image.descendants()]
    async with ioctx.open_image(child.image_name) as clone:
        await clone.flatten()  # flatten detaches the clone from the snapshot
    assert [s async for s in image.snapshots(any_namespace=True) if s.namespace_type is Kind.TRASH] == []
    with pytest.raises(aiorbd.SnapshotNotFound):
        await snapshot.remove()
