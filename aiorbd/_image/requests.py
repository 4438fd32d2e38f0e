"""Check the ranges of reads and writes, submit reads and writes, and check their results."""

import errno
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NoReturn

from anyio.lowlevel import checkpoint

from aiorbd._core.observers import Note, NotedOperation
from aiorbd._core.operation import Operation
from aiorbd._image.large_write import LargeWrite
from aiorbd._image.strays import Strays
from aiorbd._native.loader import bridge_ffi
from aiorbd._native.marshal import as_integer, invalid
from aiorbd._native.requests import DISCARD, FUNCTIONS, READS, STALE, STALE_BY_NOW, WRITE_ZEROES, WRITES
from aiorbd.errors import (
    ClosedError,
    ImageShrank,
    InvalidArgument,
    PastEndOfImage,
    RbdError,
    Target,
)

if TYPE_CHECKING:
    from aiorbd._image.handle import ImageHandle

logger = logging.getLogger("aiorbd")

#: The kinds of requests that report success even if the pool is gone.
_NEEDS_NO_POOL: Final = {DISCARD, WRITE_ZEROES}

_READ_FUNCTIONS: Final = {FUNCTIONS[kind] for kind in READS}

#: The most bytes to copy on the event loop's thread. librbd copies 1 MiB in 1 ms.
LARGEST_COPY: Final = 1 << 20

#: The most bytes in one read or write, because librbd counts the bytes of some requests in 32 bits.
LARGEST_IO: Final = (1 << 31) - 1


