"""Statistics of the calls of one connection."""

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

#: Upper bounds of the buckets of `OperationStats.buckets`, in seconds: 1 us, 2 us, 4 us, ... 67 s, and infinity.
LATENCY_BOUNDS: Final[tuple[float, ...]] = (*(2**n / 1e6 for n in range(27)), math.inf)


@dataclass(frozen=True, slots=True)
class OperationStats:
    """The counts and durations of the calls of one C function.

    Attributes:
        count: The number of completed calls.
        failed: The number of completed calls that failed.
        bytes: The bytes that successful calls read, wrote or discarded.
        seconds: The sum of the durations of all completed calls. A duration is the time from the submit to librbd's
            callback. For a call that needs a worker thread, it is the time from the call to the end of the call.
        buckets: The number of calls in each bucket of durations. `LATENCY_BOUNDS` has the bounds of the buckets. Each
            call is in one bucket only.
    """

    count: int
    failed: int
    bytes: int
    seconds: float
    buckets: tuple[int, ...]

    @property
    def mean(self) -> float:
        """The average duration of a call in seconds; 0.0 if there are no calls."""
        return self.seconds / self.count if self.count else 0.0

    def quantile(self, fraction: float) -> float:
        """Return a bound, in seconds, that this fraction of the calls did not exceed; 0.0 if there are no calls."""
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
    """The result of `Cluster.stats`: the statistics of one connection since the connection was made.

    Attributes:
        in_flight: The number of calls that librbd, librados or a worker thread has now. Abandoned calls and the
            library's own calls count too.
        abandoned: The number of calls in flight without a waiting task, because the task was cancelled.
        queued: The number of calls that wait for a worker thread.
        threads: The number of worker threads, idle threads included.
        wakeups: The number of times that the event loop was woken for completions.
        completions: The number of completions and other events of Ceph that these wake-ups handled.
        bytes_read: The bytes that were read from images.
        bytes_written: The bytes that were written to images, zeroes included.
        operations: The statistics of each C function. Functions that were never called are missing.
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

    def followed_by(self, later: "ClusterStats") -> "ClusterStats":
        """Return the statistics of two connections together, of which this one has ended."""
        operations = dict(later.operations)
        for name, figures in self.operations.items():
            more = operations.get(name)
            operations[name] = figures if more is None else _sum(figures, more)
        return replace(
            later,
            wakeups=self.wakeups + later.wakeups,
            completions=self.completions + later.completions,
            bytes_read=self.bytes_read + later.bytes_read,
            bytes_written=self.bytes_written + later.bytes_written,
            operations=operations,
        )


#: The statistics before the first call.
NO_STATS: Final = ClusterStats(0, 0, 0, 0, 0, 0, 0, 0, {})


def _sum(one: OperationStats, other: OperationStats) -> OperationStats:
    buckets = tuple(map(sum, zip(one.buckets, other.buckets, strict=True)))
    return OperationStats(
        one.count + other.count,
        one.failed + other.failed,
        one.bytes + other.bytes,
        one.seconds + other.seconds,
        buckets,
    )


@dataclass(frozen=True, slots=True)
class StartedOperation:
    """One call that begins, as passed to an `on_start`: see `Cluster.add_observer`.

    Attributes:
        operation: The C function.
        target: The target of the call, as in errors.
        pool: The name of the pool; None for calls of the whole connection.
        namespace: The namespace of the pool; empty for the default namespace.
        image: The name that the image had when it was opened; None for calls on no open image.
        offset: Where a read or write begins in the image, in bytes; None for calls without a range.
        length: The number of bytes to read or write; 0 for calls without a length.
        started: The start of the call in nanoseconds since the epoch, as OpenTelemetry expects.
        number: A number of the call. The `CompletedOperation` of the same call has the same number.
    """

    operation: str
    target: str
    pool: str | None
    namespace: str
    image: str | None
    offset: int | None
    length: int
    started: int
    number: int


@dataclass(frozen=True, slots=True)
class CompletedOperation:
    """One completed call, as passed to an observer: see `Cluster.add_observer`.

    Attributes:
        operation: The C function.
        target: The target of the call, as in errors.
        pool: The name of the pool; None for calls of the whole connection.
        namespace: The namespace of the pool; empty for the default namespace.
        image: The name that the image had when it was opened; None for calls on no open image.
        offset: Where a read or write begins in the image, in bytes; None for calls without a range.
        length: The number of bytes to read or write; 0 for calls without a length.
        started: The start of the call in nanoseconds since the epoch, as OpenTelemetry expects.
        seconds: The duration of the call.
        error: The error of a failed call, or None.
        abandoned: Whether the waiting task was cancelled. Only observers see the outcome of an abandoned call.
        number: A number of the call. The `StartedOperation` of the same call has the same number.
    """

    operation: str
    target: str
    pool: str | None
    namespace: str
    image: str | None
    offset: int | None
    length: int
    started: int
    seconds: float
    error: BaseException | None
    abandoned: bool
    number: int


#: A function that is called on the event loop, in the context (`contextvars`) of the task that began the operation.
Observer: TypeAlias = Callable[[CompletedOperation], object]

#: Like `Observer`, but called at the start of the operation.
StartObserver: TypeAlias = Callable[[StartedOperation], object]
