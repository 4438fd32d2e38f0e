"""Error messages state Ceph's reason for the failure, and no other."""

import copy
import logging
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fix_faults import make_client
from fix_witness import Witness
from helpers import MakeImage, new_name

import aiorbd
from aiorbd import Feature, SnapshotRemoveFlag
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio

MIB = 1 << 20


# -- the trash -------------------------------------------------------------------------------------


async def test_trash_removal_error_distinguishes_delay_and_missing_permission(cephx_cluster: DevCluster) -> None:
    reader = await make_client(cephx_cluster, new_name("reader"), mon="profile rbd", osd="profile rbd-read-only")
    name = new_name()
    async with aiorbd.connect(cephx_cluster.conffile) as admin, admin.open_ioctx("rbd") as ioctx:
        await ioctx.create_image(name, MIB)
        async with ioctx.open_image(name) as image:
            image_id = image.id
        await ioctx.trash.move(name, delay=timedelta(hours=1))
        with pytest.raises(aiorbd.PermissionError, match="the image must stay in the trash for now"):
            await ioctx.trash.remove(image_id)
        async with (
            aiorbd.connect(cephx_cluster.conffile, **reader) as other,
            other.open_ioctx("rbd") as restricted,
        ):
            for force in (False, True):
                with pytest.raises(aiorbd.PermissionError) as caught:
                    await restricted.trash.remove(image_id, force=force)
                assert ("must stay in the trash" in str(caught.value)) == (not force)
            await ioctx.trash.restore(image_id, name)
            await ioctx.trash.move(name)
            for force in (False, True):
                with pytest.raises(aiorbd.PermissionError, match="Operation not permitted"):
                    await restricted.trash.remove(image_id, force=force)
        await ioctx.trash.remove(image_id)


async def test_purge_error_names_the_image_that_cannot_be_removed(cluster: aiorbd.Cluster, witness: Witness) -> None:
    pool = new_name("pool")
    await cluster.create_pool(pool)
    async with cluster.open_ioctx(pool) as ioctx:
        await ioctx.init_pool()
        for name in ("snap", "other"):
            await ioctx.create_image(name, MIB)
        async with ioctx.open_image("snap") as image:
            await image.create_snapshot("one")
        await ioctx.trash.move("snap")
        await ioctx.trash.move("other")
        with pytest.raises(aiorbd.ImageHasSnapshots, match=f"image 'snap', id '{image.id}', in the trash of pool"):
            await ioctx.trash.purge()
        assert [entry.name async for entry in ioctx.trash.entries()] == ["snap"]
        async with ioctx.open_image(image_id=image.id) as image:
            await (await image.get_snapshot("one")).remove()
            with pytest.raises(aiorbd.ImageBusy, match="image 'snap'"):
                await ioctx.trash.purge()
        await witness.rbd("group", "create", f"{pool}/group")
        await ioctx.trash.restore(image.id, "snap")
        await witness.rbd("group", "image", "add", f"{pool}/group", f"{pool}/snap")
        try:
            await ioctx.trash.move("snap")
        except aiorbd.ImageMemberOfGroup as error:  # later releases refuse the move
            assert "a member of a group" in str(error)  # noqa: PT017
            return
        with pytest.raises(aiorbd.ImageMemberOfGroup, match="image 'snap'"):
            await ioctx.trash.purge()
        with pytest.raises(aiorbd.ImageMemberOfGroup, match="a member of a group"):
            await ioctx.trash.remove(image.id)
        await witness.rbd("group", "rm", f"{pool}/group")
        await ioctx.trash.purge()


async def test_removing_a_member_of_a_group_raises_image_member_of_group(
    image: aiorbd.Image, ioctx: aiorbd.IoCtx, witness: Witness
) -> None:
    group = new_name("group")
    await witness.rbd("group", "create", f"rbd/{group}")
    await witness.rbd("group", "image", "add", f"rbd/{group}", f"rbd/{image.name}")
    await image.close()
    with pytest.raises(aiorbd.ImageMemberOfGroup, match="the image is a member of a group, which it must leave first"):
        await ioctx.remove_image(image.name)
    await witness.rbd("group", "rm", f"rbd/{group}")


