"""Reading much of an image: a window of reads that librbd keeps full, and the chunks that come out of it."""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from aiorbd._bridge.lane import Lane, Request
from aiorbd._bridge.source import Stream
from aiorbd._image_handle import LARGEST_IO, ImageHandle
from aiorbd._marshal import LARGE, invalid, large_bytes, number
from aiorbd._resource import Resource
from aiorbd.enums import OpFlag
from aiorbd.errors import ClosedError, RbdError, UsageError
from aiorbd.models import Extent
from aiorbd.writer import Writer

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_FUNCTION: Final = "rbd_aio_read2"

#: Reads that are submitted in one pass of the loop.
_PASS: Final = 64

MIB: Final = 1 << 20


class Chunk(NamedTuple):
    """A part of an image that was read.

    Attributes:
        offset: Where it begins, in bytes.
        length: How many bytes.
        data: What is there; None where an `Extent` said that there is nothing, and zeroes would be read.
    """

    offset: int
    length: int
    data: bytes | None


#: Makes one of the three; faster than the class does.
_chunk: Final[Callable[[tuple[int, int, bytes]], Chunk]] = partial(tuple.__new__, Chunk)

#: What is read: pairs of offset and length, or what `Image.diff` gives.
Extents = Iterable[tuple[int, int] | Extent] | AsyncIterable[tuple[int, int] | Extent]


class ReadStream(Stream[Chunk]):
    """Chunks of an image: iterate over it with ``async for``. Made by `Image.read_extents`."""

    def __init__(
        self, handle: ImageHandle, extents: Extents, chunk_size: int, depth: int, op_flags: int, *, ordered: bool
    ) -> None:
        """Private: use `Image.read_extents`."""
        handle.check()
        source = handle.new_source(endless=False)
        super().__init__(source, handle.check_loop)
        self._handle = handle
        self._chunk_size = chunk_size
        self._window = 2 * depth
        self._op_flags = op_flags
        self._ordered = ordered
        self._lane = Lane(handle, depth, source.tell)
        source.stop = self._lane.cancel
        #: `islice` has none but itself to iterate over, however often a loop asks.
        self._extents: Iterator[Any] | AsyncIterator[Any] = (
            aiter(extents) if isinstance(extents, AsyncIterable) else islice(extents, None)
        )
        self._waits = isinstance(extents, AsyncIterable)
        self._generated = isinstance(extents, Generator | AsyncGenerator)
        #: What is left of the extent that is being cut: where it begins, and ends.
        self._cut = (0, 0)
        self._exhausted = False
        #: What was fetched, and not cut yet.
        self._extent: Any = None
        #: What is handed out next: reads by their numbers, if in order; what is no read; at the end an error.
        self._row: deque[int | Chunk | Exception] = deque()

    # -- what comes out ------------------------------------------------------------------------

    def _take(self) -> tuple[Chunk, ...]:
        """Move what is there to the batch itself: an interrupt leaves each chunk in one place.

        Signal handlers run after calls and between the rounds of a loop, not between statements that call nothing.
        """
        row, over, batch = self._row, self._lane.over, self._batch
        if not self._ordered:
            for number, (request, value) in tuple(over.items()):
                chunk = self._chunk_of(request, value)
                if chunk is None:
                    return ()
                batch += (chunk,)
                del over[number]
        while row:
            entry = row[0]
            if isinstance(entry, int):
                if entry not in over:
                    break
                chunk = self._chunk_of(*over[entry])
                if chunk is None:
                    break
                batch += (chunk,)
                del row[0], over[entry]
            elif isinstance(entry, Exception):
                self._end(entry)
                break
            else:
                batch += (entry,)
                del row[0]
        return ()

    def _chunk_of(self, request: Request, value: int | Exception) -> Chunk | None:
        """A read that is over; None is the end, by its error."""
        _, offset, length, data, _ = request
        if value == length:
            return _chunk((offset, length, data))
        self._end(self._error(offset, length, value))
        return None

    def _end(self, error: Exception) -> None:
        """It is over, and nobody wants what else is on its way."""
        self._source.end(error)
        self._lane.abandon()

    def _error(self, offset: int, length: int, value: int | Exception) -> Exception:
        """What a read failed with."""
        if isinstance(value, Exception):
            return value
        try:
            self._handle.incomplete(_FUNCTION, offset, length, value)
        except RbdError as error:
            return error

    def _is_ready(self) -> bool:
        """Whether there is something to hand out."""
        if self._batch or not self._row:
            return bool(self._batch or (self._lane.over and not self._ordered))
        first = self._row[0]
        return not isinstance(first, int) or first in self._lane.over

    # -- what goes in --------------------------------------------------------------------------

    async def _go_on(self) -> None:
        """Keep the window full. Whatever a cancelled wait leaves undone is done by the next one."""
        source, row, lane = self._source, self._row, self._lane
        if source.ended:
            return
        try:
            self._handle.check()
            if lane.late:
                await lane.submit_late()
            await self._fill()
        except Exception as error:  # noqa: BLE001 - raised when what comes before it was handed out
            self._exhausted, self._extent, self._cut = True, None, (0, 0)
            row.append(error)
            lane.fail_late(error)
        if self._is_ready():
            source.tell()  # no read will
        elif not (row or lane.running or lane.late or lane.over):
            if self._exhausted and self._extent is None and self._cut[0] >= self._cut[1]:
                source.end()
            else:
                source.tell()  # all that was asked for was nothing

    async def _fill(self) -> None:
        """Cut pieces, and submit them, while there is room; wait for the next extent while nothing is ready."""
        row, lane, ordered, waits = self._row, self._lane, self._ordered, self._waits
        handle, size, flags = self._handle, self._chunk_size, self._op_flags
        extents: Any = self._extents
        room = self._window - len(row) - len(self._batch)
        if not ordered:
            room -= len(lane.running) + len(lane.over)
        for _ in range(min(_PASS, room)):
            offset, end = self._cut
            if offset >= end:
                if self._extent is None:
                    if self._exhausted or (waits and self._is_ready()):
                        return
                    if waits:
                        await self._next_extent(extents)
                    else:
                        self._fetch(extents)
                    if self._extent is None:
                        self._exhausted = True
                        return
                extent = self._extent
                if isinstance(extent, Extent):
                    if not extent.exists:
                        hole = Chunk(extent.offset, extent.length, None)
                        self._extent = None
                        row.append(hole)
                        continue
                    extent = extent.offset, extent.length
                offset, length = extent
                end = offset + length
                if not 0 <= offset < end <= handle.size:
                    if not await handle.unusual_range(_FUNCTION, offset, length, largest=None):
                        end = offset
                    self._check_wanted()
                self._extent, self._cut = None, (offset, end)
                if offset == end:
                    continue
            cut = min(end, offset - offset % size + size)
            if cut > handle.size:  # a shrink that has begun meanwhile
                await handle.unusual_range(_FUNCTION, offset, cut - offset)
                self._check_wanted()
            lane.last = 0
            try:
                if lane.read(offset, cut - offset, flags) is None:
                    await self._submit(offset, cut - offset)
            finally:
                if lane.last in lane.running:  # also when an interrupt came after C had taken it
                    self._cut = cut, end
                    if ordered:
                        row.append(lane.last)

    async def _submit(self, offset: int, length: int) -> None:
        """Submit what the lane does not take by itself, or find out why."""
        self._check_wanted()
        lane = self._lane
        data = bytes(length) if length < LARGE else large_bytes(length)  # which librbd fills
        number, request = next(lane.numbers), (lane.kind_read, offset, length, data, self._op_flags)
        if lane.submit(number, request):
            await lane.submit_refused(number, request, self._check_wanted)

    def _check_wanted(self) -> None:
        """After a wait, in which others had their turn: raise when nothing may be submitted any more."""
        self._handle.check()
        if self._source.ended:
            raise ClosedError(f"the stream of {self._handle.target} was closed")

    def _fetch(self, extents: Iterator[Any]) -> None:
        try:
            for self._extent in extents:  # a loop stores what it gets before a signal handler can run
                break
        except BaseException as error:
            self._require_rest(error)
            raise

    async def _next_extent(self, extents: AsyncIterator[Any]) -> None:
        try:
            self._extent = await anext(extents, None)
        except BaseException as error:
            self._require_rest(error)
            raise
        self._check_wanted()

    def _require_rest(self, error: BaseException) -> None:
        """A generator through which a cancellation went is at its end: what it had left would be missing."""
        if self._generated and not isinstance(error, Exception):
            self._source.close(UsageError("cancelled while the next extent was waited for"))

    def _stop(self) -> None:
        self._lane.abandon()
        super()._stop()


