"""Send the data of an image to a stream, and write a stream to an image."""

from typing import TYPE_CHECKING, Final

from anyio.abc import ByteSendStream

from aiorbd._image.image import Image
from aiorbd._native.marshal import invalid
from aiorbd._stream.source import ByteSource, StreamSource
from aiorbd._stream.zeroes import is_zero, zeroes

if TYPE_CHECKING:
    from aiorbd._core.progress import Progress

#: The size of one read or write, and the largest part that a stream is sent.
CHUNK: Final = 4 << 20

#: The size of an image that grows, before the size of the stream is known.
_FIRST_SIZE: Final = 1 << 30


async def send_zeroes(stream: ByteSendStream, length: int) -> None:
    """Send zero bytes."""
    while length:
        part = min(length, CHUNK)
        await stream.send(zeroes(part))
        length -= part


async def send_range(
    image: Image, stream: ByteSendStream, begin: int, end: int, extents: list[tuple[int, int]], depth: int
) -> int:
    """Send a range of an image, with zeroes where no extent is. Return the number of bytes that were read."""
    position, moved = begin, 0
    async with image.read_extents(extents, chunk_size=CHUNK, depth=depth) as chunks:
        async for offset, length, data in chunks:
            assert data is not None  # the extents are pairs, and no holes
            await send_zeroes(stream, offset - position)
            await stream.send(data)
            position = offset + length
            moved += length
    await send_zeroes(stream, end - position)
    return moved


async def receive_image(
    image: Image, source: StreamSource, depth: int, progress: "Progress | None", *, size: int | None, fill: bool
) -> tuple[int, int]:
    """Write a stream to an image, in order. Return the bytes that were written, and those that were received.

    Args:
        image: The image.
        source: The stream, or the path of a file.
        depth: The number of writes of 4 MiB in flight.
        progress: Called as ``progress(done, total)``.
        size: The size that the stream must have. If it is None, the image grows as needed.
        fill: Whether ranges of zeroes are written too, because the image may have data there.
    """
    bytes_in, room, moved, offset = ByteSource(source), await image.size(), 0, 0
    total = size or 0
    try:
        async with image.writer(depth=depth, max_bytes=depth * CHUNK) as writer:
            while data := await bytes_in.up_to(CHUNK - offset % CHUNK):
                end = offset + len(data)
                if size is not None and end > size:
                    raise _wrong_size(image, f"more than {size}")
                if end > room:
                    room = max(2 * room, _FIRST_SIZE, end)
                    await image.resize(room)
                if not is_zero(data):
                    await writer.write(data, offset)
                    moved += len(data)
                elif fill:
                    await writer.write_zeroes(offset, len(data))
                offset = end
                if progress is not None:
                    progress(offset, max(total, offset))
    finally:
        bytes_in.close()
    if size is not None and offset != size:
        raise _wrong_size(image, f"{offset} instead of {size}")
    return moved, offset


def _wrong_size(image: Image, found: str) -> Exception:
    return invalid(f"the stream has a wrong number of bytes: {found}", "rbd_aio_write2", image._handle.target)
