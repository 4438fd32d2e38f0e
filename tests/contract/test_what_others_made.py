"""Images of format 1, and empty names that only other clients use.

Such images and snapshots can be opened and removed, and such locks can be broken.
"""

import hashlib
from typing import Any

import pytest
from fix_witness import Witness
from helpers import new_name
from inside import handle_of

import aiorbd
from aiorbd._native.loader import ffi, rbd
from aiorbd._native.marshal import decode
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio

MIB = 1 << 20


@pytest.fixture
async def old(ioctx: aiorbd.IoCtx, name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Create an image of format 1, and return its name."""
    monkeypatch.setenv("RBD_FORCE_ALLOW_V1", "1")  # needed to create such an image, not to open one
    await ioctx.create_image(name, 16 * MIB, image_format=1)
    return name


async def test_image_of_format_1_is_written_read_copied_and_removed(
    ioctx: aiorbd.IoCtx, old: Any, witness: Witness
) -> None:
    async with ioctx.open_image(old) as image, image.writer() as writer:
        assert (image.old_format, image.id, image.name) == (True, "", old)
        await writer.write(b"data" * 1024, 4 * MIB)
    assert (await witness.export(old))[4 * MIB : 4 * MIB + 4096] == b"data" * 1024
    assert aiorbd.ImageSpec("", old) in [spec async for spec in ioctx.images()]
    async with ioctx.open_image(old, read_only=True) as image:
        assert await image.read(4 * MIB, 4) == b"data"
        assert [(e.offset, e.length) async for e in image.diff()] == [(4 * MIB, 4096)]
        copy = new_name()
        await image.copy(ioctx, copy)
    assert hashlib.sha256(await witness.export(copy)).digest() == hashlib.sha256(await witness.export(old)).digest()
    await ioctx.remove_image(old)
    assert old not in await witness.names()


async def test_connection_pool_keeps_an_image_of_format_1_open(aiorbd_cluster: DevCluster, old: Any) -> None:
    async with aiorbd.SharedConnection(lambda: aiorbd.connect(aiorbd_cluster.conffile)) as pool:
        async with pool.open_image("rbd", old) as first:
            await first.write(b"x", 0)
        async with pool.open_image("rbd", old) as second:
            assert second is first


async def test_locks_may_have_empty_cookies_and_tags(image: aiorbd.Image) -> None:
    locks = image.advisory_locks
    await locks.lock_exclusive("")
    (locker,) = await locks.lockers()
    assert locker.cookie == ""
    await locks.unlock("")
    await locks.lock_shared("", "")
    assert [locker.tag for locker in await locks.lockers()] == [""]
    await locks.unlock("")
    with pytest.raises(aiorbd.LockNotFound):
        await locks.break_lock("client.1", "")


async def test_break_lock_breaks_a_lock_with_an_empty_cookie(
    aiorbd_cluster: DevCluster, ioctx: aiorbd.IoCtx, image: aiorbd.Image, witness: Witness
) -> None:
    name = image.name
    async with aiorbd.connect(aiorbd_cluster.conffile) as other, other.open_ioctx("rbd") as elsewhere:
        holder = await elsewhere.open_image(name)
        await holder.advisory_locks.lock_exclusive("")
        (locker,) = await image.advisory_locks.lockers()
        await image.advisory_locks.break_lock(locker.client, "")
        assert await image.advisory_locks.lockers() == []
        assert b"There" not in await witness.rbd("lock", "ls", name)


async def test_snapshot_with_an_empty_name_is_opened_renamed_and_removed(
    image: aiorbd.Image, ioctx: aiorbd.IoCtx
) -> None:
    with pytest.raises(aiorbd.InvalidArgument, match="must not be empty"):
        await image.create_snapshot("")
    handle = handle_of(image)
    await image.write(b"old", 0)
    await image.flush()
    await handle.run(  # another client may create such a snapshot
        "rbd_snap_create", lambda: handle.raise_for(rbd().rbd_snap_create(handle.pointer, b""), "rbd_snap_create")
    )
    await image.write(b"new", 0)
    (snapshot,) = [s async for s in image.snapshots()]
    assert snapshot.name == ""
    assert await image.get_snapshot("") == snapshot
    assert await image.snapshot_exists("")
    assert not await snapshot.is_protected()
    async with ioctx.open_image(image.name, snapshot=snapshot) as view:
        assert await view.read(0, 3) == b"old"
    await snapshot.rename("one")
    assert [s.name async for s in image.snapshots()] == ["one"]
    await snapshot.rename("two")
    await snapshot.remove()
    assert [s.name async for s in image.snapshots()] == []


def test_decode_returns_an_empty_string() -> None:
    assert decode(ffi.new("char[]", b"")) == ""
