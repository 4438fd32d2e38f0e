"""An image as a file: an asynchronous one, and a blocking one for libraries that want that."""

import io
import os
import threading
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from operator import index
from typing import TYPE_CHECKING, Any, Final, Self

import anyio
from anyio import from_thread
from anyio.lowlevel import EventLoopToken, current_token

from aiorbd._native.marshal import invalid, large_bytes, readable, writable, writable_bytes
from aiorbd.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from aiorbd._image.image import Image

#: Bytes that one request moves.
PIECE: Final = 1 << 25


class ImageFile:
    """An image as an asynchronous binary file, made by `Image.file`: like a file object of Python's, awaited.

    It has a position, and calls take their turns. The file does not grow: what does not fit is refused.
    Closing it flushes, and leaves the image open. A call that is cancelled leaves the position where it was.
    """

    def __init__(self, image: "Image", chunk_size: int) -> None:
        """Private: use `Image.file`."""
        image._handle.check()
        self._image = image
        self._handle = image._handle
        self._chunk_size = chunk_size
        self._position = 0
        self._turn = anyio.Lock()
        self._closed = False
        self._flushed = False  # for the last time

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def _check(self) -> None:
        if self._closed:
            raise ValueError("I/O operation on closed file")
        self._handle.check()  # before its lock, which belongs to the image's event loop

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        """Wait for the calls before; the file may have been closed meanwhile."""
        self._check()
        async with self._turn:
            self._check()
            yield

    async def read(self, size: int | None = -1) -> bytes:
        """Read up to `size` bytes, all that are left when it is negative or None; none at the end.

        Implements: rbd_aio_read2
        """
        async with self._in_turn():
            rest = max(0, await self._handle.image_size.known_size() - self._position)
            length = rest if size is None or index(size) < 0 else min(index(size), rest)
            if length <= PIECE:
                data = await self._image.read(min(self._position, self._position if length else 0), length)
            else:  # into the very object that is returned: clearing and copying so much would hold up the loop
                data = large_bytes(length)
                await self._fill(writable_bytes(data))
            self._position += length
            return data

    async def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill a writable buffer; return how many bytes there were, less than it holds at the end.

        Implements: rbd_aio_read2
        """
        async with self._in_turn():
            writable(buffer, "buffer", "rbd_aio_read2", self._handle.target)
            view = memoryview(buffer).cast("B")
            length = max(0, min(len(view), await self._handle.image_size.known_size() - self._position))
            await self._fill(view[:length])
            self._position += length
            return length

    async def _fill(self, view: "memoryview[int]") -> None:
        for start in range(0, len(view), PIECE):
            await self._image.read_into(view[start : start + PIECE], self._position + start)

    async def write(self, data: "ReadableBuffer") -> int:
        """Write all of `data`; return its length. When cancelled, the outcome is unknown.

        Raises:
            PastEndOfImage: It does not fit. Nothing was written.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_aio_write2
        """
        async with self._in_turn():
            readable(data, "data", "rbd_aio_write2", self._handle.target)
            view = memoryview(data).cast("B")
            if len(view) > PIECE:  # all or nothing, as far as the size goes
                await self._handle.requests.check_range("rbd_aio_write2", self._position, len(view), largest=None)
            for start in range(0, len(view), PIECE):
                await self._image.write(view[start : start + PIECE], self._position + start)
            self._position += len(view)
            return len(view)

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset from the beginning, the position or the end; return the new position.

        Raises:
            InvalidArgument: It would be before the beginning.
        """
        async with self._in_turn():
            offset = index(offset)
            if whence == os.SEEK_SET:
                position = offset
            elif whence == os.SEEK_CUR:
                position = self._position + offset
            elif whence == os.SEEK_END:
                position = await self._handle.image_size.known_size() + offset
            else:
                raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
            if position < 0:
                raise invalid(f"position {position} is before the beginning", "seek", self._handle.target)
            self._position = position
            return position

    async def tell(self) -> int:
        """Return the position."""
        self._check()
        return self._position

    async def truncate(self, size: int | None = None) -> int:
        """Resize the image, to the position if no size is given; return the size. The position stays.

        Implements: rbd_resize2
        """
        async with self._in_turn():
            size = self._position if size is None else index(size)
            await self._image.resize(size)
            return size

    async def flush(self) -> None:
        """Make durable what was written.

        Implements: rbd_aio_flush
        """
        self._check()
        await self._image.flush()

    async def aclose(self) -> None:
        """Flush, and close the file; the image stays open. Can be called again when the flush failed."""
        async with self._turn:
            if not self._flushed:
                self._closed = True
                await self._image.flush()
                self._flushed = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if data := await self.read(self._chunk_size):
            return data
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        self._check()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class BlockingImageFile(io.RawIOBase):
    """An image as a blocking binary file, made by `Image.blocking_file`, for any thread but the event loop's.

    Each call waits until the event loop, which must run meanwhile, has done it. `io.BufferedReader` and the
    like go around it as usual. Closing it flushes, and leaves the image open.
    """

    def __init__(self, image: "Image") -> None:
        """Private: use `Image.blocking_file`."""
        super().__init__()
        self._file = ImageFile(image, PIECE)
        self._writable = not image.read_only
        self._loop: EventLoopToken = current_token()
        self._loop_thread = threading.get_ident()
        self._dirty = False
        self._flushing = threading.Lock()

    def _check_thread(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        if threading.get_ident() == self._loop_thread:
            raise UsageError("a blocking file would block the event loop: use it in another thread, or Image.file()")

    def _run(self, function: Any, *arguments: Any) -> Any:
        self._check_thread()
        try:
            return from_thread.run(function, *arguments, token=self._loop)
        except BaseException as error:  # noqa: BLE001 - raised again
            # Its frames on the loop's side would form a loop with it through the future that carried it.
            raise error.with_traceback(None) from None

    def readable(self) -> bool:
        """It is."""
        return True

    def writable(self) -> bool:
        """Tell whether the image is open for writing."""
        return self._writable

    def seekable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Fill a buffer; return how many bytes there were, 0 at the end.

        Implements: rbd_aio_read2
        """
        # Not into the caller's memory: what io's buffered readers give is freed with them, and librbd
        # may still write to it when the wait was cancelled.
        view = memoryview(buffer).cast("B")
        data = self._run(self._file.read, len(view))
        view[: len(data)] = data
        return len(data)

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write all of it; return its length.

        Raises:
            PastEndOfImage: It does not fit. Nothing was written.

        Implements: rbd_aio_write2
        """
        copy = bytes(memoryview(data))  # see `readinto`
        self._check_thread()
        try:
            return int(self._run(self._file.write, copy))
        finally:  # also what failed may have been written in part; and a flush in the meantime did not cover it
            self._dirty = True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to an offset; return the position."""
        return int(self._run(self._file.seek, offset, whence))

    def tell(self) -> int:
        """Return the position."""
        return int(self._run(self._file.tell))

    def truncate(self, size: int | None = None, /) -> int:
        """Resize the image; return its size.

        Implements: rbd_resize2
        """
        return int(self._run(self._file.truncate, size))

    def flush(self) -> None:
        """Make durable what was written.

        `io.BufferedWriter.flush` only writes: call ``raw.flush()`` after it.

        Implements: rbd_aio_flush
        """
        if self.closed:
            return
        with self._flushing:  # whose flush it is that another thread waits for
            if self._dirty:
                self._check_thread()
                self._dirty = False  # before: what another thread writes meanwhile is not part of this flush
                try:
                    self._run(self._file.flush)
                except BaseException:
                    self._dirty = True
                    raise

    def close(self) -> None:
        """Flush what was written, and close the file; the image stays open.

        Implements: rbd_aio_flush
        """
        # `io.IOBase` closes what is forgotten, on any thread, the loop's perhaps: nothing that could block then.
        if self._dirty and getattr(self, "_finalizing", False):
            warnings.warn(f"{self!r} was written to and never closed or flushed", ResourceWarning, 2)
            self._dirty = False
        super().close()
