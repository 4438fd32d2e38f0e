"""What works on all objects of an open image: one at a time, and nothing shrinks under a write.

librbd 16.2 aborts the process, or waits for ever, when these meet.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aiorbd import _native
from aiorbd._bridge.operation import Job
from aiorbd._bridge.progress import Progress
from aiorbd._handle import Handle
from aiorbd._native import ffi, rbd
from aiorbd.errors import Target

if TYPE_CHECKING:
    from aiorbd._bridge.bridge import Bridge
    from aiorbd._lifecycle import Lifecycle

#: Seconds for which librbd is given time to take the size of a shrink that failed back.
PATIENCE: Final = 1.0


class UpkeepHandle(Handle):
    """The part of an image's handle that knows how large it may be, and what works on all of it."""

    def __init__(self, bridge: "Bridge", parent: "Lifecycle", target: Target) -> None:
        super().__init__(bridge, parent, target)
        self.lib: Any = _native.bridge()
        #: The bridge's view of the image; None before it is open.
        self.native: Any = None
        #: Bytes, as far as is known: see `SizeHandle.refresh`.
        self.size: int = 0
        #: What shrinks that are under way may end with.
        self._ceilings: list[int] = []
        #: The generation and size of librbd's last answer.
        self._asked = (0, 0)
        self._maintaining = False

    async def unclaimed(self) -> None:
        """Wait until nothing works on all objects."""
        self.check()
        while self._maintaining:
            await self.wait_until(lambda: not self._maintaining, None)
            self.check()

    def claim(self) -> None:
        """On the loop: something begins to work on all objects."""
        self._maintaining = True

    def unclaim(self) -> None:
        """On the loop: it is over."""
        self._maintaining = False
        self.wake_waiters()

    async def maintain(
        self,
        function: str,
        *arguments: Any,
        progress: Progress | None,
        on: Target | None = None,
        begin: Callable[[], None] | None = None,
        ended: Callable[[], None] | None = None,
        first: Callable[[], object] | None = None,
        failed: Callable[[], object] | None = None,
        stoppable: bool = True,
    ) -> None:
        """Call what works on all objects, like `call_with_progress`, once no other such call is under way."""
        await self.unclaimed()

        def started() -> None:
            self.claim()
            if begin is not None:
                begin()

        def over() -> None:
            if ended is not None:
                ended()
            self.unclaim()

        await self.call_with_progress(
            function,
            *arguments,
            progress=progress,
            on=on,
            begin=started,
            ended=over,
            first=first,
            failed=failed,
            stoppable=stoppable,
        )

    async def call_that_shrinks(
        self,
        function: str,
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
        self.check()
        await self.bridge.loop.checkpoint_if_cancelled()
        begun = False

        def begin() -> None:
            nonlocal begun
            begun = True

        def ended() -> None:
            self._ceilings.remove(size)
            if self.native is not None:  # closed, while this waited for others
                self.lib.aiorbd_image_changed(self.native)

        # Not less than what is known: a shrink that was given up has lowered that already.
        shrinks = size < max(self.size, self._asked[1])
        self._ceilings.append(size)
        self.size = min(self.size, size)
        try:
            if shrinks:
                await self.wait_for(lambda operation: not isinstance(operation, Job), None)
            await self.maintain(
                function,
                *arguments,
                progress=progress,
                on=on,
                begin=begin,
                ended=ended,
                first=first,
                failed=partial(self._wait_for_old_size, size) if shrinks else None,
                stoppable=stoppable,
            )
        except BaseException:
            if not begun:
                ended()
            raise

    def _wait_for_old_size(self, size: int) -> None:
        """On the worker thread: librbd tells the new size of a shrink that failed until it has put it aside.

        It returns from the call a moment before that. If the size is the new one after all, nothing tells.
        """
        out = ffi.new("uint64_t *")
        end = time.monotonic() + PATIENCE
        while not rbd().rbd_get_size(self.pointer, out) and out[0] == size and time.monotonic() < end:
            time.sleep(0.001)
