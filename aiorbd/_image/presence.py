"""Whether an open image is still what it was opened as: one that is open for reading only does not hear of changes."""

import errno

from aiorbd._image.handle import ImageHandle
from aiorbd.errors import ImageNotFound, InvalidArgument, SnapshotNotFound, Target


def require_there(handle: ImageHandle, operation: str) -> None:
    """On a worker thread: ask the cluster, and raise when the image, or the snapshot that is read, is gone.

    What was read may not be its data then.
    """
    if not handle.image_id or not handle.image_size.may_refuse_writes:  # who may write hears of it
        return
    ioctx, snapshot_id = handle.ioctx, handle.image_size.snapshot_id
    if snapshot_id is not None and ioctx.snapshot_now(handle.image_id, snapshot_id) is None:
        message = "the snapshot was removed: what was read of it may not be its data"
        raise SnapshotNotFound(errno.ENOENT, message, operation, str(handle.image_size.view))
    if not ioctx.image_exists(handle.image_id):
        message = "the image was removed: what was read of it may not be its data"
        raise ImageNotFound(errno.ENOENT, message, operation, str(handle.target))


async def confirm_there(handle: ImageHandle, operation: str) -> None:
    """Like `require_there`, after what has read all of the image."""
    await handle.run("rados_read_op_operate", lambda: require_there(handle, operation))


def is_current(handle: ImageHandle, pool: bytes, name: bytes | None) -> bool:
    """On a worker thread: whether pool, image and snapshot of these names are still those that are open."""
    ioctx = handle.ioctx
    if not ioctx.is_pool(pool):
        return False
    if name is not None and (ioctx.id_of(name) or "") != handle.image_id:
        return False
    if not handle.image_id:
        return True
    if handle.image_size.snapshot_id is not None:
        snapshot = ioctx.snapshot_now(handle.image_id, handle.image_size.snapshot_id)
        return snapshot is not None and snapshot.name == handle.image_size.snapshot
    return name is not None or ioctx.image_exists(handle.image_id)


def require_same_image(handle: ImageHandle, other: ImageHandle, operation: str, on: Target) -> None:
    """Raise when a snapshot, which was got from the handle `other`, is one of another image."""
    here, there = (
        (str(one.ioctx.cluster.target), one.ioctx.pool_id, one.ioctx.namespace, one.image_id) for one in (handle, other)
    )
    if here != there:
        raise InvalidArgument(errno.EINVAL, f"the snapshot is one of {other.target}", operation, str(on))
