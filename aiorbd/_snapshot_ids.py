"""Snapshots by their ids: librbd goes by names, which may come to belong to others."""

import errno
from typing import Any

from aiorbd._image_handle import ImageHandle
from aiorbd._marshal import grow, grow_string
from aiorbd._native import ffi, rbd
from aiorbd.errors import SnapshotNotFound, Target


def snapshot_target(handle: ImageHandle, name: str | None, snapshot_id: int | None = None) -> Target:
    """Name a snapshot in errors."""
    return handle.about("snapshot", f"snapshot {name!r}" if name is not None else f"snapshot id {snapshot_id}")


def require_id(handle: ImageHandle, name: bytes | None, snapshot_id: int, target: Target) -> None:
    """On a worker thread: raise when a snapshot's name has come to belong to another one. librbd goes by the name."""
    out = ffi.new("uint64_t *")
    handle.raise_for(rbd().rbd_snap_get_id(handle.pointer, name, out), "rbd_snap_get_id", target)
    if out[0] != snapshot_id:
        message = f"the name now belongs to another snapshot: this one's id is {snapshot_id}"
        raise SnapshotNotFound(errno.ENOENT, message, "rbd_snap_get_id", str(target))


def name_by_id(handle: ImageHandle, snapshot_id: int) -> str:
    """On a worker thread."""
    on = snapshot_target(handle, None, snapshot_id)
    return grow_string(
        lambda buffer, size: rbd().rbd_snap_get_name(handle.pointer, snapshot_id, buffer, ffi.new("size_t *", size)),
        lambda code: handle.raise_for(code, "rbd_snap_get_name", on),
    )


def size_by_id(handle: ImageHandle, snapshot_id: int, on: Target) -> int:
    """On a worker thread: the list is the only place that has it."""

    def read(size: int) -> tuple[int, Any]:
        items, count = ffi.new("rbd_snap_info_t[]", size), ffi.new("int *", size)
        code = rbd().rbd_snap_list(handle.pointer, items, count)
        if code < 0:
            return code, None
        try:
            return code, next((items[index].size for index in range(code) if items[index].id == snapshot_id), None)
        finally:
            if code:
                rbd().rbd_snap_list_end(items)

    size = grow(read, 256)
    if size is None:
        raise SnapshotNotFound(errno.ENOENT, "no such snapshot", "rbd_snap_list", str(on))
    return int(size)
