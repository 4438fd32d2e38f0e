"""Write much data to an image, with a bounded number of writes in flight."""

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import anyio

from aiorbd._image.handle import ImageHandle
from aiorbd._image.request_queue import Request, RequestQueue
from aiorbd._image.requests import LARGEST_IO
from aiorbd._native.loader import bridge_ffi
from aiorbd._native.marshal import number, readable
from aiorbd._native.requests import FUNCTIONS, WRITE, WRITE_ZEROES
from aiorbd.enums import OpFlag
from aiorbd.errors import ClosedError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_WRITE: Final = FUNCTIONS[WRITE]


class Writer:
    """A writer with a bounded number of writes in flight, made by `Image.writer`. Use it with ``async with``.

    `write` returns as soon as there is room for the write, and does not wait for its completion. If a write fails, the
    next call raises the error, or the end of the block does. Only the first error is raised. Overlapping writes have
    no order.

    At the end of the block, the writer waits for the accepted writes, and then refuses new writes. The writer then
    waits for the writes that other tasks started in the meantime, and flushes. Afterwards, every write that returned is
    durable.

    If the block is left with an exception or cancelled, the writes that librbd has received continue, and
    `Image.in_flight` counts them. The other writes are dropped. It is unknown which writes happened.
    """

    def __init__(
        self, handle: ImageHandle, depth: int, max_bytes: int, release: "Callable[[ReadableBuffer], object] | None"
    ) -> None:
        """Private: use `Image.writer`."""
        handle.check()
        self._handle = handle
        self._queue = RequestQueue(handle, depth, self._ended)
        self._window = 2 * depth
        self._max_bytes = max_bytes
        self._release = release or _keep
        self._handing_over = anyio.Lock()
        self._turns: deque[object] = deque()  # the calls of `write` that wait for room, in order
        self._bytes = 0
        self._end = 0  # the end of the furthest write since the last flush
        self._blocked = 0
        self._error: BaseException | None = None
        self._ending = False  # refuses new writes
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self.pending_bytes} bytes to write"
        return f"<aiorbd.Writer: {self._handle.target}, {state}>"

    @property
    def pending_bytes(self) -> int:
        """The number of bytes that were accepted and are not written yet."""
        return sum(request.length for request in self._queue.unfinished() if request.kind == WRITE)

    async def write(self, data: "ReadableBuffer", offset: int, *, op_flags: OpFlag | int = OpFlag.NONE) -> None:
        """Write all of `data` at `offset`, as soon as there is room.

        Do not change `data` until `flush` returns, until the block ends, or until `release` is called with `data`: see
        `Image.writer`. If this call raises, the writer has not accepted `data`.

        Raises:
            PastEndOfImage: The data reaches past the end of the image. Nothing was written.
            RbdError: An earlier write failed.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_aio_write2
        """
        view = readable(data, "data", _WRITE, self._handle.target)
        await self._submit(WRITE, offset, len(view), view, op_flags, data)

    async def write_zeroes(self, offset: int, length: int) -> None:
        """Make a range read as zeroes, as soon as there is room. See `Image.write_zeroes`.

        Raises:
            PastEndOfImage: The range does not lie within the image. Nothing was written.
            RbdError: An earlier write failed.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_aio_write_zeroes
        """
        await self._submit(WRITE_ZEROES, offset, length, None, 0)

    async def flush(self) -> None:
        """Wait for the accepted writes, and make them durable.

        If the call is cancelled, it is unknown which writes are durable.

        Raises:
            RbdError: A write or the flush failed.

        Implements: rbd_aio_flush
        """
        self._check()
        handle = self._handle
        await self._wait_for_writes()
        end, self._end = self._end, 0
        try:
            await handle.durability.flush()
            if end:
                await handle.requests.require_still(_WRITE, 0, end)
        except BaseException:
            self._end = max(end, self._end)
            raise

    async def __aenter__(self) -> Self:
        self._check()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            await self.aclose()
        else:
            self._give_up()

    async def aclose(self) -> None:
        """Wait for the accepted writes, make them durable, and close the writer. Closing twice is allowed.

        If the call is cancelled, it is unknown which writes happened.

        Raises:
            RbdError: A write or the flush failed. The writer is closed all the same.

        Implements: rbd_aio_flush
        """
        if not self._closed:
            try:
                await self._finish()
            finally:
                self._give_up()

    #: `close` is another name of `aclose`.
    close = aclose

    def _give_up(self) -> None:
        """Take no more writes, and drop the writes that librbd has not received."""
        self._ending = self._closed = True
        self._queue.abandon()
        self._handle.wake_waiters()  # other tasks may wait for requests that are now dropped

    async def _finish(self) -> None:
        """Do the work at the end of the block.

        Wait for the accepted writes, and then refuse new writes. Wait for the writes that other tasks started in the
        meantime, and flush.
        """
        self._check()
        await self._wait_for_writes()
        self._ending = True
        self._handle.wake_waiters()
        await self._wait(lambda: not len(self._queue))
        await self.flush()

    async def _wait_for_writes(self) -> None:
        """Wait for the writes that were accepted before this call, not for later writes of other tasks."""
        now = self._queue.unfinished()
        await self._wait(lambda: all(request.is_over for request in now))

    def _check_open(self) -> None:
        if self._ending:
            raise ClosedError(f"the writer of {self._handle.target} accepts no more writes: its block has ended")
        self._check()

    def _check(self) -> None:
        if self._closed:
            raise ClosedError(f"the writer of {self._handle.target} is closed")
        self._handle.check()
        if self._queue.over:  # an interrupt prevented the call of `_ended`
            self._ended()
        if self._error is not None:
            raise self._error

    async def _wait(self, reached: Callable[[], bool]) -> None:
        """Wait until `reached` returns true or a write fails. Submit stale requests again during the wait."""
        stale = self._queue.stale
        self._blocked += 1
        try:
            while not self._closed and (stale or not (reached() or self._error is not None)):
                if stale:
                    async with self._handing_over:
                        self._check()
                        await self._queue.submit_stale()
                await self._handle.wait_until(lambda: bool(self._closed or reached() or self._error or stale), None)
        finally:
            self._blocked -= 1
        self._check()

    async def _wait_for_room(self, length: int) -> None:
        """Wait until there is room for a write. Tasks that already wait for room come first."""
        turns, place = self._turns, object()
        turns.append(place)
        try:
            await self._wait(lambda: self._ending or (turns[0] is place and self._has_room(length)))
        finally:
            turns.remove(place)
            if turns:
                self._handle.wake_waiters()

    def _has_room(self, length: int) -> bool:
        """Tell whether there is room for one more write. A write larger than `max_bytes` goes alone."""
        taken = len(self._queue)
        return taken < self._window and (self._bytes + length <= self._max_bytes or not taken)

    async def _submit(self, kind: int, offset: int, length: int, buffer: Any, flags: int, lent: Any = None) -> None:
        """Hand one request to the queue as soon as there is room."""
        self._check_open()
        queue, handle, function = self._queue, self._handle, FUNCTIONS[kind]
        offset, length = handle.requests.range_of(offset, length)
        flags = number(flags, "op_flags", function, handle.target, bits=31)
        await handle.bridge.loop.checkpoint_if_cancelled()
        data = kind == WRITE
        size = length if data else 0
        if queue.stale or self._turns or not self._has_room(size):
            await self._wait_for_room(size)
        if not await handle.requests.check_change(function, offset, length, largest=LARGEST_IO if data else None):
            if data:  # nothing to write
                self._give_back(lent)
            return
        self._check_open()  # the block may have been left while this call waited
        request = Request(queue, kind, offset, length, flags)
        if data:
            request.keep = buffer
            request.buffer = int(bridge_ffi.cast("uintptr_t", buffer))
            request.lent = lent
        try:
            while code := queue.submit(request):
                await handle.requests.refused(code, function, offset, length)
                self._check_open()
        finally:
            if request.is_taken:  # true even if an interrupt followed the submit
                self._bytes += size
                self._end = max(self._end, offset + length)

    def _ended(self) -> None:
        """Handle completed and stale requests, and wake the waiting calls. Runs on the event loop."""
        over = self._queue.over
        for request in tuple(over):
            value = request.value or 0
            if request.error is not None:
                self._error = self._error or request.error
            elif value < 0 and self._error is None:
                self._error = self._handle.requests.error(
                    value, FUNCTIONS[request.kind], request.offset, request.length
                )
            if request.kind == WRITE:
                self._bytes -= request.length
            del over[request]
            lent, request.lent = request.lent, None
            if lent is not None:
                self._give_back(lent)
        if self._blocked:
            self._handle.wake_waiters()

    def _give_back(self, data: "ReadableBuffer") -> None:
        try:
            self._release(data)
        except Exception as error:  # noqa: BLE001 - the user's error; the next call raises it
            self._error = self._error or error


def _keep(_: "ReadableBuffer") -> None:
    """Do nothing with the buffer, because the user gave no `release`."""