class Requests:
    """The reads and writes of one open image."""

    def __init__(self, handle: "ImageHandle") -> None:
        self._handle = handle
        self._strays = Strays()

    # -- ranges --------------------------------------------------------------------------------

    def range_of(self, offset: int, length: int) -> tuple[int, int]:
        """Return offset and length as Python's integers, because sums of numpy's integers may wrap around."""
        return as_integer(offset, "offset"), as_integer(length, "length")

    async def check_range(self, operation: str, offset: int, length: int, *, largest: int | None = LARGEST_IO) -> bool:
        """Return False if the range is empty, True otherwise.

        Raise if the range does not lie within the image, or is longer than `largest`.
        """
        if 0 <= offset <= offset + length <= self._handle.size and 0 < length <= (largest or length):
            return True
        return await self.unusual_range(operation, offset, length, largest=largest)

    async def check_change(self, operation: str, offset: int, length: int, *, largest: int | None = LARGEST_IO) -> bool:
        """Like `check_range`, for a write. First wait for the cancelled writes that overlap the range."""
        while True:
            if self._handle.strays:
                await self._follow_strays(offset, length)
            found = await self.check_range(operation, offset, length, largest=largest)
            if not (self._handle.strays and self._strays.overlap(offset, length)):
                return found

    async def _follow_strays(self, offset: int, length: int) -> None:
        self._handle.awaited += 1
        try:
            await self._handle.wait_while_usable(lambda: not self._strays.overlap(offset, length))
        finally:
            self._handle.awaited -= 1
        self._handle.strays = bool(self._strays)

    def add_stray(self, offset: int, length: int, is_over: Callable[[], bool]) -> None:
        """Record a cancelled write that may still be in flight."""
        self._strays.add(offset, length, is_over)
        self._handle.strays = True

    async def unusual_range(
        self, operation: str, offset: int, length: int, *, largest: int | None = LARGEST_IO
    ) -> bool:
        """Check a range that is empty, too long, or outside the known size. Return False if the range is empty.

        If the range reaches past the known size, ask librbd for the size. Raise if the range is still invalid.
        """
        if offset < 0 or length < 0:
            raise invalid("offset and length must not be negative", operation, self.describe(offset, length))
        if offset + length > self._handle.size:
            await self._handle.image_size.refresh()
            self._handle.check()
            self._require_range(operation, offset, length)
        if largest is not None and length > largest:
            message = f"too many for one operation, at most {largest}"
            raise invalid(message, operation, self.describe(offset, length))
        if not length:
            await checkpoint()
        return length > 0

    def _require_range(self, operation: str, offset: int, length: int) -> None:
        if offset + length > self._handle.size:
            message = f"range exceeds the image size ({self._handle.size} bytes)"
            raise PastEndOfImage(errno.EINVAL, message, operation, self.describe(offset, length))

    def describe(self, offset: int, length: int) -> str:
        """Describe a range for errors."""
        return f"{self._handle.target}, {length} bytes at {offset}"

    def incomplete(self, operation: str, offset: int, length: int, got: int) -> NoReturn:
        """Raise for a read that failed, or that librbd clipped."""
        if got < 0:
            self.fail(got, operation, offset, length)
        message = f"only {got} bytes: the image shrank meanwhile"
        raise ImageShrank(errno.EIO, message, operation, self.describe(offset, length))

    # -- data ----------------------------------------------------------------------------------

    def _note(self, function: str, *extent: int) -> Note | None:
        """Notify the observers of a request that begins, if there are observers."""
        if not self._handle.bridge.observers:
            return None
        about = self.describe(*extent) if extent else str(self._handle.target)
        return Note(self._handle.bridge.observers, function, about, self._handle, *extent)

    def _entry(self, keep: object, note: Note | None) -> Operation:
        """Create the operation table's entry for a request."""
        return Operation(self._handle, keep) if note is None else NotedOperation(self._handle, keep, note)

    async def io(
        self, kind: int, offset: int, length: int, keep: object, buffer: Any, op_flags: int = 0, extra: int = 0
    ) -> Operation:
        """Submit one request with a checked range, and wait for it. Return the table's entry, with librbd's value.

        Args:
            kind: A kind of request from `aiorbd._native.requests`.
            offset: The offset of the range in bytes.
            length: The length of the range in bytes.
            keep: The objects that librbd reads or fills, besides `buffer`.
            buffer: A `bytes` object or a C pointer. None for a request without data, and for a read into new bytes,
                which the entry keeps.
            op_flags: Hints for the OSDs.
            extra: See `aiorbd_request` in ``bridge.h``.
        """
        if length > LARGEST_COPY and kind in WRITES:
            return await self._write_large(kind, offset, length, keep, buffer, op_flags, extra)
        bridge, function = self._handle.bridge, FUNCTIONS[kind]
        if buffer is not None and type(buffer) is not bytes:
            keep = keep, buffer
            buffer = int(bridge_ffi.cast("uintptr_t", buffer))
        note = self._note(function, offset, length)
        entry: Operation | None = None
        try:
            while True:
                entry = self._entry(keep, note)
                try:
                    code = bridge.submit(entry, kind, offset, length, buffer, op_flags, extra, 0)
                except OverflowError as error:  # from the flags: offset and length are known to fit
                    raise invalid(str(error), function, self.describe(offset, length)) from None
                if not code:
                    try:  # as in Bridge.wait, without another coroutine
                        await bridge.loop.park(entry)
                    except BaseException:
                        self.abandon(entry, kind, offset, length)
                        raise
                    value: int = entry.value  # type: ignore[assignment]  # the request has completed
                    if value >= 0:
                        return entry
                    if value != STALE_BY_NOW:
                        await self._handle.find_place(value)
                        self.fail(value, function, offset, length)
                    code = STALE
                await self.refused(code, function, offset, length)
        except BaseException as error:
            if note is not None and (entry is None or entry.value is not None or not entry.number):
                note.tell(error, abandoned=False)  # no request is in flight that would tell it
            raise

    async def _write_large(
        self, kind: int, offset: int, length: int, keep: object, buffer: Any, op_flags: int, extra: int
    ) -> Operation:
        """Like `io`, for a large write. A worker thread copies the data.

        If the task is cancelled before the thread begins, the write never happens.
        """
        function, note = FUNCTIONS[kind], None
        while True:
            try:
                job = self.large_write(kind, offset, length, keep, buffer, op_flags, extra)
                job.note = note
            except OverflowError as error:  # from the flags: offset and length are known to fit
                raise invalid(str(error), function, self.describe(offset, length)) from None
            value = await self._handle.bridge.call(job)
            if not job.refused:
                break
            note = job.note
            try:
                await self.refused(value, function, offset, length)
            except BaseException as error:
                if note is not None:
                    note.tell(error, abandoned=False)
                raise
        if value < 0:
            await self._handle.find_place(value)
            self.fail(value, function, offset, length)
        return job

    def large_write(
        self,
        kind: int,
        offset: int,
        length: int,
        keep: object,
        buffer: Any,
        op_flags: int,
        extra: int,
        *,
        lane: Any = None,
        then: "Callable[[LargeWrite], object] | None" = None,
    ) -> LargeWrite:
        """Create the job that submits a large write on a worker thread.

        `then` is called on the event loop when the job ends.
        """
        lib, native, generation = self._handle.lib, self._handle.native, self._handle.generation
        if type(buffer) is bytes:
            buffer = bridge_ffi.from_buffer(buffer)
        request = bridge_ffi.new(
            "aiorbd_request *", (kind, op_flags, offset, length, bridge_ffi.cast("void *", buffer), extra)
        )

        def submit(token: int) -> int:
            if lib.aiorbd_image_generation(native) != generation:  # the range was checked against another size
                return STALE
            if lane is None:
                return int(lib.aiorbd_submit(native, token, request))
            return int(lib.aiorbd_lane_submit(lane, token, request))

        return LargeWrite(self._handle, kind, (offset, length), submit, (keep, buffer), then)

    def abandon(self, entry: Operation, kind: int, offset: int, length: int) -> None:
        """Record that the waiting task was cancelled."""
        entry.abandon()
        if kind not in READS and length:
            self.add_stray(offset, length, lambda: entry.value is not None)
        logger.debug("abandoned: %s on %s, %d bytes at %d", FUNCTIONS[kind], self._handle.target, length, offset)

    async def refused(self, code: int, function: str, offset: int, length: int) -> None:
        """Handle a submit that was refused with `code`.

        Raise, or ask for the size, so that the caller can submit the request again.
        """
        if code < 0:
            self.fail(code, function, offset, length)
        # STALE: a client changed the image, perhaps its size.
        await self._handle.image_size.refresh(if_stale=True)
        self._handle.check()
        self._require_range(function, offset, length)

    def fail(self, code: int, function: str, offset: int, length: int) -> NoReturn:
        """Raise the error for librbd's `code`.

        The range lay within the image when the request was submitted. So EINVAL of a read means that the image shrank.
        """
        if code == -errno.EINVAL and function in _READ_FUNCTIONS:
            self.incomplete(function, offset, length, 0)
        self._handle.raise_for(code, function, Target("image", self.describe(offset, length)))
        raise AssertionError(code)

    def error(self, code: int, function: str, offset: int, length: int) -> RbdError:
        """Return the error that `fail` raises."""
        try:
            self.fail(code, function, offset, length)
        except RbdError as error:
            return error

    async def change(
        self, kind: int, offset: int, length: int, keep: object, buffer: Any, op_flags: int = 0, extra: int = 0
    ) -> None:
        """Like `io`, for a request that changes the image.

        If the task is already cancelled, the request does not begin.
        """
        await self._handle.bridge.loop.checkpoint_if_cancelled()
        function, generation = FUNCTIONS[kind], self._handle.generation
        try:
            await self.io(kind, offset, length, keep, buffer, op_flags, extra)
        except InvalidArgument:
            await self.require_still(function, offset, length)
            raise
        if generation != self._handle.generation:
            await self.require_still(function, offset, length)
        if kind in _NEEDS_NO_POOL:
            await self._handle.ioctx.confirm_place(self._handle, function)

    async def require_still(self, operation: str, offset: int, length: int) -> None:
        """Raise if the image has become too small for the range of a request that has ended.

        In this case, librbd may have clipped the request without an error, or refused the request. The check uses
        librbd's last answer. A running shrink of this handle has lowered the known size, but waits for this request.
        """
        if not self._handle.image_address:  # the image is closed, and the close waited for the request
            return
        try:
            if self._handle.lib.aiorbd_image_is_stale(self._handle.native):
                await self._handle.image_size.refresh(if_stale=True)
        except ClosedError:  # the request has completed, because the close waited for it
            return
        except RbdError as error:
            error.add_note("The operation completed. It is unknown whether the image shrank during the operation.")
            raise
        size = self._handle.image_size.last_answer
        if offset + length > size:
            message = f"the image shrank to {size} bytes meanwhile: the bytes past the new end are lost"
            raise ImageShrank(errno.EINVAL, message, operation, self.describe(offset, length))
