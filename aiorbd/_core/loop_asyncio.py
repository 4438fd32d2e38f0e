"""The asyncio adapter, for any event loop that has ``add_reader``: the default loop, uvloop."""

import asyncio
from asyncio import current_task
from collections.abc import Awaitable, Callable
from functools import partial
from threading import get_ident

from anyio.lowlevel import current_token

from aiorbd._core.loops import Parked


class AsyncioLoop:
    """The running asyncio loop. One future for each wait costs least in asyncio."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self._fd = -1
        self.running: Callable[[], object] = partial(current_task, self._loop)
        self.native: object | None = self._loop
        self.checkpoint_if_cancelled: Callable[[], Awaitable[None]] = (
            current_token().backend_class.checkpoint_if_cancelled
        )

    def is_current(self) -> bool:
        """Tell whether the calling code runs in this loop."""
        # In Python 3.11, get_running_loop() makes a system call (getpid), a fifth of the time of a small read.
        return get_ident() == self._thread and current_task(self._loop) is not None

    def attach(self, fd: int, on_readable: Callable[[], bool], after: Callable[[], None]) -> None:
        """Watch the descriptor. The woken tasks run within `on_readable`, so `after` is not needed."""
        self._fd = fd
        self._loop.add_reader(fd, on_readable)

    def detach(self) -> None:
        """Stop watching the descriptor."""
        if not self._loop.is_closed():
            self._loop.remove_reader(self._fd)

    def later(self, seconds: float, callback: Callable[..., object], *arguments: object) -> None:
        """Call `callback` after `seconds`."""
        self._loop.call_later(seconds, callback, *arguments)

    def park(self, parked: Parked) -> "asyncio.Future[None]":
        """Return a future. Cancelling the task cancels the future."""
        parked.waiter = future = self._loop.create_future()
        return future

    def wake(self, parked: Parked) -> None:
        """Complete the future, unless its task was cancelled."""
        if not parked.waiter.done():
            parked.waiter.set_result(None)
