"""The choice of an adapter for the running event loop."""

import asyncio
import sys

from aiorbd._core.loop_asyncio import AsyncioLoop
from aiorbd._core.loops import Loop
from aiorbd.errors import WrongLoopError


def current_loop() -> Loop:
    """Return an adapter for the event loop that runs the caller.

    Raises:
        WrongLoopError: No supported event loop is running in this thread.
    """
    # A trio task may run on top of asyncio (guest mode). So ask trio first, if trio is imported.
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        from aiorbd._core.loop_trio import TrioLoop  # noqa: PLC0415 - trio may not be installed

        return TrioLoop()
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise WrongLoopError("no asyncio or trio event loop is running in this thread") from None
    return AsyncioLoop()
