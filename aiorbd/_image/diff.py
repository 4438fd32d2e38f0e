"""Stream the changed extents of an image while librbd still searches for more."""

import errno
import warnings
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiorbd._core.operation import URGENT, Job
from aiorbd._core.resource import Resource
from aiorbd._core.stream import Source, Stream
from aiorbd._image.handle import ImageHandle
from aiorbd._image.presence import require_same_image, require_there
from aiorbd._image.snapshot_ids import name_by_id, require_id, require_users, snapshot_target
from aiorbd._image.snapshots import Snapshot, id_of, name_of
from aiorbd._native.capabilities import capabilities
from aiorbd._native.loader import bridge_ffi, ffi, function_of_bridge, rbd
from aiorbd._native.marshal import encode_name, number
from aiorbd.enums import Feature, ImageFlag
from aiorbd.errors import IncompleteDiffWarning, PastEndOfImage, Target, UsageError
from aiorbd.models import Extent

if TYPE_CHECKING:
    from typing import TypeGuard

#: The largest number of extents that librbd may be ahead of the event loop. Each extent takes 24 bytes.
AHEAD: Final = 4096

#: The largest number of extents that the event loop takes at once.
BATCH: Final = 256


class _Walk(Job[int]):
    """librbd's walk over the image on a worker thread, and the extents that the iteration has not taken yet.

    The walk has no reference to the `Diff`. So Python can collect a forgotten `Diff`, and the collection stops the
    walk.
    """

    __slots__ = ("_diff", "_lib", "_source", "_stopped", "_token")

    def __init__(self, handle: ImageHandle, source: Source, arguments: "_Arguments") -> None:
        super().__init__(
            handle, "rbd_diff_iterate2", lambda: 0 if self._stopped else _walk(handle, self._diff, arguments)
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


class _Arguments(NamedTuple):
    """The arguments of `Image.diff`."""

    since: bytes | None
    since_id: int | None  # the id of the snapshot that must have the name `since`
    target: Target
    offset: int
    length: int | None
    include_parent: bool
    whole_object: bool


def _walk(handle: ImageHandle, diff: Any, arguments: _Arguments) -> int:
    """Check the range, and have librbd report the extents to `diff`. Runs on a worker thread."""
    out = ffi.new("uint64_t *")
    handle.image_size.require_view()
    handle.raise_for(rbd().rbd_get_size(handle.pointer, out), "rbd_get_size")
    rest = out[0] - arguments.offset
    wanted = rest if arguments.length is None else arguments.length
    if rest < 0 or wanted > rest:
        message = f"past the end of the image, which has {out[0]} bytes"
        raise PastEndOfImage(errno.EINVAL, message, "rbd_diff_iterate2", str(handle.target))

    if wanted <= 0:  # librbd 16.2 aborts the process in some cases of an empty range
        return 0
    if not arguments.include_parent and arguments.since is None:
        _warn_of_a_parent(handle, out, arguments)
    on_extent = function_of_bridge("aiorbd_on_extent", "int (*)(uint64_t, size_t, int, void *)")
    argument = ffi.cast("void *", diff)
    if _goes_by_id(arguments.since_id):
        name_by_id(handle, arguments.since_id)
        flags = rbd().RBD_DIFF_ITERATE_FLAG_INCLUDE_PARENT * arguments.include_parent
        flags |= rbd().RBD_DIFF_ITERATE_FLAG_WHOLE_OBJECT * arguments.whole_object
        code = rbd().rbd_diff_iterate3(
            handle.pointer, arguments.since_id, arguments.offset, wanted, flags, on_extent, argument
        )
        result = handle.raise_for(code, "rbd_diff_iterate3", arguments.target)
        name_by_id(handle, arguments.since_id)
    else:
        _require_since(handle, arguments)
        since = arguments.since if arguments.since is not None else ffi.NULL
        code = rbd().rbd_diff_iterate2(
            handle.pointer,
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
    require_there(handle, "rbd_diff_iterate2")
    handle.require_place("rbd_diff_iterate2")
    return result


def _warn_of_a_parent(handle: ImageHandle, out: Any, arguments: _Arguments) -> None:
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
            f"diff(include_parent=False) of {handle.target}, a clone, does not list where it was emptied over data of "
            "its parent: with the feature FAST_DIFF, whole_object=True lists these objects"
        )
        warnings.warn(message, IncompleteDiffWarning, stacklevel=2)


def _goes_by_id(since_id: int | None) -> "TypeGuard[int]":
    """Tell whether librbd accepts the earlier snapshot by its id, which it does since 18.2."""
    return since_id is not None and "rbd_diff_iterate3" in capabilities()


def _require_since(handle: ImageHandle, arguments: _Arguments) -> None:
    if arguments.since_id is not None:
        require_id(handle, arguments.since, arguments.since_id, arguments.target)


class Diff(Stream[Extent]):
    """The changed extents of an image, made by `Image.diff`. Iterate over the diff with ``async for``.

    librbd walks the image on a worker thread, at most a few thousand extents ahead. To stop librbd at the next extent,
    leave the loop early, call `aclose`, or end an ``async with`` block around the diff. `Image.in_flight` tells when
    librbd has stopped.
    """

    def __init__(self, handle: ImageHandle, arguments: _Arguments) -> None:
        """Private: use `Image.diff`."""
        handle.check()
        super().__init__(handle.new_source(endless=False), handle.check_loop)
        self._handle = handle
        self._arguments = arguments
        self._numbers = bridge_ffi.new("uint64_t[]", 3 * BATCH)
        self._walk: _Walk | None = None

    def __repr__(self) -> str:
        return f"<aiorbd.Diff: {self._arguments.target}, {self._state}>"

    async def _go_on(self) -> None:
        if self._walk is None:
            self._handle.check()
            walk = _Walk(self._handle, self._source, self._arguments)
            self._handle.bridge.start(walk)
            self._walk = walk
            self._source.stop = walk.stop

    def _take(self) -> list[Extent]:
        try:
            count = self._walk.take(self._numbers) if self._walk is not None else 0
            numbers = iter(bridge_ffi.unpack(self._numbers, 3 * count))
            return [Extent(offset, length, bool(exists)) for offset, length, exists in zip(*[numbers] * 3, strict=True)]
        except BaseException:
            # The taken extents are lost. A later iteration must raise, and not end as if the diff were complete.
            self._source.fail(UsageError("interrupted while extents were taken: begin the diff anew"))
            raise


class ImageDiff(Resource[ImageHandle]):
    """The changed extents of an image. Part of `Image`."""

    def diff(
        self,
        offset: int = 0,
        length: int | None = None,
        from_snapshot: str | Snapshot | None = None,
        *,
        include_parent: bool = True,
        whole_object: bool = False,
    ) -> Diff:
        """Iterate over the extents that changed since a snapshot, or over all extents that exist.

        The later state is the state that the image is read at: the current data, or the snapshot that was opened or
        set. Extents arrive while librbd still searches for more. The order is librbd's order, which is nearly the
        order of offsets.

        Args:
            offset: The offset of the first byte to examine.
            length: The number of bytes to examine. None means all bytes up to the end.
            from_snapshot: The earlier state. None means the state before the image was created.
            include_parent: Whether data of a clone's parent counts as data if `from_snapshot` is None. With False,
                librbd does not report ranges in which the clone emptied data of its parent. An `IncompleteDiffWarning`
                warns about this. With the feature ``FAST_DIFF``, `whole_object` reports the objects with such ranges.
            whole_object: Whether to report each changed object as a whole. This is fast with the feature
                ``FAST_DIFF``.

        Raises:
            SnapshotNotFound: The snapshot does not exist, or the snapshot that is read was removed. The iteration
                raises this error, and the errors below unless stated otherwise.
            PastEndOfImage: The range exceeds the image size.
            InvalidArgument: The snapshot is newer than the state that is read.
            OperationNotSupported: `from_snapshot` is not a user's snapshot, and librbd is older than 18.2. `diff`
                itself raises this error.
            ClosedError: The image was closed before the iteration ended.

        Implements: rbd_diff_iterate2, rbd_diff_iterate3
        """
        handle = self._handle
        on, since, since_id = handle.target, None, None
        if from_snapshot is not None:
            name, since_id = name_of(from_snapshot), id_of(from_snapshot)
            since = encode_name(name, "snapshot name", "rbd_diff_iterate2", may_be_empty=True)
            on = snapshot_target(handle, name)
            if isinstance(from_snapshot, Snapshot):
                require_same_image(handle, from_snapshot._handle, "rbd_diff_iterate2", on)
            if isinstance(from_snapshot, Snapshot) and not _goes_by_id(since_id):
                require_users(from_snapshot.namespace_type, "rbd_diff_iterate2", on)
        offset = number(offset, "offset", "rbd_diff_iterate2", handle.target)
        if length is not None:
            length = number(length, "length", "rbd_diff_iterate2", handle.target)
        return Diff(handle, _Arguments(since, since_id, on, offset, length, bool(include_parent), bool(whole_object)))
