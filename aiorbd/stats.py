"""What a connection has done and is doing, in figures."""

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

#: Upper bounds of the buckets of `OperationStats.buckets`, in seconds: 1 us, 2 us, 4 us, ... 67 s, and the rest.
LATENCY_BOUNDS: Final[tuple[float, ...]] = (*(2**n / 1e6 for n in range(27)), math.inf)


@dataclass(frozen=True, slots=True)
class OperationStats:
    """How often one C function was called, and how long it took.

    Attributes:
        count: How many calls are over.
        failed: How many of them with an error.
        bytes: What those without one read, wrote, or gave up.
        seconds: How long all of them took together: from the submit to librbd's callback, or, of calls that
            need a thread, from the call to its end.
        buckets: How many took how long, by the bounds in `LATENCY_BOUNDS`; each in one bucket only.
    """

    count: int
    failed: int
    bytes: int
    seconds: float
    buckets: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Seconds a call took on average; 0.0 without any."""
        return self.seconds / self.count if self.count else 0.0

    def quantile(self, fraction: float) -> float:
        """Return a bound, in seconds, that this fraction of the calls kept; 0.0 without any call."""
        if not isinstance(fraction, numbers.Real):
            raise TypeError(f"fraction must be a number, not {type(fraction).__name__}")
        seen, wanted = 0, fraction * sum(self.buckets)
        for bound, count in zip(LATENCY_BOUNDS, self.buckets, strict=True):
            seen += count
            if seen and seen >= wanted:
                return bound
        return 0.0


@dataclass(frozen=True, slots=True)
class ClusterStats:
    """What `Cluster.stats` returns: of one connection, since it was made.

    Attributes:
        in_flight: Calls that librbd, librados or a thread has now, abandoned ones and the library's own counted.
        abandoned: Those among them whose task was cancelled.
        queued: Calls that wait for a thread.
        threads: Worker threads, idle ones counted.
        wakeups: How often the event loop was woken for completions.
        completions: How many completions, and other news of Ceph's, those wake-ups took.
        bytes_read: What was read from images.
        bytes_written: What was written to images, zeroes counted.
        operations: Figures by C function; what was never called is missing.
    """

    in_flight: int
    abandoned: int
    queued: int
    threads: int
    wakeups: int
    completions: int
    bytes_read: int
    bytes_written: int
    operations: Mapping[str, OperationStats]


@dataclass(frozen=True, slots=True)
class CompletedOperation:
    """What an observer is told of one call that is over: see `Cluster.add_observer`.

    Attributes:
        operation: The C function.
        target: What it was done to, as in errors.
        length: Bytes to be read or written; 0 for what has no length.
        started: When it was begun, in nanoseconds since the epoch, as OpenTelemetry takes it.
        seconds: How long it took.
        error: What it failed with, or None.
        abandoned: Whether the task that waited for it was cancelled: nobody else hears of the outcome.
    """

    operation: str
    target: str
    length: int
    started: int
    seconds: float
    error: BaseException | None
    abandoned: bool


#: Called on the event loop, in the context (`contextvars`) of the task that began the operation.
Observer: TypeAlias = Callable[[CompletedOperation], object]
