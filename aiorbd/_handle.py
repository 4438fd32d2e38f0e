"""Open, closing, closed: the state that clusters, I/O contexts and images share.

A handle stands for one native object. Closing is a state, not a task: it begins at once and
synchronously, goes on by itself as the last operation and the last child end, and whoever awaits it
only waits. So it needs nobody, and a cancelled or overdue close still happens.
"""

import enum
import errno
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from aiorbd import _native
from aiorbd._bridge.operation import Job
from aiorbd.errors import ClosedError, CloseTimeout, ForkedError, RbdError, Subject, Timeout, WrongLoopError, error_for

if TYPE_CHECKING:
    from aiorbd._bridge.bridge import Bridge

T = TypeVar("T")

logger = logging.getLogger("aiorbd")


class State(enum.Enum):
    """Where a handle is in its life."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


_OPEN = State.OPEN


class _Waiter:
    """A task that waits for a handle's state."""

    waiter: Any = None


class Handle:
    """A native object, who uses it, and how it ends."""

    #: What a missing one is called in errors.
    subject: ClassVar[Subject] = "object"

    def __init__(self, bridge: "Bridge", parent: "Handle | None", target: str) -> None:
        if parent is not None:
            parent.check()
            parent._children.add(self)
        self.bridge: Bridge = bridge
        self.target: str = target
        #: The C handle; None before it is open.
        self.pointer: Any = None
        self.state: State = State.OPEN
        self.in_flight: int = 0
        self._is_current = bridge.loop.is_current
        self._parent = parent
        self._children: set[Handle] = set()
        self._waiters: list[_Waiter] = []
        self._shutting = False
        self._overdue = False
        self._close_error: RbdError | None = None

    def take(self, pointer: Any) -> None:
        """Keep the native object, which is open now: to be closed by `shut`. Any thread."""
        self.pointer = pointer

    def check(self) -> None:
        """Refuse a call that must not reach C."""
        if self.state is not _OPEN or self.bridge.forked or not self._is_current():
            self.check_loop()
            raise ClosedError(f"{self.target} is {self.state.value}")

    def check_loop(self) -> None:
        """Refuse a caller from another loop, another thread or a forked child."""
        bridge = self.bridge
        if bridge.forked:
            raise ForkedError(f"{self.target} was opened before fork(); connect again in the child process")
        if not bridge.loop.is_current():
            raise WrongLoopError(f"{self.target} belongs to the event loop that connected it, which is not this one")

    # -- calls ---------------------------------------------------------------------------------

    def raise_for(self, code: int, operation: str, *, subject: Subject | None = None, target: str | None = None) -> int:
        """Return what a C function returned, or raise when it is an error. Any thread."""
        if code < 0:
            raise error_for(code, operation, target or self.target, subject=subject or self.subject)
        return code

    async def run(self, function: Callable[[], T]) -> T:
        """Run a blocking function on a worker thread. Cancellation leaves it running there.

        It is not begun when the task is in a cancelled scope already.
        """
        self.check()
        await checkpoint_if_cancelled()
        return await self.bridge.call(Job(self, function))

    async def call(
        self, function: str, *arguments: Any, subject: Subject | None = None, target: str | None = None
    ) -> int:
        """Call one C function, which blocks and takes this handle first, on a worker thread."""
        c_function = getattr(_native.library_of(function), function)
        return await self.run(
            lambda: self.raise_for(c_function(self.pointer, *arguments), function, subject=subject, target=target)
        )

    async def call_with_progress(
        self,
        function: str,
        *arguments: Any,
        progress: Callable[[int, int], object] | None,
        subject: Subject | None = None,
        target: str | None = None,
    ) -> int:
        """Call one C function like `call`; a progress callback and its argument go last.

        `progress` is called on the loop. When the awaiting task is cancelled, librbd is asked to stop.
        """
        self.check()
        await checkpoint_if_cancelled()
        c_function = getattr(_native.library_of(function), function)
        return await self.bridge.call_with_progress(
            self,
            lambda callback, argument: self.raise_for(
                c_function(self.pointer, *arguments, callback, argument), function, subject=subject, target=target
            ),
            progress,
        )

    # -- waiting -------------------------------------------------------------------------------

    async def _wait_until(self, reached: Callable[[], bool], timeout: float | None) -> bool:
        with anyio.move_on_after(timeout):
            while not reached():
                waiter = _Waiter()
                self._waiters.append(waiter)
                try:
                    await self.bridge.loop.park(waiter)
                finally:
                    if waiter in self._waiters:
                        self._waiters.remove(waiter)
        return reached()

    def _wake_waiters(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            self.bridge.loop.wake(waiter)

    def on_idle(self) -> None:
        """On the loop: the last operation ended."""
        if self._waiters:
            self._wake_waiters()
        self._advance()

    async def drain(self, timeout: float | None) -> None:
        """Wait until nothing is in flight."""
        self.check_loop()
        if not await self._wait_until(lambda: not self.in_flight, timeout):
            message = f"{self.in_flight} operations still in flight after {timeout} s"
            raise Timeout(errno.ETIMEDOUT, message, "drain", self.target)

    # -- closing -------------------------------------------------------------------------------

    def begin_close(self) -> None:
        """Refuse new operations and close as soon as nothing is in flight."""
        if self.state is State.OPEN:
            self.state = State.CLOSING
            for child in tuple(self._children):
                child.begin_close()
            self._advance()

    def _advance(self) -> None:
        if self.state is State.CLOSING and not (self._shutting or self.in_flight or self._children):
            self._shutting = True
            try:
                self.shut()
            except Exception:
                # No thread or no memory: the next call of `close` tries again.
                self._shutting = False
                logger.exception("closing %s failed", self.target)

    def shut(self) -> None:
        """Start to close the native object; `closed` must follow, now or later."""
        raise NotImplementedError

    def closed(self, code: int = 0, operation: str = "") -> None:
        """On the loop: the native object is gone, whatever C thought of it."""
        self.state = State.CLOSED
        self.pointer = None
        if code < 0:
            self._close_error = error_for(code, operation, self.target, subject=self.subject)
            if self._overdue:  # nobody waits for it any more
                logger.warning("closing in the background: %s", self._close_error)
        self._wake_waiters()
        if self._parent is not None:
            self._parent._children.discard(self)
            self._parent._advance()

    def _is_stuck(self) -> bool:
        return any(child._overdue or child._is_stuck() for child in self._children)

    async def close(self, timeout: float | None) -> None:
        """Close and wait for the end, at most `timeout` seconds."""
        if self.state is State.CLOSED:
            return
        self.check_loop()
        self.begin_close()
        self._advance()
        if not await self._wait_until(lambda: self.state is State.CLOSED, timeout):
            self._overdue = True
            raise CloseTimeout(
                errno.ETIMEDOUT,
                f"not closed after {timeout} s: {self._held_up_by()}; it closes in the background when they end",
                "close",
                self.target,
            )
        if self._close_error is not None:
            raise self._close_error

    def _held_up_by(self) -> str:
        operations = self.in_flight + sum(child.in_flight for child in self._children)
        return f"{operations} operations in flight, {len(self._children)} handles still open"

    async def leave(self, error: BaseException | None, timeout: float | None) -> None:
        """Close at the end of ``async with``: within its bound, even when the task is cancelled.

        What used up its time in an inner block is not waited for once more. An error that is on its
        way out is not replaced by one of closing, but noted.
        """
        try:
            with anyio.CancelScope(shield=True):
                await self.close(0 if self._is_stuck() else timeout)
        except RbdError as closing:
            if error is None:
                raise
            error.add_note(f"then closing failed: {closing}")
            logger.warning("closing after %s: %s", type(error).__name__, closing)
