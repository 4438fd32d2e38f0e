"""A snapshot of an open image."""

import errno
from datetime import datetime
from typing import Final

from aiorbd._core.progress import Progress
from aiorbd._image.handle import ImageHandle
from aiorbd._image.snapshot_ids import (
    KINDS,
    Facts,
    name_by_id,
    require_id,
    require_users,
    set_snapshot,
    snapshot_target,
)
from aiorbd._native.capabilities import version
from aiorbd._native.loader import ffi, rbd
from aiorbd._native.marshal import encode_name, encode_new_name, number, utc
from aiorbd.enums import SnapshotNamespaceType, SnapshotRemoveFlag
from aiorbd.errors import OperationNotSupported, SnapshotNotFound, Target, error_for

#: The first librbd of which no release aborts when it is asked for the time of a snapshot that is gone.
_NO_ABORT: Final = (1, 20, 0)


class Snapshot:
    """A snapshot of an open image, from `Image.create_snapshot`, `Image.snapshots` or `Image.get_snapshot`.

    It lives as long as the image is open. What librbd does by name is refused when the name has come to belong to
    another snapshot, and for snapshots that are not a user's, which librbd does not find by name.

    Attributes:
        id: Its id, which stays.
        name: Its name when it was asked for.
        size: The image's size then, in bytes.
        namespace_type: Whose it was when it was asked for: a user's, a group's, mirroring's, or in the trash of
            snapshots.
        protected: Whether it was protected when it was asked for.
    """

    __slots__ = ("_handle", "id", "name", "namespace_type", "protected", "size")

    def __init__(self, handle: ImageHandle, snapshot_id: int, name: str, size: int, facts: Facts) -> None:
        """Private."""
        self._handle = handle
        self.id: int = snapshot_id
        self.name: str = name
        self.size: int = size
        self.namespace_type: SnapshotNamespaceType = facts.namespace_type
        self.protected: bool = facts.protected

    def __repr__(self) -> str:
        kind = "" if self.namespace_type is SnapshotNamespaceType.USER else f", {self.namespace_type.name}"
        return f"<aiorbd.Snapshot: {self.name!r}, id {self.id}, {self.size} bytes{kind}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Snapshot) and (self._handle, self.id) == (other._handle, other.id)

    def __hash__(self) -> int:
        return hash((self._handle, self.id))

    @property
    def _encoded(self) -> bytes:
        return encode_name(self.name, "snapshot name", "rbd_snap_get_id", may_be_empty=True)

    def _require(self) -> None:
        """On a worker thread: raise when another client gave the name to another snapshot."""
        require_id(self._handle, self._encoded, self.id, self._target)

    @property
    def _target(self) -> Target:
        return snapshot_target(self._handle, self.name)

    async def protect(self) -> None:
        """Protect it from being removed. When cancelled, the outcome is unknown.

        Raises:
            SnapshotBusy: It is protected already.
            OperationNotSupported: It is not a user's snapshot.

        Implements: rbd_snap_protect
        """
        require_users(self.namespace_type, "rbd_snap_protect", self._target)
        await self._handle.call("rbd_snap_protect", self._encoded, on=self._target, first=self._require)

    async def unprotect(self) -> None:
        """Let it be removed again. When cancelled, the outcome is unknown.

        Raises:
            SnapshotBusy: It has clones.
            InvalidArgument: It is not protected.
            OperationNotSupported: It is not a user's snapshot.

        Implements: rbd_snap_unprotect
        """
        function: Final = "rbd_snap_unprotect"
        require_users(self.namespace_type, function, self._target)

        def why(code: int) -> None:
            if code == -errno.EINVAL and self._is_protected() is False:
                raise error_for(code, function, self._target, "the snapshot is not protected")

        await self._handle.call(function, self._encoded, on=self._target, first=self._require, why=why)

    async def is_protected(self) -> bool:
        """Tell whether it is protected. Only a user's snapshot can be.

        Raises:
            SnapshotNotFound: It is gone.

        Implements: rbd_snap_is_protected
        """
        function: Final = "rbd_snap_is_protected"
        if self.namespace_type is not SnapshotNamespaceType.USER:
            await self.get_namespace_type()
            return False
        return bool(await self._handle.get(function, "int *", self._encoded, on=self._target, first=self._require))

    def _is_protected(self) -> bool | None:
        """On a worker thread: None where that cannot be found out."""
        out = ffi.new("int *")
        code = rbd().rbd_snap_is_protected(self._handle.pointer, self._encoded, out)
        return None if code < 0 else bool(out[0])

    async def remove(
        self, flags: SnapshotRemoveFlag | int = 0, *, any_namespace: bool = False, progress: Progress | None = None
    ) -> None:
        """Remove it. When cancelled, the outcome is unknown.

        Args:
            flags: What to do first when it is protected or has clones: a user's snapshot only.
            any_namespace: Remove it even if it belongs to a consistency group or to mirroring, which then lacks it.
            progress: Called on the event loop while clones are flattened; only for a user's snapshot.

        Raises:
            SnapshotNotFound: It is gone already.
            SnapshotBusy: It is protected, or has clones.
            OperationNotSupported: It is a group's or mirroring's, and `any_namespace` is false; or there are flags, and
                it is not a user's.

        Implements: rbd_snap_remove2, rbd_snap_remove_by_id
        """
        function: Final = "rbd_snap_remove2"
        flags = number(flags, "flags", function, self._target, bits=32)
        if flags or self.namespace_type is SnapshotNamespaceType.USER:
            require_users(self.namespace_type, function, self._target)
            await self._handle.call_with_progress(
                function,
                self._encoded,
                flags,
                progress=progress,
                on=self._target,
                first=self._require,
                why=lambda code: self._explain_busy(code, function, flags),
            )
        else:
            await self.remove_by_id(any_namespace=any_namespace)

    async def remove_by_id(self, *, any_namespace: bool = False) -> None:
        """Remove it by its id, which works for what is in the trash of snapshots too.

        When cancelled, the outcome is unknown.

        Args:
            any_namespace: Remove it even if it belongs to a consistency group or to mirroring, which then lacks it.

        Raises:
            SnapshotNotFound: It is gone already.
            SnapshotBusy: It is protected, or has clones.
            OperationNotSupported: It is a group's or mirroring's, and `any_namespace` is false.

        Implements: rbd_snap_remove_by_id
        """
        function: Final = "rbd_snap_remove_by_id"
        kind = self.namespace_type
        if kind in (SnapshotNamespaceType.GROUP, SnapshotNamespaceType.MIRROR) and not any_namespace:
            message = f"the snapshot is {KINDS[kind]}, which would miss it: any_namespace=True removes it"
            raise OperationNotSupported(errno.EOPNOTSUPP, message, function, str(self._target))
        await self._handle.call(
            function, self.id, on=self._target, why=lambda code: self._explain_busy(code, function, 0)
        )

    def _explain_busy(self, code: int, function: str, flags: int) -> None:
        """On a worker thread: raise if it is known why it cannot be removed."""
        if code != -errno.EBUSY:
            return
        if self.namespace_type is SnapshotNamespaceType.TRASH or flags & SnapshotRemoveFlag.UNPROTECT:
            raise error_for(code, function, self._target, "the snapshot has clones")
        if self.namespace_type is SnapshotNamespaceType.USER and self._is_protected():
            raise error_for(code, function, self._target, "the snapshot is protected")

    async def rename(self, new_name: str) -> None:
        """Give it another name. When cancelled, the outcome is unknown.

        Raises:
            SnapshotExists: The image has another of that name.
            InvalidArgument: The name is empty or holds ``@`` or ``/``.
            OperationNotSupported: It is not a user's snapshot.

        Implements: rbd_snap_rename
        """
        require_users(self.namespace_type, "rbd_snap_rename", self._target)
        encoded = encode_new_name(new_name, "new snapshot name", "rbd_snap_rename")
        on = Target("snapshot", f"{self._target}, new name {new_name!r}")
        await self._handle.call("rbd_snap_rename", self._encoded, encoded, on=on, first=self._require)
        self.name = new_name

    async def rollback(self, *, progress: Progress | None = None) -> None:
        """Make the image what it was then, its size included.

        When cancelled, it goes on: librbd could be stopped, but its map of the objects that exist may be wrong
        then, and with it every snapshot that is taken later. The image is a mixture until it is done. A write
        at the same time may be lost.

        Args:
            progress: Called on the event loop with what is done and what there is to do.

        Raises:
            SnapshotNotFound: It is gone.
            ReadOnlyImage: The image is open for reading only.
            OperationNotSupported: It is not a user's snapshot.

        Implements: rbd_snap_rollback_with_progress
        """
        require_users(self.namespace_type, "rbd_snap_rollback_with_progress", self._target)
        await self._handle.maintenance.call_that_shrinks(
            "rbd_snap_rollback_with_progress",
            self.size,
            self._encoded,
            progress=progress,
            on=self._target,
            first=self._require,
            stoppable=False,
        )

    async def set(self) -> None:
        """Read the image as it was then, until `Image.set_snapshot` says otherwise.

        Raises:
            SnapshotNotFound: It is gone.

        Implements: rbd_snap_set_by_id
        """
        await set_snapshot(self._handle, snapshot_id=self.id)

    async def get_timestamp(self) -> datetime:
        """Return when it was made.

        Raises:
            SnapshotNotFound: It is gone.

        Implements: rbd_snap_get_timestamp
        """
        handle, target = self._handle, self._target

        def call() -> datetime:
            name_by_id(handle, self.id)
            if version() < _NO_ABORT and handle.image_id:
                # Of an id that is not there any more, librbd 16.2 aborts the process.
                now = handle.ioctx.snapshot_now(handle.image_id, self.id)
                if now is None:
                    raise SnapshotNotFound(errno.ENOENT, "no such snapshot", "rbd_snap_get_timestamp", str(target))
                return utc(now.seconds, now.nanoseconds)
            out = ffi.new("struct timespec *")
            handle.raise_for(
                rbd().rbd_snap_get_timestamp(handle.pointer, self.id, out), "rbd_snap_get_timestamp", target
            )
            return utc(out.tv_sec, out.tv_nsec)

        return await handle.run("rbd_snap_get_timestamp", call, on=target)

    async def get_namespace_type(self) -> SnapshotNamespaceType:
        """Return whose it is.

        Raises:
            SnapshotNotFound: It is gone.

        Implements: rbd_snap_get_namespace_type
        """
        out_type = "rbd_snap_namespace_type_t *"
        kind = await self._handle.get("rbd_snap_get_namespace_type", out_type, self.id, on=self._target)
        return SnapshotNamespaceType(kind)

    async def get_trash_namespace(self) -> str:
        """Return the name it had before it went to the trash of snapshots.

        Raises:
            InvalidArgument: It is not there.
            SnapshotNotFound: It is gone.

        Implements: rbd_snap_get_trash_namespace
        """
        return await self._handle.get_string("rbd_snap_get_trash_namespace", self.id, on=self._target)


async def require_name(snapshot: Snapshot) -> None:
    """Raise when the name of a snapshot has come to belong to another one."""
    await snapshot._handle.run("rbd_snap_get_id", snapshot._require, on=snapshot._target)


def id_of(snapshot: str | Snapshot) -> int | None:
    """Return a snapshot's id, if it was given as a `Snapshot`."""
    return snapshot.id if isinstance(snapshot, Snapshot) else None


def name_of(snapshot: str | Snapshot) -> str:
    """Return a snapshot's name, however it was given."""
    return snapshot.name if isinstance(snapshot, Snapshot) else snapshot
