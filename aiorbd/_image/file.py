"""Use an image as a file: an asynchronous file, or a blocking file for libraries that need one."""

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
from aiorbd.errors import ClosedError, UsageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from aiorbd._image.image import Image

#: The largest number of bytes that one request moves.
PIECE: Final = 1 << 25


class ImageFile:
    """An asynchronous binary file over an image, made by `Image.file`.

    The file works like a Python file object with methods to await. The file has a position, and calls run one after the
    other. A write does not enlarge the image: a write that does not fit raises `PastEndOfImage`. Closing the file
    flushes the image and leaves the image open. A cancelled call does not move the position.
    """

    def __init__(self, image: "Image", chunk_size: int, *, allow_shrink: bool) -> None:
        """Private: use `Image.file`."""
        image._handle.check()
        self._image = image
        self._handle = image._handle
        self._chunk_size = chunk_size
        self._allow_shrink = allow_shrink
        self._position = 0
        self._turn = anyio.Lock()
        self._closed = False
        self._flushed = False  # whether `aclose` has flushed

    def __repr__(self) -> str:
        return f"<aiorbd.ImageFile: {self._handle.target}, {'closed' if self._closed else 'open'}>"

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._closed

    def _check(self) -> None:
        if self._closed:
            raise ClosedError(f"the file of {self._handle.target} is closed")
        self._handle.check()  # before taking the lock, which belongs to the image's event loop

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        """Wait for the earlier calls of this file. Raise if one of them closed the file."""
        self._check()
        async with self._turn:
            self._check()
            yield

    async def read(self, size: int | None = -1) -> bytes:
        """Return up to `size` bytes, or all remaining bytes if `size` is negative or None.

        At the end of the image, return empty bytes.

        Implements: rbd_aio_read2
        """
        async with self._in_turn():
            rest = max(0, await self._handle.image_size.known_size() - self._position)
            length = rest if size is None or index(size) < 0 else min(index(size), rest)
            if length <= PIECE:
                data = await self._image.read(min(self._position, self._position if length else 0), length)
            else:  # read into the returned object: clearing and copying so many bytes would block the event loop
                data = large_bytes(length)
                await self._fill(writable_bytes(data))
            self._position += length
            return data

    async def readinto(self, buffer: "WriteableBuffer") -> int:
        """Read into a writable buffer, and return the number of bytes read.

        Near the end of the image, the number is smaller than the buffer.

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
        """Write all of `data`, and return its length. If the call is cancelled, the outcome is unknown.

        Raises:
            PastEndOfImage: The data reaches past the end of the image. Nothing was written.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_aio_write2
        """
        async with self._in_turn():
            readable(data, "data", "rbd_aio_write2", self._handle.target)
            view = memoryview(data).cast("B")
            if len(view) > PIECE:  # refuse data that does not fit before the first piece is written
                await self._handle.requests.check_range("rbd_aio_write2", self._position, len(view), largest=None)
            for start in range(0, len(view), PIECE):
                await self._image.write(view[start : start + PIECE], self._position + start)
            self._position += len(view)
            return len(view)

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset from the beginning, the position or the end, and return the new position.

        Raises:
            InvalidArgument: The new position would be before the beginning.
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
                raise invalid(f"position {position} is before the beginning", "", self._handle.target)
            self._position = position
            return position

    async def tell(self) -> int:
        """Return the position."""
        self._check()
        return self._position

    async def truncate(self, size: int | None = None) -> int:
        """Resize the image to `size`, or to the position if `size` is None. Return the new size.

        The position does not change.

        Raises:
            InvalidArgument: The size is out of range, or it is smaller and the file was not made with `allow_shrink`.

        Implements: rbd_resize2
        """
        async with self._in_turn():
            size = self._position if size is None else index(size)
            await self._image.resize(size, allow_shrink=self._allow_shrink)
            return size

    async def flush(self) -> None:
        """Make the written data durable.

        Implements: rbd_aio_flush
        """
        self._check()
        await self._image.flush()

    async def aclose(self) -> None:
        """Flush the image and close the file. The image stays open.

        If the flush fails, written data may be lost. `aclose` can be called again, and does not tell of that loss.
        """
        async with self._turn:
            if not self._flushed:
                self._closed = True
                await self._image.flush()
                self._flushed = True

    #: `close` is another name of `aclose`.
    close = aclose

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
    """A blocking binary file over an image, made by `Image.blocking_file`.

    Use the file in any thread except the event loop's thread. Each call blocks until the event loop has done the work,
    so the event loop must run. `io.BufferedReader` and similar classes can wrap the file. Closing the file flushes the
    image and leaves the image open.
    """

    def __init__(self, image: "Image", *, allow_shrink: bool) -> None:
        """Private: use `Image.blocking_file`."""
        super().__init__()
        self._file = ImageFile(image, PIECE, allow_shrink=allow_shrink)
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
            # Drop the frames of the event loop's side. Those frames refer to the future, the future refers to the
            # error, and the error refers to its frames: a reference cycle.
            raise error.with_traceback(None) from None

    def readable(self) -> bool:
        """Return True."""
        return True

    def writable(self) -> bool:
        """Tell whether the image is open for writing."""
        return self._writable

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Read into a buffer, and return the number of bytes read, 0 at the end of the image.

        Implements: rbd_aio_read2
        """
        # Do not let librbd write to the caller's memory. The memory of a buffered reader of `io` is freed with the
        # reader, and librbd may still write to that memory after a cancelled wait.
        view = memoryview(buffer).cast("B")
        data = self._run(self._file.read, len(view))
        view[: len(data)] = data
        return len(data)

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write all of `data`, and return its length.

        Raises:
            PastEndOfImage: The data reaches past the end of the image. Nothing was written.

        Implements: rbd_aio_write2
        """
        copy = bytes(memoryview(data))  # not the caller's memory: see `readinto`
        self._check_thread()
        try:
            return int(self._run(self._file.write, copy))
        finally:  # a failed write may be partly written, and a flush during the write did not cover it
            self._dirty = True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to an offset, and return the new position."""
        return int(self._run(self._file.seek, offset, whence))

    def tell(self) -> int:
        """Return the position."""
        return int(self._run(self._file.tell))

    def truncate(self, size: int | None = None, /) -> int:
        """Resize the image to `size`, or to the position if `size` is None. Return the new size.

        Raises:
            InvalidArgument: The size is out of range, or it is smaller and the file was not made with `allow_shrink`.

        Implements: rbd_resize2
        """
        return int(self._run(self._file.truncate, size))

    def flush(self) -> None:
        """Make the written data durable.

        `io.BufferedWriter.flush` only writes the data to this file. Call ``raw.flush()`` afterwards.

        Implements: rbd_aio_flush
        """
        if self.closed:
            return
        with self._flushing:  # another thread's `flush` waits until this flush ends
            if self._dirty:
                self._check_thread()
                self._dirty = False  # before the flush, which does not cover later writes of other threads
                try:
                    self._run(self._file.flush)
                except BaseException:
                    self._dirty = True
                    raise

    def close(self) -> None:
        """Flush the written data and close the file. The image stays open.

        Implements: rbd_aio_flush
        """
        # `io.IOBase` closes a forgotten file on any thread, perhaps the event loop's. Do not block then.
        if self._dirty and getattr(self, "_finalizing", False):
            warnings.warn(f"{self!r} was written to and never closed or flushed", ResourceWarning, 2)
            self._dirty = False
        super().close()
