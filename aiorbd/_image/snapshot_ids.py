"""Helpers for snapshots: their ids, kinds and names, and the choice of the snapshot to read."""

import errno
from collections.abc import Container
from typing import Any, Final, NamedTuple

from aiorbd._image.handle import ImageHandle
from aiorbd._native.loader import ffi, rbd
from aiorbd._native.marshal import encode_name, grow, grow_string, number
from aiorbd.enums import SnapshotNamespaceType
from aiorbd.errors import OperationNotSupported, SnapshotNotFound, Target

#: The kinds of snapshots, described for errors.
KINDS: Final = {
    SnapshotNamespaceType.USER: "a user's",
    SnapshotNamespaceType.GROUP: "a group's",
    SnapshotNamespaceType.TRASH: "in the trash of snapshots",
    SnapshotNamespaceType.MIRROR: "mirroring's",
}


class Facts(NamedTuple):
    """The kind of a snapshot, and whether the snapshot is protected."""

    namespace_type: SnapshotNamespaceType
    protected: bool


def facts(handle: ImageHandle, snapshot_id: int, name: Any) -> Facts | None:
    """Return the facts about a snapshot. Return None if the snapshot was removed. Runs on a worker thread."""
    kind, protected = ffi.new("rbd_snap_namespace_type_t *"), ffi.new("int *")
    function = "rbd_snap_get_namespace_type"
    on = snapshot_target(handle, None, snapshot_id)
    code = rbd().rbd_snap_get_namespace_type(handle.pointer, snapshot_id, kind)
    if code != -errno.ENOENT:
        handle.raise_for(code, function, on)
        if kind[0] != SnapshotNamespaceType.USER:  # only a user's snapshot can be protected
            return Facts(SnapshotNamespaceType(kind[0]), False)
        function = "rbd_snap_is_protected"
        code = rbd().rbd_snap_is_protected(handle.pointer, name, protected)
        if code != -errno.ENOENT:
            handle.raise_for(code, function, on)
            return Facts(SnapshotNamespaceType.USER, bool(protected[0]))
    return None


def list_facts(
    handle: ImageHandle, items: Any, count: int, wanted: Container[SnapshotNamespaceType]
) -> list[Facts | None]:
    """Return the facts about each listed snapshot. Runs on a worker thread.

    The result contains None for a snapshot of an unwanted kind, and for a snapshot that was removed.
    """
    found = (facts(handle, items[index].id, items[index].name) for index in range(count))
    return [one if one is not None and one.namespace_type in wanted else None for one in found]


def require_users(kind: SnapshotNamespaceType, operation: str, target: Target) -> None:
    """Raise if a snapshot is not a user's snapshot. librbd finds only users' snapshots by name."""
    if kind is not SnapshotNamespaceType.USER:
        message = f"librbd does this for user snapshots only, and this snapshot is {KINDS[kind]}"
        raise OperationNotSupported(errno.EOPNOTSUPP, message, operation, str(target))


def snapshot_target(handle: ImageHandle, name: str | None, snapshot_id: int | None = None) -> Target:
    """Describe a snapshot for errors."""
    return handle.about("snapshot", f"snapshot {name!r}" if name is not None else f"snapshot id {snapshot_id}")


def require_id(handle: ImageHandle, name: bytes | None, snapshot_id: int, target: Target) -> None:
    """Raise if a snapshot's name now belongs to another snapshot. Runs on a worker thread.

    librbd would use the other snapshot, because librbd finds snapshots by name.
    """
    out = ffi.new("uint64_t *")
    handle.raise_for(rbd().rbd_snap_get_id(handle.pointer, name, out), "rbd_snap_get_id", target)
    if out[0] != snapshot_id:
        message = f"the name now belongs to another snapshot: the id of this snapshot is {snapshot_id}"
        raise SnapshotNotFound(errno.ENOENT, message, "rbd_snap_get_id", str(target))


def name_by_id(handle: ImageHandle, snapshot_id: int) -> str:
    """Return the name of a snapshot. Runs on a worker thread."""
    on = snapshot_target(handle, None, snapshot_id)
    return grow_string(
        lambda buffer, size: rbd().rbd_snap_get_name(handle.pointer, snapshot_id, buffer, ffi.new("size_t *", size)),
        lambda code: handle.raise_for(code, "rbd_snap_get_name", on),
    )


def size_by_id(handle: ImageHandle, snapshot_id: int, on: Target) -> int:
    """Return the size of the image at a snapshot. Runs on a worker thread.

    Only librbd's list of snapshots contains this size.
    """

    def read(size: int) -> tuple[int, Any]:
        items, count = ffi.new("rbd_snap_info_t[]", size), ffi.new("int *", size)
        code = rbd().rbd_snap_list(handle.pointer, items, count)
        if code == -errno.ERANGE:
            return code, None
        handle.raise_for(code, "rbd_snap_list", on)
        try:
            return code, next((items[index].size for index in range(code) if items[index].id == snapshot_id), None)
        finally:
            if code:
                rbd().rbd_snap_list_end(items)

    size = grow(read, 256)
    if size is None:
        raise SnapshotNotFound(errno.ENOENT, "no such snapshot", "rbd_snap_list", str(on))
    return int(size)


def which(handle: ImageHandle, name: str | None, snapshot_id: int | None) -> tuple[bytes | None, int]:
    """Return the encoded name and 0 if a name was given. Return None and the id if an id was given."""
    if (name is None) == (snapshot_id is None):
        raise TypeError("takes either a name or a snapshot_id")
    if snapshot_id is not None:
        on = snapshot_target(handle, None, snapshot_id)
        return None, number(snapshot_id, "snapshot id", "rbd_snap_get_name", on, bits=64)
    return encode_name(name or "", "snapshot name", "rbd_snap_get_id", may_be_empty=True), 0


async def set_snapshot(handle: ImageHandle, name: str | None = None, snapshot_id: int | None = None) -> None:
    """Make later reads return the data of a snapshot, or the current data without a name and an id."""
    if name is None and snapshot_id is None:
        await handle.image_size.switch("rbd_snap_set", ffi.NULL, None, None)
        return
    encoded, known = which(handle, name, snapshot_id)
    on = snapshot_target(handle, name, snapshot_id)
    if encoded is not None:
        known = await handle.get("rbd_snap_get_id", "uint64_t *", encoded, on=on)
    found = (
        name if name is not None else await handle.run("rbd_snap_get_name", lambda: name_by_id(handle, known), on=on)
    )
    await handle.image_size.switch("rbd_snap_set_by_id", known, found, known, on)
