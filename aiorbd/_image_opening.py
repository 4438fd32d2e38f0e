"""Opening an image, by name or id, as it is now or at a snapshot."""

import errno
import logging

from aiorbd._image_handle import ImageHandle
from aiorbd._ioctx_handle import IoCtxHandle
from aiorbd._marshal import encode_name
from aiorbd.errors import RbdError, SnapshotNotFound, Target

logger = logging.getLogger("aiorbd")


async def open_handle(
    ioctx: IoCtxHandle, name: str | None, image_id: str | None, snapshot: str | None, *, read_only: bool
) -> tuple[ImageHandle, str]:
    """Open an image by name or id; return its handle and its name."""
    if (name is None) == (image_id is None):
        raise TypeError("open_image() takes either a name or an image_id")
    by_id = image_id is not None
    which = image_id if image_id is not None else name or ""
    encoded = encode_name(which, "image id" if by_id else "image name", "rbd_aio_open")
    encoded_snapshot = encode_name(snapshot, "snapshot name", "rbd_aio_open") if snapshot is not None else b""
    at = f"@{snapshot}" if snapshot else ""
    handle = ImageHandle(ioctx, f"{ioctx.name}/{'id:' if by_id else ''}{which}{at}")
    try:
        found = await handle.open(
            ioctx, encoded, encoded_snapshot, by_id=by_id, read_only=read_only or snapshot is not None
        )
    except RbdError as error:
        handle.begin_close()
        if error.errno == errno.ENOENT and snapshot is not None:
            # Image or snapshot? The image alone tells, with its own error when it is not there either.
            image, _ = await open_handle(ioctx, name, image_id, None, read_only=True)
            image.begin_close()
            raise SnapshotNotFound(errno.ENOENT, "no such snapshot", error.operation, str(handle.target)) from None
        raise
    except BaseException:
        handle.begin_close()
        raise
    handle.target = Target("image", f"image {ioctx.name + '/' + found + at!r}")
    logger.debug("opened: %s, %d bytes", handle.target, handle.size)
    return handle, found
