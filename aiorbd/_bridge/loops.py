"""What the bridge needs of an event loop. The adapters know nothing of librbd."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from aiorbd.errors import WrongLoopError


class Parked(Protocol):
    """What a task waits for: the bridge's operation, seen from the loop's side."""

    #: The loop's own handle on the waiting task; None when nobody waits (any more).
    waiter: Any


class Loop(Protocol):
    """One running event loop."""

    def is_current(self) -> bool:
        """Tell whether the calling code runs in this loop."""
        ...

    def is_gone(self) -> bool:
        """Tell whether the loop ended, so that nobody will ever be woken."""
        ...

    def attach(self, fd: int, on_readable: Callable[[], None]) -> None:
        """Call `on_readable` in the loop whenever the descriptor has something to read."""
        ...

    def detach(self) -> None:
        """Undo `attach`. Safe to call when the loop is gone."""
        ...

    def park(self, parked: Parked) -> Awaitable[None]:
        """Return an awaitable that ends when `wake` is called; cancellation ends it at once."""
        ...

    def wake(self, parked: Parked) -> None:
        """End the wait of a parked task; nothing if it was cancelled meanwhile."""
        ...


def current_loop() -> Loop:
    """Return an adapter for the loop the caller runs in.

    Raises:
        WrongLoopError: No supported event loop is running in this thread.
    """
    # A task of trio's may run on top of asyncio (guest mode): ask trio first.
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        from aiorbd._bridge.loop_trio import TrioLoop

        return TrioLoop()
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise WrongLoopError("no asyncio or trio event loop is running in this thread") from None
    from aiorbd._bridge.loop_asyncio import AsyncioLoop

    return AsyncioLoop()
