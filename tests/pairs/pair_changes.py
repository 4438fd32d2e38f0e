"""Calls that change the whole image: snapshots, the size, features, copies, locks, mirroring, groups."""

import contextlib

import anyio
from pair_subject import ELSEWHERE, OBJECT, SIZE, SWITCHED, Subject, call

import aiorbd
from aiorbd import Feature

# -- snapshots -------------------------------------------------------------------------------------


@call
async def set_snapshot(s: Subject) -> None:
    try:
        await s.base.set()
    finally:
        await s.image.set_snapshot(None)


@call
async def create_snapshot(s: Subject) -> None:
    async with s.snapshot():
        pass


@call
async def protect(s: Subject) -> None:
    async with s.snapshot() as snapshot:
        await snapshot.protect()
        await snapshot.is_protected()
        await snapshot.unprotect()


@call
async def rename_snapshot(s: Subject) -> None:
    async with s.snapshot() as snapshot:
        await snapshot.rename(s.new_name("r"))


@call
async def remove_by_id(s: Subject) -> None:
    snapshot = await s.image.create_snapshot(s.new_name("s"))
    await snapshot.remove_by_id()


@call
async def snapshot_facts(s: Subject) -> None:
    async for snapshot in s.image.snapshots():
        for ask in (
            snapshot.timestamp,
            snapshot.is_protected,
            snapshot.trash_namespace,
        ):
            with contextlib.suppress(aiorbd.Error):
                await ask()
        with contextlib.suppress(aiorbd.Error):
            await s.image.get_snapshot(snapshot.name)


@call
async def snapshot_limit(s: Subject) -> None:
    await s.image.set_snapshot_limit(1000)
    await s.image.snapshot_limit()


@call
async def rollback(s: Subject) -> None:
    await s.base.rollback()


@call
async def open_at_snapshot(s: Subject) -> None:
    async for snapshot in s.image.snapshots():
        with contextlib.suppress(aiorbd.Error):
            async with s.ioctx.open_image(s.image.name, snapshot=snapshot) as other:
                await other.read(0, 512)


@call
async def open_again(s: Subject) -> None:
    async with s.ioctx.open_image(s.image.name, read_only=True) as other:
        await other.read(0, 512)


@call
async def write_through_another(s: Subject) -> None:
    async with s.ioctx.open_image(s.image.name) as other:
        await other.write(b"a" * 512, 11 * OBJECT)


# -- the whole image -------------------------------------------------------------------------------


@call
async def disk_usage(s: Subject) -> None:
    with contextlib.suppress(aiorbd.SnapshotNotFound):
        await s.image.disk_usage()


@call
async def options(s: Subject) -> None:
    await s.image.config.set("rbd_readahead_max_bytes", "4096")
    await s.image.config.unset("rbd_readahead_max_bytes")


@call
async def mirroring(s: Subject) -> None:
    """Run beside other calls of this kind as well: each step may find the image in another state."""
    mirror = s.image.mirror
    for step in (mirror.enable, mirror.create_snapshot, mirror.demote, mirror.promote):
        with contextlib.suppress(aiorbd.RbdError):
            await step()
    for _ in range(100):  # beside a write, which fails as long as the image is not primary, a promotion may fail too
        with contextlib.suppress(aiorbd.RbdError):
            await mirror.promote(force=True)
        with contextlib.suppress(aiorbd.RbdError):
            await mirror.disable()
        if (await mirror.info()).state is not aiorbd.MirrorImageState.ENABLED:
            break


@call
async def quiesce(s: Subject) -> None:
    async with s.image.quiesce_watch(timeout=0.1) as requests:
        with anyio.move_on_after(0.05):
            async for request in requests:
                await request.complete()


@call
async def group_snapshot(s: Subject) -> None:
    group = await s.ioctx.groups.create(s.new_name("g"))
    try:
        await group.add_image(s.image.name)
        await group.create_snapshot("one")
        await group.rollback("one")
        await group.remove_snapshot("one")
    finally:
        while await s.ioctx.groups.exists(group.name):
            with contextlib.suppress(aiorbd.LockBusy):  # beside an advisory lock
                await s.ioctx.groups.remove(group.name)


@call
async def resize(s: Subject) -> None:
    await s.image.resize(SIZE + OBJECT)
    await s.image.resize(SIZE, allow_shrink=True)


@call
async def update_features(s: Subject) -> None:
    try:
        await s.image.update_features(SWITCHED, enabled=False)
    finally:
        await s.image.update_features(SWITCHED, enabled=True)


@call
async def update_lock_feature(s: Subject) -> None:
    features = SWITCHED | Feature.EXCLUSIVE_LOCK
    try:
        await s.image.update_features(features, enabled=False)
    finally:
        await s.image.update_features(features, enabled=True)


@call
async def sparsify(s: Subject) -> None:
    await s.image.sparsify(4096)


@call
async def rebuild_object_map(s: Subject) -> None:
    await s.image.rebuild_object_map()


@call
async def flatten(s: Subject) -> None:
    await s.image.flatten()


@call
async def copy(s: Subject) -> None:
    name = s.new_name("copy")
    try:
        await s.image.copy(s.ioctx, name)
    finally:
        await s.removed(name)


@call
async def deep_copy(s: Subject) -> None:
    name = s.new_name("copy")
    try:
        await s.image.deep_copy(s.ioctx, name)
    finally:
        async with s.ioctx.open_image(name) as made:
            async for snapshot in made.snapshots():
                await snapshot.remove()
        await s.removed(name)


@call
async def copy_to(s: Subject) -> None:
    await s.image.copy_to(s.target)


@call
async def copy_from(s: Subject) -> None:
    await s.target.copy_to(s.image)


@call
async def clone(s: Subject) -> None:
    name = s.new_name("clone")
    await s.image.clone(s.base, s.ioctx, name, clone_format=2)
    await s.removed(name)


# -- locks, metadata, changes ----------------------------------------------------------------------


@call
async def advisory_lock(s: Subject) -> None:
    await s.image.advisory_locks.lock_shared("cookie", "tag")
    try:
        await s.image.advisory_locks.lockers()
    finally:
        await s.image.advisory_locks.unlock("cookie")


@call
async def managed_lock(s: Subject) -> None:
    await s.image.exclusive_lock.acquire()
    try:
        await s.image.exclusive_lock.is_owner()
        await s.image.exclusive_lock.owners()
    finally:
        await s.image.exclusive_lock.release()


@call
async def metadata(s: Subject) -> None:
    key = s.new_name("key")
    await s.image.metadata.set(key, "value")
    await s.image.metadata.get(key)
    async for _ in s.image.metadata.items():
        pass
    await s.image.metadata.remove(key)


@call
async def watch(s: Subject) -> None:
    async with s.image.watch():
        await s.image.read(0, 512)


# -- another client --------------------------------------------------------------------------------


async def resize_elsewhere(s: Subject) -> None:
    """Another client makes the image larger and smaller."""
    assert s.elsewhere is not None
    await s.elsewhere.resize(SIZE + OBJECT)
    await s.elsewhere.resize(SIZE, allow_shrink=True)


ELSEWHERE["resize_elsewhere"] = resize_elsewhere
