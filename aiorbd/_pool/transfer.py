"""Export, import and copy whole images. Empty ranges are skipped, and interrupted transfers can be resumed.

Each transfer of a file works through an image in segments. At the end of each segment, the transferred data is made
durable and then reported. So an interrupted transfer can `start` again at the last position that `progress` received.
"""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final, Unpack

from anyio.abc import ByteReceiveStream, ByteSendStream

from aiorbd._core.pool_handle import PoolHandle
from aiorbd._image.handle import ImageHandle
from aiorbd._image.presence import confirm_there
from aiorbd._native.image_options import ImageKeywords, ImageOptions
from aiorbd._native.marshal import handle_of, invalid, number, require_callable
from aiorbd._pool.stream_transfer import receive_image, send_range
from aiorbd._stream.local_file import LocalFile
from aiorbd._stream.source import StreamSource
from aiorbd._stream.target import StreamTarget
from aiorbd._stream.zeroes import is_zero, zeroes
from aiorbd.errors import PastEndOfImage

if TYPE_CHECKING:
    from aiorbd._core.progress import Progress
    from aiorbd._image.image import Image
    from aiorbd._pool.ioctx import IoCtx

MIB: Final = 1 << 20

#: The number of bytes that are transferred or searched between two reports.
SEGMENT: Final = 256 * MIB

#: The largest number of reads or writes of 4 MiB that may be in flight.
MOST: Final = 1 << 12

#: The size of one read or write: the usual size of an object.
CHUNK: Final = 4 * MIB


async def export_image(
    image: "Image",
    path: StreamTarget,
    *,
    start: int = 0,
    depth: int = 8,
    use_object_map: bool = True,
    progress: "Progress | None" = None,
) -> int:
    """Export an image to a file or a stream. Return the number of bytes that were read from the image and written.

    A file has holes for zeroes. A stream gets every byte, in order.

    The exported data is the data that reads of the image return: the current data, or the data of the snapshot that the
    image is read at. If the image is written to during the export, export a snapshot instead.

    If the export is cancelled or fails, the file has at least the data that was reported.

    Args:
        image: The image. At most three times `depth` chunks of 4 MiB are in memory.
        path: The file, or a `ByteSendStream` of anyio, which stays open. An existing file is replaced. With `start`,
            the data of a file before `start` is kept, and a stream gets the data from `start` on.
        start: The position at which to resume, in bytes: the last `done` that `progress` received.
        depth: The number of reads in flight, 1 to 4096.
        use_object_map: False reads the whole image, also where the object map shows no data. This is slower, and right
            if the object map is wrong. False needs an image opened with `read_only=True` and without a snapshot. For
            all other images, librbd itself asks the object map before each read.
        progress: Called on the event loop as ``progress(done, total)``. `done` is the number of bytes of the image that
            are in the file and on its disk, or were sent. `total` is the image size.

    Raises:
        OSError: The file cannot be written.
        InvalidArgument: The path is not a regular file.
        EOFError: The file is shorter than `start`.
        SnapshotNotFound, ImageNotFound: The snapshot or image was removed during the export. The file may not have its
            data.
        PastEndOfImage: `start` is not within the image, or the image shrank.

    Implements: rbd_aio_read2, rbd_diff_iterate2
    """
    handle_of(image, ImageHandle, "image")
    require_usual(depth, progress)
    size = await image.size()
    _require_start(image, start, size)
    moved = 0
    if isinstance(path, ByteSendStream):
        for begin in range(start, size, SEGMENT):
            end = min(begin + SEGMENT, size)
            extents = await _data(image, begin, end, use_object_map=use_object_map)
            moved += await send_range(image, path, begin, end, extents, depth)
            if progress is not None:
                progress(end, size)
        await confirm_there(image._handle, "rbd_aio_read2")
        return moved
    flags = os.O_WRONLY | (0 if start else os.O_CREAT)
    async with _opened(path, flags, (stat.S_ISREG,)) as file:
        await file.call(_cut_and_extend, start, size)
        for begin in range(start, size, SEGMENT):
            end = min(begin + SEGMENT, size)
            extents = await _data(image, begin, end, use_object_map=use_object_map)
            async with image.read_extents(extents, chunk_size=CHUNK, depth=depth) as chunks:
                async for offset, length, data in chunks:
                    if data is not None and not is_zero(data):
                        await file.call(_write_all, data, offset)
                        moved += length
            await file.call(os.fdatasync)
            if progress is not None:
                progress(end, size)
    await confirm_there(image._handle, "rbd_aio_read2")
    return moved


