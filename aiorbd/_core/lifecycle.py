"""The states open, closing and closed, which clusters, I/O contexts, images and watches share.

Closing is a state, not a task. A close begins at once and synchronously. The close continues by itself as the last
operation and the last child end. Tasks that await the close only wait. So a cancelled or overdue close still happens.
"""

import enum
import errno
import logging
import weakref
from collections.abc import Callable, Hashable
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

from aiorbd._core.endings import Endings
from aiorbd._core.stream import Source
from aiorbd._native.table import Owner
from aiorbd.error_codes import error_for
from aiorbd.errors import ClosedError, CloseTimeout, ForkedError, RbdError, Target, Timeout, WrongLoopError

if TYPE_CHECKING:
    from aiorbd._core.bridge import Bridge
    from aiorbd._core.operation import Operation

logger = logging.getLogger("aiorbd")


class State(enum.Enum):
    """The state of a handle."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class Place(NamedTuple):
    """Where a call takes place: the pool, the namespace and the image."""

    pool: str | None
    namespace: str
    image: str | None


class _Waiter:
    """A task that waits for a state of a handle."""

    waiter: Any = None


class Lifecycle(Owner):
    """The life of a native object: its operations, its children and its close.

    Attributes:
        in_flight: The number of calls in flight on this handle.
        awaited: The number of tasks that wait for some of the operations in flight. Each completion wakes these tasks.
        waiting: The number of tasks that wait for a state of this handle.
        usable: Whether the handle is open.
        closes_with: The C function that closes the native object, for errors.
    """

    closes_with: str = ""

    in_flight: int
    awaited: int
    waiting: int
    usable: bool

    def __init__(self, bridge: "Bridge", parent: "Lifecycle | None", target: Target) -> None:
        if parent is not None:
            parent.check()
            parent._children.add(self)
        else:
            bridge.root = self
        self.bridge: Bridge = bridge
        #: The target that errors name.
        self.target: Target = target
        #: The C handle; None before the open.
        self.pointer: Any = None
        self.state: State = State.OPEN
        self.usable = True
        self._is_current = bridge.loop.is_current
        #: The time limit for closing, which all handles of one connection share.
        self.endings: Endings = Endings() if parent is None else parent.endings
        #: The group of calls that share a limit on worker threads: those of a pool, or of the cluster's monitors.
        self.group: Hashable = "monitors" if parent is None else parent.group
        self._parent = parent
        self._children: set[Lifecycle] = set()
        self._waiters: list[_Waiter] = []
        self._sources: weakref.WeakSet[Source] = weakref.WeakSet()
        self._shutting = False
        self._shut_failed = False
        #: Whether a parent's close closed this handle, perhaps within the handle's ``async with`` block.
        self.closed_from_above: bool = False
        self._overdue = False
        self._closers = 0
        self._close_error: RbdError | None = None

    def take(self, pointer: Any) -> None:
        """Keep the native object, which is open now. `shut` closes the object. Any thread may call this."""
        self.pointer = pointer

    def place(self) -> Place:
        """Return where the calls of this handle take place, for the observers."""
        return Place(None, "", None) if self._parent is None else self._parent.place()

    def check(self) -> None:
        """Raise if a call must not reach C."""
        if not self.usable or self.bridge.dead or not self._is_current():
            self.check_loop()
            if not self.usable:
                raise ClosedError(f"{self.target} is {self.state.value}")
            raise error_for(-errno.ESHUTDOWN, "", self.target)

    def check_loop(self) -> None:
        """Raise if the caller runs in another event loop, another thread or a forked child."""
        bridge = self.bridge
        if bridge.forked:
            raise ForkedError(f"{self.target} was opened before fork(); connect again in the child process")
        if not bridge.loop.is_current():
            raise WrongLoopError(f"{self.target} belongs to the event loop that connected it, and this is another loop")

    def check_thread(self) -> None:
        """Like `check_loop`, but also admit callbacks of the event loop, such as observers."""
        if self.bridge.forked or get_ident() != self.bridge.loop_thread:
            self.check_loop()

    @property
    def children(self) -> "frozenset[Lifecycle]":
        """The handles that were opened from this handle and are not closed yet."""
        return frozenset(self._children)

    def new_source(self, *, endless: bool) -> Source:
        """Create a source of data. The source ends, at the latest, when this handle begins to close."""
        source = Source(self.bridge.loop, endless=endless)
        self._sources.add(source)
        return source

    def end_sources(self, error: "Callable[[Lifecycle], BaseException]") -> None:
        """End all sources of this handle and of its descendants with an error."""
        for source in tuple(self._sources):
            source.close(error(self))
        for child in tuple(self._children):
            child.end_sources(error)

    # -- waiting -------------------------------------------------------------------------------

    async def wait_until(self, reached: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until a condition holds, at most `timeout` seconds. Return whether the condition holds."""
        with anyio.move_on_after(timeout):
            while not reached():
                waiter = _Waiter()
                self._waiters.append(waiter)
                self.waiting += 1
                try:
                    await self.bridge.loop.park(waiter)
                finally:
                    self.waiting -= 1
                    if waiter in self._waiters:
                        self._waiters.remove(waiter)
        return reached()

    async def wait_while_usable(self, reached: Callable[[], bool]) -> None:
        """Wait until a condition holds.

        Raises:
            ClosedError: The handle was closed meanwhile.
        """
        await self.wait_until(lambda: not self.usable or reached(), None)
        self.check()

    def wake_waiters(self) -> None:
        """Wake all waiting tasks, because their conditions may hold now. Runs on the event loop."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            self.bridge.loop.wake(waiter)

    def on_idle(self) -> None:
        """Wake the waiting tasks, and continue a close. Runs on the event loop.

        Called after the last operation. While tasks wait for some of the operations, called after each operation.
        """
        if self._waiters:
            self.wake_waiters()
        self._advance()

    async def wait_for(self, counts: "Callable[[Operation], bool]", timeout: float | None) -> int:
        """Wait for some of the operations in flight now, and return how many are still in flight.

        `counts` selects the operations. Later operations do not count.
        """
        pending = [operation.pending() for operation in self.bridge.running(self) if counts(operation)]
        self.awaited += 1
        try:
            await self.wait_until(lambda: not any(left() for left in pending), timeout)
        finally:
            self.awaited -= 1
        return sum(left() for left in pending)

    async def drain(self, timeout: float | None) -> None:
        """Wait for the operations that are in flight now."""
        self.check_loop()
        if left := await self.wait_for(lambda _: True, timeout):
            message = f"{left} operations still in flight after {timeout} s"
            raise Timeout(errno.ETIMEDOUT, message, "", str(self.target))

    # -- closing -------------------------------------------------------------------------------

    def begin_close(self) -> None:
        """Refuse new operations, and close as soon as no operation is in flight."""
        if self.state is State.OPEN:
            self.state = State.CLOSING
            self.usable = False
            for source in tuple(self._sources):
                source.close(None if source.endless else ClosedError(f"{self.target} was closed meanwhile"))
            for child in tuple(self._children):
                child.closed_from_above = child.closed_from_above or child.state is State.OPEN
                child.begin_close()
            self.wake_waiters()
            self._advance()

    def _advance(self) -> None:
        if self.state is State.CLOSING and not (self._shutting or self.in_flight or self._children):
            self._shutting = True
            try:
                self.shut()
            except Exception:
                self.shut_failed()
                logger.exception("closing %s failed", self.target)

    def shut_failed(self) -> None:
        """Note that `shut` failed for lack of a thread or of memory.

        Only the next call of `close` tries again.
        """
        self._shut_failed = True

    def _try_again(self) -> None:
        """Repeat a failed `shut` of this handle and of its descendants."""
        for child in tuple(self._children):
            child._try_again()
        if self._shut_failed:
            self._shut_failed = self._shutting = False
        self._advance()

    def shut(self) -> None:
        """Begin to close the native object. `closed` must follow, now or later."""
        raise NotImplementedError

    def closed(self, code: int = 0, operation: str = "") -> None:
        """Note that the native object is gone, even if C reported an error. Runs on the event loop."""
        self.state = State.CLOSED
        self.pointer = None
        logger.debug("closed: %s", self.target)
        if code < 0:
            self._close_error = error_for(code, operation, self.target)
            if not self._closers:  # no task gets the error
                logger.warning("closing in the background: %s", self._close_error)
        self.wake_waiters()
        if self._parent is not None:
            self._parent._children.discard(self)
            self._parent._advance()

    @property
    def is_open_or_closing(self) -> bool:
        """Whether the native object may still exist."""
        return self.state is not State.CLOSED

    def _is_stuck(self) -> bool:
        return any(child._overdue or child._is_stuck() for child in self._children)

    async def close(self, timeout: float | None) -> None:
        """Close, and wait at most `timeout` seconds for the end of the close."""
        if self.state is State.CLOSED:
            return
        self.check_loop()
        self.begin_close()
        self._try_again()
        self._closers += 1
        try:
            closed = await self.wait_until(lambda: self.state is State.CLOSED, timeout)
        finally:
            self._closers -= 1
        if not closed:
            self._overdue = True
            raise CloseTimeout(
                errno.ETIMEDOUT,
                f"not closed after {timeout:.3g} s: {self._held_up_by()}; it closes in the background when they end",
                self.closes_with,
                str(self.target),
            )
        if self._close_error is not None:
            raise self._close_error

    def _held_up_by(self) -> str:
        operations = self.in_flight + sum(child.in_flight for child in self._children)
        return f"{operations} operations in flight, {len(self._children)} handles still open"

    async def make_durable(self) -> None:
        """Make the data that was written through this handle durable."""

    def is_dirty(self) -> bool:
        """Return whether it is unknown if all writes through this handle are durable."""
        return False

    async def leave(self, error: BaseException | None, timeout: float) -> None:
        """Close at the end of ``async with``, within the time limit, even if the task is cancelled.

        Without an error, the written data is made durable first. `Endings` gives the time limit. If an error leaves the
        block, that error stays the raised error, and an error of the close becomes a note on that error.
        """
        endings = self.endings
        bound = 0.0 if self._is_stuck() else endings.allowance(timeout)
        begin = anyio.current_time()
        try:
            with anyio.CancelScope(shield=True):
                await self._flush_and_close(bound, flush=error is None)
        except RbdError as closing:
            if error is None:
                raise
            error.add_note(f"then closing failed: {closing}")
            logger.warning("closing after %s: %s", type(error).__name__, closing)
        finally:
            if self._overdue:
                endings.overdue(self, timeout)
            if bound < timeout:
                endings.took(anyio.current_time() - begin)

    async def _flush_and_close(self, bound: float, *, flush: bool) -> None:
        deadline = anyio.current_time() + bound
        failed: RbdError | None = None
        unknown = flush and self.closed_from_above and self.is_dirty()
        if flush and self.usable:
            with anyio.move_on_after(bound) as scope:
                try:
                    await self.make_durable()
                except ClosedError:  # another task closed the handle meanwhile
                    unknown = self.closed_from_above and self.is_dirty()
                except RbdError as error:
                    failed = error
                except BaseException:  # a cancellation by asyncio: the shield is anyio's
                    self.begin_close()
                    raise
            if scope.cancelled_caught:
                message = f"not flushed after {bound:.3g} s: it is unknown whether the last writes are durable"
                failed = CloseTimeout(errno.ETIMEDOUT, message, "rbd_aio_flush", str(self.target))
        try:
            await self.close(max(0.0, deadline - anyio.current_time()))
        except RbdError as closing:
            if failed is None:
                raise
            failed.add_note(f"then closing failed: {closing}")
        if failed is not None:
            raise failed
        if unknown:
            raise ClosedError(f"{self.target} was closed meanwhile: it is unknown whether the last writes are durable")