class ImageStreams(Resource):
    """Reading and writing much of an image: part of `Image`."""

    _handle: ImageHandle

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
        number(op_flags, "op_flags", _FUNCTION, handle.target, bits=31)
        if extents is None:
            extents = _Range(handle, offset, length)
        elif offset or length is not None:
            raise TypeError("takes either extents or one range")
        return ReadStream(handle, extents, chunk_size, depth, op_flags, ordered=ordered)

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
        _require_positive(handle, ("depth", depth, 1 << 20), ("max_bytes", max_bytes, 1 << 62))
        return Writer(handle, depth, max_bytes, release)


def _require_positive(handle: ImageHandle, *numbers: tuple[str, int, int]) -> None:
    for what, value, most in numbers:
        if not 0 < number(value, what, "", handle.target) <= most:
            raise invalid(f"{what} must be from 1 to {most}", "", handle.target)


class _Range:
    """One range; where the image ends is asked for when it matters. A cancelled wait can be repeated."""

    def __init__(self, handle: ImageHandle, offset: int, length: int | None) -> None:
        number(offset, "offset", _FUNCTION, handle.target)
        self._handle = handle
        self._range = offset, length
        self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[int, int]:
        if self._over:
            raise StopAsyncIteration
        offset, length = self._range
        if length is None:
            length = max(0, await self._handle.known_size() - offset)
        self._over = True
        return offset, length