# -- snapshots and clones ----------------------------------------------------------------------------


async def test_snapshot_removal_error_states_protection_or_clones(
    image: aiorbd.Image, ioctx: aiorbd.IoCtx, name: str
) -> None:
    snapshot = await image.create_snapshot("one")
    await snapshot.protect()
    for call in (snapshot.remove, snapshot.remove_by_id):
        with pytest.raises(aiorbd.SnapshotBusy, match="the snapshot is protected"):
            await call()
    await image.clone("one", ioctx, name, clone_format=1)
    with pytest.raises(aiorbd.SnapshotBusy, match="the snapshot has clones"):
        await snapshot.remove(SnapshotRemoveFlag.UNPROTECT)
    with pytest.raises(aiorbd.SnapshotBusy, match="the snapshot has clones"):
        await snapshot.unprotect()
    await ioctx.remove_image(name)
    await snapshot.unprotect()
    with pytest.raises(aiorbd.InvalidArgument, match="the snapshot is not protected"):
        await snapshot.unprotect()


async def test_clone_error_states_the_reason(image: aiorbd.Image, ioctx: aiorbd.IoCtx, name: str) -> None:
    await image.create_snapshot("one")
    with pytest.raises(aiorbd.InvalidArgument, match="the snapshot is not protected, which a clone of format 1 needs"):
        await image.clone("one", ioctx, name, clone_format=1)
    with pytest.raises(aiorbd.SnapshotNotFound):
        await image.clone("none", ioctx, name, clone_format=2)
    with pytest.raises(aiorbd.ImageNotFound):
        await ioctx.clone_image("no-such-image", "one", ioctx, name)
    with pytest.raises(aiorbd.PoolNotFound, match="no such data pool: 'none'"):
        await image.clone("one", ioctx, name, clone_format=2, data_pool="none")
    with pytest.raises(aiorbd.ImageExists):
        await image.clone("one", ioctx, image.name, clone_format=2)


async def test_copy_from_a_removed_snapshot_raises_snapshot_not_found(
    image: aiorbd.Image, ioctx: aiorbd.IoCtx, tmp_path: Path, make_image: MakeImage
) -> None:
    """The calls neither report a missing pool nor copy an empty image.

    An image that is open read-only gets no notice of the removal.
    """
    snapshot = await image.create_snapshot("one")
    async with (
        ioctx.open_image(image.name, snapshot="one") as view,
        ioctx.open_image(image.name) as switched,
        ioctx.open_image(await make_image()) as target,
    ):
        await switched.set_snapshot("one")
        await snapshot.remove()
        for source in (view, switched):
            for call in (
                lambda source=source: source.copy(ioctx, new_name()),
                lambda source=source: source.deep_copy(ioctx, new_name()),
                lambda source=source: source.copy_to(target),
                lambda source=source: aiorbd.copy_image(source, target),
                lambda source=source: aiorbd.export_image(source, tmp_path / "export"),
            ):
                with pytest.raises(aiorbd.SnapshotNotFound):
                    await call()


async def test_flatten_without_a_parent_raises_invalid_argument(image: aiorbd.Image) -> None:
    with pytest.raises(aiorbd.InvalidArgument, match="the image has no parent"):
        await image.flatten()


# -- images ------------------------------------------------------------------------------------------


async def test_mirror_mode_in_a_pool_without_mirroring_raises_invalid_argument(ioctx: aiorbd.IoCtx, name: str) -> None:
    for mode in aiorbd.MirrorImageMode:
        with pytest.raises(aiorbd.InvalidArgument, match="the pool does not mirror its images"):
            await ioctx.create_image(name, MIB, mirror_image_mode=mode)
    for what in ("data", "journal"):
        options: dict[str, Any] = {f"{what}_pool": "none"}
        if what == "journal":
            options["features"] = Feature.EXCLUSIVE_LOCK | Feature.JOURNALING
        with pytest.raises(aiorbd.PoolNotFound, match=f"no such {what} pool: 'none'"):
            await ioctx.create_image(name, MIB, **options)


