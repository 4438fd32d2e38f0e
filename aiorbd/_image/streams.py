"""Read and write much data of an image, with many requests in flight."""

from collections.abc import Callable
from operator import index
from typing import TYPE_CHECKING, Final, Self

from aiorbd._core.resource import Resource
from aiorbd._image.handle import ImageHandle
from aiorbd._image.read_stream import Extents, ReadStream
from aiorbd._image.requests import LARGEST_IO
from aiorbd._image.writer import Writer
from aiorbd._native.marshal import invalid, number, require_callable
from aiorbd.enums import OpFlag

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_FUNCTION: Final = "rbd_aio_read2"

MIB: Final = 1 << 20


class ImageStreams(Resource[ImageHandle]):
    """Reads and writes of much data of an open image. Part of `Image`."""

    def read_extents(
        self,
        extents: Extents | None = None,
        *,
        offset: int = 0,
        length: int | None = None,
        chunk_size: int = 4 * MIB,
        depth: int = 16,
        ordered: bool = True,
        skip_zeroes: bool = False,
        op_flags: OpFlag | int = OpFlag.NONE,
    ) -> ReadStream:
        """Iterate over the chunks of many extents, or of one long range, with many reads in flight.

        librbd has at most `depth` reads at once, and memory holds at most twice as many chunks. This is back-pressure:
        a slow consumer throttles reading. A chunk may wait up to 5 ms for more chunks, so that they are handed out
        together.

        To stop early, call `aclose`, or use the stream in an ``async with`` block. Then the reads
        that librbd has not received are dropped. `in_flight` counts the other reads until they complete. If a wait is
        cancelled, no chunk is lost: iterate again.

        Args:
            extents: The extents to read, as an iterable or an async iterable. None reads one range instead. Each extent
                is a pair of offset and length in bytes, or an `Extent`. So a diff can be read:
                ``image.read_extents(image.diff())``. An `Extent` with a false `exists` becomes a chunk without data.
                The stream waits for the next extent of an async iterable only if no chunk is ready. Chunks that get
                ready during this wait are handed out after the wait.
            offset: The offset of the range in bytes.
            length: The length of the range in bytes; None reads to the end of the image.
            chunk_size: The largest size of one read, in bytes. Extents are cut at multiples of this size in the image.
            depth: The largest number of reads that librbd has at once.
            ordered: Whether chunks come in the order of the extents. If false, chunks come as soon as they are read.
            skip_zeroes: Whether chunks with nothing but zeroes come without data, as the holes of a diff do.
            op_flags: Hints for the OSDs.

        Raises:
            PastEndOfImage: An extent does not lie within the image. The iteration raises the error in the place of the
                chunk.
            InvalidArgument: `chunk_size` or `depth` is not a positive number that librbd can handle.
            ClosedError: The image was closed before the end of the iteration.

        Implements: rbd_aio_read2
        """
        handle = self._handle
        _require_positive(handle, ("chunk_size", chunk_size, LARGEST_IO), ("depth", depth, 1 << 20))
        op_flags = number(op_flags, "op_flags", _FUNCTION, handle.target, bits=31)
        if extents is None:
            extents = _Range(handle, offset, length)
        elif offset or length is not None:
            raise TypeError("takes either extents or one range")
        return ReadStream(
            handle,
            extents,
            index(chunk_size),
            index(depth),
            index(op_flags),
            ordered=bool(ordered),
            skip_zeroes=bool(skip_zeroes),
        )

    def writer(
        self,
        *,
        depth: int = 16,
        max_bytes: int = 64 * MIB,
        release: "Callable[[ReadableBuffer], object] | None" = None,
    ) -> Writer:
        """Return a writer that keeps a bounded number of writes in flight. Use the writer with ``async with``.

        Args:
            depth: The largest number of writes that librbd has at once. As many more writes may wait.
            max_bytes: The largest number of bytes in all these writes together. A larger write goes alone.
            release: Called on the event loop as ``release(data)`` when librbd is done with the `data` of a call of
                `Writer.write`, even if the write failed. The program may then fill the buffer again, which costs less
                than new memory. If an exception leaves the block, `release` is not called for the writes in flight. If
                `Writer.write` raises, `release` is not called for that data. If `release` raises, the next call on the
                writer raises the error.

        Raises:
            InvalidArgument: `depth` or `max_bytes` is out of range.
            RbdError: A write failed. The next call on the writer, or the end of the block, raises the error.

        Implements: rbd_aio_write2, rbd_aio_flush
        """
        handle = self._handle
        require_callable(release, "release")
        _require_positive(handle, ("depth", depth, 1 << 20), ("max_bytes", max_bytes, 1 << 62))
        return Writer(handle, depth, max_bytes, release)


def _require_positive(handle: ImageHandle, *numbers: tuple[str, int, int]) -> None:
    for what, value, most in numbers:
        if not 0 < number(value, what, "", handle.target) <= most:
            raise invalid(f"{what} must be from 1 to {most}", "", handle.target)


class _Range:
    """An async iterator that yields one range. A cancelled wait can be repeated.

    Without a length, the range ends at the end of the image. The iteration asks for the image size when it begins.
    """

    def __init__(self, handle: ImageHandle, offset: int, length: int | None) -> None:
        offset = number(offset, "offset", _FUNCTION, handle.target)
        self._handle = handle
        self._range = offset, None if length is None else index(length)
        self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[int, int]:
        if self._over:
            raise StopAsyncIteration
        offset, length = self._range
        if length is None:
            length = max(0, await self._handle.image_size.known_size() - offset)
        self._over = True
        return offset, length
