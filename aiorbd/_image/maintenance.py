"""An open image's place at its gate, and calls that may shrink it: nothing shrinks under a write."""

import time
from collections.abc import Awaitable, Callable, Hashable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aiorbd._core.handle import Handle
from aiorbd._core.lifecycle import Lifecycle
from aiorbd._core.progress import Progress
from aiorbd._image.gate import NESTED, Gate, Mode, mode_of
from aiorbd._native import loader
from aiorbd._native.loader import ffi, rbd
from aiorbd.errors import Target

if TYPE_CHECKING:
    from aiorbd._core.bridge import Bridge

#: Seconds for which librbd is given time to take the size of a shrink that failed back.
PATIENCE: Final = 1.0


class UpkeepHandle(Handle):
    """The part of an image's handle that passes the gate, and that knows how large the image may be."""

    awaited: int

    def __init__(self, bridge: "Bridge", parent: Lifecycle, target: Target) -> None:
        super().__init__(bridge, parent, target)
        self.lib: Any = loader.bridge()
        #: The bridge's view of the image; None before it is open.
        self.native: Any = None
        #: Bytes, as far as is known: see `SizeHandle.refresh`.
        self.size: int = 0
        #: What shrinks that are under way may end with.
        self._ceilings: list[int] = []
        #: The generation and size of librbd's last answer.
        self._asked = (0, 0)
        #: The gate of the image; None before it is open.
        self.gate: Gate | None = None
        #: How to close it, while it is only kept open for whoever asks next.
        self.evict: Callable[[], Awaitable[None]] | None = None

    # -- the gate ------------------------------------------------------------------------------

    async def enter(self, function: str) -> Callable[[], None] | None:
        """Wait until a C function may run on this image: see `Gate.enter`."""
        return await self.pass_gate(mode_of(function), nested=function in NESTED)

    def thread_group(self, function: str, also: Iterable[Lifecycle], *, long: bool) -> Hashable:
        """Return the group of a call: those that may last for hours have threads of their own."""
        if function == "rbd_lock_acquire":  # it waits for other clients, and holds up no work
            return "locks", self.group
        return super().thread_group(function, also, long=bool(mode_of(function) & (Mode.LONG | Mode.OBJECTS)))

    def begin_close(self) -> None:
        """Begin to close, and let calls that wait at the gate notice."""
        super().begin_close()
        if self.gate is not None:
            self.gate.wake()

    async def pass_gate(self, mode: Mode, *, nested: bool = False) -> Callable[[], None] | None:
        """Wait until a call may run in `mode`; return the function to be called once when it is over."""
        return None if self.gate is None else await self.gate.enter(self, mode, nested=nested)

    def bar(self, *, barred: bool) -> None:
        """Let no read, write or flush begin, or let them begin again."""
        if self.native is not None:
            self.lib.aiorbd_image_bar(self.native, barred)

    @property
    def barred(self) -> bool:
        """Whether no read, write or flush may begin."""
        return self.native is not None and bool(self.lib.aiorbd_image_is_barred(self.native))

    async def wait_for_data(self, waiting: "UpkeepHandle") -> None:
        """Wait until the reads, writes and flushes in flight are over, for a call of the handle `waiting`."""
        pending = [operation.pending() for operation in self.bridge.running(self) if operation.moves_data]
        self.awaited += 1
        try:
            await self.wait_until(lambda: not waiting.usable or not any(left() for left in pending), None)
        finally:
            self.awaited -= 1
        waiting.check()

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
                await self.wait_for(lambda operation: operation.moves_data, None)
            await self.call_with_progress(
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
        while not rbd().rbd_get_size(self.pointer, out) and out[0] == size and time.monotonic() < end:
            time.sleep(0.001)
