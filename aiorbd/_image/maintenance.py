"""Calls that may shrink an open image: nothing shrinks under a write."""

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aiorbd._core.progress import Progress
from aiorbd._native.loader import ffi, rbd
from aiorbd.errors import Target

if TYPE_CHECKING:
    from aiorbd._image.handle import ImageHandle
    from aiorbd._native.c_functions import CFunction

#: Seconds for which librbd is given time to take the size of a shrink that failed back.
PATIENCE: Final = 1.0


class Maintenance:
    """The calls that may end with a smaller image."""

    def __init__(self, handle: "ImageHandle") -> None:
        self._handle = handle

    async def wait_for_data(self, waiting: "ImageHandle") -> None:
        """Wait until the reads, writes and flushes in flight are over, for a call of the handle `waiting`."""
        handle = self._handle
        pending = [operation.pending() for operation in handle.bridge.running(handle) if operation.moves_data]
        handle.awaited += 1
        try:
            await handle.wait_until(lambda: not waiting.usable or not any(left() for left in pending), None)
        finally:
            handle.awaited -= 1
        waiting.check()

    async def call_that_shrinks(
        self,
        function: "CFunction",
        size: int,
        *arguments: Any,
        progress: Progress | None,
        on: Target | None = None,
        first: Callable[[], object] | None = None,
        stoppable: bool = True,
    ) -> None:
        """Call what may end with a smaller size, which counts from the start: librbd clips from then on.

        What is in flight then is waited for, and nothing that reaches further is begun.
        """
        self._handle.check()
        await self._handle.bridge.loop.checkpoint_if_cancelled()
        begun, image_size = False, self._handle.image_size

        def begin() -> None:
            nonlocal begun
            begun = True

        def ended() -> None:
            image_size.ceilings.remove(size)
            if self._handle.native is not None:  # closed, while this waited for others
                self._handle.lib.aiorbd_image_changed(self._handle.native)

        # Not less than what is known: a shrink that was given up has lowered that already.
        shrinks = size < max(self._handle.size, image_size.last_answer)
        image_size.ceilings.append(size)
        self._handle.size = min(self._handle.size, size)
        try:
            if shrinks:
                await self._handle.wait_for(lambda operation: operation.moves_data, None)
            await self._handle.call_with_progress(
                function,
                *arguments,
                progress=progress,
                on=on,
                begin=begin,
                ended=ended,
                first=first,
                why=partial(self._wait_for_old_size, size) if shrinks else None,
                stoppable=stoppable,
            )
        except BaseException:
            if not begun:
                ended()
            raise

    def _wait_for_old_size(self, size: int, _code: int) -> None:
        """On the worker thread: librbd tells the new size of a shrink that failed until it has put it aside.

        It returns from the call a moment before that. If the size is the new one after all, nothing tells.
        """
        out = ffi.new("uint64_t *")
        end = time.monotonic() + PATIENCE
        while not rbd().rbd_get_size(self._handle.pointer, out) and out[0] == size and time.monotonic() < end:
            time.sleep(0.001)
