"""What arrives bit by bit: diff extents, updates of an image, notifications, lines of the log.

A `Source` is the loop's side of one such thing: C's records and jobs tell it, one task waits for it. A
`Stream` is what the user iterates over. Nothing but the user holds the stream, so that one that is
forgotten is collected, which stops its source.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Generic, Self, TypeVar

from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from aiorbd._core.loops import Loop
from aiorbd.errors import UsageError

T = TypeVar("T")


def _nothing() -> None:
    """What is to be done to stop a source that needs nothing."""


class Source:
    """News for one waiting task, until it ends. On the loop, but for `stop`."""

    def __init__(self, loop: Loop, *, endless: bool) -> None:
        """What is not `endless` is incomplete when its handle closes before it has ended."""
        self.waiter: Any = None
        #: Tells C that nothing more is wanted. It must be safe to call twice, from any thread.
        self.stop: Callable[[], object] = _nothing
        self.endless: bool = endless
        self.ended: bool = False
        self.error: BaseException | None = None
        self._loop = loop
        self._news = False

    def notify(self) -> None:
        """There is something new."""
        self._news = True
        if self.waiter is not None:  # also when it was told before: an interrupt may have come before the wake-up
            self._loop.wake(self)

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more will come."""
        if not self.ended:
            self.ended = True
            self.error = error
            self.notify()

    def close(self, error: BaseException | None = None) -> None:
        """Stop what fills it, and let whoever iterates come to an end."""
        self.stop()
        self.end(error)

    def fail(self, error: BaseException) -> None:
        """What came is lost: whoever iterates hears of it, also where it has ended already."""
        self.close(error)
        self.error = error

    async def wait(self) -> None:
        """Wait until something is new since the last time, or it has ended."""
        if self.waiter is not None:
            raise UsageError("another task is waiting for the same thing")
        try:
            while not (self._news or self.ended):
                await self._loop.park(self)
        finally:
            self.waiter = None
        self._news = False


class Stream(Generic[T]):
    """An async iterator that C fills. Iterate over it in one task at a time.

    Leaving the loop early, `aclose`, the end of an ``async with`` block around it, or forgetting it stops
    what fills it.
    """

    def __init__(self, source: Source, check: Callable[[], None]) -> None:
        """Private."""
        self._source = source
        self._check = check
        self._batch: deque[T] = deque()
        self._closed = False
        self._stepping = False

    def _take(self) -> Iterable[T]:
        """Return what has arrived and is not in the batch yet, not more than is handled in a millisecond."""
        raise NotImplementedError

    async def _go_on(self) -> None:
        """Before anything is handed out or waited for: begin, or see to it that more comes."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        batch = self._batch
        if batch and not self._closed:
            # Not `popleft`: signal handlers run after a call, and what it returned would be lost.
            item = batch[0]
            del batch[0]
            return item
        self._check()
        await checkpoint_if_cancelled()
        if self._stepping:
            raise UsageError("another task, or what the stream itself takes from, is waiting for the same thing")
        self._stepping = True
        try:
            return await self._next()
        finally:
            self._stepping = False

    async def _next(self) -> T:
        """Fill the batch, which is empty, and take the first of it."""
        batch, source, waited = self._batch, self._source, False
        while not self._closed:
            ended = source.ended  # looked at first: what came before the end is not left behind
            batch.extend(self._take())
            await self._go_on()
            if batch:
                if not waited:  # once a batch: others have their turn, and a cancellation is seen
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
        """Stop. The object or image that it came from stays open."""
        self._stop()
        await checkpoint()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop()

    def _stop(self) -> None:
        self._closed = True
        self._batch.clear()
        self._source.close()

    def __del__(self) -> None:
        # Perhaps on another thread, so the loop's side is left alone. A constructor that failed has no source.
        source: Source | None = getattr(self, "_source", None)
        if source is not None and not source.ended:
            source.stop()
