"""Read many extents of an image: keep a window of reads full, and hand out the chunks."""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from itertools import islice
from operator import index
from typing import Any, Final, NamedTuple

from anyio.lowlevel import checkpoint

from aiorbd._core.stream import Stream
from aiorbd._image.handle import ImageHandle
from aiorbd._image.request_queue import Request, RequestQueue
from aiorbd._native.requests import FUNCTIONS, READ
from aiorbd._stream.zeroes import is_zero
from aiorbd.errors import ClosedError, RbdError, UsageError
from aiorbd.models import Extent

_FUNCTION: Final = FUNCTIONS[READ]

#: The most reads to prepare, and the most chunks to hand out, before other tasks may run.
_PASS: Final = 64


class Chunk(NamedTuple):
    """One part of an image, as `Image.read_extents` reads it.

    Attributes:
        offset: The offset of the chunk in the image, in bytes.
        length: The length of the chunk in bytes.
        data: The data of the chunk. None if the chunk comes from an `Extent` with a false `exists`, which would read as
            zeroes, or if `skip_zeroes` is true and all bytes are zero.
    """

    offset: int
    length: int
    data: bytes | None


#: The extents to read: pairs of offset and length, or the extents that `Image.diff` yields.
Extents = Iterable[tuple[int, int] | Extent] | AsyncIterable[tuple[int, int] | Extent]


