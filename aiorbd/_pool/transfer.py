"""Images into files, files into images, images into images: what is empty is skipped, what was interrupted goes on.

All three work through an image a segment at a time. At the end of each what was moved is made durable, and only then
reported: so whatever `progress` was told last is where an interrupted transfer can `start` again.
"""

import errno
import os
import stat
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, Unpack

from anyio.to_thread import run_sync

from aiorbd._core.pool_handle import PoolHandle
from aiorbd._image.handle import ImageHandle
from aiorbd._image.presence import confirm_there
from aiorbd._native.image_options import ImageKeywords, ImageOptions
from aiorbd._native.marshal import handle_of, invalid, number, require_callable
from aiorbd.errors import PastEndOfImage

if TYPE_CHECKING:
    from aiorbd._core.progress import Progress
    from aiorbd._image.image import Image
    from aiorbd._pool.ioctx import IoCtx

T = TypeVar("T")

MIB: Final = 1 << 20

#: What is moved, or looked through, between two reports.
SEGMENT: Final = 256 * MIB

#: Reads or writes of 4 MiB that librbd may have at once.
MOST: Final = 1 << 12

#: One read or write: the usual size of an object.
CHUNK: Final = 4 * MIB
_ZEROES: Final = bytes(CHUNK)


async def export_image(
    image: "Image",
    path: str | os.PathLike[str],
    *,
    start: int = 0,
    depth: int = 8,
    use_object_map: bool = True,
    progress: "Progress | None" = None,
) -> int:
    """Write what an image is read at into a file, with holes where there are only zeroes; return the bytes written.

    Export a snapshot if the image is written to meanwhile. When cancelled, or when it fails, the file is what it was
    reported to be, and more.

    Args:
        image: The image, of which at most three times `depth` chunks of 4 MiB are in memory.
        path: The file. It is replaced, or, with `start`, what is before `start` is kept.
        start: Where to go on, in bytes: what `progress` was told last.
        depth: How many reads librbd has at once, 1 to 4096.
        use_object_map: False: read the whole image, also where its object map says that there is nothing. That is
            slower, and right when the map is wrong. It needs an image opened with `read_only=True` and without a
            snapshot: in all others librbd itself asks the map before each read.
        progress: Called on the event loop with how many bytes of the image are in the file and on its disk, and how
            many there are.

    Raises:
        OSError: The file cannot be written.
        InvalidArgument: It is no regular file.
        EOFError: It is shorter than `start`.
        SnapshotNotFound, ImageNotFound: What is read was removed meanwhile: what is in the file may not be its data.
        PastEndOfImage: `start` is not within the image, or the image shrank.

    Implements: rbd_aio_read2, rbd_diff_iterate2
    """
    handle_of(image, ImageHandle, "image")
    _require_usual(depth, progress, "export_image")
    size = await image.size()
    _require_start(image, start, size)
    moved = 0
    flags = os.O_WRONLY | (0 if start else os.O_CREAT)
    async with _File.opened(path, flags, (stat.S_ISREG,), "export_image") as file:
        await file.call(_cut_and_extend, start, size)
        for begin in range(start, size, SEGMENT):
            end = min(begin + SEGMENT, size)
            extents = await _data(image, begin, end, use_object_map=use_object_map)
            async with image.read_extents(extents, chunk_size=CHUNK, depth=depth) as chunks:
                async for offset, length, data in chunks:
                    if data is not None and not _is_zero(data):
                        await file.call(_write_all, data, offset)
                        moved += length
            await file.call(os.fdatasync)
            if progress is not None:
                progress(end, size)
    await confirm_there(image._handle, "rbd_aio_read2")
    return moved


