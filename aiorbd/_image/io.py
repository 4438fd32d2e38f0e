"""Read and write an open image.

A read takes these steps:

1. `ImageData.read` asks the operation table (C, `ffi/table`) for an entry.
2. The table checks the range, allocates and registers the bytes, and submits the request.
3. A thread of librbd queues the result.
4. The event loop takes the result from the queue, and the task continues.
5. The task checks the return value, and returns the bytes that librbd has filled.

`Requests.io` does the same for the other calls, and for unusual requests.
"""

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from aiorbd._core.operation import Operation
from aiorbd._core.resource import Resource
from aiorbd._image.compare import COMPARE, COMPAREV, compare_and_write, compare_and_writev
from aiorbd._image.handle import ImageHandle
from aiorbd._native.loader import require_function
from aiorbd._native.marshal import invalid, number, readable, writable
from aiorbd._native.requests import (
    DISCARD,
    FUNCTIONS,
    READ,
    READV,
    STALE_BY_NOW,
    WRITE,
    WRITE_SAME,
    WRITE_WITH_CRC32C,
    WRITE_ZEROES,
    WRITEV,
    pieces,
)
from aiorbd.enums import OpFlag

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


#: The usual flags. The truth of an enum member costs more than a comparison with this object.
_NO_FLAGS: Final = OpFlag.NONE

#: The largest number of zero bytes in one write.
_ZEROES: Final = 4 << 20


