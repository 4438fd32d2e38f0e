"""How large an open image is, at the snapshot that is read: what is known, and asking for it."""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio

from aiorbd._native.loader import ffi, rbd
from aiorbd._native.marshal import decode
from aiorbd.errors import PoolNotFound, RbdError, Target

if TYPE_CHECKING:
    from aiorbd._image.handle import ImageHandle


class ImageSize:
    """The size that reads and writes are checked against, and the snapshot whose size it is.

    Attributes:
        snapshot: The snapshot that is read; None for the image as it is now.
        snapshot_id: The snapshot's id.
        may_refuse_writes: The image was opened for reading only, or may have been at a snapshot when librbd answered.
        ceilings: The sizes with which the shrinks that run may end.
    """

    def __init__(self, handle: "ImageHandle") -> None:
        self._handle = handle
        self.snapshot: str | None = None
        self.snapshot_id: int | None = None
        self.may_refuse_writes: bool = False
        self.ceilings: list[int] = []
        self._asked = (0, 0)  # generation and size of librbd's last answer
        self._refreshing = anyio.Lock()
        self._asking = False

    @property
    def last_answer(self) -> int:
        """The size that librbd told last."""
        return self._asked[1]

    def learn_view(self, snapshot: bytes) -> None:
        """On a worker thread: the image was opened at a snapshot."""
        out = ffi.new("uint64_t *")
        self.snapshot = os.fsdecode(snapshot)
        self._handle.raise_for(rbd().rbd_snap_get_id(self._handle.pointer, snapshot, out), "rbd_snap_get_id", self.view)
        self.snapshot_id = out[0]

    def view_by_id(self, snapshot_id: int) -> None:
        """On a worker thread, before anybody reads: read a snapshot, of whatever kind it is."""
        on = self._handle.about("snapshot", f"snapshot id {snapshot_id}")
        buffer, size = ffi.new("char[]", 4096), ffi.new("size_t *", 4096)
        code = rbd().rbd_snap_get_name(self._handle.pointer, snapshot_id, buffer, size)
        self._handle.raise_for(code, "rbd_snap_get_name", on)
        self._handle.raise_for(rbd().rbd_snap_set_by_id(self._handle.pointer, snapshot_id), "rbd_snap_set_by_id", on)
        self.snapshot, self.snapshot_id = decode(buffer), snapshot_id

    def learn_first_size(self) -> None:
        """On a worker thread, before anybody reads or writes."""
        self._handle.raise_for(self._ask_size(), "rbd_get_size")
        self._learn_size()

    def require_view(self) -> None:
        """On a worker thread: raise when the snapshot that is read is gone. librbd would say that its size is 0."""
        if self.snapshot_id is not None:
            buffer, size = ffi.new("char[]", 4096), ffi.new("size_t *", 4096)
            code = rbd().rbd_snap_get_name(self._handle.pointer, self.snapshot_id, buffer, size)
            self._handle.raise_for(code, "rbd_snap_get_name", self.view)

    def require_fresh(self) -> None:
        """On a worker thread: have librbd read a changed header, and raise when the snapshot that is read is gone.

        In 16.2 copies and calls for the managed lock do not look at the header. A copy then may never end, nor the
        release of a lock whose feature was switched off. A snapshot that is gone is copied as nothing.
        """
        self.require_view()
        self._handle.raise_for(rbd().rbd_get_size(self._handle.pointer, ffi.new("uint64_t *")), "rbd_get_size")

    @property
    def view(self) -> Target:
        """Name the snapshot that is read in errors."""
        return self._handle.about("snapshot", f"snapshot {self.snapshot!r}")

    def _ask_size(self) -> int:
        """On a worker thread. The answer is kept here, not by a task that waits: that one may be gone.

        It counts once the loop's thread says so: between the check of a range and its submit no other
        size may come to be known, or C would take what was checked against the old one.
        """
        generation = self._handle.lib.aiorbd_image_generation(self._handle.native)
        out = ffi.new("uint64_t *")
        try:
            self.require_view()
        except RbdError as error:
            return -(error.errno or errno.EIO)
        code: int = rbd().rbd_get_size(self._handle.pointer, out)
        if code >= 0:
            self._asked = (generation, out[0])
            with suppress(PoolNotFound):  # it is remembered, and raised on the loop
                self._handle.require_place("rbd_get_size")
        return code

    def _learn_size(self) -> None:
        """On the loop, or before anybody reads or writes."""
        generation, size = self._asked
        self._handle.size = min([size, *self.ceilings])
        self._handle.lib.aiorbd_image_set_known(self._handle.native, generation)

    async def refresh(self, *, if_stale: bool = False) -> None:
        """Ask librbd for the size: free unless somebody changed the image, then a round trip.

        One question at a time, however many tasks want to know and give up: in a dead cluster each
        would hold a thread. A question that was there before is waited for, and then asked again: its
        answer may be older than what the caller knows.
        """
        self._handle.check()
        async with self._refreshing:
            await self._handle.wait_until(lambda: not self._asking, None)
            await self._handle.wait_while_usable(lambda: not self._handle.barred)
            leave = await self._handle.enter("rbd_get_size")
            if if_stale and not self._handle.lib.aiorbd_image_is_stale(self._handle.native):
                if leave is not None:
                    leave()
                return
            on = self.view if self.snapshot_id is not None else None
            self._handle.raise_for(await self._ask(self._ask_size, leave), "rbd_get_size", on)
            self._handle.require_place("rbd_get_size")

    async def known_size(self) -> int:
        """Return the size; ask only when somebody changed the image since."""
        self._handle.check()
        if self._handle.lib.aiorbd_image_is_stale(self._handle.native):
            await self.refresh(if_stale=True)
        return self._handle.size

    async def _ask(self, function: Callable[[], int], leave: Callable[[], None] | None) -> int:
        """Run a function that asks for the size, or that switches to another one; `leave` the gate then."""
        answer: list[int] = []

        def answered(code: int) -> None:
            self._asking = False
            answer.append(code)
            if code >= 0:
                self._learn_size()
            if leave is not None:
                leave()
            self._handle.wake_waiters()

        self._asking = True
        try:
            self._handle.bridge.start_background(self._handle, "rbd_get_size", function, answered)
        except RuntimeError:  # no thread can be started
            self._asking = False
            if leave is not None:
                leave()
            raise
        await self._handle.wait_until(lambda: bool(answer), None)
        return answer[0]

    async def switch(
        self, function: str, argument: Any, snapshot: str | None, snapshot_id: int | None, on: Target | None = None
    ) -> None:
        """Read another snapshot, or none: no size is known until that is done, whoever still waits."""
        self._handle.check()
        await self._handle.bridge.loop.checkpoint_if_cancelled()
        c_function = getattr(rbd(), function)
        failed = 0

        def call() -> int:
            nonlocal failed
            failed = min(c_function(self._handle.pointer, argument), 0)
            if not failed:
                self.snapshot, self.snapshot_id = snapshot, snapshot_id
            self._handle.lib.aiorbd_image_changed(self._handle.native)
            return failed or self._ask_size()

        leave = await self._handle.enter(function)  # beside which nobody asks for the size
        self.may_refuse_writes = True
        self._handle.lib.aiorbd_image_changed(self._handle.native)
        code = await self._ask(call, leave)
        self._handle.raise_for(code, function if failed else "rbd_get_size", on if failed else None)
        self._handle.require_place(function)
