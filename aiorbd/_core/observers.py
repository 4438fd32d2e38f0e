"""Counting of calls and notification of observers. All of this runs on the event loop."""

import itertools
import logging
import time
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiorbd._core.operation import Job, Operation
from aiorbd._native import loader
from aiorbd._native.requests import FUNCTIONS, STALE_BY_NOW
from aiorbd.error_codes import error_for
from aiorbd.errors import Target
from aiorbd.stats import LATENCY_BOUNDS, CompletedOperation, Observer, OperationStats, StartedOperation, StartObserver

if TYPE_CHECKING:
    from aiorbd._core.lifecycle import Lifecycle

logger = logging.getLogger("aiorbd")

#: The source of the numbers of observed calls.
_numbers: Final = itertools.count(1)


class Watching(NamedTuple):
    """The functions of one observer."""

    completed: Observer
    started: StartObserver | None


class Note:
    """One call that the observers are notified of. The call begins when the note is created."""

    __slots__ = ("_began", "_context", "_observers", "_start", "_told")

    def __init__(
        self,
        observers: list[Watching],
        name: str,
        target: str,
        owner: "Lifecycle",
        offset: int | None = None,
        length: int = 0,
    ) -> None:
        self._observers = observers
        self._context: Context = copy_context()
        place = owner.place()
        self._start = StartedOperation(name, target, *place, offset, length, time.time_ns(), next(_numbers))
        for observer in tuple(observers):
            if observer.started is not None:
                self._notify(observer.started, self._start)
        self._began = time.perf_counter_ns()
        self._told = False

    def tell_result(self, value: int, *, abandoned: bool) -> None:
        """Notify the observers of the end of the call, with librbd's result `value`."""
        start = self._start
        error = error_for(value, start.operation, Target("image", start.target)) if value < 0 else None
        self.tell(error, abandoned=abandoned)

    def tell(self, error: BaseException | None, *, abandoned: bool) -> None:
        """Notify the observers of the end of the call, once."""
        if self._told:
            return
        self._told = True
        seconds = (time.perf_counter_ns() - self._began) / 1e9
        start = self._start
        completed = CompletedOperation(
            start.operation,
            start.target,
            start.pool,
            start.namespace,
            start.image,
            start.offset,
            start.length,
            start.started,
            seconds,
            error,
            abandoned,
            start.number,
        )
        for observer in tuple(self._observers):
            self._notify(observer.completed, completed)

    def _notify(self, observer: Callable[[Any], object], event: object) -> None:
        """Call an observer's function. Exceptions of the function are logged."""
        try:
            self._context.copy().run(observer, event)
        except Exception:
            logger.exception("an observer failed")


class NotedOperation(Operation):
    """A call of librbd's aio functions that the observers are notified of."""

    __slots__ = ("_note",)

    def __init__(self, owner: "Lifecycle", keep: object, note: Note) -> None:
        super().__init__(owner, keep)
        self._note = note

    def settle(self) -> None:
        """Notify the observers, unless librbd did not get the request, which is then submitted again."""
        if self.value != STALE_BY_NOW:
            self._note.tell_result(self.value or 0, abandoned=self.abandoned)


class Tally:
    """The counts of calls that need a worker thread.

    The bridge's C side counts all other calls.
    """

    def __init__(self) -> None:
        self._counts: dict[str, list[Any]] = {}

    def add(self, job: Job[Any]) -> BaseException | None:
        """Count a completed job, and return the job's error."""
        error = job.outcome()
        elapsed = time.perf_counter_ns() - job.began
        entry = self._counts.setdefault(job.name, [0, 0, 0, [0] * len(LATENCY_BOUNDS)])
        entry[0] += 1
        entry[1] += error is not None
        entry[2] += elapsed
        entry[3][min((elapsed // 1000).bit_length(), len(LATENCY_BOUNDS) - 1)] += 1
        return error

    def read(self, queue: Any) -> dict[str, OperationStats]:
        """Return the statistics of all calls."""
        lib, ffi = loader.bridge(), loader.bridge_ffi
        counts = ffi.new("aiorbd_counts *")
        found = {
            name: OperationStats(count, failed, 0, elapsed / 1e9, tuple(buckets))
            for name, (count, failed, elapsed, buckets) in self._counts.items()
        }
        for kind, name in FUNCTIONS.items():
            lib.aiorbd_bridge_counts(queue, kind, counts)
            if counts.done:
                found[name] = OperationStats(
                    counts.done, counts.failed, counts.bytes, counts.nanoseconds / 1e9, tuple(counts.buckets)
                )
        return found
