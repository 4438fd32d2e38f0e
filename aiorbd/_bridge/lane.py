"""Reads and writes of one image that are handed to C in number: see ``lane.c``."""

from collections.abc import Callable
from typing import Any

from aiorbd import _native
from aiorbd._bridge.observation import Note
from aiorbd._bridge.operation import Operation


class Request(Operation):
    """One of a lane's calls. Nobody waits for it: `done` is called with it when it is over.

    Attributes:
        function: The C function, for errors and observers.
        offset: Where in the image, in bytes.
        length: How many bytes.
        note: What observers are to be told; None when there are none.
    """

    __slots__ = ("_done", "function", "length", "note", "offset")
    settles: bool = True

    def __init__(
        self, owner: Any, function: str, keep: object, done: "Callable[[Request], None]", offset: int, length: int
    ) -> None:
        # What `Operation` does, without a call: there are many.
        self.owner = owner
        self.keep = keep
        self.waiter = None
        self.value = None
        self.abandoned = False
        self.function: str = function
        self.offset: int = offset
        self.length: int = length
        self.note: Note | None = None
        self._done = done
        if owner.bridge.observers:
            self.note = Note(function, owner.describe(offset, length), length)

    def settle(self) -> None:
        """It is over."""
        if self.note is not None:
            self.note.tell_result(self.owner.bridge.observers, self.value or 0, abandoned=self.abandoned)
        self._done(self)


class Lane:
    """What C has of a lane. It holds what was handed to it in the operation table, like any call."""

    def __init__(self, native: Any, depth: int) -> None:
        lib = _native.bridge()
        lane = lib.aiorbd_lane_new(native, depth)
        if not lane:
            raise MemoryError
        self.pointer: Any = _native.bridge_ffi.gc(lane, lib.aiorbd_lane_release)
        self.read: Callable[..., int] = lib.aiorbd_lane_read
        self.write: Callable[..., int] = lib.aiorbd_lane_write
        #: What C says of a request that waited while the image's size became unknown.
        self.stale: int = lib.AIORBD_STALE_BY_NOW
        self._cancel = lib.aiorbd_lane_cancel

    def cancel(self) -> None:
        """Any thread: give up what has not reached librbd."""
        self._cancel(self.pointer)
