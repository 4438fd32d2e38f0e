"""librbd's walk over an image in search of changed extents. The walk runs on a worker thread."""

import errno
import warnings
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiorbd._core.operation import URGENT, Job
from aiorbd._core.stream import Source
from aiorbd._image.handle import ImageHandle
from aiorbd._image.presence import require_there
from aiorbd._image.snapshot_ids import name_by_id, require_id
from aiorbd._native.capabilities import capabilities
from aiorbd._native.loader import bridge_ffi, ffi, function_of_bridge, rbd
from aiorbd.enums import Feature, ImageFlag
from aiorbd.errors import IncompleteDiffWarning, PastEndOfImage, RbdError, SnapshotNotFound, Target, UsageError

if TYPE_CHECKING:
    from typing import TypeGuard

#: The largest number of extents that librbd may be ahead of the event loop. Each extent takes 24 bytes.
AHEAD: Final = 4096

#: The largest number of extents that the event loop takes at once.
BATCH: Final = 256


#: The newest snapshot of an image and its flags: see `PoolHandle.snapshots_and_flags`.
State = tuple[int, int]


class Arguments(NamedTuple):
    """The arguments of `Image.diff`."""

    since: bytes | None
    since_id: int | None  # the id of the snapshot that must have the name `since`
    target: Target
    offset: int
    length: int | None
    include_parent: bool
    whole_object: bool
    warn: bool = True  # of ranges that the diff of a clone may lack


class Walk(Job[int]):
    """librbd's walk over the image on a worker thread, and the extents that the iteration has not taken yet.

    The walk has no reference to the `Diff`. So Python can collect a forgotten `Diff`, and the collection stops the
    walk.
    """

    __slots__ = ("_diff", "_lib", "_source", "_stopped", "_token")

    def __init__(
        self, handle: ImageHandle, walked: ImageHandle, state: State | None, source: Source, arguments: Arguments
    ) -> None:
        """Create a walk over `walked`: `handle`, or a handle of the same image that the walk closes at its end.

        If the image no longer has the `state` at the end, the walk fails.
        """
        super().__init__(
            handle,
            "rbd_diff_iterate3" if goes_by_id(arguments.since_id) else "rbd_diff_iterate2",
            lambda: 0 if self._stopped else _walk(handle, walked, state, self._diff, arguments),
            also=[walked],
            ended=None if walked is handle else walked.begin_close,
        )
        # A walk waits for its reader, and the reader may wait for other calls.
        # So the walk does not count towards the limit on worker threads for these calls.
        self.group = URGENT
        self._stopped = False
        self._lib = lib = handle.lib
        self._source = source
        self._token = handle.bridge.listen(source.notify)
        diff = lib.aiorbd_diff_new(handle.bridge.queue, self._token, AHEAD)
        if not diff:
            self.let_go()
            raise MemoryError
        self._diff = bridge_ffi.gc(diff, lib.aiorbd_diff_release)

    def stop(self) -> None:
        """End the walk at the next extent. Any thread may call this."""
        self._stopped = True
        self._lib.aiorbd_diff_stop(self._diff)

    def take(self, numbers: Any) -> int:
        """Take up to `BATCH` extents into `numbers`, three numbers each. Return the number of extents."""
        count: int = self._lib.aiorbd_diff_take(self._diff, numbers, BATCH)
        return count

    @property
    def ends(self) -> bool:  # type: ignore[override]
        """Whether the walk ends without its reader. The reader may be waiting for something else."""
        return self._stopped

    def finish(self) -> None:
        """Tell the iteration that no more extents follow."""
        self.let_go()
        self._source.end(self.error)

    def let_go(self) -> None:
        """Release the handles, and stop listening for extents."""
        super().let_go()
        self.owner.bridge.unlisten(self._token)


