"""Reading much of an image: a window of reads that librbd keeps full, and the chunks that come out of it."""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple, Self

from aiorbd._bridge.lane import Lane, Request
from aiorbd._bridge.source import Stream
from aiorbd._image_handle import LARGEST_IO, ImageHandle
from aiorbd._marshal import invalid, number
from aiorbd._resource import Resource
from aiorbd.enums import OpFlag
from aiorbd.errors import RbdError, UsageError
from aiorbd.models import Extent
from aiorbd.writer import Writer

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
        self._lane = Lane(handle.native, depth)
        source.stop = self._lane.cancel
        self._extents: Iterator[Any] | AsyncIterator[Any] = (
            aiter(extents) if isinstance(extents, AsyncIterable) else iter(extents)
        )
        self._waits = isinstance(extents, AsyncIterable)
        #: What is left of the extent that is being cut: where it begins, and ends.
        self._cut = (0, 0)
        self._exhausted = False
        #: What was fetched, and not cut yet.
        self._extent: Any = None
        #: What is handed out next: in order when that counts, else in that of arrival.
        self._row: deque[Request | Chunk | Exception] = deque()
        #: Those that are not in the row yet.
        self._running: set[Request] = set()
        self._ordered = ordered
        self._enter: Callable[[Request], object] = self._row.append if ordered else self._running.add
        self._done = _when_done(source.tell, None if ordered else self._row, self._running)

    def _take(self) -> list[Chunk]:
        row = self._row
        chunks: list[Chunk] = []
        while row:
            entry = row[0]
            if isinstance(entry, Request):
                value = entry.value
                if value is None:
                    break
                if value != entry.length:
                    if value != self._lane.stale:
                        self._source.close(self._error(entry, value))
                    break
                entry = Chunk(entry.offset, value, entry.keep)  # type: ignore[arg-type]  # the data, filled
            elif isinstance(entry, Exception):
                self._source.close(entry)
                break
            chunks.append(entry)
            row.popleft()
        return chunks

    def _error(self, request: Request, value: int) -> Exception:
        """What a read failed with."""
        handle, offset, length = self._handle, request.offset, request.length
        try:
            if value < 0:
                handle.fail(value, _FUNCTION, offset, length)
            handle.incomplete(_FUNCTION, offset, length, value)
        except RbdError as error:
            return error

    async def _go_on(self) -> None:
        """Keep the window full. Whatever a cancelled wait leaves undone is done by the next one."""
        source, row, running = self._source, self._row, self._running
        if source.ended:
            return
        try:
            self._handle.check()
            await self._submit_late()
            room = min(_PASS, self._window - len(row) - len(running) - len(self._batch))
            while room > 0 and await self._next():
                room -= 1
        except Exception as error:  # noqa: BLE001 - raised when what comes before it was handed out
            row.append(error)
            self._exhausted, self._extent, self._cut = True, None, (0, 0)
        first = row[0] if row else None
        if first is None and not running and self._exhausted and self._extent is None and self._cut[0] >= self._cut[1]:
            source.end()
        elif not running if first is None else not (isinstance(first, Request) and first.value is None):
            source.tell()  # no read will: there is something to hand out, or all that was asked for was nothing

    async def _submit_late(self) -> None:
        """What waited in the lane while somebody changed the image is submitted once its size is known."""
        row, running, ordered = self._row, self._running, self._ordered

        def replace(request: Request) -> None:
            if ordered:
                row[0] = request
            else:
                row.popleft()
                running.add(request)

        while row and isinstance(late := row[0], Request) and late.value == self._lane.stale:
            try:
                await self._handle.check_range(_FUNCTION, late.offset, late.length)
                await self._submit(late.offset, late.length, replace)
            except Exception as error:  # noqa: BLE001 - raised in its place
                row[0] = error

    async def _next(self) -> bool:
        """Cut the next piece of an extent, and submit it; tell whether there was anything."""
        offset, end = self._cut
        if offset >= end:
            if self._extent is None and not self._exhausted:
                extents = self._extents
                self._extent = (
                    await self._next_extent(extents) if self._waits else next(extents, None)  # type: ignore[arg-type]
                )
                self._exhausted = self._extent is None
            extent = self._extent
            if extent is None:
                return False
            if isinstance(extent, Extent):
                if not extent.exists:
                    self._extent = None
                    self._row.append(Chunk(extent.offset, extent.length, None))
                    return True
                extent = extent.offset, extent.length
            offset, length = extent
            end = offset + length
            fits = 0 <= offset < end <= self._handle.size
            fits = fits or await self._handle.unusual_range(_FUNCTION, offset, length, largest=None)
            self._extent, self._cut = None, (offset, end if fits else offset)
            if not fits:
                return True
        size = self._chunk_size
        cut = min(end, offset - offset % size + size)
        await self._submit(offset, cut - offset, self._enter)
        self._cut = cut, end
        return True

    async def _next_extent(self, extents: AsyncIterator[Any]) -> Any:
        try:
            extent = await anext(extents, None)
        except BaseException as error:
            # A generator through which a cancellation went is at its end: what it had left would be missing.
            if isinstance(extents, AsyncGenerator) and not isinstance(error, Exception):
                self._source.close(UsageError("cancelled while the next extent was waited for"))
            raise
        self._handle.check()
        return extent

    async def _submit(self, offset: int, length: int, enter: Callable[[Request], object]) -> None:
        handle, lane = self._handle, self._lane
        bridge = handle.bridge
        data = bytes(length)  # which librbd fills: nobody else has seen it yet
        request = Request(handle, _FUNCTION, data, self._done, offset, length)
        call = lane.read, lane.pointer, offset, length, data, self._op_flags
        code = bridge.submit(request, *call)
        if code:
            await handle.submit_again(code, request, _FUNCTION, offset, length, *call)
        enter(request)

    def _stop(self) -> None:
        for entry in (*self._row, *self._running):
            if isinstance(entry, Request) and entry.value is None:
                entry.abandon()
        super()._stop()


def _when_done(tell: Callable[[], None], row: "deque[Any] | None", running: set[Request]) -> Callable[[Request], None]:
    """What is done with a read that is over. It does not know the stream: one that is forgotten must be collected."""

    def done(request: Request) -> None:
        if row is not None:
            running.discard(request)
            row.append(request)
        tell()

    return done


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
        slows librbd down. Leaving the loop early, `aclose`, or the end of an ``async with`` block around it gives up
        what librbd has not begun; the rest is counted by `in_flight` until it is done. A wait that is cancelled
        loses nothing: iterate on.

        Args:
            extents: Pairs of offset and length, in bytes, as an iterable or an async iterable; or `Extent` objects,
                so that a diff can be read: ``image.read_extents(image.diff())``. Those that do not exist come as
                chunks without data. None for one range. The next extent is waited for before chunks that are there
                are handed out.
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

    def writer(self, *, depth: int = 16, max_bytes: int = 64 * MIB) -> Writer:
        """Write much, with a bounded number of writes on their way: use what this returns with ``async with``.

        Args:
            depth: How many writes librbd has at once; as many more may wait.
            max_bytes: How many bytes all of them may have; one write that has more goes alone.

        Raises:
            InvalidArgument: `depth` or `max_bytes` is not positive.
            RbdError: A write failed; raised by the next call on the writer, or at the end of the block.

        Implements: rbd_aio_write2, rbd_aio_flush
        """
        handle = self._handle
        _require_positive(handle, ("depth", depth, 1 << 20), ("max_bytes", max_bytes, 1 << 62))
        return Writer(handle, depth, max_bytes)


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
