"""Async iterators over data that arrives in parts: diff extents, updates of an image, notifications, log lines.

A `Source` is the event loop's side of an iterator: C's records and jobs notify the source, and one task waits for it. A
`Stream` is the iterator that the user gets. Only the user holds a reference to the stream. So a forgotten stream is
garbage-collected, which stops its source.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Generic, Self, TypeVar

from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from aiorbd._core.loops import Loop
from aiorbd.errors import UsageError

T = TypeVar("T")


def _nothing() -> None:
    """Do nothing, for a source that needs no stop."""


class Source:
    """The notifications for one waiting task, until the source ends. Only `stop` may run outside the event loop."""

    def __init__(self, loop: Loop, *, endless: bool) -> None:
        """Create a source.

        A source that is not `endless` is incomplete if its handle closes before the source has ended.
        """
        self.waiter: Any = None
        #: Tells C to send no more data. Any thread may call this function, even twice.
        self.stop: Callable[[], object] = _nothing
        self.endless: bool = endless
        self.ended: bool = False
        self.error: BaseException | None = None
        self._loop = loop
        self._news = False

    def notify(self) -> None:
        """Note that new data has arrived, and wake the waiting task."""
        self._news = True
        if self.waiter is not None:  # even after an earlier `notify`: an interrupt may have prevented the wake-up
            self._loop.wake(self)

    def end(self, error: BaseException | None = None) -> None:
        """End the source, because no more data will come."""
        if not self.ended:
            self.ended = True
            self.error = error
            self.notify()

    def close(self, error: BaseException | None = None) -> None:
        """Stop the producer, and end the iteration."""
        self.stop()
        self.end(error)

    def fail(self, error: BaseException) -> None:
        """Close the source, because data is lost. The iterating task gets the error even after the end."""
        self.close(error)
        self.error = error

    async def wait(self) -> None:
        """Wait until data has arrived since the last wait, or the source has ended."""
        if self.waiter is not None:
            raise UsageError("another task already waits for this")
        try:
            while not (self._news or self.ended):
                await self._loop.park(self)
        finally:
            self.waiter = None
        self._news = False


class Stream(Generic[T]):
    """An async iterator that C fills. Only one task at a time may iterate over a stream.

    `aclose`, the end of an ``async with`` block around the stream, and the loss of the last reference to the stream
    stop the producer. So does leaving the loop early, unless a variable still refers to the stream.
    """

    def __init__(self, source: Source, check: Callable[[], None]) -> None:
        """Private."""
        self._source = source
        self._check = check
        self._batch: deque[T] = deque()
        self._closed = False
        self._stepping = False

    def _take(self) -> Iterable[T]:
        """Return the data that has arrived since the last call.

        Return at most as much data as the event loop handles in a millisecond.
        """
        raise NotImplementedError

    async def _go_on(self) -> None:
        """Start the producer, or make sure that more data comes.

        Called before the stream returns an item or waits.
        """

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        batch = self._batch
        if batch and not self._closed:
            # Not `popleft`: a signal handler may raise after that call, and the returned item would be lost.
            item = batch[0]
            del batch[0]
            return item
        self._check()
        await checkpoint_if_cancelled()
        if self._stepping:
            raise UsageError("another task iterates over this stream, or the stream's own extents do")
        self._stepping = True
        try:
            return await self._next()
        finally:
            self._stepping = False

    async def _next(self) -> T:
        """Fill the empty batch, and return the first item."""
        batch, source, waited = self._batch, self._source, False
        while not self._closed:
            ended = source.ended  # read before `_take`, so that no data before the end is lost
            batch.extend(self._take())
            await self._go_on()
            if batch:
                if not waited:  # once for each batch: other tasks run, and a cancellation takes effect
                    await checkpoint()
                item = batch[0]
                del batch[0]
                return item
            if ended:
                break
            await source.wait()
            waited = True
        self._closed = True
        if source.error is not None:
            error, source.error = source.error, None
            raise error
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Stop the stream. The object or image behind the stream stays open."""
        self._stop()
        await checkpoint()

    #: `close` is another name of `aclose`.
    close = aclose

    @property
    def _state(self) -> str:
        return "ended" if self._closed else "open"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop()

    def _stop(self) -> None:
        self._closed = True
        self._batch.clear()
        self._source.close()

    def __del__(self) -> None:
        # May run on another thread, so use only `stop`. After a failed constructor, there is no source.
        source: Source | None = getattr(self, "_source", None)
        if source is not None and not source.ended:
            source.stop()
