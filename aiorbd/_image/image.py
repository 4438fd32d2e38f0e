"""An open image. The base classes for data, snapshots, copies and so on are in other modules."""

import errno

import anyio

from aiorbd._core.config import Config
from aiorbd._core.metadata import Metadata
from aiorbd._core.pool_handle import PoolHandle
from aiorbd._core.progress import Progress
from aiorbd._core.resource import Default, Opening
from aiorbd._image.advisory_locks import AdvisoryLocks
from aiorbd._image.copies import ImageCopies
from aiorbd._image.diff import ImageDiff
from aiorbd._image.encryption import Encryption
from aiorbd._image.exclusive_lock import ExclusiveLock
from aiorbd._image.file import BlockingImageFile, ImageFile
from aiorbd._image.handle import ImageHandle
from aiorbd._image.image_snapshots import ImageSnapshots
from aiorbd._image.info import ImageAttributes
from aiorbd._image.io import ImageData
from aiorbd._image.maintenance import refuse_shrink, resizing
from aiorbd._image.mirror import ImageMirror
from aiorbd._image.opening import open_handle
from aiorbd._image.presence import is_current, require_same_image
from aiorbd._image.quiesce import QuiesceWatch, open_quiesce_watch
from aiorbd._image.snapshots import Snapshot, id_of, name_of
from aiorbd._image.streams import ImageStreams
from aiorbd._image.updates import ImageWatch
from aiorbd._image.usage import disk_usage
from aiorbd._native.loader import ffi, rbd
from aiorbd._native.marshal import decode, encode_name, invalid, number
from aiorbd.errors import CloseTimeout, Timeout
from aiorbd.models import ImageInfo
from aiorbd.pool_models import DiskUsage


async def open_image(
    ioctx: PoolHandle,
    close_timeout: float,
    name: str | None,
    image_id: str | None,
    snapshot: str | Snapshot | None,
    *,
    read_only: bool,
) -> "Image":
    """Open an image. See `IoCtx.open_image`."""
    at, at_id = (None, None) if snapshot is None else (name_of(snapshot), id_of(snapshot))
    handle, found = await open_handle(ioctx, name, image_id, at, at_id, read_only=read_only)
    if isinstance(snapshot, Snapshot):
        try:
            require_same_image(handle, snapshot._handle, "rbd_aio_open_read_only", handle.target)
        except BaseException:
            handle.begin_close()
            raise
    return Image(handle, close_timeout, found, read_only=read_only or snapshot is not None)


