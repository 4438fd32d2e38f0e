"""Open an image by name or id, at its current data or at a snapshot."""

import errno
import logging

from aiorbd._core.pool_handle import PoolHandle
from aiorbd._image.handle import ImageHandle
from aiorbd._native.loader import ffi, rbd
from aiorbd._native.marshal import encode_name, grow_string, utc
from aiorbd.errors import ImageNotFound, RbdError, SnapshotNotFound, Target
from aiorbd.models import Layout

logger = logging.getLogger("aiorbd")


async def open_handle(
    ioctx: PoolHandle,
    name: str | None,
    image_id: str | None,
    snapshot: str | None,
    snapshot_id: int | None = None,
    *,
    read_only: bool,
) -> tuple[ImageHandle, str]:
    """Open an image by name or id. Return its handle and its name.

    If `snapshot_id` is given, the image is opened at the snapshot with this id. By now, the name `snapshot` may belong
    to another snapshot.
    """
    if (name is None) == (image_id is None):
        raise TypeError("open_image() takes either a name or an image_id")
    by_id = image_id is not None
    which = image_id if image_id is not None else name or ""
    encoded = encode_name(which, "image id" if by_id else "image name", "rbd_aio_open")
    encoded_snapshot = b""
    if snapshot is not None and snapshot_id is None:
        encoded_snapshot = encode_name(snapshot, "snapshot name", "rbd_aio_open")
    at = "" if snapshot is None else f"@{snapshot}"
    read_only = bool(read_only) or snapshot is not None
    handle = ImageHandle(ioctx, f"{ioctx.name}/{'id:' if by_id else ''}{which}{at}")
    try:
        await handle.open(ioctx, encoded, encoded_snapshot, by_id=by_id, read_only=read_only)
        found = await handle.run("rbd_stat", lambda: _look(handle, encoded_snapshot, snapshot_id), group=handle.opens)
    except RbdError as error:
        handle.begin_close()
        if error.errno == errno.ENOENT and not isinstance(error, SnapshotNotFound):
            await _explain(ioctx, name, image_id, snapshot, error)
        raise
    except BaseException:
        handle.begin_close()
        raise
    handle.target = Target("image", f"image {ioctx.name + '/' + found + at!r}")
    handle.image_name = found
    handle.take_part()
    logger.debug("opened: %s, %d bytes", handle.target, handle.size)
    return handle, found


async def _explain(
    ioctx: PoolHandle, name: str | None, image_id: str | None, snapshot: str | None, error: RbdError
) -> None:
    """Raise if the pool, the namespace or the snapshot does not exist.

    Also raise if the image name contains ``@``. The error tells how to open a snapshot.
    """
    await ioctx.run("rbd_namespace_exists" if ioctx.namespace else "rados_pool_reverse_lookup", ioctx.require_all)
    if snapshot is not None:
        # Open the image without the snapshot. If that fails, the image is missing. Otherwise, the snapshot is missing.
        image, _ = await open_handle(ioctx, name, image_id, None, read_only=True)
        image.begin_close()
        target = f"snapshot {snapshot!r} of {image.target}"
        raise SnapshotNotFound(errno.ENOENT, "no such snapshot", error.operation, target) from None
    if name is not None:
        encoded = encode_name(name, "image name", "rbd_migration_status")
        moved_to = await ioctx.run("rbd_migration_status", lambda: ioctx.migration_of(encoded))
        if moved_to is not None:
            message = f"the image migrates to {moved_to!r}: open that image"
            raise ImageNotFound(errno.ENOENT, message, error.operation, error.target) from None
    if name is not None and "@" in name:
        message = f"no image has this name; open_image({name.split('@')[0]!r}, snapshot=...) opens a snapshot"
        raise ImageNotFound(errno.ENOENT, message, error.operation, error.target) from None


def _look(handle: ImageHandle, snapshot: bytes, snapshot_id: int | None) -> str:
    """Ask librbd for the facts that reads and writes need. Return the image's name. Runs on a worker thread."""
    pointer = handle.pointer
    handle.raise_for(handle.lib.aiorbd_image_watch(handle.native), "rbd_update_watch")
    if snapshot_id is not None:
        handle.image_size.view_by_id(snapshot_id)
    elif snapshot:
        handle.image_size.learn_view(snapshot)
    handle.image_size.learn_first_size()
    info, unit, count = ffi.new("rbd_image_info_t *"), ffi.new("uint64_t *"), ffi.new("uint64_t *")
    handle.raise_for(rbd().rbd_stat(pointer, info, ffi.sizeof("rbd_image_info_t")), "rbd_stat")
    handle.raise_for(rbd().rbd_get_stripe_unit(pointer, unit), "rbd_get_stripe_unit")
    handle.raise_for(rbd().rbd_get_stripe_count(pointer, count), "rbd_get_stripe_count")
    prefix = grow_string(
        lambda buffer, size: rbd().rbd_get_block_name_prefix(pointer, buffer, size),
        lambda code: handle.raise_for(code, "rbd_get_block_name_prefix"),
    )
    created = ffi.new("struct timespec *")
    handle.raise_for(rbd().rbd_get_create_timestamp(pointer, created), "rbd_get_create_timestamp")
    handle.layout = Layout(
        info.obj_size,
        unit[0],
        count[0],
        prefix,
        rbd().rbd_get_data_pool_id(pointer),
        utc(created.tv_sec, created.tv_nsec),
    )
    handle.image_id = (
        ""
        if _has_format_1(handle)
        else grow_string(
            lambda buffer, size: rbd().rbd_get_id(pointer, buffer, size),
            lambda code: handle.raise_for(code, "rbd_get_id"),
        )
    )
    return grow_string(
        lambda buffer, size: rbd().rbd_get_name(pointer, buffer, ffi.new("size_t *", size)),
        lambda code: handle.raise_for(code, "rbd_get_name"),
    )


def _has_format_1(handle: ImageHandle) -> bool:
    """Tell whether the image has format 1, and so no id. Runs on a worker thread."""
    old = ffi.new("uint8_t *")
    handle.raise_for(rbd().rbd_get_old_format(handle.pointer, old), "rbd_get_old_format")
    return bool(old[0])
