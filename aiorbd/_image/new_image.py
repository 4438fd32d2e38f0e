"""Create images: clone snapshots, keep the data pool of a copy, and explain failures."""

import errno
import os
from typing import Final

from aiorbd._core.pool_handle import PoolHandle
from aiorbd._native.capabilities import capabilities
from aiorbd._native.configuration import conf_get
from aiorbd._native.image_options import ImageOptions
from aiorbd._native.loader import ffi, rados, rbd
from aiorbd._native.marshal import encode_name, encode_new_name, grow_string
from aiorbd.enums import ImageOption
from aiorbd.errors import (
    ImageNotFound,
    InvalidArgument,
    PoolNotFound,
    SnapshotNotFound,
    Target,
    UsageError,
)

#: The options that name a pool, and the kind of the pool for errors.
_POOLS: Final = {ImageOption.DATA_POOL: "data pool", ImageOption.JOURNAL_POOL: "journal pool"}


def explain_new(ioctx: PoolHandle, options: ImageOptions, code: int, function: str, on: Target) -> None:
    """Raise if the reason why an image could not be created is known. Runs on a worker thread."""
    if code == -errno.ENOENT:
        for option, what in _POOLS.items():
            name = options.get(option)
            if isinstance(name, str) and (
                rados().rados_pool_lookup(ioctx.cluster.pointer, encode_name(name, what, function)) == -errno.ENOENT
            ):
                raise PoolNotFound(errno.ENOENT, f"no such {what}: {name!r}", function, str(on))
    if code in (-errno.ENOENT, -errno.EINVAL) and ImageOption.MIRROR_IMAGE_MODE in options:
        mode = ffi.new("rbd_mirror_mode_t *")
        if rbd().rbd_mirror_mode_get(ioctx.pointer, mode) >= 0 and mode[0] == rbd().RBD_MIRROR_MODE_DISABLED:
            raise InvalidArgument(errno.EINVAL, "the pool does not mirror its images", function, str(on))


def keep_data_pool(source: PoolHandle, data_pool_id: int, target: PoolHandle, options: ImageOptions) -> None:
    """Let a copy use the data pool of its source, unless the options name a data pool. Runs on a worker thread.

    librbd does not keep the data pool by itself. A copy to another cluster cannot keep the data pool.
    """
    same_cluster = str(source.cluster.target) == str(target.cluster.target)
    if data_pool_id in (source.pool_id, -1) or not same_cluster or ImageOption.DATA_POOL in options:
        return
    options[ImageOption.DATA_POOL] = grow_string(
        lambda buffer, size: rados().rados_pool_reverse_lookup(source.cluster.pointer, data_pool_id, buffer, size),
        lambda code: source.raise_for(code, "rados_pool_reverse_lookup", Target("pool", f"pool id {data_pool_id}")),
    )


async def clone_snapshot(
    parent: PoolHandle,
    name: str,
    snapshot: str,
    child: PoolHandle,
    child_name: str,
    options: ImageOptions,
    *,
    image_id: str | None = None,
    snapshot_id: int | None = None,
) -> None:
    """Clone an image's snapshot into the same or another pool or namespace.

    librbd finds the image by its name. If `image_id` is given, the name must belong to the image with this id. If
    `snapshot_id` is given, librbd 19.2 finds the snapshot by its id, and can also clone snapshots that are not users'
    snapshots.
    """
    parent.check()
    child.check()
    if str(parent.cluster.target) != str(child.cluster.target):
        raise UsageError(f"{child.target} belongs to another cluster than {parent.target}: only a copy goes there")
    by_id = snapshot_id is not None and "rbd_clone4" in capabilities()
    function = "rbd_clone4" if by_id else "rbd_clone3"
    encoded = encode_name(name, "image name", function)
    # librbd aborts the process when it searches for a snapshot with an empty name.
    encoded_snapshot = encode_name(snapshot, "snapshot name", function, may_be_empty=by_id)
    encoded_child = encode_new_name(child_name, "image name", function)
    on = Target("image", f"{child.image(child_name)}, clone of {name + '@' + snapshot!r}")

    def call() -> None:
        which = snapshot_id if by_id else encoded_snapshot
        code = getattr(rbd(), function)(parent.pointer, encoded, which, child.pointer, encoded_child, options._pointer)
        if code in (-errno.ENOENT, -errno.EINVAL):
            child.explain(code, function, None)
            explain_new(child, options, code, function, on)
            _explain_clone(parent, name, snapshot, snapshot_id, options, code, function, on)
        child.raise_for(code, function, on)

    def require_names() -> None:
        """Raise if a name now belongs to another image or snapshot: librbd finds both by name."""
        if image_id and parent.id_of(encoded) != image_id:
            message = f"the name {name!r} is not that of the image any more, and librbd clones by name"
            raise ImageNotFound(errno.ENOENT, message, function, str(on))
        if image_id and snapshot_id is not None and not by_id:
            now = parent.snapshot_now(image_id, snapshot_id)
            if now is None or now.name != snapshot:
                message = f"the name {snapshot!r} is not that of the snapshot any more: its id is {snapshot_id}"
                raise SnapshotNotFound(errno.ENOENT, message, function, str(on))

    def checked() -> None:
        require_names()
        call()
        try:
            require_names()
        except (ImageNotFound, SnapshotNotFound) as error:
            error.add_note(f"It changed during the call: {child.image(child_name)} may be a clone of another one.")
            raise

    await parent.run(function, checked, on=on, also=[child])


def _explain_clone(
    parent: PoolHandle,
    name: str,
    snapshot: str,
    snapshot_id: int | None,
    options: ImageOptions,
    code: int,
    on_function: str,
    on: Target,
) -> None:
    """Raise if the reason for a failed clone is known. Runs on a worker thread.

    The known reasons are a missing image, a missing snapshot, and a snapshot that must be protected and is not.
    """
    encoded, out, protected = os.fsencode(snapshot), ffi.new("uint64_t *"), ffi.new("int *")
    with parent.opened("rbd_open_read_only", os.fsencode(name)) as (opened, image):
        parent.raise_on_thread(opened, "rbd_open_read_only", parent.image(name))
        if snapshot_id is None and rbd().rbd_snap_get_id(image, encoded, out) == -errno.ENOENT:
            target = f"snapshot {snapshot!r} of {parent.image(name)}"
            raise SnapshotNotFound(errno.ENOENT, "no such snapshot", "rbd_snap_get_id", target)
        found = rbd().rbd_snap_is_protected(image, encoded, protected)
        if code == -errno.EINVAL and found >= 0 and not protected[0] and _is_format_1(parent, options):
            message = "the snapshot is not protected, which a clone of format 1 needs"
            raise InvalidArgument(errno.EINVAL, message, on_function, str(on))


#: Ceph's number of the first release in which clients support clones of format 2.
_MIMIC: Final = 13


def _is_format_1(ioctx: PoolHandle, options: ImageOptions) -> bool:
    """Tell whether librbd creates a clone of format 1. Runs on a worker thread.

    This function repeats the decision that librbd makes itself.
    """
    asked = options.get(ImageOption.CLONE_FORMAT)
    default = conf_get(ioctx.cluster.pointer, "rbd_default_clone_format")
    if asked is not None or default in ("1", "2"):
        return str(asked or default) == "1"
    oldest, required = ffi.new("int8_t *"), ffi.new("int8_t *")
    code = rados().rados_get_min_compatible_client(ioctx.cluster.pointer, oldest, required)
    return bool(code >= 0 and max(oldest[0], required[0]) < _MIMIC)
