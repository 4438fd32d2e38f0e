"""Writing much of an image: a bounded number of writes on their way, whose end somebody waits for."""

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from aiorbd._bridge.lane import Lane, Request
from aiorbd._image_handle import LARGEST_IO, ImageHandle
from aiorbd._marshal import readable
from aiorbd.enums import OpFlag
from aiorbd.errors import ClosedError, RbdError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_WRITE: Final = "rbd_aio_write2"


class Writer:
    """Writes of which a bounded number is on its way. Made by `Image.writer`; use it as an async context manager.

    `write` returns when there was room for the write, not when it is done: the first error of any of them is raised
    by the next call, or at the end of the block. That end waits for all of them and flushes; so does `flush`.
    Where writes overlap, nobody knows which of them wins.

    When the block is left with an exception, or is cancelled, what librbd has begun goes on, as `Image.in_flight`,
    and the rest is given up: which writes happened is unknown.
    """

    def __init__(self, handle: ImageHandle, depth: int, max_bytes: int) -> None:
        """Private: use `Image.writer`."""
        handle.check()
        self._handle = handle
        self._lane = Lane(handle.native, depth)
        self._window = 2 * depth
        self._max_bytes = max_bytes
        self._running: set[Request] = set()
        #: Came to librbd's threads when somebody had changed the image.
        self._late: list[Request] = []
        self._handing_over = anyio.Lock()
        self._bytes = 0
        self._end = 0  # of what was written
        self._blocked = 0
        self._error: BaseException | None = None
        self._closed = False

    @property
    def pending_bytes(self) -> int:
        """How many bytes are on their way."""
        return self._bytes

    async def write(self, data: "ReadableBuffer", offset: int, *, op_flags: OpFlag | int = 0) -> None:
        """Write all of `data` at `offset`, as soon as there is room. It must not change until `flush` or the end.

        Raises:
            PastEndOfImage: It does not fit. It was not written.
            RbdError: An earlier write failed.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_aio_write2
        """
        view = readable(data, "data", _WRITE, self._handle.target)
        await self._submit(_WRITE, self._lane.write, offset, len(view), (view, op_flags))

    async def write_zeroes(self, offset: int, length: int) -> None:
        """Make a range read as zeroes, as soon as there is room: see `Image.write_zeroes`.

        Raises:
            PastEndOfImage: The range does not lie within the image. It was not written.
            RbdError: An earlier write failed.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_aio_write_zeroes
        """
        submit = self._handle.lib.aiorbd_write_zeroes
        await self._submit("rbd_aio_write_zeroes", submit, offset, length, None, 0, 0)

    async def flush(self) -> None:
        """Wait for all that was written, and make it durable. When cancelled, what is durable is unknown.

        Raises:
            RbdError: A write failed, or the flush.

        Implements: rbd_aio_flush
        """
        self._check()
        await self._wait(lambda: not self._running)
        handle = self._handle
        end, self._end = self._end, 0
        try:
            await handle.submit("rbd_aio_flush", handle.lib.aiorbd_flush, handle.native)
            if end:
                await handle.require_still(_WRITE, 0, end)
        except BaseException:
            self._end = max(end, self._end)
            raise

    async def __aenter__(self) -> Self:
        self._check()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self.flush()
        finally:
            self._closed = True
            self._late.clear()
            self._lane.cancel()
            for request in self._running:
                request.abandon()

    def _check(self) -> None:
        if self._closed:
            raise ClosedError(f"the writer of {self._handle.target} is closed")
        self._handle.check()
        if self._error is not None:
            raise self._error

    async def _wait(self, reached: Callable[[], bool]) -> None:
        """Wait for what the end of some write brings."""
        self._blocked += 1
        try:
            while self._late or not (reached() or self._error is not None):
                await self._hand_over_late()
                await self._handle.wait_until(lambda: bool(reached() or self._error or self._late), None)
        finally:
            self._blocked -= 1
        self._check()

    def _has_room(self, length: int) -> bool:
        """Whether one more is within the bounds; what is larger than all of them goes alone."""
        return len(self._running) < self._window and (self._bytes + length <= self._max_bytes or not self._running)

    async def _submit(
        self,
        function: str,
        submit: Callable[..., int],
        offset: int,
        length: int,
        buffer: tuple[Any, int] | None,
        *flags: int,
    ) -> None:
        """Submit one call as soon as there is room. What has a buffer, with its flags, is one of the lane's."""
        self._check()
        await checkpoint_if_cancelled()
        size = 0 if buffer is None else length
        if self._late or not self._has_room(size):
            await self._wait(lambda: self._has_room(size))
        handle = self._handle
        if not await handle.check_range(function, offset, length, largest=LARGEST_IO if size else None):
            return
        self._check()  # the block may have been left while the size was asked for
        request = Request(handle, function, buffer, self._done, offset, length)
        await self._hand_over(request, submit, *(buffer or flags))
        self._bytes += size
        self._end = max(self._end, offset + length)

    async def _hand_over(self, request: Request, submit: Callable[..., int], *rest: Any) -> None:
        handle, offset, length = self._handle, request.offset, request.length
        first = handle.native if request.keep is None else self._lane.pointer
        call = submit, first, offset, length, *rest
        code = handle.bridge.submit(request, *call)
        if code:
            await handle.submit_again(code, request, request.function, offset, length, *call)
        self._running.add(request)

    async def _hand_over_late(self) -> None:
        """What waited while somebody changed the image is submitted once its size is known."""
        async with self._handing_over:
            while self._late:
                self._check()
                late = self._late[-1]
                try:
                    await self._handle.check_range(_WRITE, late.offset, late.length)
                    self._check()
                    request = Request(self._handle, _WRITE, late.keep, self._done, late.offset, late.length)
                    await self._hand_over(request, self._lane.write, *late.keep)  # type: ignore[misc]
                except RbdError as error:
                    self._late.clear()
                    self._error = self._error or error
                    raise
                if late in self._late:  # a block that was left meanwhile has given it up
                    self._late.remove(late)

    def _done(self, request: Request) -> None:
        """On the loop: librbd is done with one, or never got it."""
        self._running.discard(request)
        value = request.value or 0
        if value == self._lane.stale:
            self._late.append(request)
        else:
            self._bytes -= request.length if request.keep is not None else 0
            if value < 0 and self._error is None and not self._closed:
                try:
                    self._handle.fail(value, request.function, request.offset, request.length)
                except RbdError as error:
                    self._error = error
        if self._blocked:
            self._handle.wake_waiters()
