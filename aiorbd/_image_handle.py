"""The native side of an open image: opening, its size, submitting, closing."""

import errno
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn

import anyio
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from aiorbd import _native
from aiorbd._bridge.operation import Operation, Step
from aiorbd._handle import Handle
from aiorbd._marshal import decode, encode_name, grow, invalid
from aiorbd._native import bridge_ffi, ffi, rbd
from aiorbd.errors import IncompleteReadError, PastEndOfImage, RbdError, SnapshotNotFound, Subject, error_for

if TYPE_CHECKING:
    from aiorbd.ioctx import IoCtxHandle

#: Bytes that one read or write may move: librbd counts some of them in 32 bits.
LARGEST_IO: Final = (1 << 31) - 1


class ImageHandle(Handle):
    """An ``rbd_image_t`` with the bridge's view of it."""

    subject: ClassVar[Subject] = "image"

    def __init__(self, ioctx: "IoCtxHandle", target: str) -> None:
        super().__init__(ioctx.bridge, ioctx, target)
        self.lib: Any = _native.bridge()
        #: Where librbd puts the image when the open is done, whoever waits for it by then.
        self.opened: Any = bridge_ffi.new("void **")
        self.image: Any = None
        #: Bytes, as far as is known: see `refresh`.
        self.size: int = 0
        self.image_id: str = ""
        self._refreshing = anyio.Lock()
        self._size_lock = threading.Lock()
        self._asked = self._answered = 0

    # -- opening -------------------------------------------------------------------------------

    async def open(self, ioctx: "IoCtxHandle", name: bytes, snapshot: bytes, *, by_id: bool, read_only: bool) -> str:
        """Open, start to listen for header changes, and ask for the size; return the name."""
        operation = Operation(self, self.opened)
        function = "rbd_aio_open" + ("_by_id" if by_id else "") + ("_read_only" if read_only else "")
        code = self.bridge.submit(
            operation,
            self.lib.aiorbd_open,
            self.bridge.queue,
            ioctx.pointer,
            name,
            by_id,
            snapshot or bridge_ffi.NULL,
            read_only,
            self.opened,
        )
        if not code:
            await self.bridge.wait(operation)
            code = operation.value or 0
        self.raise_for(code, function)
        self.take(self.opened[0])
        self._make_image()
        return await self.run(self._look)

    def _make_image(self) -> None:
        self.image = self.lib.aiorbd_image_new(self.bridge.queue, self.opened[0], -self.bridge.new_token())
        if not self.image:
            self.image = None
            raise MemoryError

    def _look(self) -> str:
        """On a worker thread: what must be known before the first read."""
        self.raise_for(self.lib.aiorbd_image_watch(self.image), "rbd_update_watch")
        self._ask_size()

        def read(function: str, size: Any) -> Callable[[int], tuple[int, str]]:
            def call(length: int) -> tuple[int, str]:
                buffer = ffi.new("char[]", length)
                code = getattr(rbd(), function)(self.pointer, buffer, size(length))
                if code != -errno.ERANGE:
                    self.raise_for(code, function)
                return code, decode(buffer)

            return call

        self.image_id = grow(read("rbd_get_id", int), 128)
        return grow(read("rbd_get_name", lambda length: ffi.new("size_t *", length)), 128)

    # -- size ----------------------------------------------------------------------------------

    def _ask_size(self) -> None:
        """On a worker thread. The answer is kept here, not by the task that waits: that one may be gone.

        An answer that hung in a dead cluster must not overwrite a younger one.
        """
        with self._size_lock:
            self._asked = ticket = self._asked + 1
        self.lib.aiorbd_image_set_stale(self.image, 0)
        out = ffi.new("uint64_t *")
        code = rbd().rbd_get_size(self.pointer, out)
        if code < 0:
            self.lib.aiorbd_image_set_stale(self.image, 1)
            self.raise_for(code, "rbd_get_size")
        with self._size_lock:
            if ticket > self._answered:
                self._answered = ticket
                self.size = out[0]

    async def refresh(self) -> None:
        """Ask librbd for the size: free unless somebody changed the image, then a round trip."""
        async with self._refreshing:
            await self.run(self._ask_size)

    # -- ranges --------------------------------------------------------------------------------

    async def has_range(self, operation: str, offset: int, length: int, *, largest: int | None = LARGEST_IO) -> bool:
        """Tell whether there is anything to do; raise when the range is no range of the image."""
        if 0 <= offset <= offset + length <= self.size and 0 < length <= (largest or length):
            return True
        return await self.unusual_range(operation, offset, length, largest=largest)

    async def unusual_range(
        self, operation: str, offset: int, length: int, *, largest: int | None = LARGEST_IO
    ) -> bool:
        """Look closer at what does not fit the known size, and raise when it really does not."""
        if offset < 0 or length < 0:
            raise invalid("offset and length must not be negative", operation, self.describe(offset, length))
        if offset + length > self.size:
            await self.refresh()
            self._require_range(operation, offset, length)
        if largest is not None and length > largest:
            message = f"too many for one operation, at most {largest}"
            raise invalid(message, operation, self.describe(offset, length))
        if not length:
            await checkpoint()
        return length > 0

    def _require_range(self, operation: str, offset: int, length: int) -> None:
        if offset + length > self.size:
            message = f"past the end of the image, which has {self.size} bytes"
            raise PastEndOfImage(errno.EINVAL, message, operation, self.describe(offset, length))

    def describe(self, offset: int, length: int) -> str:
        """Name a range in errors."""
        return f"{self.target}, {length} bytes at {offset}"

    def incomplete(self, operation: str, offset: int, length: int, got: int) -> NoReturn:
        """Raise for a read that librbd clipped."""
        message = f"only {got} bytes: the image shrank meanwhile"
        raise IncompleteReadError(errno.EIO, message, operation, self.describe(offset, length))

    # -- data ----------------------------------------------------------------------------------

    async def io(
        self, operation: str, submit: Callable[..., int], offset: int, length: int, keep: object, *arguments: Any
    ) -> int:
        """Submit one read and wait for it; return what librbd returned."""
        bridge = self.bridge
        entry = Operation(self, keep)
        while code := bridge.submit(entry, submit, self.image, *arguments):
            if code < 0:
                self._fail(code, operation, offset, length)
            # AIORBD_STALE: somebody changed the image, perhaps its size.
            await self.refresh()
            self.check()
            self._require_range(operation, offset, length)
        try:  # what Bridge.wait does, without a coroutine of its own
            await bridge.loop.park(entry)
        except BaseException:
            entry.abandon()
            raise
        value: int = entry.value  # type: ignore[assignment]  # it is done
        if value < 0:
            self._fail(value, operation, offset, length)
        return value

    def bytes_into_object(self, offset: int) -> int:
        """On a worker thread: where in its object an offset of the image lies.

        librbd counts the equal bytes of a compare_and_write and reports them as if they were counted
        from the object's start, translated to an offset of the image. This takes that back.
        """
        info, unit, count = ffi.new("rbd_image_info_t *"), ffi.new("uint64_t *"), ffi.new("uint64_t *")
        self.raise_for(rbd().rbd_stat(self.pointer, info, ffi.sizeof("rbd_image_info_t")), "rbd_stat")
        self.raise_for(rbd().rbd_get_stripe_unit(self.pointer, unit), "rbd_get_stripe_unit")
        self.raise_for(rbd().rbd_get_stripe_count(self.pointer, count), "rbd_get_stripe_count")
        stripe = offset // unit[0] // count[0]
        return int(stripe % (info.obj_size // unit[0]) * unit[0] + offset % unit[0])

    def _fail(self, code: int, operation: str, offset: int, length: int) -> NoReturn:
        raise error_for(code, operation, self.describe(offset, length), subject="image")

    async def modify(
        self, operation: str, submit: Callable[..., int], offset: int, length: int, keep: object, *arguments: Any
    ) -> int:
        """Like `io`, for what changes the image: not begun when the task is cancelled already."""
        await checkpoint_if_cancelled()
        return await self.io(operation, submit, offset, length, keep, *arguments)

    # -- closing -------------------------------------------------------------------------------

    def shut(self) -> None:
        """Stop to listen, then close. An open that failed left nothing to do."""
        if not self.opened[0]:
            self.closed()
            return
        if self.image is None:  # cancelled while it opened
            self._make_image()
        self.bridge.start_background(self, lambda: self.lib.aiorbd_image_unwatch(self.image), self._unwatched)

    def _unwatched(self, _code: int) -> None:
        code = self.bridge.submit(Step(self, self._gone), self.lib.aiorbd_close, self.image)
        if code:
            self._gone(code)

    def _gone(self, code: int) -> None:
        """On the loop: librbd has freed the image, also when it reports an error."""
        self.lib.aiorbd_image_release(self.image)
        self.image = None
        self.opened[0] = bridge_ffi.NULL
        self.closed(code, "rbd_aio_close")


async def open_handle(
    ioctx: "IoCtxHandle", name: str | None, image_id: str | None, snapshot: str | None, *, read_only: bool
) -> tuple[ImageHandle, str]:
    """Open an image by name or id; return its handle and its name."""
    if (name is None) == (image_id is None):
        raise TypeError("open_image() takes either a name or an image_id")
    by_id = image_id is not None
    which = image_id if image_id is not None else name or ""
    encoded = encode_name(which, "image id" if by_id else "image name", "rbd_aio_open")
    encoded_snapshot = encode_name(snapshot, "snapshot name", "rbd_aio_open") if snapshot is not None else b""
    label = f"{ioctx.name}/{'id:' if by_id else ''}{which}"
    handle = ImageHandle(ioctx, f"image {label + ('@' + snapshot if snapshot else '')!r}")
    try:
        found = await handle.open(
            ioctx, encoded, encoded_snapshot, by_id=by_id, read_only=read_only or snapshot is not None
        )
    except RbdError as error:
        handle.begin_close()
        if error.errno == errno.ENOENT and snapshot is not None:
            # Image or snapshot? The image alone tells, with its own error when it is not there either.
            image, _ = await open_handle(ioctx, name, image_id, None, read_only=True)
            image.begin_close()
            raise SnapshotNotFound(errno.ENOENT, "no such snapshot", error.operation, handle.target) from None
        raise
    except BaseException:
        handle.begin_close()
        raise
    handle.target = f"image {ioctx.name + '/' + found + ('@' + snapshot if snapshot else '')!r}"
    return handle, found
