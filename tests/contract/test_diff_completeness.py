"""A diff that may lack changes fails: snapshots come and go during it, and other clients hold the exclusive lock."""

import errno
import importlib
from typing import Any

import pytest
from fix_witness import Witness

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio

MIB = 1 << 20


async def test_snapshot_created_during_a_diff_of_whole_objects_fails_the_diff(
    image: aiorbd.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new snapshot marks all objects as unchanged. Without an error, the diff would lack the written object."""
    module: Any = importlib.import_module("aiorbd._image.diff")
    await image.create_snapshot("one")
    await image.write(b"x" * 4096, 8 * MIB)
    await image.flush()
    open_handle = module.open_handle

    async def open_and_create(*arguments: Any, **options: Any) -> Any:
        opened = await open_handle(*arguments, **options)
        await image.create_snapshot("meanwhile")
        return opened

    monkeypatch.setattr(module, "open_handle", open_and_create)
    with pytest.raises(aiorbd.RbdError, match="a snapshot was created during the diff") as caught:
        _ = [extent async for extent in image.diff(from_snapshot="one", whole_object=True)]
    assert caught.value.errno == errno.ESTALE
    monkeypatch.undo()
    again = [extent async for extent in image.diff(from_snapshot="one", whole_object=True)]
    assert [extent.offset for extent in again] == [8 * MIB]


@pytest.mark.parametrize("whole_object", [True, False])
@pytest.mark.parametrize("read_only", [True, False])
async def test_removal_of_the_earlier_snapshot_fails_the_diff(
    ioctx: aiorbd.IoCtx, image: aiorbd.Image, witness: Witness, whole_object: bool, read_only: bool
) -> None:
    """librbd does not see what was discarded since a snapshot that is gone."""
    await image.write(b"x" * 4096, 0)
    await image.create_snapshot("monday")
    await image.discard(0, 4 * MIB)
    await image.create_snapshot("tuesday")
    snapshot = "tuesday" if read_only else None
    async with ioctx.open_image(image.name, snapshot=snapshot) as view:
        diff = view.diff(from_snapshot="monday", whole_object=whole_object)
        assert [extent.exists async for extent in diff] == [False]
        await witness.rbd("snap", "rm", "--no-progress", f"{image.name}@monday")
        with pytest.raises(aiorbd.SnapshotNotFound):
            _ = [extent async for extent in view.diff(from_snapshot="monday", whole_object=whole_object)]


async def test_diff_of_whole_objects_leaves_the_exclusive_lock_to_its_owner(
    aiorbd_cluster: DevCluster, image: aiorbd.Image
) -> None:
    """The lock moved to another client, which flushed the data of the first one. The diff needs no further flush."""
    await image.write(b"x" * 4096, 0)
    async with aiorbd.connect(aiorbd_cluster.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        async with ioctx.open_image(image.name) as other:
            await other.write(b"y" * 4096, 4 * MIB)
            await other.flush()
            assert await other.exclusive_lock.is_owner()
            offsets = [extent.offset async for extent in image.diff(whole_object=True)]
            assert offsets == [0, 4 * MIB]
            assert await other.exclusive_lock.is_owner()
