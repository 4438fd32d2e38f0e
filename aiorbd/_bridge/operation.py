"""What the operation table holds: one entry for each call that librbd or a worker thread has."""

import errno
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from aiorbd._handle import Handle

T = TypeVar("T")

logger = logging.getLogger("aiorbd")


class Operation:
    """A call in flight. It owns what C reads or writes until C is done, whoever still waits.

    Attributes:
        owner: The handle that counts it as in flight.
        keep: Buffers and out-parameters; only held, never looked at.
        waiter: The loop's handle on the waiting task, None when nobody waits.
        value: What C returned; None while it runs.
        abandoned: The task that waited was cancelled.
    """

    __slots__ = ("abandoned", "keep", "owner", "value", "waiter")

    #: Whether `settle` has anything to do; spares the hot path a call.
    settles: bool = False

    def __init__(self, owner: "Handle", keep: object = None) -> None:
        self.owner: Handle = owner
        self.keep: object = keep
        self.waiter: Any = None
        self.value: int | None = None
        self.abandoned: bool = False

    def abandon(self) -> None:
        """On the loop: the task that waited was cancelled, perhaps just after completion."""
        self.waiter = None
        self.abandoned = True

    def settle(self) -> None:
        """On the loop, at completion, before the task that waits is woken."""


class Step(Operation):
    """A call that nobody awaits: what it leads to is a function."""

    __slots__ = ("_then",)
    settles: bool = True

    def __init__(self, owner: "Handle", then: Callable[[int], None], keep: object = None) -> None:
        super().__init__(owner, keep)
        self._then = then

    def settle(self) -> None:
        """Go on with what C returned."""
        self._then(self.value or 0)


class Job(Operation, Generic[T]):
    """A function that blocks, for a worker thread."""

    __slots__ = ("_function", "error", "result", "token")

    def __init__(self, owner: "Handle", function: Callable[[], T]) -> None:
        super().__init__(owner)
        self._function = function
        self.token: int = 0
        self.result: T
        self.error: BaseException | None = None

    def run(self) -> None:
        """On the worker thread. What was abandoned while it queued is not begun."""
        if self.abandoned:
            return
        try:
            self.result = self._function()
        except BaseException as error:  # noqa: BLE001 - raised again by the task that waits
            self.error = error


class BackgroundJob(Job[int]):
    """A function that blocks and that nobody awaits: what it leads to is a function."""

    __slots__ = ("_then",)
    settles: bool = True

    def __init__(self, owner: "Handle", function: Callable[[], int], then: Callable[[int], None]) -> None:
        super().__init__(owner, function)
        self._then = then

    def settle(self) -> None:
        """Go on with what C returned."""
        if self.error is not None:  # a defect of ours; what waits for this must go on all the same
            logger.error("a background call failed", exc_info=self.error)
        self._then(self.result if self.error is None else -errno.EIO)


class ProgressJob(Job[T]):
    """A function that blocks, reports how far it is, and may be asked to stop.

    `attach` gives it a slot of the bridge's; reports reach `report` on the loop.
    """

    __slots__ = ("_progress", "_release", "_seen", "_stop", "failure", "read")
    settles: bool = True

    def __init__(
        self,
        owner: "Handle",
        function: Callable[[], T],
        progress: Callable[[int, int], object] | None,
        *,
        read: Callable[[], tuple[int, int]],
        stop: Callable[[], None],
        release: Callable[[], None],
    ) -> None:
        super().__init__(owner, function)
        self._progress = progress
        self._seen = (-1, 0)
        self.read: Callable[[], tuple[int, int]] = read
        self._stop = stop
        self._release = release
        #: What the user's function raised: the call is stopped and this is raised in the end.
        self.failure: BaseException | None = None

    def report(self) -> None:
        """On the loop: librbd said something since the last time."""
        done, total = self.read()
        if done > self._seen[0]:
            self._tell(done, total)

    def _tell(self, done: int, total: int) -> None:
        self._seen = done, total
        if self._progress is None or self.abandoned or self.failure is not None:
            return
        try:
            self._progress(done, total)
        except BaseException as error:  # noqa: BLE001 - raised again by the task that waits
            self.failure = error
            self._stop()

    def abandon(self) -> None:
        """Ask librbd to stop, where it can."""
        super().abandon()
        if self.value is None:
            self._stop()

    def settle(self) -> None:
        """Report the end, then give the slot back."""
        done, total = self._seen
        if self.error is None and 0 <= done < total:
            self._tell(total, total)
        self._release()
