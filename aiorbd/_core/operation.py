"""The entries of the operation table: one for each call that librbd, librados or a worker thread has."""

import errno
import logging
import time
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from aiorbd._native.table import Entry
from aiorbd.error_codes import error_for
from aiorbd.errors import Target

if TYPE_CHECKING:
    from aiorbd._core.lifecycle import Lifecycle

T = TypeVar("T")

logger = logging.getLogger("aiorbd")


class Operation(Entry):
    """A call in flight.

    The entry owns the memory that C reads or writes until C is done, even if no task waits any more.

    Attributes:
        owner: The handle that counts the call as in flight.
        keep: Buffers and out-parameters. They are only kept alive.
        waiter: The event loop's reference to the waiting task; None if no task waits.
        value: C's return value; None while the call is in flight.
        abandoned: Whether the waiting task was cancelled.
        number: The entry's place in the table; 0 if C has not had the request.
    """

    __slots__ = ()

    owner: "Lifecycle"
    keep: object
    waiter: Any
    value: int | None
    abandoned: bool
    number: int

    #: Whether the call ends by itself. `drain` does not wait for other calls.
    ends: bool = True
    #: Whether the call reads, writes or flushes. A shrink or a call that excludes I/O waits for such calls.
    moves_data: bool = True

    def __init__(self, owner: "Lifecycle", keep: object = None) -> None:
        self.owner = owner
        self.keep = keep

    def abandon(self) -> None:
        """Note that the waiting task was cancelled, perhaps just after the completion. Runs on the event loop."""
        self.waiter = None
        self.abandoned = True

    def settle(self) -> None:
        """Act on the completion, before the waiting task is woken. Runs on the event loop.

        C calls this method, except for plain operations.
        """

    def settle_again(self) -> None:
        """Act on the completion again, after an interrupt within `settle`. Runs on the event loop."""

    def uses(self, handle: "Lifecycle") -> bool:
        """Return whether the call also counts as in flight for `handle`."""
        return False

    def pending(self) -> Callable[[], int]:
        """Return a function that counts the calls of this entry that are still in flight.

        Only calls that the entry stands for now count, and only calls that end by themselves.
        """
        return lambda: self.value is None and self.ends

    @property
    def count(self) -> int:
        """The number of calls that this entry stands for."""
        return 1


class Job(Operation, Generic[T]):
    """A blocking function for a worker thread.

    `also` lists further handles that C uses. They count the job as in flight, and so stay open until the job has ended.
    `ended` is called on the event loop when the job has ended, even if no task waits any more.
    """

    __slots__ = (
        "_also", "_ended", "_function", "began", "begun", "error", "group", "name", "note", "on", "result", "token",
    )  # fmt: skip
    #: Whether Python counts the call. The bridge's C side counts the calls that the bridge submits.
    counted_here: bool = True
    moves_data: bool = False

    def __init__(
        self,
        owner: "Lifecycle",
        name: str,
        function: Callable[[], T],
        *,
        on: Target | None = None,
        also: "Iterable[Lifecycle]" = (),
        ended: Callable[[], object] | None = None,
        group: Hashable = None,
    ) -> None:
        super().__init__(owner)
        #: The C function, and the target that errors name.
        self.name: str = name
        self.on: Target = on or owner.target
        #: For the counts and the observers: the creation time in nanoseconds, and the `Note` of the call.
        self.began: int = time.perf_counter_ns()
        self.note: Any = None
        self.begun: bool = False
        self._function = function
        self._also = tuple(handle for handle in also if handle is not owner)
        for handle in self._also:
            handle.check()
        for handle in self._also:
            handle.in_flight += 1
        self._ended = ended
        #: The group of jobs that share a limit on worker threads: see `Workers`.
        self.group: Hashable = group or frozenset(handle.group for handle in (owner, *self._also))
        self.token: int = 0
        self.result: T
        self.error: BaseException | None = None

    def uses(self, handle: "Lifecycle") -> bool:
        """Return whether the job also counts as in flight for `handle`."""
        return handle in self._also

    def run(self) -> bool:
        """Run the function, and return whether the job has ended. Runs on the worker thread.

        A job that was abandoned in the queue does not run.
        """
        if not self.abandoned:
            self.begun = True
            try:
                self.result = self._function()
            except BaseException as error:  # noqa: BLE001 - raised again by the task that waits
                self.error = error
        return True

    def outcome(self) -> BaseException | None:
        """Return the job's error, or None. Runs on the event loop."""
        if not self.begun:
            return error_for(-errno.ECANCELED, self.name, self.on, "cancelled before it began")
        return self.error or self.refusal()

    @property
    def offset(self) -> int | None:
        """Where the job reads or writes in the image; None for a job without a range."""
        return None

    @property
    def length(self) -> int:
        """The number of bytes that the job reads or writes."""
        return 0

    def refusal(self) -> BaseException | None:
        """Return C's error if the worker thread did not raise that error, or None. Runs on the event loop."""
        return None

    def settle(self) -> None:
        """Finish the job, and count the call."""
        self.finish()
        if self.counted_here:
            self.owner.bridge.count(self)

    def finish(self) -> None:
        """Release the other handles after the completion. Runs on the event loop."""
        self.let_go()

    def let_go(self) -> None:
        """Release the other handles and call `ended`. Runs on the event loop.

        The job has ended or was refused, and C uses none of the job's memory.
        """
        for handle in self._also:
            handle.in_flight -= 1
            if not handle.in_flight or handle.awaited:
                handle.on_idle()
        if self._ended is not None:
            self._ended()


#: The group of jobs that the library itself needs to continue. These jobs run first and without a limit.
URGENT: Final = "urgent"


class BackgroundJob(Job[int]):
    """A blocking function that no task awaits. `then` is called with the result, on the event loop."""

    __slots__ = ("_then",)

    def __init__(self, owner: "Lifecycle", name: str, function: Callable[[], int], then: Callable[[int], None]) -> None:
        super().__init__(owner, name, function, group=URGENT)
        self._then = then

    def refusal(self) -> BaseException | None:
        """Return C's return value as an error, or None."""
        return error_for(self.result, self.name, self.on) if self.result < 0 else None

    def finish(self) -> None:
        """Call `then` with C's return value."""
        self.let_go()
        if self.error is not None:  # a defect of aiorbd; `then` must run all the same
            logger.error("a background call failed", exc_info=self.error)
        self._then(self.result if self.error is None else -errno.EIO)


class Probe(BackgroundJob):
    """A question to the cluster. Only an error in the answer matters, and nothing waits for the answer."""

    __slots__ = ()
    ends: bool = False
    counted_here: bool = False
