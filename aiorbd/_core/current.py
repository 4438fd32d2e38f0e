"""Which event loop is running."""

import asyncio
import sys

from aiorbd._core.loop_asyncio import AsyncioLoop
from aiorbd._core.loops import Loop
from aiorbd.errors import WrongLoopError


def current_loop() -> Loop:
    """Return an adapter for the loop the caller runs in.

    Raises:
        WrongLoopError: No supported event loop is running in this thread.
    """
    # A task of trio's may run on top of asyncio (guest mode): ask trio first, if anybody imported it.
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        from aiorbd._core.loop_trio import TrioLoop  # noqa: PLC0415 - trio may not be installed

        return TrioLoop()
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise WrongLoopError("no asyncio or trio event loop is running in this thread") from None
    return AsyncioLoop()
