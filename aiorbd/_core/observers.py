"""Counting of calls and notification of observers. All of this runs on the event loop."""

import logging
import time
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from aiorbd._core.operation import Job, Operation
from aiorbd._native import loader
from aiorbd._native.requests import FUNCTIONS, STALE_BY_NOW
from aiorbd.errors import Target, error_for
from aiorbd.stats import LATENCY_BOUNDS, CompletedOperation, Observer, OperationStats

if TYPE_CHECKING:
    from aiorbd._core.lifecycle import Lifecycle

logger = logging.getLogger("aiorbd")


class Note:
    """The data about one call that the observers get when the call is completed."""

    __slots__ = ("_began", "_context", "_length", "_name", "_started", "_target")

    def __init__(self, name: str, target: str, length: int) -> None:
        self._name = name
        self._target = target
        self._length = length
        self._started = time.time_ns()
        self._began = time.perf_counter_ns()
        self._context: Context = copy_context()

    def tell_result(self, observers: list[Observer], value: int, *, abandoned: bool) -> None:
        """Notify the observers of a completed call with librbd's result `value`."""
        error = error_for(value, self._name, Target("image", self._target)) if value < 0 else None
        self.tell(observers, error, abandoned=abandoned)

    def tell(self, observers: list[Observer], error: BaseException | None, *, abandoned: bool) -> None:
        """Notify the observers of a completed call. Exceptions of an observer are logged."""
        seconds = (time.perf_counter_ns() - self._began) / 1e9
        completed = CompletedOperation(
            self._name, self._target, self._length, self._started, seconds, error, abandoned
        )  # fmt: skip
        for observer in tuple(observers):
            try:
                self._context.copy().run(observer, completed)
            except Exception:
                logger.exception("an observer failed")


class NotedOperation(Operation):
    """A call of librbd's aio functions that the observers are notified of."""

    __slots__ = ("_note",)

    def __init__(self, owner: "Lifecycle", keep: object, name: str, target: str, length: int) -> None:
        super().__init__(owner, keep)
        self._note = Note(name, target, length)

    def settle(self) -> None:
        """Notify the observers, unless librbd did not get the request, which is then submitted again."""
        if self.value != STALE_BY_NOW:
            self._note.tell_result(self.owner.bridge.observers, self.value or 0, abandoned=self.abandoned)


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