class Image(ImageData, ImageStreams, ImageSnapshots, ImageDiff, ImageCopies, ImageAttributes, ImageWatch):
    """An open image, made by `IoCtx.open_image`. Use it as an async context manager, or call `close`.

    Offsets, lengths and sizes are in bytes. Any number of operations may be in flight at once. librbd does not order
    overlapping operations. Calls that librbd does not survive together wait for each other, and a write waits for
    cancelled writes in its range. There is no back-pressure: limit the number of operations that you keep in flight.

    A write is durable once a later `flush` has returned. Leaving ``async with`` without an exception flushes the
    written data, and raises if the flush fails.

    A cancelled operation returns at once. If librbd has the operation already, it stays in flight. A cancelled read
    drops its data. A cancelled change may or may not happen. Buffers stay exported until librbd is done with them:
    Python can neither resize nor free them before. `in_flight` counts the operations in flight, and `drain` waits for
    them.
    """

    def __init__(self, handle: ImageHandle, close_timeout: float, name: str, *, read_only: bool) -> None:
        """Private: use `IoCtx.open_image`."""
        super().__init__(handle, close_timeout)
        self._name = name
        self._read_only = read_only

    async def _make_durable(self) -> None:
        """Flush within the close timeout, if the image was written to since the last flush."""
        handle = self._handle
        try:
            with anyio.fail_after(self._close_timeout):
                await handle.make_durable()
        except TimeoutError as error:
            if isinstance(error, Timeout):
                raise
            message = f"not flushed after {self._close_timeout} s: it is unknown which writes are durable"
            raise CloseTimeout(errno.ETIMEDOUT, message, "rbd_aio_flush", str(handle.target)) from None

    async def _is_current(self, pool: str, name: str | None) -> bool:
        """Tell whether these names still belong to the pool, image and snapshot that are open."""
        handle = self._handle
        encoded = None if name is None else encode_name(name, "image name", "rados_read_op_operate")
        encoded_pool = encode_name(pool, "pool name", "rados_pool_lookup")
        return await handle.run("rados_read_op_operate", lambda: is_current(handle, encoded_pool, encoded))

    async def close(self, timeout: float | Default | None = Default.CLOSE_TIMEOUT) -> None:
        """Close the image. Wait at most `timeout` seconds for operations in flight; None waits without a limit.

        New calls are refused at once. If the wait is cancelled or takes too long, the close continues in the
        background.

        Raises:
            CloseTimeout: Operations are still in flight after `timeout` seconds.
            RbdError: Ceph reported an error during the close. The image is closed all the same.

        Implements: rbd_update_unwatch, rbd_aio_close
        """
        await super().close(timeout)

    @property
    def name(self) -> str:
        """The name that the image had when it was opened.

        Implements: rbd_get_name
        """
        return self._name

    @property
    def pool(self) -> str:
        """The name that the pool of the image had when it was opened."""
        return self._handle.ioctx.pool_name or ""

    @property
    def namespace(self) -> str:
        """The namespace of the image; empty for the default namespace."""
        return self._handle.ioctx.namespace

    @property
    def id(self) -> str:
        """The id of the image. The id never changes.

        Implements: rbd_get_id
        """
        return self._handle.image_id

    @property
    def snapshot(self) -> str | None:
        """The name of the snapshot that the image is read at; None for the current data.

        This is the snapshot that the image was opened at, or the snapshot that was set since.
        """
        return self._handle.image_size.snapshot

    @property
    def read_only(self) -> bool:
        """Whether the image was opened for reading only."""
        return self._read_only

    @property
    def advisory_locks(self) -> AdvisoryLocks:
        """The advisory locks of the image, for clients that cooperate."""
        return AdvisoryLocks(self._handle)

    @property
    def exclusive_lock(self) -> ExclusiveLock:
        """The exclusive lock of the image, which librbd manages."""
        return ExclusiveLock(self._handle)

    def quiesce_watch(self, *, timeout: float | None = 30.0) -> Opening[QuiesceWatch]:
        """Listen for the requests to quiesce before a snapshot.

        Await the result, or use the result with ``async with``. The program's own snapshots ask too, unless they have
        the flag ``SKIP_QUIESCE``. Call this before other clients take snapshots: if the first watch of an open image
        begins while another client takes a snapshot, librbd 16.2 may abort the process.

        Args:
            timeout: The seconds after which a request without an answer fails. None waits as long as librbd of the
                other client does.

        Raises:
            OperationNotSupported: The image is open for reading only. Ceph sends no requests to such a client.
            UsageError: The image has an open watch already.

        Implements: rbd_quiesce_watch, rbd_quiesce_unwatch
        """
        return Opening(lambda: open_quiesce_watch(self._handle, timeout))

    def file(self, *, chunk_size: int = 1 << 22, allow_shrink: bool = False) -> ImageFile:
        """Return an asynchronous file object over the image.

        Args:
            chunk_size: The number of bytes that ``async for`` yields at a time.
            allow_shrink: Whether `ImageFile.truncate` may make the image smaller.

        Implements: rbd_aio_read2, rbd_aio_write2, rbd_aio_flush, rbd_resize2
        """
        if chunk_size < 1:
            raise invalid(f"chunk_size {chunk_size} is not positive", "rbd_aio_read2", self._handle.target)
        return ImageFile(self, chunk_size, allow_shrink=bool(allow_shrink))

    def blocking_file(self, *, allow_shrink: bool = False) -> BlockingImageFile:
        """Return a blocking file object over the image, for any thread except the event loop's thread.

        Args:
            allow_shrink: Whether `BlockingImageFile.truncate` may make the image smaller.

        Implements: rbd_aio_read2, rbd_aio_write2, rbd_aio_flush, rbd_resize2
        """
        return BlockingImageFile(self, allow_shrink=bool(allow_shrink))

    @property
    def encryption(self) -> Encryption:
        """The encryption of the image by librbd."""
        return Encryption(self._handle)

    @property
    def mirror(self) -> ImageMirror:
        """The mirroring of the image to other sites."""
        return ImageMirror(self._handle)

    @property
    def config(self) -> Config:
        """The options of librbd that apply to the image."""
        return Config(self._handle, "image")

    @property
    def metadata(self) -> Metadata:
        """The metadata of the image."""
        return Metadata(self._handle, "rbd_metadata")

    async def size(self) -> int:
        """Return the image size in bytes.

        Implements: rbd_get_size
        """
        await self._handle.image_size.refresh()
        return self._handle.size

    async def stat(self) -> ImageInfo:
        """Return the image size, and the size, number and name prefix of its objects.

        Implements: rbd_stat
        """
        handle = self._handle

        def call() -> ImageInfo:
            info = ffi.new("rbd_image_info_t *")
            handle.raise_for(rbd().rbd_stat(handle.pointer, info, ffi.sizeof("rbd_image_info_t")), "rbd_stat")
            return ImageInfo(info.size, info.obj_size, info.num_objs, info.order, decode(info.block_name_prefix))

        return await handle.run("rbd_stat", call)

    async def disk_usage(self, *, exact: bool = False) -> DiskUsage:
        """Return the bytes that the image and each of its snapshots use, as ``rbd du`` shows them.

        The data of a snapshot is what changed since the snapshot before. The data of a clone's parent does not count.
        If a snapshot is taken or removed meanwhile, the call counts again, up to three counts in all.

        Args:
            exact: Whether to count bytes instead of whole objects. With the feature ``FAST_DIFF``, counting whole
                objects only reads the object map. Counting bytes asks for each object.

        Raises:
            SnapshotNotFound: A snapshot was removed during each attempt.
            RbdError: A snapshot was taken during each attempt (ESTALE).

        Implements: rbd_diff_iterate2, rbd_snap_list
        """
        return await disk_usage(self._handle, self._name, self.snapshots, exact=bool(exact))

    async def resize(self, size: int, *, allow_shrink: bool = False, progress: Progress | None = None) -> None:
        """Change the image size.

        If the call is cancelled, librbd is asked to stop a shrink. The resulting size is unknown until the next call
        of `size`.

        Args:
            size: The new size in bytes, without the header of a loaded encryption. Added bytes read as zeroes.
            allow_shrink: Whether the image may become smaller, and lose the data past its new end.
            progress: Called on the event loop as ``progress(done, total)``. If `progress` raises, librbd is asked to
                stop where it can stop, and this call raises the error. If the work is already done, the error is
                logged instead.

        Raises:
            InvalidArgument: The size is out of range, or it is smaller and `allow_shrink` is false.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_resize2
        """
        handle = self._handle
        handle.check()
        size = number(size, "size", "rbd_resize2", handle.target)
        if not allow_shrink and size < await handle.image_size.known_size():
            await handle.image_size.refresh()  # ask before the call holds up reads and writes of other handles
            refuse_shrink(handle, size, handle.size)
        await resizing(handle, size, allow_shrink=bool(allow_shrink)).run(progress)
