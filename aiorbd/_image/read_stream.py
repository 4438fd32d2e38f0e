"""Reading much of an image: a window of reads that librbd keeps full, and the chunks that come out of it."""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from operator import index
from typing import Any, Final, NamedTuple

from aiorbd._core.stream import Stream
from aiorbd._image.handle import ImageHandle
from aiorbd._image.lane import Lane, Request
from aiorbd._native.marshal import LARGE, large_bytes
from aiorbd._native.table import Reads
from aiorbd.errors import ClosedError, RbdError, UsageError
from aiorbd.models import Extent

_FUNCTION: Final = "rbd_aio_read2"

#: Reads that are submitted in one pass of the loop.
_PASS: Final = 64


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
        self._window = 2 * depth
        self._lane = Lane(handle, depth, source.tell)
        source.stop = self._lane.cancel
        self._awaited: AsyncIterator[Any] | None = None
        iterator: Iterator[Any] | None = None
        if isinstance(extents, AsyncIterable):
            self._awaited = aiter(extents)
        else:
            iterator = iter(extents)
        self._generated = isinstance(extents, Generator | AsyncGenerator)
        #: What is left of the extents, and what comes next: reads by their numbers, if in order; what is no read; at
        #: the end an error. C does with it what is usual: see ``fill.c`` and ``reads.c``.
        self._reads = Reads(self._lane, iterator, deque(), Chunk, chunk_size, op_flags, ordered)

    # -- what comes out ------------------------------------------------------------------------

    def _take(self) -> tuple[Chunk, ...]:
        """Move what is there to the batch itself: an interrupt leaves each chunk in one place."""
        failed = self._reads.hand_out(self._batch)
        if failed is not None:
            error = failed if isinstance(failed, Exception) else self._error(*failed)
            self._source.end(error)
            self._lane.abandon()  # nobody wants what else is on its way
        return ()

    def _error(self, request: Request, value: int | Exception) -> Exception:
        """What a read failed with."""
        if isinstance(value, Exception):
            return value
        _, offset, length, _, _ = request
        try:
            self._handle.incomplete(_FUNCTION, offset, length, value)
        except RbdError as error:
            return error

    def _is_ready(self) -> bool:
        """Whether there is something to hand out."""
        row, over = self._reads.row, self._lane.over
        if self._batch or not row:
            return bool(self._batch or (over and not self._reads.ordered))
        first = row[0]
        return not isinstance(first, int) or first in over

    # -- what goes in --------------------------------------------------------------------------

    async def _go_on(self) -> None:
        """Keep the window full. Whatever a cancelled wait leaves undone is done by the next one."""
        source, lane, reads = self._source, self._lane, self._reads
        if source.ended:
            return
        try:
            self._handle.check()
            if lane.late:
                await lane.submit_late()
            await self._fill()
        except Exception as error:  # noqa: BLE001 - raised when what comes before it was handed out
            reads.exhausted, reads.extent, reads.cut, reads.end = True, None, 0, 0
            reads.row.append(error)
            lane.fail_late(error)
        if self._is_ready():
            source.tell()  # no read will
        elif not (reads.row or lane.running or lane.late or lane.over):
            if reads.exhausted and reads.extent is None and reads.cut >= reads.end:
                source.end()
            else:
                source.tell()  # all that was asked for was nothing

    async def _fill(self) -> None:
        """Begin reads while there is room; wait for the next extent while nothing is ready."""
        reads, lane = self._reads, self._lane
        room = self._window - len(reads.row) - len(self._batch)
        if not reads.ordered:
            room -= len(lane.running) + len(lane.over)
        room = min(_PASS, room)
        while room > 0:
            try:
                room -= reads.fill(room)
            except BaseException as error:
                if reads.fetching:
                    self._require_rest(error)
                raise
            if room <= 0:
                break
            self._check_wanted()
            if reads.cut < reads.end:
                await self._submit()
            elif reads.extent is not None:
                await self._begin_to_cut(reads.extent)
            elif reads.exhausted or self._awaited is None or self._is_ready():
                break
            else:
                await self._next_extent(self._awaited)
                continue
            room -= 1

    async def _begin_to_cut(self, extent: Any) -> None:
        """What is no pair of numbers within the image, as far as its size is known."""
        reads, handle = self._reads, self._handle
        if isinstance(extent, Extent):
            if not extent.exists:
                hole = Chunk(extent.offset, extent.length, None)
                reads.extent = None
                reads.row.append(hole)
                return
            extent = extent.offset, extent.length
        offset, length = extent
        offset, length = index(offset), index(length)  # numpy's would not carry
        end = offset + length
        if not 0 <= offset < end <= handle.size:
            if not await handle.unusual_range(_FUNCTION, offset, length, largest=None):
                end = offset
            self._check_wanted()
        reads.extent, reads.cut, reads.end = None, offset, end

    async def _submit(self) -> None:
        """Submit what C does not begin by itself, or find out why."""
        reads, lane, handle = self._reads, self._lane, self._handle
        offset, size = reads.cut, reads.chunk_size
        end = min(reads.end, offset - offset % size + size)
        length = end - offset
        if end > handle.size:  # a shrink that has begun meanwhile
            await handle.unusual_range(_FUNCTION, offset, length)
            self._check_wanted()
        data = bytes(length) if length < LARGE else large_bytes(length)  # which librbd fills
        number, request = next(lane.numbers), (lane.kind_read, offset, length, data, reads.op_flags)
        try:
            if lane.submit(number, request):
                await lane.submit_refused(number, request, self._check_wanted)
        finally:
            if number in lane.running:  # also when an interrupt came after C had taken it
                reads.cut = end
                if reads.ordered:
                    reads.row.append(number)

    def _check_wanted(self) -> None:
        """After others had their turn: raise when nothing may be submitted any more."""
        self._handle.check()
        if self._source.ended:
            raise ClosedError(f"the stream of {self._handle.target} was closed")

    async def _next_extent(self, extents: AsyncIterator[Any]) -> None:
        reads = self._reads
        try:
            reads.extent = await anext(extents, self)
        except BaseException as error:
            self._require_rest(error)
            raise
        if reads.extent is self:
            reads.extent, reads.exhausted = None, True
        elif reads.extent is None:
            raise TypeError("an extent is a pair of offset and length, or an Extent, not None")
        self._check_wanted()

    def _require_rest(self, error: BaseException) -> None:
        """A generator through which a cancellation went is at its end: what it had left would be missing."""
        if self._generated and not isinstance(error, Exception):
            self._source.close(UsageError("cancelled while the next extent was waited for"))

    def _stop(self) -> None:
        self._lane.abandon()
        super()._stop()
