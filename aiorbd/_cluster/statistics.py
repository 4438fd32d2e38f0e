"""The statistics and observers of a connection."""

from aiorbd._core.handle import Handle
from aiorbd._core.lifecycle import State
from aiorbd._core.observers import Watching
from aiorbd._core.resource import Resource
from aiorbd._native.marshal import require_callable
from aiorbd.errors import ClosedError
from aiorbd.stats import ClusterStats, Observer, StartObserver


class ClusterStatistics(Resource[Handle]):
    """The statistics and observers of a connection. Part of `Cluster`."""

    @property
    def stats(self) -> ClusterStats:
        """The statistics of this connection: the calls in flight, and the counts and durations of completed calls.

        Each access makes a new object, and costs a few microseconds for each operation in flight. A Prometheus
        collector can take the statistics at each scrape. An observer can take them too.

        Raises:
            ClosedError: The connection is closed.
        """
        self._handle.check_thread()
        if self._handle.state is State.CLOSED:
            raise ClosedError(f"{self._handle.target} is closed")
        return self._handle.bridge.stats()

    def add_observer(self, observer: Observer, *, on_start: StartObserver | None = None) -> None:
        """Call `observer` with a `CompletedOperation` at the end of each C call: for spans, histograms or logs.

        The observer runs on the event loop, in the context (`contextvars`) of the task that began the operation. So a
        span finds its parent there. Abandoned operations are reported too, when they end. The observer must not block.
        Exceptions of the observer are logged. With an observer, each call costs some more microseconds.

        Args:
            observer: Called at the end of each call.
            on_start: Called at the start of each call with a `StartedOperation`, in the same way. Each start has one
                end with the same number.
        """
        require_callable(observer, "observer")
        require_callable(on_start, "on_start")
        self._handle.check_thread()
        self._handle.bridge.observers.append(Watching(observer, on_start))

    def remove_observer(self, observer: Observer) -> None:
        """Stop calling `observer`.

        Raises:
            ValueError: `observer` is not an observer of this connection.
        """
        self._handle.check_thread()
        observers = self._handle.bridge.observers
        watching = next((watching for watching in observers if watching.completed == observer), None)
        if watching is None:
            raise ValueError(f"{observer!r} is not an observer of this connection")
        observers.remove(watching)
