"""The trio adapter."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio
from trio.lowlevel import Abort, RaiseCancelT

from aiorbd._core.loops import Parked


class TrioLoop:
    """The running trio loop. A system task waits for the descriptor."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._scope = trio.CancelScope()
        self.running: Callable[[], object] = self.is_current
        self.native: object | None = None
        self.checkpoint_if_cancelled: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint_if_cancelled

    def is_current(self) -> bool:
        """Tell whether the calling code runs in this loop."""
        try:
            return trio.lowlevel.current_trio_token() is self._token
        except RuntimeError:
            return False

    def attach(self, fd: int, on_readable: Callable[[], bool], after: Callable[[], None]) -> None:
        """Start the system task. The task ends with `detach`, or with the loop."""

        async def watch() -> None:
            with self._scope:
                # `on_readable` may call `detach`, and then the descriptor is closed.
                while not self._scope.cancel_called:
                    await trio.lowlevel.wait_readable(fd)
                    if on_readable():
                        try:
                            # In the next tick, trio runs the woken tasks and this task in any order.
                            await trio.lowlevel.checkpoint()
                            await trio.lowlevel.checkpoint()
                        finally:
                            after()

        trio.lowlevel.spawn_system_task(watch, name="aiorbd completions")

    def detach(self) -> None:
        """End the system task."""
        self._scope.cancel()

    def later(self, seconds: float, callback: Callable[..., object], *arguments: object) -> None:
        """Start a system task that sleeps for `seconds` and then calls `callback`."""

        async def wait() -> None:
            await trio.sleep(seconds)
            callback(*arguments)

        trio.lowlevel.spawn_system_task(wait, name="aiorbd alarm")

    async def park(self, parked: Parked) -> None:
        """Sleep until woken. A cancellation ends the sleep at once."""

        def abort(_raise_cancel: RaiseCancelT) -> Abort:
            parked.waiter = None
            return Abort.SUCCEEDED

        parked.waiter = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    def wake(self, parked: Parked) -> None:
        """Reschedule the task, unless the task was cancelled."""
        waiter: Any = parked.waiter
        if waiter is not None:
            parked.waiter = None
            trio.lowlevel.reschedule(waiter)
