"""A snapshot of an open image."""

import errno
from datetime import datetime
from typing import Final

from aiorbd._core.long_call import LongCall
from aiorbd._core.progress import Progress
from aiorbd._image import snapshot_owners
from aiorbd._image.handle import ImageHandle
from aiorbd._image.maintenance import ShrinkingCall
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
from aiorbd.error_codes import error_for
from aiorbd.errors import OperationNotSupported, SnapshotNotFound, Target
from aiorbd.mirror_models import MirrorSnapshotInfo
from aiorbd.pool_models import GroupSpec, TrashSnapshotInfo

#: Before this librbd version, asking for the time of a removed snapshot may abort the process.
_NO_ABORT: Final = (1, 20, 0)


class Snapshot:
    """A snapshot of an open image, from `Image.create_snapshot`, `Image.snapshots` or `Image.get_snapshot`.

    The object is usable while the image is open. Some librbd functions find a snapshot by name. The methods that use
    such a function raise `SnapshotNotFound` if the name now belongs to another snapshot. They raise
    `OperationNotSupported` if the snapshot is not a user's snapshot. librbd does not find such a snapshot by name.

    The attributes and properties describe the snapshot at the time when this object was made.

    Attributes:
        id: The id of the snapshot. The id never changes.
        name: The name of the snapshot. `rename` updates the name.
        size: The size of the image when the snapshot was taken, in bytes.
    """

    __slots__ = ("_facts", "_handle", "id", "name", "size")

    def __init__(self, handle: ImageHandle, snapshot_id: int, name: str, size: int, facts: Facts) -> None:
        """Private."""
        self._handle = handle
        self.id: int = snapshot_id
        self.name: str = name
        self.size: int = size
        self._facts = facts

    def __repr__(self) -> str:
        kind = "" if self.namespace_type is SnapshotNamespaceType.USER else f", {self.namespace_type.name}"
        return f"<aiorbd.Snapshot: {self.name!r}, id {self.id}, {self.size} bytes{kind}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Snapshot) and (self._handle, self.id) == (other._handle, other.id)

    def __hash__(self) -> int:
        return hash((self._handle, self.id))

    @property
    def namespace_type(self) -> SnapshotNamespaceType:
        """The kind of the snapshot, by its owner: a user, a group, mirroring, or the trash of snapshots.

        Implements: rbd_snap_get_namespace_type
        """
        return self._facts.namespace_type

    @property
    def protected(self) -> bool:
        """Whether the snapshot was protected: see `is_protected`.

        Implements: rbd_snap_is_protected
        """
        return self._facts.protected

    @property
    def _encoded(self) -> bytes:
        return encode_name(self.name, "snapshot name", "rbd_snap_get_id", may_be_empty=True)

    def _require(self) -> None:
        """Raise if the name now belongs to another snapshot. Runs on a worker thread."""
        require_id(self._handle, self._encoded, self.id, self._target)

    @property
    def _target(self) -> Target:
        return snapshot_target(self._handle, self.name)

    async def protect(self) -> None:
        """Protect the snapshot from removal. If the call is cancelled, the outcome is unknown.

        Raises:
            SnapshotBusy: The snapshot is already protected.
            OperationNotSupported: The snapshot is not a user's snapshot.

        Implements: rbd_snap_protect
        """
        require_users(self.namespace_type, "rbd_snap_protect", self._target)
        await self._handle.call("rbd_snap_protect", self._encoded, on=self._target, first=self._require)

    async def unprotect(self) -> None:
        """End the protection, so that the snapshot can be removed. If the call is cancelled, the outcome is unknown.

        Raises:
            SnapshotBusy: The snapshot has clones.
            InvalidArgument: The snapshot is not protected.
            OperationNotSupported: The snapshot is not a user's snapshot.

        Implements: rbd_snap_unprotect
        """
        function: Final = "rbd_snap_unprotect"
        require_users(self.namespace_type, function, self._target)

        def why(code: int) -> None:
            if code == -errno.EINVAL and self._is_protected() is False:
                raise error_for(code, function, self._target, "the snapshot is not protected")

        await self._handle.call(function, self._encoded, on=self._target, first=self._require, why=why)

    async def is_protected(self) -> bool:
        """Tell whether the snapshot is protected. Only a user's snapshot can be protected.

        Raises:
            SnapshotNotFound: The snapshot was removed.

        Implements: rbd_snap_is_protected
        """
        function: Final = "rbd_snap_is_protected"
        if self.namespace_type is not SnapshotNamespaceType.USER:
            await self._handle.run("rbd_snap_get_name", lambda: name_by_id(self._handle, self.id), on=self._target)
            return False
        return bool(await self._handle.get(function, "int *", self._encoded, on=self._target, first=self._require))

    def _is_protected(self) -> bool | None:
        """Tell whether the snapshot is protected. Return None if librbd reports an error. Runs on a worker thread."""
        out = ffi.new("int *")
        code = rbd().rbd_snap_is_protected(self._handle.pointer, self._encoded, out)
        return None if code < 0 else bool(out[0])

    async def remove(
        self,
        flags: SnapshotRemoveFlag | int = SnapshotRemoveFlag.NONE,
        *,
        any_namespace: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Remove the snapshot. If the call is cancelled, the outcome is unknown.

        Args:
            flags: The steps that come first if the snapshot is protected or has clones: see `SnapshotRemoveFlag`. Only
                for a user's snapshot.
            any_namespace: Whether to remove even a snapshot of a consistency group or of mirroring. The group or
                mirroring then lacks the snapshot.
            progress: Called on the event loop while clones are flattened. Only for a user's snapshot.

        Raises:
            SnapshotNotFound: The snapshot was already removed.
            SnapshotBusy: The snapshot is protected or has clones.
            OperationNotSupported: The snapshot belongs to a group or to mirroring, and `any_namespace` is false. Or
                `flags` is not 0, and the snapshot is not a user's snapshot.

        Implements: rbd_snap_remove2, rbd_snap_remove_by_id
        """
        function: Final = "rbd_snap_remove2"
        flags = number(flags, "flags", function, self._target, bits=32)
        if flags or self.namespace_type is SnapshotNamespaceType.USER:
            require_users(self.namespace_type, function, self._target)
            await _Removal(self, flags).run(progress)
        else:
            await self.remove_by_id(any_namespace=any_namespace)

    async def remove_by_id(self, *, any_namespace: bool = False) -> None:
        """Remove the snapshot by its id. This also works for a snapshot in the trash of snapshots.

        If the call is cancelled, the outcome is unknown.

        Args:
            any_namespace: Whether to remove even a snapshot of a consistency group or of mirroring. The group or
                mirroring then lacks the snapshot.

        Raises:
            SnapshotNotFound: The snapshot was already removed.
            SnapshotBusy: The snapshot is protected or has clones.
            OperationNotSupported: The snapshot belongs to a group or to mirroring, and `any_namespace` is false.

        Implements: rbd_snap_remove_by_id
        """
        function: Final = "rbd_snap_remove_by_id"
        kind = self.namespace_type
        if kind in (SnapshotNamespaceType.GROUP, SnapshotNamespaceType.MIRROR) and not any_namespace:
            message = f"the snapshot is {KINDS[kind]}: only any_namespace=True removes it"
            raise OperationNotSupported(errno.EOPNOTSUPP, message, function, str(self._target))
        await self._handle.call(
            function, self.id, on=self._target, why=lambda code: self._explain_busy(code, function, 0)
        )

    def _explain_busy(self, code: int, function: str, flags: int) -> None:
        """Raise if the reason why the snapshot cannot be removed is known. Runs on a worker thread."""
        if code != -errno.EBUSY:
            return
        if self.namespace_type is SnapshotNamespaceType.TRASH or flags & SnapshotRemoveFlag.UNPROTECT:
            raise error_for(code, function, self._target, "the snapshot has clones")
        if self.namespace_type is SnapshotNamespaceType.USER and self._is_protected():
            raise error_for(code, function, self._target, "the snapshot is protected")

    async def rename(self, new_name: str) -> None:
        """Rename the snapshot. If the call is cancelled, the outcome is unknown.

        Raises:
            SnapshotExists: The image already has a snapshot with this name.
            InvalidArgument: The name is empty or contains ``@`` or ``/``.
            OperationNotSupported: The snapshot is not a user's snapshot.

        Implements: rbd_snap_rename
        """
        require_users(self.namespace_type, "rbd_snap_rename", self._target)
        encoded = encode_new_name(new_name, "new snapshot name", "rbd_snap_rename")
        on = Target("snapshot", f"{self._target}, new name {new_name!r}")
        await self._handle.call("rbd_snap_rename", self._encoded, encoded, on=on, first=self._require)
        self.name = new_name

    async def rollback(self, *, progress: Progress | None = None) -> None:
        """Restore the data and the size of the image from the snapshot.

        Until the rollback finishes, the image holds a mix of old and new data. A write at the same time may be lost.

        If the call is cancelled, the rollback continues. librbd is not asked to stop: after a stop, its object map may
        be wrong, and then every snapshot that is taken later may be wrong too.

        Args:
            progress: Called on the event loop as ``progress(done, total)``.

        Raises:
            SnapshotNotFound: The snapshot was removed.
            ReadOnlyImage: The image is open for reading only.
            OperationNotSupported: The snapshot is not a user's snapshot.

        Implements: rbd_snap_rollback_with_progress
        """
        require_users(self.namespace_type, "rbd_snap_rollback_with_progress", self._target)
        await _Rollback(self).run(progress)

    async def set(self) -> None:
        """Make later reads of the image return the data of this snapshot, until a call of `Image.set_snapshot`.

        Raises:
            SnapshotNotFound: The snapshot was removed.

        Implements: rbd_snap_set_by_id
        """
        await set_snapshot(self._handle, snapshot_id=self.id)

    async def timestamp(self) -> datetime:
        """Return the time when the snapshot was taken.

        Raises:
            SnapshotNotFound: The snapshot was removed.

        Implements: rbd_snap_get_timestamp
        """
        handle, target = self._handle, self._target

        def call() -> datetime:
            name_by_id(handle, self.id)
            if version() < _NO_ABORT and handle.image_id:
                # librbd 16.2 aborts the process for the id of a removed snapshot.
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

    async def group_namespace(self) -> GroupSpec:
        """Return the group snapshot that this snapshot belongs to.

        Raises:
            InvalidArgument: The snapshot is not a group's snapshot.
            SnapshotNotFound: The snapshot was removed.

        Implements: rbd_snap_get_group_namespace, rbd_snap_group_namespace_cleanup
        """
        return await snapshot_owners.group_namespace(self._handle, self.id, self._target)

    async def mirror_namespace(self) -> MirrorSnapshotInfo:
        """Return the role of this snapshot in mirroring.

        Raises:
            InvalidArgument: The snapshot does not belong to mirroring.
            SnapshotNotFound: The snapshot was removed.

        Implements: rbd_snap_get_mirror_namespace, rbd_snap_mirror_namespace_cleanup
        """
        return await snapshot_owners.mirror_namespace(self._handle, self.id, self._target)

    async def trash_namespace(self) -> TrashSnapshotInfo:
        """Return what the snapshot was before it was moved to the trash of snapshots.

        Raises:
            InvalidArgument: The snapshot is not in the trash of snapshots.
            SnapshotNotFound: The snapshot was removed.

        Implements: rbd_snap_get_trash_namespace, rbd_snap_get_trash_namespace2, rbd_snap_trash_namespace_cleanup
        """
        return await snapshot_owners.trash_namespace(self._handle, self.id, self._target)


class _Removal(LongCall):
    """The removal of a snapshot by its name."""

    def __init__(self, snapshot: Snapshot, flags: int) -> None:
        super().__init__(snapshot._handle, "rbd_snap_remove2", snapshot._encoded, flags, on=snapshot._target)
        self._snapshot = snapshot
        self._flags = flags

    def prepare(self) -> None:
        """Check that the name still belongs to the snapshot."""
        self._snapshot._require()

    def explain(self, code: int) -> None:
        """Tell why the snapshot is in use."""
        self._snapshot._explain_busy(code, self.function, self._flags)


class _Rollback(ShrinkingCall):
    """A rollback to a snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__(
            snapshot._handle,
            # The size of the snapshot may include the header of a loaded encryption. A lower limit is safe.
            max(0, snapshot.size - snapshot._handle.header),
            "rbd_snap_rollback_with_progress",
            snapshot._encoded,
            on=snapshot._target,
            stoppable=False,
        )
        self._snapshot = snapshot

    def prepare(self) -> None:
        """Check that the name still belongs to the snapshot."""
        self._snapshot._require()


async def require_name(snapshot: Snapshot) -> None:
    """Raise if the name of a snapshot now belongs to another snapshot."""
    await snapshot._handle.run("rbd_snap_get_id", snapshot._require, on=snapshot._target)


def id_of(snapshot: str | Snapshot) -> int | None:
    """Return the id of a `Snapshot`. Return None for a name."""
    return snapshot.id if isinstance(snapshot, Snapshot) else None


def name_of(snapshot: str | Snapshot) -> str:
    """Return the name of a snapshot that was given as a name or as a `Snapshot`."""
    return snapshot.name if isinstance(snapshot, Snapshot) else snapshot
