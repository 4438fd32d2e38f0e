"""An open image: its size and its data.

How a read travels: `Image.read` makes the buffer and hands it to `ImageHandle.io`, which registers
it in the operation table and makes one C call; librbd's thread queues the result; the loop takes it
from there, `io` looks at the return value, and `read` returns the buffer itself.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from aiorbd._image_handle import LARGEST_IO, ImageHandle, open_handle
from aiorbd._marshal import decode, invalid, readable, writable
from aiorbd._native import bridge, bridge_ffi, ffi, rbd
from aiorbd._resource import Resource
from aiorbd.enums import OpFlag
from aiorbd.errors import CompareMismatch
from aiorbd.models import ImageInfo

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from aiorbd.ioctx import IoCtxHandle


async def open_image(
    ioctx: "IoCtxHandle",
    close_timeout: float,
    name: str | None,
    image_id: str | None,
    snapshot: str | None,
    *,
    read_only: bool,
) -> "Image":
    """Open an image: see `IoCtx.open_image`."""
    handle, found = await open_handle(ioctx, name, image_id, snapshot, read_only=read_only)
    return Image(handle, close_timeout, found, snapshot, read_only=read_only or snapshot is not None)


class Image(Resource):
    """An open image, made by `IoCtx.open_image`. Use it as an async context manager, or call `close`.

    Offsets, lengths and sizes are bytes. Any number of operations may run at once; none waits for
    another, and librbd keeps no order among those that overlap. There is no back-pressure: bound
    what you keep in flight.

    A write is durable once a later `flush` has returned. Cancelling an operation returns at once and
    leaves it running in librbd: what was to be read is dropped; what was to be changed may or may not
    be. Buffers stay exported, which means that they can be neither resized nor freed, until librbd
    is done with them; `in_flight` counts and `drain` awaits what is still running.
    """

    _handle: ImageHandle

    def __init__(
        self, handle: ImageHandle, close_timeout: float, name: str, snapshot: str | None, *, read_only: bool
    ) -> None:
        """Private: use `IoCtx.open_image`."""
        super().__init__(handle, close_timeout)
        self._name = name
        self._snapshot = snapshot
        self._read_only = read_only
        self._lib = bridge()

    @property
    def name(self) -> str:
        """The image's name when it was opened.

        Implements: rbd_get_name
        """
        return self._name

    @property
    def id(self) -> str:
        """The image's id, which never changes.

        Implements: rbd_get_id
        """
        return self._handle.image_id

    @property
    def snapshot(self) -> str | None:
        """The snapshot it was opened at."""
        return self._snapshot

    @property
    def read_only(self) -> bool:
        """Whether it was opened for reading only."""
        return self._read_only

    # -- size ----------------------------------------------------------------------------------

    async def size(self) -> int:
        """Return the size in bytes.

        Implements: rbd_get_size
        """
        await self._handle.refresh()
        return self._handle.size

    async def stat(self) -> ImageInfo:
        """Return the size and how it is cut into objects.

        Implements: rbd_stat
        """
        handle = self._handle

        def call() -> ImageInfo:
            info = ffi.new("rbd_image_info_t *")
            handle.raise_for(rbd().rbd_stat(handle.pointer, info, ffi.sizeof("rbd_image_info_t")), "rbd_stat")
            return ImageInfo(info.size, info.obj_size, info.num_objs, info.order, decode(info.block_name_prefix))

        return await handle.run(call)

    async def resize(
        self, size: int, allow_shrink: bool = True, *, progress: Callable[[int, int], object] | None = None
    ) -> None:
        """Change the size.

        When cancelled, librbd is asked to stop a shrink; how far it came is unknown until the next
        `size`.

        Args:
            size: Bytes; new ones read as zeroes.
            allow_shrink: Whether data may be cut off.
            progress: Called on the event loop with what is done and what there is to do. What it raises
                stops the resize, where librbd can be stopped, and is raised here.

        Raises:
            InvalidArgument: The size is out of range, or smaller and `allow_shrink` is false.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_resize2
        """
        handle = self._handle
        handle.check()
        if not 0 <= size < 1 << 63:
            raise invalid(f"size {size} is out of range", "rbd_resize2", handle.target)
        await handle.resize(size, allow_shrink=allow_shrink, progress=progress)

    # -- reading -------------------------------------------------------------------------------

    async def read(self, offset: int, length: int, *, op_flags: OpFlag | int = 0) -> bytes:
        """Return `length` bytes from `offset`.

        Raises:
            PastEndOfImage: They do not all lie within the image.

        Implements: rbd_aio_read2
        """
        handle = self._handle
        handle.check()
        # `has_range` without its call: this is the path that is walked most.
        if not (0 <= offset <= offset + length <= handle.size and 0 < length <= LARGEST_IO):  # noqa: SIM102
            if not await handle.unusual_range("rbd_aio_read2", offset, length):
                return b""
        # librbd fills the very object that is returned: nobody else has seen it yet.
        data = bytes(length)
        view = bridge_ffi.from_buffer(data)
        got = await handle.io(
            "rbd_aio_read2", self._lib.aiorbd_read, offset, length, view, offset, length, view, op_flags
        )
        if got != length:
            handle.incomplete("rbd_aio_read2", offset, length, got)
        return data

    async def read_into(self, buffer: "WriteableBuffer", offset: int, *, op_flags: OpFlag | int = 0) -> int:
        """Fill a writable buffer from `offset`, without a copy; return its length in bytes.

        The buffer stays exported until librbd is done, also when the read is cancelled: its contents
        are undefined until then.

        Raises:
            PastEndOfImage: The image ends before the buffer is full.
            InvalidArgument: The buffer is read-only or not contiguous.

        Implements: rbd_aio_read2
        """
        handle = self._handle
        handle.check()
        view = writable(buffer, "buffer", "rbd_aio_read2", handle.target)
        length = len(view)
        if not await handle.has_range("rbd_aio_read2", offset, length):
            return 0
        got = await handle.io(
            "rbd_aio_read2", self._lib.aiorbd_read, offset, length, view, offset, length, view, op_flags
        )
        if got != length:
            handle.incomplete("rbd_aio_read2", offset, length, got)
        return length

    async def readv(self, buffers: "Sequence[WriteableBuffer]", offset: int) -> int:
        """Fill several writable buffers one after the other from `offset`; return their bytes.

        Raises:
            PastEndOfImage: The image ends before the buffers are full.
            InvalidArgument: A buffer is read-only or not contiguous.

        Implements: rbd_aio_readv
        """
        handle = self._handle
        handle.check()
        views = [writable(buffer, "buffer", "rbd_aio_readv", handle.target) for buffer in buffers]
        length = sum(map(len, views))
        if not await handle.has_range("rbd_aio_readv", offset, length):
            return 0
        got = await handle.io("rbd_aio_readv", self._lib.aiorbd_readv, offset, length, views, offset, *_vector(views))
        if got != length:
            handle.incomplete("rbd_aio_readv", offset, length, got)
        return length

    # -- writing -------------------------------------------------------------------------------

    async def write(self, data: "ReadableBuffer", offset: int, *, op_flags: OpFlag | int = 0) -> int:
        """Write all of `data` at `offset`; return its length in bytes. When cancelled, the outcome is unknown.

        Do not change the buffer before this returns, or after a cancellation before `drain` does.

        Raises:
            PastEndOfImage: It does not fit. Nothing was written.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_aio_write2
        """
        handle = self._handle
        handle.check()
        view = readable(data, "data", "rbd_aio_write2", handle.target)
        length = len(view)
        if await handle.has_range("rbd_aio_write2", offset, length):
            await handle.modify(
                "rbd_aio_write2", self._lib.aiorbd_write, offset, length, view, offset, length, view, op_flags
            )
        return length

    async def writev(self, buffers: "Sequence[ReadableBuffer]", offset: int) -> int:
        """Write several buffers one after the other at `offset`; return their bytes.

        When cancelled, the outcome is unknown.

        Raises:
            PastEndOfImage: They do not fit. Nothing was written.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_aio_writev
        """
        handle = self._handle
        handle.check()
        views = [readable(buffer, "data", "rbd_aio_writev", handle.target) for buffer in buffers]
        length = sum(map(len, views))
        if await handle.has_range("rbd_aio_writev", offset, length):
            await handle.modify(
                "rbd_aio_writev", self._lib.aiorbd_writev, offset, length, views, offset, *_vector(views)
            )
        return length

    async def write_same(self, data: "ReadableBuffer", offset: int, length: int, *, op_flags: OpFlag | int = 0) -> int:
        """Fill `length` bytes at `offset` with copies of `data`; return `length`.

        When cancelled, the outcome is unknown.

        Raises:
            InvalidArgument: `data` is empty, or `length` no multiple of its length.
            PastEndOfImage: It does not fit. Nothing was written.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_aio_writesame
        """
        handle = self._handle
        handle.check()
        view = readable(data, "data", "rbd_aio_writesame", handle.target)
        if not len(view) or length % len(view):
            message = f"length {length} is no multiple of the {len(view)} bytes of data"
            raise invalid(message, "rbd_aio_writesame", handle.target)
        if await handle.has_range("rbd_aio_writesame", offset, length):
            arguments = offset, length, view, len(view), op_flags
            await handle.modify("rbd_aio_writesame", self._lib.aiorbd_write_same, offset, length, view, *arguments)
        return length

    async def compare_and_write(
        self, compare: "ReadableBuffer", data: "ReadableBuffer", offset: int, *, op_flags: OpFlag | int = 0
    ) -> int:
        """Write `data` at `offset` if `compare` is there now, as one step; return its length in bytes.

        When cancelled, the outcome is unknown.

        Raises:
            CompareMismatch: Something else is there; its `offset` says where. Nothing was written.
            InvalidArgument: The lengths differ, or the bytes do not all lie in one object.
            PastEndOfImage: They do not lie within the image.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_aio_compare_and_write
        """
        operation = "rbd_aio_compare_and_write"
        handle = self._handle
        handle.check()
        expected = readable(compare, "compare", operation, handle.target)
        view = readable(data, "data", operation, handle.target)
        length = len(view)
        if len(expected) != length:
            raise invalid(f"compare has {len(expected)} bytes, data has {length}", operation, handle.target)
        if not await handle.has_range(operation, offset, length):
            return 0
        mismatch = bridge_ffi.new("uint64_t *")
        arguments = offset, length, expected, view, mismatch, op_flags
        try:
            await handle.modify(operation, self._lib.aiorbd_compare_and_write, offset, length, arguments, *arguments)
        except CompareMismatch as error:
            error.offset = offset + handle.bytes_into_object(mismatch[0])
            raise
        return length

    async def discard(self, offset: int, length: int) -> None:
        """Give up a range. What is read there afterwards is zeroes or, for parts of objects, old data.

        librbd frees whole multiples of ``rbd_discard_granularity_bytes`` (64 KiB) and may leave the
        rest as it is: use `write_zeroes` where zeroes must be read. When cancelled, the outcome is
        unknown.

        Raises:
            PastEndOfImage: The range does not lie within the image. Nothing was discarded.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_aio_discard
        """
        handle = self._handle
        handle.check()
        if await handle.has_range("rbd_aio_discard", offset, length, largest=None):
            await handle.modify("rbd_aio_discard", self._lib.aiorbd_discard, offset, length, None, offset, length)

    async def write_zeroes(self, offset: int, length: int, *, thick: bool = False, op_flags: OpFlag | int = 0) -> None:
        """Make a range read as zeroes. When cancelled, the outcome is unknown.

        Args:
            offset: Where.
            length: How much.
            thick: Write zeroes and keep the space allocated, instead of freeing it.
            op_flags: Hints for the OSDs.

        Raises:
            PastEndOfImage: The range does not lie within the image. Nothing was written.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_aio_write_zeroes
        """
        handle = self._handle
        handle.check()
        if await handle.has_range("rbd_aio_write_zeroes", offset, length, largest=None):
            arguments = offset, length, int(thick), op_flags
            await handle.modify("rbd_aio_write_zeroes", self._lib.aiorbd_write_zeroes, offset, length, None, *arguments)

    async def flush(self) -> None:
        """Make every write that was completed before durable.

        When cancelled, what is durable is unknown.

        Implements: rbd_aio_flush
        """
        handle = self._handle
        handle.check()
        await handle.io("rbd_aio_flush", self._lib.aiorbd_flush, 0, 0, None)


def _vector(views: list[Any]) -> tuple[Any, Any, int]:
    """What C's vector functions take: addresses, lengths, and how many."""
    return (
        bridge_ffi.new("void *[]", views),
        bridge_ffi.new("size_t[]", [len(view) for view in views]),
        len(views),
    )
