"""What the operation table holds: one entry for each call that librbd, librados or a worker thread has."""

import errno
import logging
import time
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from aiorbd._native.table import Entry
from aiorbd.errors import Target, error_for

if TYPE_CHECKING:
    from aiorbd._core.lifecycle import Lifecycle

T = TypeVar("T")

logger = logging.getLogger("aiorbd")


class Operation(Entry):
    """A call in flight. It owns what C reads or writes until C is done, whoever still waits.

    Attributes:
        owner: The handle that counts it as in flight.
        keep: Buffers and out-parameters; only held, never looked at.
        waiter: The loop's handle on the waiting task, None when nobody waits.
        value: What C returned; None while it runs.
        abandoned: The task that waited was cancelled.
        number: The entry's place in the table; 0 when C has not had the request.
    """

    __slots__ = ()

    owner: "Lifecycle"
    keep: object
    waiter: Any
    value: int | None
    abandoned: bool
    number: int

    #: Whether it comes to its end by itself.
    ends: bool = True
    #: Whether it reads, writes or flushes, so that a shrink or an excluding call waits for it.
    moves_data: bool = True

    def __init__(self, owner: "Lifecycle", keep: object = None) -> None:
        self.owner = owner
        self.keep = keep

    def abandon(self) -> None:
        """On the loop: the task that waited was cancelled, perhaps just after completion."""
        self.waiter = None
        self.abandoned = True

    def settle(self) -> None:
        """On the loop, at completion, before the waiting task is woken. C calls this, except for plain operations."""

    def settle_again(self) -> None:
        """On the loop: an interrupt came within `settle`."""

    def uses(self, handle: "Lifecycle") -> bool:
        """Tell whether it counts for that handle as well."""
        return False

    def pending(self) -> Callable[[], int]:
        """Return what tells how many of the calls that it stands for now are not over, and will be."""
        return lambda: self.value is None and self.ends

    @property
    def count(self) -> int:
        """How many calls it stands for."""
        return 1


class Job(Operation, Generic[T]):
    """A function that blocks, for a worker thread.

    `also` are handles that C uses as well: they count it as in flight, and so stay open until it is over.
    `ended` is called on the loop when it is over, whether a task still waits or not.
    """

    __slots__ = (
        "_also", "_ended", "_function", "began", "begun", "error", "group", "name", "note", "on", "result", "token",
    )  # fmt: skip
    #: Whether Python counts the call. The bridge's C side counts what it submits.
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
        #: The C function, and what it is about.
        self.name: str = name
        self.on: Target = on or owner.target
        #: For who counts and observes: when it was made, in nanoseconds, and what is to be told.
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
        #: What shares the bound on threads with it: see `Workers`.
        self.group: Hashable = group or frozenset(handle.group for handle in (owner, *self._also))
        self.token: int = 0
        self.result: T
        self.error: BaseException | None = None

    def uses(self, handle: "Lifecycle") -> bool:
        """Tell whether it counts for that handle as well."""
        return handle in self._also

    def run(self) -> bool:
        """On the worker thread; return whether it is over. What was abandoned while it queued is not begun."""
        if not self.abandoned:
            self.begun = True
            try:
                self.result = self._function()
            except BaseException as error:  # noqa: BLE001 - raised again by the task that waits
                self.error = error
        return True

    def outcome(self) -> BaseException | None:
        """On the loop: what it failed with."""
        if not self.begun:
            return error_for(-errno.ECANCELED, self.name, self.on, "given up before it was begun")
        return self.error or self.refusal()

    @property
    def length(self) -> int:
        """How many bytes it reads or writes."""
        return 0

    def refusal(self) -> BaseException | None:
        """On the loop: what C answered, where that is not raised on the thread."""
        return None

    def settle(self) -> None:
        """Finish the call, and count it."""
        self.finish()
        if self.counted_here:
            self.owner.bridge.count(self)

    def finish(self) -> None:
        """On the loop, at completion: let the other handles go."""
        self.let_go()

    def let_go(self) -> None:
        """On the loop: it is over, or was refused, and C uses nothing of it."""
        for handle in self._also:
            handle.in_flight -= 1
            if not handle.in_flight or handle.awaited:
                handle.on_idle()
        if self._ended is not None:
            self._ended()


#: The group of what the library itself needs to go on: it runs first, and no bound holds it up.
URGENT: Final = "urgent"


class BackgroundJob(Job[int]):
    """A function that blocks and that nobody awaits: what it leads to is a function."""

    __slots__ = ("_then",)

    def __init__(self, owner: "Lifecycle", name: str, function: Callable[[], int], then: Callable[[int], None]) -> None:
        super().__init__(owner, name, function, group=URGENT)
        self._then = then

    def refusal(self) -> BaseException | None:
        """What C returned, as an error."""
        return error_for(self.result, self.name, self.on) if self.result < 0 else None

    def finish(self) -> None:
        """Go on with what C returned."""
        self.let_go()
        if self.error is not None:  # a defect of ours; what waits for this must go on all the same
            logger.error("a background call failed", exc_info=self.error)
        self._then(self.result if self.error is None else -errno.EIO)


class Probe(BackgroundJob):
    """A question whose answer only matters when it is an error: nothing waits for it."""

    __slots__ = ()
    ends: bool = False
    counted_here: bool = False
