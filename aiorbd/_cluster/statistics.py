"""The statistics and observers of a connection."""

from aiorbd._core.handle import Handle
from aiorbd._core.lifecycle import State
from aiorbd._core.resource import Resource
from aiorbd.errors import ClosedError
from aiorbd.stats import ClusterStats, Observer


class ClusterStatistics(Resource[Handle]):
    """The statistics and observers of a connection. Part of `Cluster`."""

    def stats(self) -> ClusterStats:
        """Return statistics of this connection: the calls in flight, and the counts and durations of completed calls.

        The call costs a few microseconds for each operation in flight. A Prometheus collector can call this at each
        scrape. An observer can call this too.

        Raises:
            ClosedError: The connection is closed.
        """
        self._handle.check_thread()
        if self._handle.state is State.CLOSED:
            raise ClosedError(f"{self._handle.target} is closed")
        return self._handle.bridge.stats()

    def add_observer(self, observer: Observer) -> None:
        """Call `observer` with a `CompletedOperation` at the end of each C call: for spans, histograms or logs.

        The observer runs on the event loop, in the context (`contextvars`) of the task that began the operation. So a
        span finds its parent there. Abandoned operations are reported too, when they end. The observer must not block.
        Exceptions of the observer are logged. With an observer, each call costs some more microseconds.
        """
        self._handle.check_thread()
        self._handle.bridge.observers.append(observer)

    def remove_observer(self, observer: Observer) -> None:
        """Stop calling `observer`.

        Raises:
            ValueError: `observer` is not an observer of this connection.
        """
        self._handle.check_thread()
        self._handle.bridge.observers.remove(observer)
