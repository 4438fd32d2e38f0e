"""The interface of event loops for the bridge. The adapters do not depend on librbd."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol


class Parked(Protocol):
    """An object that a task waits for, such as an operation of the bridge."""

    #: The event loop's reference to the waiting task; None if no task waits (any more).
    waiter: Any


class Loop(Protocol):
    """One running event loop."""

    #: Returns a true value inside a task of this event loop. Only the loop's thread may call this function.
    running: Callable[[], object]

    #: anyio's function of that name, for this kind of event loop. anyio's function for all kinds finds the kind at each
    #: call, which takes a tenth of the CPU of a small write.
    checkpoint_if_cancelled: Callable[[], Awaitable[None]]

    #: The asyncio loop, if its tasks can await an entry of the table directly. None if the tasks must `park`.
    native: object | None

    def is_current(self) -> bool:
        """Tell whether the calling code runs in this loop."""
        ...

    def attach(self, fd: int, on_readable: Callable[[], bool], after: Callable[[], None]) -> None:
        """Call `on_readable` in the event loop whenever the descriptor is readable.

        If `on_readable` returns true, call `after` once the woken tasks have run.
        """
        ...

    def detach(self) -> None:
        """Undo `attach`. This is safe even after the event loop has ended."""
        ...

    def later(self, seconds: float, callback: Callable[..., object], *arguments: object) -> None:
        """Call `callback` in the event loop after `seconds`, unless the loop ends before."""
        ...

    def park(self, parked: Parked) -> Awaitable[None]:
        """Return an awaitable that ends when `wake` is called. Cancellation ends the awaitable at once."""
        ...

    def wake(self, parked: Parked) -> None:
        """End the wait of a parked task. Do nothing if the task was cancelled meanwhile."""
        ...
