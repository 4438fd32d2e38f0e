"""Restore data from a file or a stream onto an existing image."""

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from anyio.abc import ByteReceiveStream
from anyio.to_thread import run_sync

from aiorbd._image.handle import ImageHandle
from aiorbd._native.marshal import handle_of, invalid
from aiorbd._pool.stream_transfer import receive_image
from aiorbd._pool.transfer import require_usual
from aiorbd._stream.source import StreamSource

if TYPE_CHECKING:
    from aiorbd._core.progress import Progress
    from aiorbd._image.image import Image


async def import_into(
    image: "Image",
    source: StreamSource,
    *,
    allow_shrink: bool = False,
    depth: int = 16,
    progress: "Progress | None" = None,
) -> int:
    """Restore data from a file or a stream onto an existing image. Return the number of bytes written.

    The image gets the size of the source, and keeps its snapshots. Where the source has zeroes, the image is emptied,
    so that it stays sparse. Nobody else may write to the image. If the call fails or is cancelled, the image has a part
    of the data, and may be larger than the source: call again.

    Args:
        image: The image.
        source: A path, or a `ByteReceiveStream` of anyio, which stays open.
        allow_shrink: Whether the image may become smaller, and lose the data past its new end.
        depth: The number of writes of 4 MiB in flight, 1 to 4096.
        progress: Called on the event loop as ``progress(done, total)``, in bytes that were received. `total` grows with
            `done` if the size of the source is not known.

    Raises:
        OSError: The file cannot be read.
        InvalidArgument: The source is smaller than the image, and `allow_shrink` is false. Nothing of a file was
            written then. The image has all data of a stream then, and its old data after that.
        ReadOnlyImage: The image is open for reading only.

    Implements: rbd_aio_write2, rbd_aio_write_zeroes, rbd_aio_flush, rbd_resize2
    """
    handle = handle_of(image, ImageHandle, "image")
    require_usual(depth, progress)
    before = await image.size()
    size = None if isinstance(source, ByteReceiveStream) else await run_sync(_size_of, source)
    if size is not None and size < before and not allow_shrink:
        raise _too_small(size, before, handle.target)
    if size is not None and size != before:
        await image.resize(size, allow_shrink=True)
    moved, end = await receive_image(image, source, depth, progress, size=size, fill=True)
    if end < before and not allow_shrink:
        raise _too_small(end, before, handle.target)
    if await image.size() != end:
        await image.resize(end, allow_shrink=True)
    return moved


def _too_small(size: int, before: int, on: object) -> Exception:
    message = f"the source has {size} bytes, and the image {before}: allow_shrink=True makes the image smaller"
    return invalid(message, "rbd_resize2", on)


def _size_of(path: str | os.PathLike[str]) -> int | None:
    """Return the size of a file or a block device; None for a pipe or another device."""
    mode = Path(path).stat().st_mode
    if stat.S_ISBLK(mode):
        with Path(path).open("rb") as device:
            return device.seek(0, os.SEEK_END)
    return Path(path).stat().st_size if stat.S_ISREG(mode) else None
