"""Write data if the image contains other data: the checks around the two C functions, and the place of a mismatch."""

from typing import Any, Final

from aiorbd._image.handle import ImageHandle
from aiorbd._image.read_cache import require_no_read_cache
from aiorbd._native.loader import bridge_ffi
from aiorbd._native.marshal import invalid
from aiorbd._native.requests import COMPARE_AND_WRITE, COMPARE_AND_WRITEV, FUNCTIONS, pieces
from aiorbd.errors import CompareMismatch

COMPARE: Final = FUNCTIONS[COMPARE_AND_WRITE]
COMPAREV: Final = FUNCTIONS[COMPARE_AND_WRITEV]


async def compare_and_write(handle: ImageHandle, compare: Any, data: Any, offset: int, op_flags: int) -> int:
    """Write one buffer: see `Image.compare_and_write`."""
    sizes = len(compare), len(data)
    return await _change(handle, COMPARE_AND_WRITE, sizes, offset, (compare, data), op_flags, 0)


async def compare_and_writev(
    handle: ImageHandle, compare: list[Any], data: list[Any], offset: int, op_flags: int
) -> int:
    """Write several buffers: see `Image.compare_and_writev`."""
    sizes = sum(map(len, compare)), sum(map(len, data))
    buffers, counts = (pieces(compare), pieces(data)), len(compare) << 32 | len(data)
    return await _change(handle, COMPARE_AND_WRITEV, sizes, offset, buffers, op_flags, counts, (compare, data))


async def _change(
    handle: ImageHandle,
    kind: int,
    sizes: tuple[int, int],
    offset: int,
    buffers: tuple[Any, Any],
    op_flags: int,
    extra: int,
    keep: object = None,
) -> int:
    """Check the arguments, and make the request. `keep` are objects that must live as long as the request."""
    operation = FUNCTIONS[kind]
    offset, length = handle.requests.range_of(offset, sizes[1])
    if sizes[0] != length:
        raise invalid(f"compare has {sizes[0]} bytes, data has {length}", operation, handle.target)
    if handle.caches_reads is not False:  # before the range check, which must still hold at the submit
        await require_no_read_cache(handle, operation)
        handle.check()
    if not await handle.requests.check_change(operation, offset, length):
        return 0
    unit = handle.layout.stripe_unit
    # If the data differs, librbd adds the position of the difference to the length.
    # librbd aborts if the sum is larger than a stripe unit.
    if 2 * length - 1 > unit:
        message = f"{length} bytes are more than half of the stripe unit, {unit} bytes"
        raise invalid(message, operation, handle.requests.describe(offset, length))
    mismatch = bridge_ffi.new("uint64_t *")
    pointers = bridge_ffi.new("void *[3]", [*buffers, mismatch])
    try:
        await handle.requests.change(kind, offset, length, (*buffers, mismatch, keep), pointers, op_flags, extra)
    except CompareMismatch as error:
        error.offset = offset + _bytes_into_object(handle, mismatch[0])
        raise
    return length


def _bytes_into_object(handle: ImageHandle, offset: int) -> int:
    """Return the offset within an object that belongs to an offset of the image.

    librbd counts the equal bytes of a compare_and_write. librbd reports the count as if it were an offset within the
    object, translated to an offset of the image. This function reverses the translation.
    """
    object_size, unit, count, *_ = handle.layout
    return offset // unit // count % (object_size // unit) * unit + offset % unit
