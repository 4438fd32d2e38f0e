"""Integers of other types, for example numpy's. Their sums wrap around, so every call converts them to `int`."""

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from helpers import MakeImage

import aiorbd

pytestmark = pytest.mark.anyio

BITS = 32


class Wrapping:
    """An unsigned 32-bit integer like numpy's `uint32`."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __index__(self) -> Any:
        return self.value

    __int__ = __index__

    def __add__(self, other: Any) -> Any:
        return Wrapping((self.value + int(other)) % (1 << BITS))

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return Wrapping((self.value - int(other)) % (1 << BITS))

    def __mod__(self, other: Any) -> Any:
        return Wrapping(self.value % int(other))

    def __eq__(self, other: object) -> Any:
        return self.value == int(cast("Any", other))

    def __lt__(self, other: Any) -> Any:
        return self.value < int(other)

    def __le__(self, other: Any) -> Any:
        return self.value <= int(other)

    def __gt__(self, other: Any) -> Any:
        return self.value > int(other)

    def __ge__(self, other: Any) -> Any:
        return self.value >= int(other)

    def __hash__(self) -> Any:
        return hash(self.value)


#: The end of 20 bytes at this offset wraps around to 10.
END = Wrapping((1 << BITS) - 10)
N = Wrapping(20)


async def stream(image: aiorbd.Image, offset: int, length: int) -> Any:
    return [chunk async for chunk in image.read_extents([(offset, length)])]


async def write_stream(image: aiorbd.Image, offset: int, length: int) -> None:
    async with image.writer() as writer:
        await writer.write(bytes(length), offset)


async def zero_stream(image: aiorbd.Image, offset: int, length: int) -> None:
    async with image.writer() as writer:
        await writer.write_zeroes(offset, length)


async def file_write(image: aiorbd.Image, offset: int, length: int) -> None:
    file = image.file()
    await file.seek(offset)
    await file.write(bytes(length))


async def diff(image: aiorbd.Image, offset: int, length: int) -> Any:
    return [extent async for extent in image.diff(offset, length)]


async def stream_of_a_range(image: aiorbd.Image, offset: int, length: int) -> Any:
    return [chunk async for chunk in image.read_extents(offset=offset, length=length)]


CALLS = {
    "read": lambda image, offset, length: image.read(offset, length),
    "read_into": lambda image, offset, length: image.read_into(bytearray(length), offset),
    "readv": lambda image, offset, length: image.readv([bytearray(length)], offset),
    "write": lambda image, offset, length: image.write(bytes(length), offset),
    "write of a bytearray": lambda image, offset, length: image.write(bytearray(length), offset),
    "writev": lambda image, offset, length: image.writev([bytes(length)], offset),
    "write_same": lambda image, offset, length: image.write_same(b"x", offset, length),
    "compare_and_write": lambda image, offset, length: image.compare_and_write(bytes(length), bytes(length), offset),
    "discard": lambda image, offset, length: image.discard(offset, length),
    "write_zeroes": lambda image, offset, length: image.write_zeroes(offset, length),
    "write_zeroes, thick": lambda image, offset, length: image.write_zeroes(offset, length, thick=True),
    "read_extents": stream,
    "read_extents of a range": stream_of_a_range,
    "writer.write": write_stream,
    "writer.write_zeroes": zero_stream,
    "file.write": file_write,
    "diff": diff,
}


@pytest.fixture
async def image_of_four_gigabytes(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> AsyncIterator[Any]:
    """Yield an image of 2**32 bytes: offsets in the image have at most 32 bits."""
    async with ioctx.open_image(await make_image(1 << BITS)) as image:
        yield image


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_range_past_the_end_is_refused_although_its_sum_wraps_around(
    image_of_four_gigabytes: Any, call: Any
) -> None:
    with pytest.raises(aiorbd.PastEndOfImage):
        await call(image_of_four_gigabytes, END, N)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_range_within_the_image_is_accepted(image_of_four_gigabytes: Any, call: Any) -> None:
    await call(image_of_four_gigabytes, Wrapping(512), N)


async def test_sizes_orders_and_limits_accept_other_integer_types(
    ioctx: aiorbd.IoCtx, make_image: MakeImage, image: aiorbd.Image
) -> None:
    await ioctx.create_image(f"{image.name}-other", Wrapping(1 << 22), order=Wrapping(20))  # type: ignore[arg-type]
    async with ioctx.open_image(f"{image.name}-other") as other:
        await other.resize(Wrapping(1 << 23), allow_shrink=True)  # type: ignore[arg-type]
        assert await other.size() == 1 << 23
        await other.sparsify(Wrapping(4096))  # type: ignore[arg-type]
        await other.set_snapshot_limit(Wrapping(5))  # type: ignore[arg-type]
        assert await other.snapshot_limit() == 5
        assert await other.file().read(Wrapping(3)) == bytes(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["0", 1.0, None, b"0"])
async def test_offset_that_is_no_integer_is_refused(image: aiorbd.Image, value: Any) -> None:
    for call in CALLS.values():
        with pytest.raises((TypeError, aiorbd.InvalidArgument)):
            await call(image, value, 20)
