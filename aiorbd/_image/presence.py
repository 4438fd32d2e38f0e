"""Check that an open image and its snapshot still exist.

Ceph does not notify a client of changes to an image that the client has open for reading only.
"""

import errno

from aiorbd._image.handle import ImageHandle
from aiorbd.errors import ImageNotFound, InvalidArgument, SnapshotNotFound, Target


def require_there(handle: ImageHandle, operation: str) -> None:
    """Ask the cluster, and raise if the image or the snapshot that is read was removed. Runs on a worker thread.

    In that case, the data that was read may be the wrong data.
    """
    if not handle.image_id or not handle.image_size.may_refuse_writes:  # writable images are notified
        return
    ioctx, snapshot_id = handle.ioctx, handle.image_size.snapshot_id
    if snapshot_id is not None and ioctx.snapshot_now(handle.image_id, snapshot_id) is None:
        message = "the snapshot was removed meanwhile: the data may be wrong"
        raise SnapshotNotFound(errno.ENOENT, message, operation, str(handle.image_size.view))
    if not ioctx.image_exists(handle.image_id):
        message = "the image was removed meanwhile: the data may be wrong"
        raise ImageNotFound(errno.ENOENT, message, operation, str(handle.target))


async def confirm_there(handle: ImageHandle, operation: str) -> None:
    """Call `require_there` on a worker thread, after a call has read the whole image."""
    await handle.run("rados_read_op_operate", lambda: require_there(handle, operation))


def is_current(handle: ImageHandle, pool: bytes, name: bytes | None) -> bool:
    """Tell whether these names still belong to the pool, image and snapshot that are open.

    Runs on a worker thread.
    """
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
    """Raise if a snapshot from the handle `other` does not belong to the image of `handle`."""
    here, there = (
        (str(one.ioctx.cluster.target), one.ioctx.pool_id, one.ioctx.namespace, one.image_id) for one in (handle, other)
    )
    if here != there:
        raise InvalidArgument(errno.EINVAL, f"the snapshot is one of {other.target}", operation, str(on))