async def import_image(
    ioctx: "IoCtx",
    path: str | os.PathLike[str],
    name: str,
    options: ImageOptions | None = None,
    *,
    start: int = 0,
    depth: int = 16,
    progress: "Progress | None" = None,
    **keywords: Unpack[ImageKeywords],
) -> int:
    """Make an image of a file's size that holds what it holds, without its zeroes; return the bytes written.

    Args:
        ioctx: Where to make it.
        path: The file, or block device.
        name: The image's name.
        options: How to make it: see `IoCtx.create_image`.
        start: Where to go on, in bytes, with an image that an earlier call has made: what `progress` was told last.
        depth: How many writes of 4 MiB librbd has at once, 1 to 4096.
        progress: Called on the event loop with how many bytes of the file are in the image, durably, and how many
            there are.
        keywords: Options by name.

    Raises:
        OSError: The file cannot be read.
        EOFError: It became shorter meanwhile.
        ImageExists: There is an image of that name, and `start` is 0.
        ImageNotFound: There is none, and `start` is not.
        InvalidArgument: The source is neither a regular file nor a block device, or the image to go on with has another
            size.

    Implements: rbd_create4, rbd_aio_write2, rbd_aio_flush
    """
    handle_of(ioctx, PoolHandle, "ioctx")
    _require_usual(depth, progress, "import_image")
    start = number(start, "start", "import_image", f"image {name!r}")
    moved = 0
    async with _File.opened(path, os.O_RDONLY, (stat.S_ISREG, stat.S_ISBLK), "import_image") as file:
        size = await file.call(os.lseek, 0, os.SEEK_END)
        if not start:
            await ioctx.create_image(name, size, options, **keywords)
        async with ioctx.open_image(name) as image:
            if await image.size() != size:
                message = f"has {await image.size()} bytes, and {os.fspath(path)!r} has {size}"
                raise invalid(message, "import_image", f"image {name!r}")
            _require_start(image, start, size)
            offset = start
            free: list[bytearray] = []  # to be filled anew: touching fresh memory costs more than the copy

            def release(data: Any) -> None:
                free.append(data.obj)

            while offset < size:
                # A segment of what is read: holes cost nothing, and would only make more reports.
                read = 0
                # Not the bytes of twice the depth: librbd copies what it has, and touching fresh memory takes longer
                # than waiting for a buffer.
                async with image.writer(depth=depth, max_bytes=depth * CHUNK, release=release) as writer:
                    while offset < size and read < SEGMENT:
                        buffer = free.pop() if free else bytearray(CHUNK)
                        offset, length = await file.call(_next_data, offset, size, buffer)
                        if length and not buffer.startswith(_zeroes(length)):
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
    """Copy what an image is read at into another one, of the same cluster or another; return the bytes written.

    Where the source is empty the destination is made so, which costs nothing where it is. What it has beyond the
    source's size is left alone. Copy a snapshot if the source is written to meanwhile.

    Args:
        source: What is read.
        destination: An open image, at least as large.
        start: Where to go on, in bytes: what `progress` was told last.
        depth: How many reads, and writes, librbd has at once, 1 to 4096.
        use_object_map: Whether to leave out what the source's object map says is not there: see `export_image`.
        progress: Called on the event loop with how many bytes are in the destination, durably, and how many there are.

    Raises:
        PastEndOfImage: The destination is smaller, `start` is not within the source, or one of them shrank.
        SnapshotNotFound, ImageNotFound: What is read was removed meanwhile: what was copied may not be its data.
        ReadOnlyImage: The destination is open for reading only.

    Implements: rbd_aio_read2, rbd_diff_iterate2, rbd_aio_write2, rbd_aio_write_zeroes, rbd_aio_flush
    """
    handle_of(source, ImageHandle, "source")
    handle_of(destination, ImageHandle, "destination")
    _require_usual(depth, progress, "copy_image")
    size = await source.size()
    _require_start(source, start, size)
    if await destination.size() < size:
        message = f"has {await destination.size()} bytes, and {source.name!r} has {size}"
        raise PastEndOfImage(errno.EINVAL, message, "copy_image", f"image {destination.name!r}")
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
                if data is not None and not _is_zero(data):
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


def _require_usual(depth: int, progress: object, caller: str) -> None:
    if not 0 < number(depth, "depth", caller, "") <= MOST:
        raise invalid(f"depth must be from 1 to {MOST}", caller, "")
    require_callable(progress, "progress")


def _require_start(image: "Image", start: int, size: int) -> None:
    if number(start, "start", "", f"image {image.name!r}") > size:
        raise PastEndOfImage(errno.EINVAL, f"start {start} is past the end, {size}", "", f"image {image.name!r}")


async def _data(image: "Image", begin: int, end: int, *, use_object_map: bool) -> list[tuple[int, int]]:
    """Where there may be data, in order."""
    if not use_object_map:
        return [(begin, end - begin)]
    extents = image.diff(begin, end - begin, whole_object=True)
    return sorted([(extent.offset, extent.length) async for extent in extents if extent.exists])


def _zeroes(length: int) -> bytes:
    return _ZEROES if length == CHUNK else _ZEROES[:length]


def _is_zero(data: bytes) -> bool:
    return data == _zeroes(len(data))


class _File:
    """A descriptor for worker threads, which a cancelled task may leave behind: the last of them closes it."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._file = -1
        self._users = 0
        self._closing = False

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function of a descriptor on a thread."""
        result: T = await run_sync(self._call, function, arguments)
        return result

    def _call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        with self._mutex:
            if self._closing:
                raise ValueError("the file is closed")
            self._users += 1
        try:
            return function(self._file, *arguments)
        finally:
            self._leave()

    def _leave(self) -> None:
        with self._mutex:
            self._users -= 1
            last = self._closing and self._users < 0
        if last and self._file >= 0:
            os.close(self._file)

    def _open(self, _: int, path: str | os.PathLike[str], flags: int) -> None:
        self._file = os.open(path, flags | os.O_CLOEXEC, 0o666)

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, path: str | os.PathLike[str], flags: int, kinds: tuple[Callable[[int], bool], ...], caller: str
    ) -> AsyncIterator[Self]:
        """One of a kind of file, that is closed at the end of the block, or when no thread uses it any more."""
        file = cls()
        try:
            await file.call(_require_kind, path, kinds, caller)
            await file.call(file._open, path, flags)
            yield file
        finally:
            with file._mutex:
                file._closing = True
            file._leave()  # the block was a user, too


def _require_kind(_: int, path: str | os.PathLike[str], kinds: tuple[Callable[[int], bool], ...], caller: str) -> None:
    """Refuse what has no size, or no places to seek to: a pipe, or /dev/zero."""
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not any(is_kind(mode) for is_kind in kinds):
        expected = "regular file" + (" and no block device" if len(kinds) > 1 else "")
        raise invalid(f"{os.fspath(path)!r} is no {expected}", caller, "file")


def _cut_and_extend(file: int, start: int, size: int) -> None:
    """What an earlier attempt wrote behind `start` is given up: it would show through holes."""
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
    """Read the next chunk that is no hole of the file; return where it begins and its length, 0 at the end."""
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
