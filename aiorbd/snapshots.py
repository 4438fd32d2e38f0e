"""Snapshots of an open image."""

from datetime import datetime

from aiorbd._bridge.listing import Listing
from aiorbd._bridge.progress import Progress
from aiorbd._image_handle import ImageHandle
from aiorbd._marshal import decode, encode_name, encode_new_name, number, utc
from aiorbd._native import ffi, rbd
from aiorbd._resource import Resource
from aiorbd._snapshot_ids import name_by_id, require_id, size_by_id, snapshot_target
from aiorbd.enums import SnapshotCreateFlag, SnapshotNamespaceType, SnapshotRemoveFlag
from aiorbd.errors import Target


class Snapshot:
    """A snapshot of an open image, from `Image.create_snapshot`, `Image.snapshots` or `Image.get_snapshot`.

    It lives as long as the image is open. What librbd does by name is refused when the name has come to belong to
    another snapshot. Those in the trash of snapshots have no name that could be used: they are removed by id.

    Attributes:
        id: Its id, which stays.
        name: Its name when it was asked for.
        size: The image's size then, in bytes.
    """

    __slots__ = ("_handle", "id", "name", "size")

    def __init__(self, handle: ImageHandle, snapshot_id: int, name: str, size: int) -> None:
        """Private."""
        self._handle = handle
        self.id: int = snapshot_id
        self.name: str = name
        self.size: int = size

    def __repr__(self) -> str:
        return f"<aiorbd.Snapshot: {self.name!r}, id {self.id}, {self.size} bytes>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Snapshot) and (self._handle, self.id) == (other._handle, other.id)

    def __hash__(self) -> int:
        return hash((self._handle, self.id))

    @property
    def _encoded(self) -> bytes:
        return encode_name(self.name, "snapshot name", "rbd_snap_get_id")

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

        Implements: rbd_snap_protect
        """
        await self._handle.call("rbd_snap_protect", self._encoded, on=self._target, first=self._require)

    async def unprotect(self) -> None:
        """Let it be removed again. When cancelled, the outcome is unknown.

        Raises:
            SnapshotBusy: It has clones.
            InvalidArgument: It is not protected.

        Implements: rbd_snap_unprotect
        """
        await self._handle.call("rbd_snap_unprotect", self._encoded, on=self._target, first=self._require)

    async def is_protected(self) -> bool:
        """Tell whether it is protected.

        Implements: rbd_snap_is_protected
        """
        function = "rbd_snap_is_protected"
        return bool(await self._handle.get(function, "int *", self._encoded, on=self._target, first=self._require))

    async def remove(self, flags: SnapshotRemoveFlag | int = 0, *, progress: Progress | None = None) -> None:
        """Remove it. When cancelled, the outcome is unknown.

        Args:
            flags: What to do first when it is protected or has clones.
            progress: Called on the event loop while clones are flattened.

        Raises:
            SnapshotNotFound: It is gone already.
            SnapshotBusy: It is protected.

        Implements: rbd_snap_remove2
        """
        flags = number(flags, "flags", "rbd_snap_remove2", self._target, bits=32)
        await self._handle.call_with_progress(
            "rbd_snap_remove2", self._encoded, flags, progress=progress, on=self._target, first=self._require
        )

    async def remove_by_id(self) -> None:
        """Remove it by its id, which works for what is in the trash of snapshots too.

        When cancelled, the outcome is unknown.

        Raises:
            SnapshotNotFound: It is gone already.
            SnapshotBusy: It is protected, or still in use.

        Implements: rbd_snap_remove_by_id
        """
        await self._handle.call("rbd_snap_remove_by_id", self.id, on=self._target)

    async def rename(self, new_name: str) -> None:
        """Give it another name. When cancelled, the outcome is unknown.

        Raises:
            SnapshotExists: The image has another of that name.
            InvalidArgument: The name is empty or holds ``@`` or ``/``.

        Implements: rbd_snap_rename
        """
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
            progress: Called on the event loop with what is done and what there is to do. What it raises is raised
                here, when it is done.

        Raises:
            SnapshotNotFound: It is gone.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_snap_rollback_with_progress
        """
        await self._handle.call_that_shrinks(
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
            name_by_id(handle, self.id)  # of an id that is not there, librbd 16.2 aborts the process
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


class ImageSnapshots(Resource):
    """The snapshots of an open image: part of `Image`."""

    _handle: ImageHandle

    async def create_snapshot(
        self, name: str, flags: SnapshotCreateFlag | int = 0, *, progress: Progress | None = None
    ) -> Snapshot:
        """Take a snapshot. When cancelled, the outcome is unknown.

        What was written before and not flushed is part of it.

        Args:
            name: Its name, without ``@`` and ``/``.
            flags: Whether clients that watch for it are asked to quiesce first.
            progress: Called on the event loop while they do.

        Raises:
            SnapshotExists: The image has one of that name.
            InvalidArgument: The name is empty or holds ``@`` or ``/``.
            ReadOnlyImage: The image is open for reading only.
            DiskQuotaExceeded: The limit of snapshots is reached.

        Implements: rbd_snap_create2
        """
        handle = self._handle
        encoded = encode_new_name(name, "snapshot name", "rbd_snap_create2")
        on = snapshot_target(handle, name)
        flags = number(flags, "flags", "rbd_snap_create2", on, bits=32)
        await handle.call_with_progress("rbd_snap_create2", encoded, flags, progress=progress, on=on)
        return await self.get_snapshot(name)

    def snapshots(self) -> Listing[Snapshot]:
        """Iterate over all snapshots, of all namespaces, the oldest first.

        Implements: rbd_snap_list
        """
        handle = self._handle
        return handle.listing(
            "rbd_snap_list",
            "rbd_snap_info_t",
            "rbd_snap_list_end",
            lambda item: Snapshot(handle, item.id, decode(item.name), item.size),
            returns_count=True,
        )

    async def get_snapshot(self, name: str | None = None, *, snapshot_id: int | None = None) -> Snapshot:
        """Return a snapshot, by its name or by its id.

        Raises:
            SnapshotNotFound: There is no such snapshot.

        Implements: rbd_snap_get_id, rbd_snap_get_name, rbd_snap_list
        """
        handle = self._handle
        handle.check()
        encoded, known = _which(handle, name, snapshot_id)
        on = snapshot_target(handle, name, snapshot_id)

        def call() -> Snapshot:
            found = known
            if encoded is not None:
                out = ffi.new("uint64_t *")
                handle.raise_for(rbd().rbd_snap_get_id(handle.pointer, encoded, out), "rbd_snap_get_id", on)
                found = out[0]
            return Snapshot(handle, found, name_by_id(handle, found), size_by_id(handle, found, on))

        return await handle.run("rbd_snap_get_id", call, on=on)

    async def snapshot_exists(self, name: str) -> bool:
        """Tell whether the image has a snapshot of that name.

        Implements: rbd_snap_exists
        """
        return bool(
            await self._handle.get("rbd_snap_exists", "bool *", encode_name(name, "snapshot name", "rbd_snap_exists"))
        )

    async def set_snapshot(self, name: str | Snapshot | None = None, *, snapshot_id: int | None = None) -> None:
        """Read the image as it was at a snapshot, by its name, itself, or its id; without any, as it is now.

        While a snapshot is set, the image cannot be written to. When cancelled, the outcome is unknown.

        Raises:
            SnapshotNotFound: There is no such snapshot.

        Implements: rbd_snap_get_id, rbd_snap_set, rbd_snap_set_by_id
        """
        if isinstance(name, Snapshot):
            await name.set()
        else:
            await set_snapshot(self._handle, name, snapshot_id)

    async def get_snapshot_limit(self) -> int | None:
        """Return how many snapshots the image may have; None for any number.

        Implements: rbd_snap_get_limit
        """
        limit: int = await self._handle.get("rbd_snap_get_limit", "uint64_t *")
        return None if limit == _NO_LIMIT else limit

    async def set_snapshot_limit(self, limit: int | None) -> None:
        """Set how many snapshots the image may have; None for any number. When cancelled, the outcome is unknown.

        Raises:
            InvalidArgument: The limit is out of range, or there are more snapshots already.

        Implements: rbd_snap_set_limit
        """
        value = _NO_LIMIT if limit is None else number(limit, "limit", "rbd_snap_set_limit", self._handle.target)
        await self._handle.call("rbd_snap_set_limit", value)


_NO_LIMIT = (1 << 64) - 1


async def require_name(snapshot: Snapshot) -> None:
    """Raise when the name of a snapshot has come to belong to another one."""
    await snapshot._handle.run("rbd_snap_get_id", snapshot._require, on=snapshot._target)


def name_of(snapshot: str | Snapshot) -> str:
    """Return a snapshot's name, however it was given."""
    return snapshot.name if isinstance(snapshot, Snapshot) else snapshot


def _which(handle: ImageHandle, name: str | None, snapshot_id: int | None) -> tuple[bytes | None, int]:
    if (name is None) == (snapshot_id is None):
        raise TypeError("takes either a name or a snapshot_id")
    if snapshot_id is not None:
        on = snapshot_target(handle, None, snapshot_id)
        return None, number(snapshot_id, "snapshot id", "rbd_snap_get_name", on, bits=64)
    return encode_name(name or "", "snapshot name", "rbd_snap_get_id"), 0


async def set_snapshot(handle: ImageHandle, name: str | None = None, snapshot_id: int | None = None) -> None:
    """See `ImageSnapshots.set_snapshot`."""
    if name is None and snapshot_id is None:
        await handle.switch("rbd_snap_set", ffi.NULL, None, None)
        return
    encoded, known = _which(handle, name, snapshot_id)
    on = snapshot_target(handle, name, snapshot_id)
    if encoded is not None:
        known = await handle.get("rbd_snap_get_id", "uint64_t *", encoded, on=on)
    found = (
        name if name is not None else await handle.run("rbd_snap_get_name", lambda: name_by_id(handle, known), on=on)
    )
    await handle.switch("rbd_snap_set_by_id", known, found, known, on)