class ImageData(Resource[ImageHandle]):
    """The data of an open image. Part of `Image`."""

    # -- reading -------------------------------------------------------------------------------

    async def read(self, offset: int, length: int, *, op_flags: OpFlag | int = OpFlag.NONE) -> bytes:
        """Read and return `length` bytes from `offset`.

        Raises:
            PastEndOfImage: The range reaches past the end of the image.
            ImageShrank: The image shrank during the read.

        Implements: rbd_aio_read2
        """
        handle = self._handle
        entry = handle.bridge.read(handle, offset, length) if op_flags is _NO_FLAGS else None
        if entry is None:
            return await self._read(handle, offset, length, op_flags)
        try:
            await (entry if handle.park is None else handle.park(entry))
        except BaseException:
            handle.requests.abandon(entry, READ, offset, length)
            raise
        if entry.value != length:
            if entry.value == STALE_BY_NOW:  # the image changed before librbd received the read
                return await self._read(handle, offset, length, op_flags)
            await handle.find_place(entry.value)
            handle.requests.incomplete("rbd_aio_read2", offset, length, entry.value)
        data: bytes = entry.keep
        return data

    async def _read(self, handle: ImageHandle, offset: int, length: int, op_flags: int) -> bytes:
        """Do a read that is unusual, or that the table refused."""
        handle.check()
        offset, length = handle.requests.range_of(offset, length)
        if not await handle.requests.check_range("rbd_aio_read2", offset, length):
            return b""
        entry = await handle.requests.io(READ, offset, length, None, None, op_flags)
        if entry.value != length:
            handle.requests.incomplete("rbd_aio_read2", offset, length, entry.value or 0)
        data: bytes = entry.keep  # type: ignore[assignment]  # C created the bytes
        return data

    async def read_into(self, buffer: "WriteableBuffer", offset: int, *, op_flags: OpFlag | int = OpFlag.NONE) -> int:
        """Fill a writable buffer from `offset`, without a copy. Return the length of the buffer in bytes.

        The buffer stays exported until librbd is done with it, even if the read is cancelled. Until then, the contents
        of the buffer are undefined.

        Raises:
            PastEndOfImage: The image ends before the buffer is full.
            InvalidArgument: The buffer is read-only or not contiguous.

        Implements: rbd_aio_read2
        """
        handle = self._handle
        handle.check()
        view = writable(buffer, "buffer", "rbd_aio_read2", handle.target)
        offset, length = handle.requests.range_of(offset, len(view))
        if not await handle.requests.check_range("rbd_aio_read2", offset, length):
            return 0
        got = (await handle.requests.io(READ, offset, length, None, view, op_flags)).value or 0
        if got != length:
            handle.requests.incomplete("rbd_aio_read2", offset, length, got)
        return length

    async def readv(self, buffers: "Sequence[WriteableBuffer]", offset: int) -> int:
        """Fill several writable buffers, one after the other, from `offset`. Return the total length in bytes.

        Raises:
            PastEndOfImage: The image ends before the buffers are full.
            InvalidArgument: A buffer is read-only or not contiguous.

        Implements: rbd_aio_readv
        """
        handle = self._handle
        handle.check()
        views = [writable(buffer, "buffer", "rbd_aio_readv", handle.target) for buffer in buffers]
        offset, length = handle.requests.range_of(offset, sum(map(len, views)))
        if not await handle.requests.check_range("rbd_aio_readv", offset, length):
            return 0
        got = (await handle.requests.io(READV, offset, length, views, pieces(views), extra=len(views))).value or 0
        if got != length:
            handle.requests.incomplete("rbd_aio_readv", offset, length, got)
        return length

    # -- writing -------------------------------------------------------------------------------

    async def write(self, data: "ReadableBuffer", offset: int, *, op_flags: OpFlag | int = OpFlag.NONE) -> int:
        """Write all of `data` at `offset`. Return the length of the data in bytes.

        If the call is cancelled, the outcome is unknown. Do not change the buffer before this call returns. After a
        cancellation, do not change the buffer before `drain` returns.

        Raises:
            PastEndOfImage: The data reaches past the end of the image. Nothing was written.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_aio_write2
        """
        handle = self._handle
        handle.check()
        if type(data) is bytes and op_flags is _NO_FLAGS:
            await handle.bridge.loop.checkpoint_if_cancelled()
            generation = handle.generation
            entry = handle.bridge.write(handle, data, offset)
            if entry is not None:
                try:
                    await (entry if handle.park is None else handle.park(entry))
                except BaseException:
                    handle.requests.abandon(entry, WRITE, offset, len(data))
                    raise
                if not entry.value and handle.generation == generation:
                    return len(data)
                if entry.value == STALE_BY_NOW:  # the image changed before librbd received the write
                    handle.check()
                else:
                    await _require_written(handle, entry, "rbd_aio_write2", offset, len(data))
                    return len(data)
        view = readable(data, "data", "rbd_aio_write2", handle.target)
        offset, length = handle.requests.range_of(offset, len(view))
        if await handle.requests.check_change("rbd_aio_write2", offset, length):
            await handle.requests.change(WRITE, offset, length, None, view, op_flags)
        return length

    async def writev(self, buffers: "Sequence[ReadableBuffer]", offset: int) -> int:
        """Write several buffers, one after the other, at `offset`. Return the total length in bytes.

        If the call is cancelled, the outcome is unknown.

        Raises:
            PastEndOfImage: The data reaches past the end of the image. Nothing was written.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_aio_writev
        """
        handle = self._handle
        handle.check()
        views = [readable(buffer, "data", "rbd_aio_writev", handle.target) for buffer in buffers]
        offset, length = handle.requests.range_of(offset, sum(map(len, views)))
        if await handle.requests.check_change("rbd_aio_writev", offset, length):
            await handle.requests.change(WRITEV, offset, length, views, pieces(views), extra=len(views))
        return length

    async def write_same(
        self, data: "ReadableBuffer", offset: int, length: int, *, op_flags: OpFlag | int = OpFlag.NONE
    ) -> int:
        """Fill `length` bytes at `offset` with copies of `data`. Return `length`.

        If the call is cancelled, the outcome is unknown.

        Raises:
            InvalidArgument: `data` is empty, or `length` is not a multiple of the length of `data`.
            PastEndOfImage: The range reaches past the end of the image. Nothing was written.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_aio_writesame
        """
        handle = self._handle
        handle.check()
        view = readable(data, "data", "rbd_aio_writesame", handle.target)
        offset, length = handle.requests.range_of(offset, length)
        if not len(view) or length % len(view):
            message = f"length {length} is no multiple of the {len(view)} bytes of data"
            raise invalid(message, "rbd_aio_writesame", handle.target)
        if await handle.requests.check_change("rbd_aio_writesame", offset, length):
            await handle.requests.change(WRITE_SAME, offset, length, None, view, op_flags, len(view))
        return length

    async def compare_and_write(
        self, compare: "ReadableBuffer", data: "ReadableBuffer", offset: int, *, op_flags: OpFlag | int = OpFlag.NONE
    ) -> int:
        """Atomically write `data` at `offset` if the image contains `compare` there.

        Return the length of the data in bytes. If the call is cancelled, the outcome is unknown.

        Raises:
            CompareMismatch: The image contains other data. The error's `offset` is the position of the difference.
                Nothing was written.
            InvalidArgument: `compare` and `data` differ in length, the range is longer than half of the stripe unit,
                or the range does not lie in one sector of an object. A sector has 512 bytes (Ceph 16.2).
            OperationNotSupported: ``rbd_cache_policy`` is ``writeback`` or ``writethrough``. With these policies,
                librbd would still read the old data from its cache. The default, ``writearound``, works.
            PastEndOfImage: The range reaches past the end of the image.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_aio_compare_and_write, rbd_config_image_list
        """
        handle = self._handle
        handle.check()
        expected = readable(compare, "compare", COMPARE, handle.target)
        view = readable(data, "data", COMPARE, handle.target)
        return await compare_and_write(handle, expected, view, offset, op_flags)

    async def compare_and_writev(
        self,
        compare: "Sequence[ReadableBuffer]",
        data: "Sequence[ReadableBuffer]",
        offset: int,
        *,
        op_flags: OpFlag | int = OpFlag.NONE,
    ) -> int:
        """Like `compare_and_write`, with several buffers one after the other, without a copy of them.

        The buffers of `compare` may have other lengths than those of `data`. The sums of the lengths must be equal.

        Raises:
            CompareMismatch, InvalidArgument, OperationNotSupported, PastEndOfImage, ReadOnlyImage: As for
                `compare_and_write`.
            LibraryTooOldError: librbd is older than 17.2. `compare_and_write` works with all releases.

        Implements: rbd_aio_compare_and_writev, rbd_config_image_list
        """
        handle = self._handle
        handle.check()
        await handle.bridge.loop.checkpoint_if_cancelled()
        require_function(COMPAREV)
        expected = [readable(buffer, "compare", COMPAREV, handle.target) for buffer in compare]
        views = [readable(buffer, "data", COMPAREV, handle.target) for buffer in data]
        return await compare_and_writev(handle, expected, views, offset, op_flags)

    async def write_with_crc32c(
        self, data: "ReadableBuffer", offset: int, crc32c: int, *, op_flags: OpFlag | int = OpFlag.NONE
    ) -> int:
        """Like `write`, with the checksum of the data: data that changed on its way to this call is not written.

        librbd sends this checksum to the OSD with the data, instead of computing one.

        Args:
            data: The data. If another thread changes it during the call, the write may never end.
            offset: Where to write the data, in bytes.
            crc32c: The data's CRC-32C, as iSCSI and NVMe define it: 0xE3069283 for ``b"123456789"``.
            op_flags: Hints for the OSDs.

        Raises:
            ChecksumMismatch: The data has another checksum. Nothing was written.
            LibraryTooOldError: librbd is older than 20.2.
            PastEndOfImage: The data reaches past the end of the image. Nothing was written.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_aio_write_with_crc32c
        """
        handle, function = self._handle, FUNCTIONS[WRITE_WITH_CRC32C]
        handle.check()
        await handle.bridge.loop.checkpoint_if_cancelled()
        require_function(function)
        view = readable(data, "data", function, handle.target)
        crc32c = number(crc32c, "crc32c", function, handle.target, bits=32)
        offset, length = handle.requests.range_of(offset, len(view))
        if await handle.requests.check_change(function, offset, length):
            await handle.requests.change(WRITE_WITH_CRC32C, offset, length, None, view, op_flags, crc32c)
        return length

    async def discard(self, offset: int, length: int) -> None:
        """Discard a range. Later reads there return zeroes or, for parts of objects, old data.

        librbd frees whole multiples of ``rbd_discard_granularity_bytes`` (64 KiB), and may leave the rest unchanged.
        Use `write_zeroes` if later reads must return zeroes. If the call is cancelled, the outcome is unknown.

        Raises:
            PastEndOfImage: The range reaches past the end of the image. Nothing was discarded.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_aio_discard
        """
        handle = self._handle
        handle.check()
        offset, length = handle.requests.range_of(offset, length)
        if await handle.requests.check_change("rbd_aio_discard", offset, length, largest=None):
            await handle.requests.change(DISCARD, offset, length, None, None)

    async def write_zeroes(
        self, offset: int, length: int, *, thick: bool = False, op_flags: OpFlag | int = OpFlag.NONE
    ) -> None:
        """Make a range read as zeroes. If the call is cancelled, the outcome is unknown.

        Args:
            offset: The offset of the range in bytes.
            length: The length of the range in bytes.
            thick: Whether to write zeroes, which allocates the space instead of freeing it. The zeroes are written in
                pieces of 4 MiB. So the first pieces may be written when a later piece fails.
            op_flags: Hints for the OSDs.

        Raises:
            PastEndOfImage: The range reaches past the end of the image. Nothing was written.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_aio_write_zeroes, rbd_aio_write2
        """
        handle = self._handle
        handle.check()
        offset, length = handle.requests.range_of(offset, length)
        if not await handle.requests.check_change("rbd_aio_write_zeroes", offset, length, largest=None):
            return
        if not thick:
            await handle.requests.change(WRITE_ZEROES, offset, length, None, None, op_flags)
            return
        # Do not use librbd's own thick zeroes: librbd counts them as begun before it lets them through. A call that
        # holds up writes (a snapshot, a resize) then waits for the zeroes, and the zeroes wait for the call. In 16.2,
        # both wait for ever.
        zeroes = memoryview(bytes(min(length, _ZEROES)))
        for start in range(offset, offset + length, _ZEROES):
            await self.write(zeroes[: offset + length - start], start, op_flags=op_flags)

    async def flush(self) -> None:
        """Make all writes durable that completed before this call.

        If the call is cancelled, it is unknown which writes are durable. If a flush fails, overlapping flushes raise
        its error, too. If a cancelled flush fails, the next flush raises the error. If the I/O context was opened with
        `full_try`, a write that has completed is durable, and the flush waits for the writes in flight.

        Implements: rbd_aio_flush
        """
        await self._handle.durability.flush()

    async def invalidate_cache(self) -> None:
        """Make librbd forget the data that it has cached for this image, so that reads ask the cluster again.

        The call first flushes. With librbd's default cache policy, ``writearound``, or without a cache, no read is
        answered from a cache. If the call is cancelled, the outcome is unknown.

        Implements: rbd_invalidate_cache
        """
        handle = self._handle
        await handle.durability.make_durable()
        await handle.call("rbd_invalidate_cache")


async def _require_written(handle: ImageHandle, entry: Operation, operation: str, offset: int, length: int) -> None:
    """Check a write that failed, or during which the image changed, as `Requests.change` does."""
    code = entry.value or 0
    if code >= 0 or code in (-errno.EINVAL, -errno.EDOM, -errno.ERANGE):
        await handle.requests.require_still(operation, offset, length)
    if code < 0:
        await handle.find_place(code)
        handle.requests.fail(code, operation, offset, length)
