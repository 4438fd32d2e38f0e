"""Reading and writing much of an image: with how much at once, and from where."""

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
    """Reading and writing much of an image: part of `Image`."""

    def read_extents(
        self,
        extents: Extents | None = None,
        *,
        offset: int = 0,
        length: int | None = None,
        chunk_size: int = 4 * MIB,
        depth: int = 16,
        ordered: bool = True,
        op_flags: OpFlag | int = 0,
    ) -> ReadStream:
        """Iterate over what is in many places of the image, or in one long range, with many reads on their way.

        At most `depth` reads are with librbd, and at most twice as many chunks in memory: who takes his time
        slows librbd down. Chunks that are read may wait up to 5 ms for others, to be handed out in one go. Leaving the
        loop early, `aclose`, or the end of an ``async with`` block around it gives up what librbd has not begun; the
        rest is counted by `in_flight` until it is done. A wait that is cancelled loses nothing: iterate on.

        Args:
            extents: Pairs of offset and length, in bytes, as an iterable or an async iterable; or `Extent` objects,
                so that a diff can be read: ``image.read_extents(image.diff())``. Those that do not exist come as
                chunks without data. None for one range. The next extent of an async iterable is only waited for when
                no chunk is there to hand out, but then what gets ready meanwhile waits for it.
            offset: Where the range begins.
            length: How many bytes it has; None for all to the end of the image.
            chunk_size: The most that one read is for. Extents are cut where the image is a multiple of it.
            depth: How many reads librbd has at once.
            ordered: Whether chunks come in the order of the extents, or as soon as they are read.
            op_flags: Hints for the OSDs.

        Raises:
            PastEndOfImage: An extent does not lie within the image; raised in the place of its chunk, like all
                that follow.
            InvalidArgument: `chunk_size` or `depth` is no positive number that librbd can handle.
            ClosedError: The image was closed before the end.

        Implements: rbd_aio_read2
        """
        handle = self._handle
        _require_positive(handle, ("chunk_size", chunk_size, LARGEST_IO), ("depth", depth, 1 << 20))
        op_flags = number(op_flags, "op_flags", _FUNCTION, handle.target, bits=31)
        if extents is None:
            extents = _Range(handle, offset, length)
        elif offset or length is not None:
            raise TypeError("takes either extents or one range")
        return ReadStream(handle, extents, index(chunk_size), index(depth), index(op_flags), ordered=bool(ordered))

    def writer(
        self,
        *,
        depth: int = 16,
        max_bytes: int = 64 * MIB,
        release: "Callable[[ReadableBuffer], object] | None" = None,
    ) -> Writer:
        """Write much, with a bounded number of writes on their way: use what this returns with ``async with``.

        Args:
            depth: How many writes librbd has at once; as many more may wait.
            max_bytes: How many bytes all of them may have; one write that has more goes alone.
            release: Called on the event loop with what was given to `Writer.write`, once librbd is done with it,
                written or not: it may be filled anew, which costs less than new memory. Not called for what is on its
                way when the block is left by an exception, nor for what `write` raised for. What it raises is raised by
                the writer's next call.

        Raises:
            InvalidArgument: `depth` or `max_bytes` is not positive.
            RbdError: A write failed; raised by the next call on the writer, or at the end of the block.

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
    """One range; where the image ends is asked for when it matters. A cancelled wait can be repeated."""

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