class ReadStream(Stream[Chunk]):
    """The chunks of an image, made by `Image.read_extents`. Iterate over the stream with ``async for``."""

    # A signal handler may raise after any call in this class. An item that moves from one place to another is, during
    # each call, in at least one of the two places. So the next step can continue from there.

    def __init__(
        self,
        handle: ImageHandle,
        extents: Extents,
        chunk_size: int,
        depth: int,
        op_flags: int,
        *,
        ordered: bool,
        skip_zeroes: bool,
    ) -> None:
        """Private: use `Image.read_extents`."""
        handle.check()
        source = handle.new_source(endless=False)
        super().__init__(source, handle.check_loop)
        self._handle = handle
        self._window = 2 * depth
        self._pass = min(_PASS, (depth + 1) // 2)
        self._chunk_size = chunk_size
        self._op_flags = op_flags
        self._ordered = ordered
        self._skip_zeroes = skip_zeroes
        self._queue = RequestQueue(handle, depth, source.notify, collects=not ordered)
        source.stop = self._queue.cancel
        self._awaited: AsyncIterator[Any] | None = None
        self._iterator: Iterator[tuple[Any]] = zip(())
        if isinstance(extents, AsyncIterable):
            self._awaited = aiter(extents)
        else:
            self._iterator = zip(extents)  # `zip` asks the user's object for an iterator once; `islice` asks `zip`
        self._generated = isinstance(extents, Generator | AsyncGenerator)
        self._fetched: deque[tuple[Any]] = deque()  # the extent to cut next, if there is one
        self._exhausted = False
        self._cut = self._end = 0  # the rest of the extent that is being cut
        #: A new request or chunk that may be missing in `_row` or in the queue.
        self._new: Request | Chunk | None = None
        #: The items to hand out next: holes, all reads if `ordered` is true, and at the end an error.
        self._row: deque[Request | Chunk | Exception] = deque()
        self._quick = 0  # the chunks to hand out before other tasks may run

    def __repr__(self) -> str:
        return f"<aiorbd.ReadStream: {self._handle.target}, {self._state}>"

    # -- handing out chunks --------------------------------------------------------------------

    async def __anext__(self) -> Chunk:
        if self._quick > 0 and self._new is None and not self._closed:
            self._quick -= 1
            row, over = self._row, self._queue.over
            if row:
                first = row[0]
                if type(first) is Request:
                    if first.value == first.length:
                        chunk = tuple.__new__(Chunk, (first.offset, first.length, first.keep))
                        del row[0]
                        return chunk
                elif type(first) is Chunk:
                    del row[0]
                    return first
            elif over:
                request = next(iter(over))
                if request.value == request.length:
                    chunk = tuple.__new__(Chunk, (request.offset, request.length, request.keep))
                    del over[request]
                    return chunk
        return await super().__anext__()

    async def _next(self) -> Chunk:
        """Keep the window full, and wait for the next chunk."""
        source, waited = self._source, False
        while not self._closed:
            ended = source.ended  # read first, so that no item from before the end is lost
            if not ended:
                await self._go_on()
                if self._closed:  # by another task during the wait
                    break
            first = self._first()
            if first is not None:
                error = self._error_of(first)
                if error is None:
                    if not waited:  # let other tasks run, and notice a cancellation
                        await checkpoint()
                    self._quick = 0 if self._skip_zeroes else self._pass
                    return self._remove(first)
                source.end(error)  # first: the error must survive an interrupt
                self._queue.abandon()  # drop the other reads in flight
                self._row.clear()
            if ended:
                break
            if first is None:
                await source.wait()
                waited = True
        self._closed = True
        self._queue.abandon()
        if source.error is not None:
            error, source.error = source.error, None
            raise error
        raise StopAsyncIteration

    def _first(self) -> Request | Chunk | Exception | None:
        """Return the next item. Return None if the next item is not ready."""
        row, over = self._row, self._queue.over
        if over:  # without an order, chunks that are ready come before holes and errors
            return next(iter(over))
        if row and (not isinstance(row[0], Request) or row[0].is_over):
            return row[0]
        return None

    def _remove(self, first: Any) -> Chunk:
        """Remove the item that `_first` returned, and return its chunk."""
        chunk = first
        if isinstance(first, Request):
            data: Any = first.keep
            if self._skip_zeroes and is_zero(data):
                data = None
            chunk = Chunk(first.offset, first.length, data)
        if first in self._queue.over:
            del self._queue.over[first]
        elif self._row and self._row[0] is first:
            del self._row[0]
        result: Chunk = chunk
        return result

    def _error_of(self, first: Request | Chunk | Exception) -> BaseException | None:
        """Return the error that ends the stream at this item. Return None if the item is a chunk."""
        if isinstance(first, Exception):
            return first
        if isinstance(first, Request) and first.value != first.length:
            if first.error is not None:
                return first.error
            try:
                self._handle.requests.incomplete(_FUNCTION, first.offset, first.length, first.value or 0)
            except RbdError as error:
                return error
        return None

    # -- submitting reads ----------------------------------------------------------------------

    async def _go_on(self) -> None:
        """Keep the window full. If a wait is cancelled, the next call continues."""
        source, queue = self._source, self._queue
        try:
            self._handle.check()
            await queue.submit_stale()
            await self._fill()
            if queue.stale:
                source.notify()  # the next round submits them again
        except Exception as error:  # noqa: BLE001 - raised after the earlier items were handed out
            self._row.append(error)  # first: the error must survive an interrupt
            self._exhausted = True
            self._fetched.clear()
            self._cut = self._end = 0
            queue.fail_stale(error)
        if not (self._row or len(queue) or queue.over or self._fetched or self._cut < self._end):
            if self._exhausted:
                source.end()
            else:
                source.notify()  # all extents so far were empty: continue with the next one

    async def _fill(self) -> None:
        """Prepare reads while there is room. Wait for the next extent only if no chunk is ready."""
        if self._new is not None:
            self._place(self._new)
        handle, queue, row = self._handle, self._queue, self._row
        size, ordered = self._chunk_size, self._ordered
        room = min(_PASS, self._window - len(row) - (0 if ordered else len(queue) + len(queue.over)))
        while room > 0:
            if self._cut < self._end:
                offset = self._cut
                end = min(self._end, offset - offset % size + size)
                if end > handle.size:  # a shrink has begun since the check of the extent
                    await handle.requests.unusual_range(_FUNCTION, offset, end - offset)
                    self._check_wanted()
                self._new = new = Request(queue, READ, offset, end - offset, self._op_flags)
                self._cut = end
                if ordered:
                    row.append(new)
                queue.add(new)
                self._new = None
                room -= 1
            elif self._fetched:
                extent = self._fetched[0][0]
                if type(extent) is tuple and len(extent) == 2:
                    offset, length = extent
                    if type(offset) is int is type(length) and 0 <= offset < offset + length <= handle.size:
                        self._cut, self._end = offset, offset + length
                        del self._fetched[0]
                        continue
                await self._begin_to_cut(self._fetched[0][0])
                room -= self._new is not None
                if self._new is not None:
                    self._place(self._new)
            elif self._exhausted:
                break
            elif self._awaited is None:
                self._fetch()
            elif self._first() is not None:
                break
            else:
                await self._await_extent(self._awaited)

    def _place(self, new: Request | Chunk) -> None:
        """Put a new item where the item is missing. An interrupted call may have put it into one place already."""
        row, queue = self._row, self._queue
        if (self._ordered or isinstance(new, Chunk)) and not (row and row[-1] is new):
            row.append(new)
        if isinstance(new, Request) and not (new.is_taken or new.is_over or new in queue.stale):
            queue.add(new)
        self._new = None

    def _fetch(self) -> None:
        """Store the next extent of the iterator. An interrupt after the call of the iterator loses no extent."""
        try:
            self._fetched.extend(islice(self._iterator, 1))
        except BaseException as error:
            self._require_rest(error)
            raise
        if not self._fetched:
            self._exhausted = True

    async def _await_extent(self, extents: AsyncIterator[Any]) -> None:
        try:
            self._fetched.append((await anext(extents, self),))
        except BaseException as error:
            self._require_rest(error)
            raise
        if self._fetched[0][0] is self:
            self._exhausted = True
            del self._fetched[0]
        self._check_wanted()

    async def _begin_to_cut(self, extent: Any) -> None:
        """Check an extent, and begin to cut it into reads. A hole becomes a chunk at once."""
        handle = self._handle
        if extent is None:
            raise TypeError("an extent is a pair of offset and length, or an Extent, not None")
        if isinstance(extent, Extent):
            if not extent.exists:
                hole = Chunk(extent.offset, extent.length, None)
                self._new = hole
                del self._fetched[0]
                return
            extent = extent.offset, extent.length
        offset, length = extent
        offset, length = index(offset), index(length)  # sums of numpy's integers may wrap around
        end = offset + length
        if not 0 <= offset < end <= handle.size:
            if not await handle.requests.unusual_range(_FUNCTION, offset, length, largest=None):
                end = offset
            self._check_wanted()
        self._cut, self._end = offset, end
        del self._fetched[0]

    def _check_wanted(self) -> None:
        """Raise if no more reads may be submitted. Call this after other tasks may have run."""
        self._handle.check()
        if self._source.ended:
            raise ClosedError(f"the stream of {self._handle.target} was closed")

    def _require_rest(self, error: BaseException) -> None:
        """Close the stream if a cancellation went through the user's generator.

        Such a generator has ended. Its remaining extents would be missing without an error.
        """
        if self._generated and not isinstance(error, Exception):
            self._source.close(UsageError("a task was cancelled while it waited for the next extent"))

    def _stop(self) -> None:
        self._queue.abandon()
        super()._stop()
