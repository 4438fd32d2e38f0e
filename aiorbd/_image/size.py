"""Keep the known size of an open image, or of the snapshot that is read, and ask librbd for the size."""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio

from aiorbd._native.loader import ffi, rbd
from aiorbd._native.marshal import decode
from aiorbd.errors import OperationNotSupported, PoolNotFound, RbdError, Target

if TYPE_CHECKING:
    from aiorbd._image.handle import ImageHandle


class ImageSize:
    """The size that limits reads and writes, and the snapshot that the image is read at.

    Attributes:
        snapshot: The name of the snapshot that is read; None for the current data.
        snapshot_id: The id of the snapshot that is read; None for the current data.
        may_refuse_writes: Whether EROFS may mean that the image is read-only: the image was opened for reading only, or
            another snapshot was set.
        ceilings: The target sizes of the running shrinks.
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
        """The size in librbd's last answer."""
        return self._asked[1]

    def learn_view(self, snapshot: bytes) -> None:
        """Record the snapshot that the image was opened at. Runs on a worker thread."""
        out = ffi.new("uint64_t *")
        self.snapshot = os.fsdecode(snapshot)
        self._handle.raise_for(rbd().rbd_snap_get_id(self._handle.pointer, snapshot, out), "rbd_snap_get_id", self.view)
        self.snapshot_id = out[0]

    def view_by_id(self, snapshot_id: int) -> None:
        """Switch to a snapshot of any kind. Runs on a worker thread, before the first read."""
        on = self._handle.about("snapshot", f"snapshot id {snapshot_id}")
        buffer, size = ffi.new("char[]", 4096), ffi.new("size_t *", 4096)
        code = rbd().rbd_snap_get_name(self._handle.pointer, snapshot_id, buffer, size)
        self._handle.raise_for(code, "rbd_snap_get_name", on)
        self._handle.raise_for(rbd().rbd_snap_set_by_id(self._handle.pointer, snapshot_id), "rbd_snap_set_by_id", on)
        self.snapshot, self.snapshot_id = decode(buffer), snapshot_id

    def learn_first_size(self) -> None:
        """Ask for the size after the open. Runs on a worker thread, before the first read or write."""
        self._handle.raise_for(self._ask_size(), "rbd_get_size")
        self._learn_size()

    def require_view(self) -> None:
        """Raise if the snapshot that is read was removed. Runs on a worker thread.

        librbd would report the size 0 for such a snapshot.
        """
        if self.snapshot_id is not None:
            buffer, size = ffi.new("char[]", 4096), ffi.new("size_t *", 4096)
            code = rbd().rbd_snap_get_name(self._handle.pointer, self.snapshot_id, buffer, size)
            self._handle.raise_for(code, "rbd_snap_get_name", self.view)

    def require_fresh(self) -> None:
        """Have librbd read a changed header. Raise if the snapshot that is read was removed. Runs on a worker thread.

        In 16.2, copies and calls for the exclusive lock do not read a changed header. After a change, a copy may never
        end. The release of the lock may never end if its feature was switched off. A copy of a removed snapshot
        contains no data.
        """
        self.require_view()
        self._handle.raise_for(rbd().rbd_get_size(self._handle.pointer, ffi.new("uint64_t *")), "rbd_get_size")

    @property
    def view(self) -> Target:
        """The snapshot that is read, described for errors."""
        return self._handle.about("snapshot", f"snapshot {self.snapshot!r}")

    def _ask_size(self) -> int:
        """Ask librbd for the size, store the answer, and return librbd's code. Runs on a worker thread.

        This object stores the answer, because the waiting task may be cancelled.

        The worker thread only stores the answer. The event loop applies the answer in `_learn_size`, so the known size
        never changes between the check of a range and its submit.
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
            with suppress(PoolNotFound):  # the handle remembers the error, and the event loop raises it
                self._handle.require_place("rbd_get_size")
        return code

    def _learn_size(self) -> None:
        """Use librbd's last answer from now on. Runs on the event loop, or before the first read or write."""
        generation, size = self._asked
        self._handle.size = min([size, *self.ceilings])
        self._handle.lib.aiorbd_image_set_known(self._handle.native, generation)

    async def refresh(self, *, if_stale: bool = False) -> None:
        """Ask librbd for the size. If a client changed the image, this needs a round trip.

        There is one question at a time, even if many tasks ask and are cancelled. Otherwise, each question to a dead
        cluster would occupy a thread. If a question is already running, this call waits for its answer and then asks
        again. The first answer may be older than the caller's knowledge of the image.
        """
        self._require_loaded()
        async with self._refreshing:
            await self._handle.wait_until(lambda: not self._asking, None)
            await self._handle.wait_while_usable(lambda: not self._handle.barred)
            self._require_loaded()
            leave = await self._handle.enter("rbd_get_size")
            if if_stale and not self._handle.lib.aiorbd_image_is_stale(self._handle.native):
                if leave is not None:
                    leave()
                return
            on = self.view if self.snapshot_id is not None else None
            self._handle.raise_for(await self._ask(self._ask_size, leave), "rbd_get_size", on)
            self._handle.require_place("rbd_get_size")

    def _require_loaded(self) -> None:
        """Raise if the image was formatted for encryption and not loaded. The size stays unknown until then.

        So each read and write asks for the size, and none reaches librbd.
        """
        handle = self._handle
        handle.check()
        if handle.must_load:
            message = "the clone was formatted for encryption: call load or load_chain first"
            raise OperationNotSupported(errno.EOPNOTSUPP, message, "rbd_encryption_format", str(handle.target))

    async def known_size(self) -> int:
        """Return the size. Ask librbd only if a client changed the image since the last answer."""
        self._handle.check()
        if self._handle.lib.aiorbd_image_is_stale(self._handle.native):
            await self.refresh(if_stale=True)
        return self._handle.size

    async def _ask(self, function: Callable[[], int], leave: Callable[[], None] | None) -> int:
        """Run a function that asks for the size, perhaps after a switch of the snapshot. Then `leave` the gate."""
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
        """Switch reads to another snapshot, or to the current data.

        No size is known until librbd has switched, even if the calling task is cancelled.
        """
        self._require_loaded()
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

        leave = await self._handle.enter(function)  # from here on, no other task asks for the size
        self.may_refuse_writes = True
        self._handle.lib.aiorbd_image_changed(self._handle.native)
        code = await self._ask(call, leave)
        self._handle.raise_for(code, function if failed else "rbd_get_size", on if failed else None)
        self._handle.require_place(function)
