"""Run the calls that may shrink an open image. This connection never shrinks the image during a write."""

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

#: The seconds that librbd gets to report the old size again after a failed shrink.
PATIENCE: Final = 1.0


class Maintenance:
    """The calls that may make an image smaller."""

    def __init__(self, handle: "ImageHandle") -> None:
        self._handle = handle

    async def wait_for_data(self, waiting: "ImageHandle") -> None:
        """Wait for the reads, writes and flushes that are in flight now.

        `waiting` is the handle of the call that waits. If that handle closes, the wait ends with an error.
        """
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
        """Call a C function that may make the image smaller.

        `size` is the size of the image after a successful call. A smaller size applies from the beginning of this call,
        because librbd clips from the start of the shrink. From then on, no request that reaches past the smaller size
        can begin. Before a shrink, the call waits for the reads, writes and flushes in flight.
        """
        self._handle.check()
        await self._handle.bridge.loop.checkpoint_if_cancelled()
        begun, image_size = False, self._handle.image_size

        def begin() -> None:
            nonlocal begun
            begun = True

        def ended() -> None:
            image_size.ceilings.remove(size)
            if self._handle.native is not None:  # the image may have been closed while this call waited
                self._handle.lib.aiorbd_image_changed(self._handle.native)

        # Compare with the last answer of librbd too: an abandoned shrink has already lowered the known size.
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
        """Wait until librbd reports the old size again after a failed shrink. Runs on a worker thread.

        After a failed shrink, librbd reports the new size for a moment, and then the old size. The new size may also be
        the right one for good. Both cases look the same, so the wait ends after `PATIENCE` seconds.
        """
        out = ffi.new("uint64_t *")
        end = time.monotonic() + PATIENCE
        while not rbd().rbd_get_size(self._handle.pointer, out) and out[0] == size and time.monotonic() < end:
            time.sleep(0.001)
