"""Stream the changed extents of an image while librbd still searches for more."""

from aiorbd._core.resource import Resource
from aiorbd._core.stream import Stream
from aiorbd._image.diff_walk import BATCH, Arguments, State, Walk, goes_by_id, may_flush
from aiorbd._image.handle import ImageHandle
from aiorbd._image.opening import open_handle
from aiorbd._image.presence import require_same_image
from aiorbd._image.snapshot_ids import require_users, snapshot_target
from aiorbd._image.snapshots import Snapshot, id_of, name_of
from aiorbd._native.loader import bridge_ffi
from aiorbd._native.marshal import encode_name, number
from aiorbd.errors import UsageError
from aiorbd.models import Extent


class Diff(Stream[Extent]):
    """The changed extents of an image, made by `Image.diff`. Iterate over the diff with ``async for``.

    librbd walks the image on a worker thread, at most a few thousand extents ahead. To stop librbd at the next extent,
    call `aclose`, or use the diff in an ``async with`` block. `Image.in_flight` tells when
    librbd has stopped.
    """

    def __init__(self, handle: ImageHandle, arguments: Arguments) -> None:
        """Private: use `Image.diff`."""
        handle.check()
        super().__init__(handle.new_source(endless=False), handle.check_loop)
        self._handle = handle
        self._arguments = arguments
        self._numbers = bridge_ffi.new("uint64_t[]", 3 * BATCH)
        self._walk: Walk | None = None

    def __repr__(self) -> str:
        return f"<aiorbd.Diff: {self._arguments.target}, {self._state}>"

    async def _go_on(self) -> None:
        if self._walk is None:
            self._handle.check()
            state = None
            walked = self._handle
            if self._shrink_would_abort():
                walked, state = await self._open_again()
            try:
                self._handle.check()
                self._walk = Walk(self._handle, walked, state, self._source, self._arguments)
                self._source.stop = self._walk.stop
                self._handle.bridge.start(self._walk)
            except BaseException:
                self._walk = None
                if walked is not self._handle:
                    walked.begin_close()
                raise
            if self._closed:  # meanwhile
                self._walk.stop()

    def _shrink_would_abort(self) -> bool:
        """Tell whether librbd might abort the process if the image shrinks during the walk.

        To compare object maps, librbd asks for the size twice, and aborts if the second size is smaller. This handle or
        another client may shrink the image in between. Snapshots never shrink. Images of format 1, which have no id,
        have no object map.
        """
        handle = self._handle
        wanted = self._arguments.whole_object and handle.image_size.snapshot_id is None
        return wanted and bool(handle.image_id) and not handle.encrypted

    async def _open_again(self) -> tuple[ImageHandle, State | None]:
        """Open the image once more, for reading only: librbd never changes the size of such a handle.

        Also return the state of the image before the open, if the walk must compare it with the state at the end.
        """
        handle, state = self._handle, None
        if await handle.run("rbd_is_exclusive_lock_owner", lambda: may_flush(handle)):
            await handle.make_durable()  # the other handle does not see what librbd caches for this handle
        if self._arguments.since is not None:
            function = "rados_read_op_operate"
            state = await handle.run(function, lambda: handle.ioctx.snapshots_and_flags(handle.image_id))
        walked, _ = await open_handle(handle.ioctx, None, handle.image_id, None, read_only=True)
        if handle.image_size.snapshot_id is not None:  # another task has set a snapshot meanwhile
            walked.begin_close()
            return handle, None
        return walked, state

    def _take(self) -> list[Extent]:
        try:
            count = self._walk.take(self._numbers) if self._walk is not None else 0
            numbers = iter(bridge_ffi.unpack(self._numbers, 3 * count))
            return [Extent(offset, length, bool(exists)) for offset, length, exists in zip(*[numbers] * 3, strict=True)]
        except BaseException:
            # The taken extents are lost. A later iteration must raise, and not end as if the diff were complete.
            self._source.fail(UsageError("an interrupt lost extents: start a new diff"))
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
                ``FAST_DIFF``. With encryption loaded, the diff reports bytes all the same.

        Raises:
            SnapshotNotFound: The snapshot does not exist or was removed during the iteration, or the snapshot that is
                read was removed. The iteration raises this error, and the errors below unless stated otherwise.
            RbdError: A snapshot was created during a diff of whole objects, so changes may be missing (ESTALE).
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
            if isinstance(from_snapshot, Snapshot) and not goes_by_id(since_id):
                require_users(from_snapshot.namespace_type, "rbd_diff_iterate2", on)
        offset = number(offset, "offset", "rbd_diff_iterate2", handle.target)
        if length is not None:
            length = number(length, "length", "rbd_diff_iterate2", handle.target)
        return Diff(handle, Arguments(since, since_id, on, offset, length, bool(include_parent), bool(whole_object)))