async def test_missing_object_of_a_feature_raises_object_not_found(image: aiorbd.Image, ioctx: aiorbd.IoCtx) -> None:
    await image.write(b"x", 0)
    await image.exclusive_lock.acquire()
    await image.update_features(Feature.JOURNALING, enabled=True)
    await ioctx.objects.remove(f"journal.{image.id}")
    with pytest.raises(aiorbd.ObjectNotFound, match="the image lacks an object of a feature") as caught:
        await image.update_features(Feature.JOURNALING, enabled=False)
    assert not isinstance(caught.value, aiorbd.ImageNotFound)


async def test_advisory_lock_error_names_the_holder(aiorbd_cluster: DevCluster, image: aiorbd.Image) -> None:
    locks = image.advisory_locks
    await locks.lock_exclusive("a")
    with pytest.raises(aiorbd.LockBusy, match="the lock is held exclusively by this client as 'a'"):
        await locks.lock_exclusive("b")
    with pytest.raises(aiorbd.LockExists, match="this client holds that lock already"):
        await locks.lock_exclusive("a")
    async with aiorbd.connect(aiorbd_cluster.conffile) as other, other.open_ioctx("rbd") as ioctx:
        async with ioctx.open_image(image.name, read_only=False) as elsewhere:
            (held,) = await elsewhere.advisory_locks.lockers()
            with pytest.raises(aiorbd.LockBusy, match=f"held exclusively by {held.client} as 'a'"):
                await elsewhere.advisory_locks.lock_shared("a", "tag")
    await locks.unlock("a")
    await locks.lock_shared("a", "tag")
    with pytest.raises(aiorbd.LockBusy, match="shared with the tag 'tag' by this client as 'a'"):
        await locks.lock_shared("b", "other")
    await locks.unlock("a")


async def test_argument_errors_name_the_bad_argument(image: aiorbd.Image, ioctx: aiorbd.IoCtx, name: str) -> None:
    with pytest.raises(aiorbd.ArgumentOutOfRange, match=r"order 99 is not between 12 .* and 25"):
        await ioctx.create_image(name, MIB, order=99)
    with pytest.raises(TypeError, match="size must be an integer, not str"):
        await ioctx.create_image(name, "1")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="offset must be an integer, not str"):
        await image.read("0", 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="length must be an integer, not str"):
        await image.discard(0, "5")  # type: ignore[arg-type]
    with pytest.raises(aiorbd.ImageNotFound, match=r"open_image\('a', snapshot=...\) opens a snapshot"):
        await ioctx.open_image("a@b")
    with pytest.raises(aiorbd.ImageNotFound, match="No such file or directory"):
        await ioctx.open_image("a")


async def test_repr_shows_operation_and_target(ioctx: aiorbd.IoCtx) -> None:
    with pytest.raises(aiorbd.ImageNotFound) as caught:
        await ioctx.open_image("none")
    text = repr(caught.value)
    assert text == "ImageNotFound(2, 'No such file or directory', 'rbd_aio_open', \"image 'rbd/none'\")"
    assert repr(copy.copy(caught.value)) == text


# -- elsewhere ---------------------------------------------------------------------------------------


async def test_observer_can_read_stats_and_remove_itself(
    cluster: aiorbd.Cluster, image: aiorbd.Image, caplog: pytest.LogCaptureFixture
) -> None:
    seen = []

    def observe(_completed: Any) -> None:
        seen.append(cluster.stats)
        cluster.remove_observer(observe)

    cluster.add_observer(observe)
    with caplog.at_level(logging.ERROR):
        await image.read(0, 4096)
    assert len(seen) == 1
    assert seen[0].operations
    assert not caplog.records


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory to another user")
def test_a_development_cluster_of_another_user_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "cluster"
    directory.mkdir()
    (directory / "ceph.conf").write_text("[global]\n")
    os.chown(directory, 12345, 12345)
    for command in ("env", "down", "up"):
        done = subprocess.run(
            [sys.executable, "-m", "aiorbd.testing", "--directory", str(directory), command],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert "belongs to another user" in done.stderr
    assert (directory / "ceph.conf").exists()