async def import_image(
    ioctx: "IoCtx",
    path: StreamSource,
    name: str,
    options: ImageOptions | None = None,
    *,
    size: int | None = None,
    start: int = 0,
    depth: int = 16,
    progress: "Progress | None" = None,
    **keywords: Unpack[ImageKeywords],
) -> int:
    """Create an image from a file or a stream, without its zeroes. Return the number of bytes written.

    The image has the size of the file or the stream. If the import of a stream fails, the image has a part of the data.
    Remove it then.

    Args:
        ioctx: The pool or namespace in which to create the image.
        path: The file or block device, or a `ByteReceiveStream` of anyio, which stays open.
        name: The name of the image.
        options: Options of the image: see `IoCtx.create_image`.
        size: The number of bytes of a stream, if it is known. Otherwise the image grows during the import, and shrinks
            to the right size at its end.
        start: The position at which to resume, in bytes: the last `done` that `progress` received. An earlier call has
            created the image. A stream cannot be resumed.
        depth: The number of writes of 4 MiB in flight, 1 to 4096.
        progress: Called on the event loop as ``progress(done, total)``. `done` is the number of bytes of the file that
            are durable in the image, or of the stream that were received. `total` is the size of the file or the
            stream. It grows with `done` if the size of the stream is not known.
        **keywords: More options: see `ImageKeywords`.

    Raises:
        OSError: The file cannot be read.
        EOFError: The file became shorter during the import.
        ImageExists: An image with this name already exists, and `start` is 0.
        ImageNotFound: No image has this name, and `start` is not 0.
        InvalidArgument: The source is neither a regular file nor a block device, or the image to resume has another
            size. Or the stream does not have `size` bytes, or `start` or `size` does not fit the kind of the source.
        PastEndOfImage: `start` is past the end.

    Implements: rbd_create4, rbd_aio_write2, rbd_aio_flush, rbd_resize2
    """
    handle_of(ioctx, PoolHandle, "ioctx")
    require_usual(depth, progress)
    start = number(start, "start", "rbd_aio_write2", f"image {name!r}")
    if size is not None:
        size = number(size, "size", "rbd_create4", f"image {name!r}")
    if isinstance(path, ByteReceiveStream):
        if start:
            raise invalid("a stream cannot be resumed", "rbd_aio_write2", f"image {name!r}")
        await ioctx.create_image(name, size or 0, options, **keywords)
        async with ioctx.open_image(name) as image:
            moved, end = await receive_image(image, path, depth, progress, size=size, fill=False)
            if size is None:
                await image.resize(end, allow_shrink=True)
        return moved
    if size is not None:
        raise invalid("the image gets the size of the file: size is for streams", "rbd_create4", f"image {name!r}")
    moved = 0
    async with _opened(path, os.O_RDONLY, (stat.S_ISREG, stat.S_ISBLK)) as file:
        size = await file.call(os.lseek, 0, os.SEEK_END)
        if not start:
            await ioctx.create_image(name, size, options, **keywords)
        async with ioctx.open_image(name) as image:
            if await image.size() != size:
                message = f"has {await image.size()} bytes, and {os.fspath(path)!r} has {size}"
                raise invalid(message, "rbd_resize2", f"image {name!r}")
            _require_start(image, start, size)
            offset = start
            free: list[bytearray] = []  # for reuse: touching fresh memory costs more than the copy

            def release(data: Any) -> None:
                free.append(data.obj)

            while offset < size:
                # A segment counts the bytes that are read. Holes cost nothing, and would only cause more reports.
                read = 0
                # `max_bytes` is the bytes of `depth` chunks, not of twice as many: librbd copies the data, and touching
                # fresh memory takes longer than waiting for a free buffer.
                async with image.writer(depth=depth, max_bytes=depth * CHUNK, release=release) as writer:
                    while offset < size and read < SEGMENT:
                        buffer = free.pop() if free else bytearray(CHUNK)
                        offset, length = await file.call(_next_data, offset, size, buffer)
                        if length and not buffer.startswith(zeroes(length)):
                            await writer.write(memoryview(buffer)[:length], offset)
                            moved += length
                        else:
                            free.append(buffer)
                        offset += length
                        read += length
                if progress is not None:
                    progress(offset, size)
    return moved