def _walk(handle: ImageHandle, walked: ImageHandle, state: State | None, diff: Any, arguments: Arguments) -> int:
    """Check the range, and have librbd report the extents of `walked` to `diff`. Runs on a worker thread."""
    out = ffi.new("uint64_t *")
    handle.image_size.require_view()
    if handle.encrypted:  # whole objects do not begin at the offsets of the decrypted data
        arguments = arguments._replace(whole_object=False)
    if arguments.whole_object and walked is handle and handle.image_id and handle.image_size.snapshot_id is None:
        raise UsageError("the snapshot that is read was changed while the diff began: start a new diff")
    handle.raise_for(rbd().rbd_get_size(walked.pointer, out), "rbd_get_size")
    rest = out[0] - arguments.offset
    wanted = rest if arguments.length is None else arguments.length
    if rest < 0 or wanted > rest:
        message = f"range exceeds the image size ({out[0]} bytes)"
        raise PastEndOfImage(errno.EINVAL, message, "rbd_diff_iterate2", str(handle.target))

    if wanted <= 0:  # librbd 16.2 aborts the process in some cases of an empty range
        return 0
    if arguments.warn and not arguments.include_parent and arguments.since is None:
        _warn_of_a_parent(handle, out, arguments)
    since_id = arguments.since_id
    if arguments.since is not None and since_id is None:
        code = rbd().rbd_snap_get_id(walked.pointer, arguments.since, out)
        handle.raise_for(code, "rbd_snap_get_id", arguments.target)
        since_id = out[0]
    on_extent = function_of_bridge("aiorbd_on_extent", "int (*)(uint64_t, size_t, int, void *)")
    argument = ffi.cast("void *", diff)
    if goes_by_id(arguments.since_id):
        name_by_id(handle, arguments.since_id)
        flags = rbd().RBD_DIFF_ITERATE_FLAG_INCLUDE_PARENT * arguments.include_parent
        flags |= rbd().RBD_DIFF_ITERATE_FLAG_WHOLE_OBJECT * arguments.whole_object
        code = rbd().rbd_diff_iterate3(
            walked.pointer, arguments.since_id, arguments.offset, wanted, flags, on_extent, argument
        )
        result = handle.raise_for(code, "rbd_diff_iterate3", arguments.target)
        name_by_id(handle, arguments.since_id)
    else:
        _require_since(handle, arguments)
        since = arguments.since if arguments.since is not None else ffi.NULL
        code = rbd().rbd_diff_iterate2(
            walked.pointer,
            since,
            arguments.offset,
            wanted,
            arguments.include_parent,
            arguments.whole_object,
            on_extent,
            argument,
        )
        result = handle.raise_for(code, "rbd_diff_iterate2", arguments.target)
        _require_since(handle, arguments)
    handle.image_size.require_view()
    require_there(walked, "rbd_diff_iterate2")
    _require_complete(handle, since_id, state, arguments)
    handle.require_place("rbd_diff_iterate2")
    return result


def _require_complete(handle: ImageHandle, since_id: int | None, state: State | None, arguments: Arguments) -> None:
    """Raise if changes may be missing in the extents that librbd has reported. Runs on a worker thread.

    Without the earlier snapshot, librbd does not see what was discarded since. A snapshot that was taken during the
    walk marks all objects as unchanged, and librbd does not know its object map.
    """
    if since_id is not None and handle.image_id and handle.ioctx.snapshot_now(handle.image_id, since_id) is None:
        message = "the snapshot was removed during the diff: changes may be missing"
        raise SnapshotNotFound(errno.ENOENT, message, "rbd_diff_iterate2", str(arguments.target))
    if state is not None and handle.ioctx.snapshots_and_flags(handle.image_id) != state:
        message = "a snapshot was created during the diff, and changes may be missing: start a new diff"
        raise RbdError(errno.ESTALE, message, "rbd_diff_iterate2", str(handle.target))


def may_flush(handle: ImageHandle) -> bool:
    """Tell whether a flush asks for no lock: the handle has the exclusive lock, or the image needs none.

    A handle without the lock has nothing to flush, because it flushed before it handed the lock over. Runs on a worker
    thread.
    """
    features, owner = ffi.new("uint64_t *"), ffi.new("int *")
    handle.raise_for(rbd().rbd_get_features(handle.pointer, features), "rbd_get_features")
    if not features[0] & Feature.EXCLUSIVE_LOCK:
        return True
    handle.raise_for(rbd().rbd_is_exclusive_lock_owner(handle.pointer, owner), "rbd_is_exclusive_lock_owner")
    return bool(owner[0])


def _warn_of_a_parent(handle: ImageHandle, out: Any, arguments: Arguments) -> None:
    """Warn if the diff of a clone may lack emptied ranges. Runs on a worker thread.

    A clone has no data in a range that it emptied, and librbd does not report such a range.
    """
    if rbd().rbd_get_overlap(handle.pointer, out) < 0 or not out[0]:
        return
    features, flags = ffi.new("uint64_t *"), ffi.new("uint64_t *")
    handle.raise_for(rbd().rbd_get_features(handle.pointer, features), "rbd_get_features")
    handle.raise_for(rbd().rbd_get_flags(handle.pointer, flags), "rbd_get_flags")
    fast = features[0] & Feature.FAST_DIFF and not flags[0] & ImageFlag.FAST_DIFF_INVALID
    if not (arguments.whole_object and fast):
        message = (
            f"diff(include_parent=False) of {handle.target}, a clone, omits the ranges that were emptied over data of "
            "its parent. With the feature FAST_DIFF, whole_object=True reports them"
        )
        warnings.warn(message, IncompleteDiffWarning, stacklevel=2)


def goes_by_id(since_id: int | None) -> "TypeGuard[int]":
    """Tell whether librbd accepts the earlier snapshot by its id, which it does since 18.2."""
    return since_id is not None and "rbd_diff_iterate3" in capabilities()


def _require_since(handle: ImageHandle, arguments: Arguments) -> None:
    if arguments.since_id is not None:
        require_id(handle, arguments.since, arguments.since_id, arguments.target)
