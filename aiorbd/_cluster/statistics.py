"""Seeing inside a connection: figures, observers, whether the cluster still knows it."""

from aiorbd._core.handle import Handle
from aiorbd._core.lifecycle import State
from aiorbd._core.resource import Resource
from aiorbd.errors import ClosedError
from aiorbd.stats import ClusterStats, Observer


class ClusterStatistics(Resource[Handle]):
    """What a connection tells of itself: part of `Cluster`."""

    def stats(self) -> ClusterStats:
        """Return figures: what is in flight, and what was done how often and how fast.

        It costs a few microseconds for each operation in flight. What a Prometheus collector exports can be read
        from here at each scrape, and also within an observer.

        Raises:
            ClosedError: The connection is closed.
        """
        self._handle.check_thread()
        if self._handle.state is State.CLOSED:
            raise ClosedError(f"{self._handle.target} is closed")
        return self._handle.bridge.stats()

    def add_observer(self, observer: Observer) -> None:
        """Call `observer` with a `CompletedOperation` whenever a call of C's is over: for spans, histograms, logs.

        It is called on the event loop, in the context (`contextvars`) of the task that began the operation, so
        that a span's parent is found there, and also for what was abandoned, when that ends at last. It must not
        block; what it raises is logged. Each call costs some microseconds then.
        """
        self._handle.check_thread()
        self._handle.bridge.observers.append(observer)

    def remove_observer(self, observer: Observer) -> None:
        """Call `observer` no more.

        Raises:
            ValueError: It is none.
        """
        self._handle.check_thread()
        self._handle.bridge.observers.remove(observer)
