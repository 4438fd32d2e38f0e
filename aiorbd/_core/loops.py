"""What the bridge needs of an event loop. The adapters know nothing of librbd."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol


class Parked(Protocol):
    """What a task waits for: the bridge's operation, seen from the loop's side."""

    #: The loop's own handle on the waiting task; None when nobody waits (any more).
    waiter: Any


class Loop(Protocol):
    """One running event loop."""

    #: Returns something true in this loop's own tasks, where the thread is known to be its own.
    running: Callable[[], object]

    #: anyio's function of that name, of this kind of loop. The one that all kinds share asks each time which it is:
    #: that takes a tenth of the CPU of a small write.
    checkpoint_if_cancelled: Callable[[], Awaitable[None]]

    #: asyncio's loop, whose tasks can await an entry of the table itself; None: they park.
    native: object | None

    def is_current(self) -> bool:
        """Tell whether the calling code runs in this loop."""
        ...

    def attach(self, fd: int, on_readable: Callable[[], bool], after: Callable[[], None]) -> None:
        """Call `on_readable` in the loop whenever the descriptor has something to read.

        When it returns true, call `after` once the tasks that it woke have run.
        """
        ...

    def detach(self) -> None:
        """Undo `attach`. Safe to call when the loop is gone."""
        ...

    def later(self, seconds: float, callback: Callable[..., object], *arguments: object) -> None:
        """Call it in the loop after a while, unless the loop ends before."""
        ...

    def park(self, parked: Parked) -> Awaitable[None]:
        """Return an awaitable that ends when `wake` is called; cancellation ends it at once."""
        ...

    def wake(self, parked: Parked) -> None:
        """End the wait of a parked task; nothing if it was cancelled meanwhile."""
        ...