async def copy_image(
    source: "Image",
    destination: "Image",
    *,
    start: int = 0,
    depth: int = 8,
    use_object_map: bool = True,
    progress: "Progress | None" = None,
) -> int:
    """Copy an image to another image, of the same cluster or of another cluster. Return the number of bytes written.

    The copied data is the data that reads of the source return: the current data, or the data of the snapshot that the
    source is read at. If the source is written to during the copy, copy a snapshot instead.

    Where the source is empty, the copy also empties the destination. This costs nothing where the destination is
    already empty. Beyond the size of the source, the destination keeps its data.

    Args:
        source: The image to read.
        destination: An open image, at least as large as the source.
        start: The position at which to resume, in bytes: the last `done` that `progress` received.
        depth: The number of reads in flight, and the number of writes in flight, 1 to 4096.
        use_object_map: Whether to skip ranges where the source's object map shows no data: see `export_image`.
        progress: Called on the event loop as ``progress(done, total)``. `done` is the number of bytes that are durable
            in the destination. `total` is the size of the source.

    Raises:
        PastEndOfImage: The destination is smaller, `start` is not within the source, or one of the images shrank.
        SnapshotNotFound, ImageNotFound: The source was removed during the copy. The destination may not have its data.
        ReadOnlyImage: The destination is open for reading only.

    Implements: rbd_aio_read2, rbd_diff_iterate2, rbd_aio_write2, rbd_aio_write_zeroes, rbd_aio_flush
    """
    handle_of(source, ImageHandle, "source")
    handle_of(destination, ImageHandle, "destination")
    require_usual(depth, progress)
    size = await source.size()
    _require_start(source, start, size)
    if await destination.size() < size:
        message = f"has {await destination.size()} bytes, and {source.name!r} has {size}"
        raise PastEndOfImage(errno.EINVAL, message, "", f"image {destination.name!r}")
    moved = 0
    for begin in range(start, size, SEGMENT):
        end = min(begin + SEGMENT, size)
        position = begin
        extents = await _data(source, begin, end, use_object_map=use_object_map)
        async with (
            destination.writer(depth=depth, max_bytes=2 * depth * CHUNK) as writer,
            source.read_extents(extents, chunk_size=CHUNK, depth=depth) as chunks,
        ):
            async for offset, length, data in chunks:
                if data is not None and not is_zero(data):
                    if position < offset:
                        await writer.write_zeroes(position, offset - position)
                    await writer.write(data, offset)
                    position = offset + length
                    moved += length
            if position < end:
                await writer.write_zeroes(position, end - position)
        if progress is not None:
            progress(end, size)
    await confirm_there(source._handle, "rbd_aio_read2")
    return moved


def require_usual(depth: int, progress: object) -> None:
    if not 0 < number(depth, "depth", "", "") <= MOST:
        raise invalid(f"depth must be from 1 to {MOST}", "", "")
    require_callable(progress, "progress")


def _require_start(image: "Image", start: int, size: int) -> None:
    if number(start, "start", "", f"image {image.name!r}") > size:
        raise PastEndOfImage(
            errno.EINVAL, f"start {start} exceeds the image size ({size} bytes)", "", f"image {image.name!r}"
        )


async def _data(image: "Image", begin: int, end: int, *, use_object_map: bool) -> list[tuple[int, int]]:
    """Return the extents that may have data, in order."""
    if not use_object_map:
        return [(begin, end - begin)]
    extents = image.diff(begin, end - begin, whole_object=True)
    return sorted([(extent.offset, extent.length) async for extent in extents if extent.exists])


def _opened(
    path: str | os.PathLike[str], flags: int, kinds: tuple[Callable[[int], bool], ...]
) -> AbstractAsyncContextManager[LocalFile]:
    return LocalFile.opened(path, flags, kinds, lambda message: invalid(message, "", "file"))


def _cut_and_extend(file: int, start: int, size: int) -> None:
    """Remove the data of an earlier attempt after `start`, which would show through holes. Set the file's size."""
    if os.fstat(file).st_size < start:
        raise EOFError(f"the file is shorter than start, {start} bytes")
    os.ftruncate(file, start)
    os.ftruncate(file, size)


def _write_all(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view = view[written:]
        offset += written


def _next_data(file: int, offset: int, end: int, buffer: bytearray) -> tuple[int, int]:
    """Read the next chunk that is not a hole of the file. Return its offset and its length, 0 at the end."""
    if os.fstat(file).st_size < end and stat.S_ISREG(os.fstat(file).st_mode):
        raise EOFError(f"the file became shorter than {end} bytes")
    try:
        offset = min(os.lseek(file, offset, os.SEEK_DATA), end)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a hole up to the end
            return end, 0
        if error.errno != errno.EINVAL:
            raise
    length = min(CHUNK - offset % CHUNK, end - offset)
    view = memoryview(buffer)[:length]
    while view:
        read = os.preadv(file, [view], offset + length - len(view))
        if not read:
            raise EOFError(f"the file became shorter than {end} bytes")
        view = view[read:]
    return offset, length
