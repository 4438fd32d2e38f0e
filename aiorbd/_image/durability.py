"""Flush, and know which writes are durable."""

from typing import TYPE_CHECKING

from aiorbd._core.observers import Note
from aiorbd._core.operation import Operation
from aiorbd._native.requests import FLUSH, FUNCTIONS

if TYPE_CHECKING:
    from aiorbd._image.handle import ImageHandle

_FUNCTION = FUNCTIONS[FLUSH]


class _Flush(Operation):
    """A flush in flight."""

    __slots__ = ("_durability", "_note")

    def __init__(self, durability: "Durability", handle: "ImageHandle", note: Note | None) -> None:
        super().__init__(handle)
        self._durability = durability
        self._note = note

    def settle(self) -> None:
        """Remember a failure, also of a flush that was cancelled, and notify the observers."""
        if (code := self.value or 0) < 0:
            self._durability.failed(code, told=not self.abandoned)
        if self._note is not None:
            self._note.tell_result(code, abandoned=self.abandoned)


class Durability:
    """The flushes of one open image.

    librbd reports the error of a cached write once: to one of the flushes in flight at that time. Here, all flushes
    that overlap this one raise the error. If the task of the failed flush was cancelled, the next flush raises it.
    """

    def __init__(self, handle: "ImageHandle") -> None:
        self._handle = handle
        self._durable = 0  # the number of counted writes that are durable
        #: Whether all flushes raise after a failed one, because tasks share the image, and each must hear of the loss.
        self.fails_for_good: bool = False
        self._failures = 0
        self._code = 0  # librbd's code for the last failure; 0 before the first
        self._untold = 0  # the code of a failure that no task has got yet
        self._lost = False  # whether the image was closed with writes that no flush has covered

    async def flush(self) -> None:
        """Make all writes durable that completed before this call."""
        handle = self._handle
        handle.check()
        await handle.bridge.loop.checkpoint_if_cancelled()
        if self.fails_for_good:
            handle.raise_for(self._code, _FUNCTION)
        if handle.ioctx.full_try:
            await self._wait_for_writes()
            return
        note = Note(handle.bridge.observers, _FUNCTION, str(handle.target), handle) if handle.bridge.observers else None
        operation = _Flush(self, handle, note)
        try:
            while True:
                covered, failures = self.covered_by_a_flush(), self._failures
                code = handle.bridge.submit(operation, FLUSH, 0, 0, None, 0, 0, 0)
                if code <= 0:
                    break
                await handle.wait_while_usable(lambda: not handle.barred)
        except BaseException as error:
            if note is not None:
                note.tell(error, abandoned=False)
            raise
        if code < 0 and note is not None:  # librbd refused the flush
            note.tell_result(code, abandoned=False)
        if not code:
            code = await self._result(operation, failures)
        if code < 0:
            await handle.find_place(code)
        self._untold = 0
        handle.raise_for(code, _FUNCTION)
        await handle.ioctx.confirm_place(handle, _FUNCTION)
        self.note_flushed(covered)

    async def _result(self, operation: _Flush, failures: int) -> int:
        """Wait for a flush, and return its code, or that of a failure that concerns this flush, too."""
        try:
            await self._handle.bridge.wait(operation)
        except BaseException:
            if operation.value is not None and operation.value < 0:  # cancelled just after the completion
                self._untold = operation.value
            raise
        code = operation.value or 0
        if code >= 0:
            code = self._untold or (self._code if self._failures != failures else 0)
        self._untold = min(code, 0)  # until the caller has it
        return code

    async def _wait_for_writes(self) -> None:
        """Wait for the writes in flight. With `full_try`, a write that has completed is durable.

        Until the first flush of an open image, librbd's cache passes all writes on. Later it completes a write at once,
        and if the write fails before the next flush begins, that flush reports success. So with `full_try`, where
        writes are expected to fail, librbd never gets a flush.
        """
        handle = self._handle
        covered = 0 if handle.native is None else int(handle.lib.aiorbd_image_writes(handle.native))
        await handle.maintenance.wait_for_data(handle)
        await handle.ioctx.confirm_place(handle, _FUNCTION)
        self.note_flushed(covered)

    @property
    def has_failed(self) -> bool:
        """Whether a flush has failed."""
        return self._code < 0

    def failed(self, code: int, *, told: bool) -> None:
        """Record the failure of a flush. `told` means that a task still waits for the flush."""
        self._failures += 1
        self._code = code
        if not told:
            self._untold = code

    def covered_by_a_flush(self) -> int:
        """Return the least number of writes that are durable after a flush that begins now."""
        handle = self._handle
        if handle.in_flight or handle.native is None:
            return self._durable
        return int(handle.lib.aiorbd_image_writes(handle.native))

    def note_flushed(self, covered: int) -> None:
        """Record that `covered` writes are durable."""
        self._durable = max(self._durable, covered)

    def note_closed(self) -> None:
        """Remember at the close whether writes were not flushed."""
        self._lost = self.is_dirty()

    def is_dirty(self) -> bool:
        """Return whether it is unknown if all writes are durable."""
        handle = self._handle
        if handle.native is None:
            return self._lost
        return bool(self._untold) or int(handle.lib.aiorbd_image_writes(handle.native)) != self._durable

    async def make_durable(self) -> None:
        """Flush if anything was written since the last flush.

        A needless flush is avoided, because every flush asks for the exclusive lock.
        """
        if self._handle.native is not None and self.is_dirty():
            await self.flush()
