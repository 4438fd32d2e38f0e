"""Write the parts of a diff, or of a whole image with its snapshots."""

import os
import struct
from collections.abc import Iterator

from aiorbd._stream.reader import DIFFS
from aiorbd._stream.records import LARGEST_ZEROES, DiffData, DiffFormat, DiffHeader, DiffZeroes, ExportHeader
from aiorbd._stream.target import ByteTarget


def pieces_of(zeroes: DiffZeroes) -> Iterator[DiffZeroes]:
    """Cut a range of zeroes. librbd makes the requests for all objects of a range at once."""
    offset, end = zeroes.offset, zeroes.offset + zeroes.length
    while offset < end:
        stop = min(end, offset - offset % LARGEST_ZEROES + LARGEST_ZEROES)
        yield DiffZeroes(offset, stop - offset)
        offset = stop


class DiffEncoder:
    """Writes one diff to a target. Zeroes that follow each other become one record."""

    def __init__(self, target: ByteTarget, version: DiffFormat) -> None:
        self._target = target
        self._version = version
        self._zeroes = DiffZeroes(0, 0)

    def _tag(self, tag: bytes, length: int) -> bytes:
        """Return the start of a record. Version 2 also has its length."""
        return tag if self._version is DiffFormat.V1 else tag + struct.pack("<Q", length)

    async def begin(self, header: DiffHeader) -> None:
        """Write the header."""
        parts = [b"rbd diff v%d\n" % self._version]
        for tag, name in ((b"f", header.from_snapshot), (b"t", header.to_snapshot)):
            if name is not None:
                encoded = os.fsencode(name)
                parts.append(self._tag(tag, 4 + len(encoded)) + struct.pack("<I", len(encoded)) + encoded)
        if self._version is DiffFormat.V2 and header.to_snapshot is not None:
            parts.append(self._tag(b"p", 1) + bytes([header.protected]))
        parts.append(self._tag(b"s", 8) + struct.pack("<Q", header.size))
        await self._target.write(*parts)

    async def write(self, record: DiffData | DiffZeroes) -> None:
        """Write changed data, or a range of zeroes."""
        if isinstance(record, DiffZeroes):
            if record.offset != self._zeroes.offset + self._zeroes.length or not self._zeroes.length:
                await self._write_zeroes()
                self._zeroes = record
            else:
                self._zeroes = DiffZeroes(self._zeroes.offset, self._zeroes.length + record.length)
            return
        await self._write_zeroes()
        start = self._tag(b"w", 16 + record.length) + struct.pack("<QQ", record.offset, record.length)
        await self._target.write(start, record.data)

    async def _write_zeroes(self) -> None:
        zeroes, self._zeroes = self._zeroes, DiffZeroes(0, 0)
        for part in pieces_of(zeroes):
            await self._target.write(self._tag(b"z", 16) + struct.pack("<QQ", part.offset, part.length))

    async def end(self) -> None:
        """Write the end."""
        await self._write_zeroes()
        await self._target.write(b"e")


async def write_export_header(target: ByteTarget, header: ExportHeader) -> None:
    """Write the start of a whole image with its snapshots."""
    await target.write(b"rbd image v2\n", *_export_parts(header), b"E", DIFFS, struct.pack("<Q", header.diffs))


def _export_parts(header: ExportHeader) -> Iterator[bytes]:
    numbers = {b"O": header.order, b"T": header.features, b"U": header.stripe_unit, b"C": header.stripe_count}
    for tag, number in numbers.items():
        if number is not None:
            yield tag + struct.pack("<QQ", 8, number)
    for key, value in header.metadata.items():
        texts = b"".join(struct.pack("<I", len(text)) + text for text in map(os.fsencode, (key, value)))
        yield b"M" + struct.pack("<Q", len(texts)) + texts
