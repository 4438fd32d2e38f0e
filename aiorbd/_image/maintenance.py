"""Run the calls that may shrink an open image. This connection never shrinks the image during a write."""

import errno
import time
from typing import TYPE_CHECKING, Any, Final

from aiorbd._core.long_call import LongCall
from aiorbd._core.progress import Progress
from aiorbd._native.capabilities import version
from aiorbd._native.loader import ffi, rbd
from aiorbd.errors import InvalidArgument

if TYPE_CHECKING:
    from aiorbd._core.handle import Handle
    from aiorbd._image.handle import ImageHandle
    from aiorbd._native.c_functions import CFunction

#: From this librbd version on, sizes leave out the header of a loaded encryption in all calls.
_WITHOUT_HEADER: Final = (1, 18, 0)

#: The seconds that librbd gets to report the old size again after a failed shrink.
PATIENCE: Final = 1.0


class Maintenance:
    """The wait of calls that must not run beside reads and writes."""

    def __init__(self, handle: "ImageHandle") -> None:
        self._handle = handle

    async def wait_for_data(self, waiting: "Handle") -> None:
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


class ShrinkingCall(LongCall):
    """A C function that may make the image smaller.

    `size` is the size of the image after a successful call. A smaller size applies from the beginning of this call,
    because librbd clips from the start of the shrink. From then on, no request that reaches past the smaller size can
    begin. Before a shrink, the call waits for the reads, writes and flushes in flight.
    """

    handle: "ImageHandle"

    def __init__(
        self, handle: "ImageHandle", size: int, function: "CFunction", *arguments: Any, **options: Any
    ) -> None:
        super().__init__(handle, function, *arguments, **options)
        self._size = size
        self._shrinks = False

    async def run(self, progress: Progress | None) -> int:
        """Wait for the requests in flight, if the call shrinks the image, and make the call."""
        handle = self.handle
        handle.check()
        await handle.bridge.loop.checkpoint_if_cancelled()
        # Compare with the last answer of librbd too: an abandoned shrink has already lowered the known size.
        self._shrinks = self._size < max(handle.size, handle.image_size.last_answer)
        handle.image_size.ceilings.append(self._size)
        handle.size = min(handle.size, self._size)
        try:
            if self._shrinks:
                await handle.wait_for(lambda operation: operation.moves_data, None)
        except BaseException:
            self.ended()
            raise
        return await super().run(progress)

    def ended(self) -> None:
        """Lift the limit on the size, and ask librbd for the size again."""
        self.handle.image_size.ceilings.remove(self._size)
        if self.handle.native is not None:  # the image may have been closed while this call waited
            self.handle.lib.aiorbd_image_changed(self.handle.native)

    def explain(self, code: int) -> None:
        """Wait until librbd reports the old size again after a failed shrink.

        After a failed shrink, librbd reports the new size for a moment, and then the old size. The new size may also be
        the right one for good. Both cases look the same, so the wait ends after `PATIENCE` seconds.
        """
        if not self._shrinks:
            return
        out = ffi.new("uint64_t *")
        end = time.monotonic() + PATIENCE
        while not rbd().rbd_get_size(self.handle.pointer, out) and out[0] == self._size and time.monotonic() < end:
            time.sleep(0.001)


class GrowingCall(LongCall):
    """A resize that must not make the image smaller: librbd refuses a smaller size."""

    handle: "ImageHandle"

    def __init__(self, handle: "ImageHandle", size: int, for_librbd: int) -> None:
        super().__init__(handle, "rbd_resize2", for_librbd, False)
        self._size = size

    def ended(self) -> None:
        """Ask librbd for the size again."""
        if self.handle.native is not None:  # the image may have been closed while this call waited
            self.handle.lib.aiorbd_image_changed(self.handle.native)

    def explain(self, code: int) -> None:
        """Raise if the size was refused because it is smaller."""
        out = ffi.new("uint64_t *")
        if code == -errno.EINVAL and not rbd().rbd_get_size(self.handle.pointer, out):
            refuse_shrink(self.handle, self._size, out[0])


def resizing(handle: "ImageHandle", size: int, *, allow_shrink: bool) -> LongCall:
    """Return the call that changes the size. Before 18.2, librbd also counts the header of a loaded encryption."""
    for_librbd = size + handle.header if version() < _WITHOUT_HEADER else size
    if allow_shrink:
        return ShrinkingCall(handle, size, "rbd_resize2", for_librbd, True)
    return GrowingCall(handle, size, for_librbd)


def refuse_shrink(handle: "ImageHandle", size: int, now: int) -> None:
    """Raise if `size` is smaller than the size that the image has `now`."""
    if size < now:
        message = f"the image has {now} bytes: only resize({size}, allow_shrink=True) makes it smaller"
        raise InvalidArgument(errno.EINVAL, message, "rbd_resize2", str(handle.target))
