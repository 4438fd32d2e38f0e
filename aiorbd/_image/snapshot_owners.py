"""What a snapshot that is not a user's belongs to: a group, mirroring, or the trash of snapshots."""

from aiorbd._image.handle import ImageHandle
from aiorbd._image.mirror_values import peer_uuids, text
from aiorbd._native.capabilities import capabilities
from aiorbd._native.loader import ffi, rbd
from aiorbd._native.marshal import decode
from aiorbd.enums import MirrorSnapshotState, SnapshotNamespaceType
from aiorbd.errors import Target
from aiorbd.mirror_models import MirrorSnapshotInfo
from aiorbd.pool_models import GroupSpec, TrashSnapshotInfo


async def group_namespace(handle: ImageHandle, snapshot_id: int, on: Target) -> GroupSpec:
    """Return the group snapshot of a snapshot: see `Snapshot.group_namespace`."""
    function = "rbd_snap_get_group_namespace"

    def call() -> GroupSpec:
        out, size = ffi.new("rbd_snap_group_namespace_t *"), ffi.sizeof("rbd_snap_group_namespace_t")
        code = rbd().rbd_snap_get_group_namespace(handle.pointer, snapshot_id, out, size)
        handle.raise_on_thread(code, function, on)
        try:
            return GroupSpec(out.group_pool, decode(out.group_name), decode(out.group_snap_name))
        finally:
            rbd().rbd_snap_group_namespace_cleanup(out, size)

    return await handle.run(function, call, on=on)


async def mirror_namespace(handle: ImageHandle, snapshot_id: int, on: Target) -> MirrorSnapshotInfo:
    """Return the role of a snapshot in mirroring: see `Snapshot.mirror_namespace`."""
    function = "rbd_snap_get_mirror_namespace"

    def call() -> MirrorSnapshotInfo:
        out, size = ffi.new("rbd_snap_mirror_namespace_t *"), ffi.sizeof("rbd_snap_mirror_namespace_t")
        code = rbd().rbd_snap_get_mirror_namespace(handle.pointer, snapshot_id, out, size)
        handle.raise_on_thread(code, function, on)
        try:
            return MirrorSnapshotInfo(
                MirrorSnapshotState(out.state),
                peer_uuids(out),
                bool(out.complete),
                text(out.primary_mirror_uuid),
                out.primary_snap_id,
                out.last_copied_object_number,
            )
        finally:
            rbd().rbd_snap_mirror_namespace_cleanup(out, size)

    return await handle.run(function, call, on=on)


async def trash_namespace(handle: ImageHandle, snapshot_id: int, on: Target) -> TrashSnapshotInfo:
    """Return what a snapshot in the trash was: see `Snapshot.trash_namespace`."""
    if "rbd_snap_get_trash_namespace2" in capabilities():
        return await handle.run("rbd_snap_get_trash_namespace2", lambda: _trash_namespace2(handle, snapshot_id, on))
    return TrashSnapshotInfo(await handle.get_string("rbd_snap_get_trash_namespace", snapshot_id, on=on), None)


def _trash_namespace2(handle: ImageHandle, snapshot_id: int, on: Target) -> TrashSnapshotInfo:
    out, size = ffi.new("rbd_snap_trash_namespace_t *"), ffi.sizeof("rbd_snap_trash_namespace_t")
    code = rbd().rbd_snap_get_trash_namespace2(handle.pointer, snapshot_id, out, size)
    handle.raise_on_thread(code, "rbd_snap_get_trash_namespace2", on)
    try:
        return TrashSnapshotInfo(decode(out.original_name), SnapshotNamespaceType(out.original_namespace_type))
    finally:
        rbd().rbd_snap_trash_namespace_cleanup(out, size)
