"""Read a diff, or a whole image with its snapshots, part by part. Every part is checked."""

import os
import struct
from types import TracebackType
from typing import Any, Final, Self

from aiorbd._stream.records import (
    LARGEST_DATA,
    DiffData,
    DiffFormat,
    DiffHeader,
    DiffRecord,
    DiffZeroes,
    ExportHeader,
)
from aiorbd._stream.source import ByteSource, StreamSource

_BANNERS: Final = {b"rbd diff v1\n": DiffFormat.V1, b"rbd diff v2\n": DiffFormat.V2}
_IMAGE: Final = b"rbd image v2"  # as long as the banners of diffs, which have a line break too

#: The longest name of a snapshot, as in the ``rbd`` tool.
_LONGEST_NAME: Final = 4096

#: The longest key or value of the metadata.
_LONGEST_TEXT: Final = 1 << 20

#: The most bytes of all metadata together.
_MOST_METADATA: Final = 16 << 20

#: Sizes and ends of ranges from here on do not fit librbd.
_LIMIT: Final = 1 << 63

#: The banner before the diffs of a whole image.
DIFFS: Final = b"rbd image diffs v2\n"

_NUMBERS: Final = {b"O": "order", b"T": "features", b"U": "stripe_unit", b"C": "stripe_count"}


class DiffReader:
    """The parts of a stream, in order, from `read_diff`. Iterate with ``async for``.

    Closing, or the end of an ``async with`` block, closes a file. A stream belongs to its owner.
    """

    def __init__(self, source: StreamSource) -> None:
        """Private: use `read_diff`."""
        self._source = ByteSource(source)
        self._begun = False
        self._diffs = 1  # that have not begun
        self._header: DiffHeader | None = None  # of the diff that is read
        self._tag = b""  # of the record that comes next, with its length
        self._length = 0
        self._offset = 0  # of the data that is read
        self._left = 0  # bytes of that data
        self._ended = False

    def __repr__(self) -> str:
        return f"<aiorbd.DiffReader: {self._source!r}, at byte {self._source.position}>"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> DiffRecord:
        if self._ended:
            raise StopAsyncIteration
        record: DiffRecord | None = None
        try:
            record = await self._next()
        finally:
            if record is None:
                await self.aclose()
        if record is None:
            raise StopAsyncIteration
        return record

    async def aclose(self) -> None:
        """Stop, and close the file."""
        self._ended = True
        self._source.close()

    #: `close` is another name of `aclose`.
    close = aclose

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _next(self) -> DiffRecord | None:
        """Read the next part; None at the end."""
        while not self._left:
            if self._header is None:
                return await self._start()
            if self._tag in (b"w", b"z"):
                return await self._range(self._header)
            if self._tag == b"e":
                self._header = None
            elif self._tag in (b"f", b"t", b"s", b"p"):
                raise self._source.malformed("a part of the header comes after data")
            else:
                await _skip_unknown(self._source, self._header.format, self._tag, self._length)
                await self._read_tag()
        return await self._data()

    async def _start(self) -> DiffRecord | None:
        """Read the start of the stream or of the next diff; return None at the end."""
        source = self._source
        if not self._diffs:
            return None
        banner = await source.take(12)
        if banner == _IMAGE and not self._begun and await source.take(1) == b"\n":
            whole = await _export_header(source)
            self._begun, self._diffs = True, whole.diffs
            return whole
        if banner not in _BANNERS:
            raise source.malformed("no diff: the banner is unknown")
        self._begun, self._diffs = True, self._diffs - 1
        self._header, self._tag, self._length = await _header(source, _BANNERS[banner])
        return self._header

    async def _range(self, header: DiffHeader) -> DiffRecord:
        """Read a record of data or zeroes."""
        source, data = self._source, self._tag == b"w"
        offset, size = await _number(source), await _number(source)
        if header.format is DiffFormat.V2 and self._length != 16 + (size if data else 0):
            raise source.malformed("the length of a record is wrong")
        if not size or offset + size > header.size:
            message = f"a record of {size} bytes at {offset} is empty, or reaches past the image"
            raise source.malformed(f"{message} of {header.size} bytes")
        if data:
            self._offset, self._left = offset, size
            return await self._data()
        await self._read_tag()
        return DiffZeroes(offset, size)

    async def _read_tag(self) -> None:
        assert self._header is not None
        self._tag, self._length = await _tag(self._source, self._header.format)

    async def _data(self) -> DiffData:
        """Read the next part of the data."""
        length = min(self._left, LARGEST_DATA - self._offset % LARGEST_DATA)
        record = DiffData(self._offset, await self._source.take(length))
        self._offset += length
        self._left -= length
        if not self._left:
            await self._read_tag()
        return record


def read_diff(source: StreamSource) -> DiffReader:
    """Iterate over the parts of a diff: a `DiffHeader`, and then `DiffData` and `DiffZeroes`, as the stream has them.

    A stream with a whole image begins with an `ExportHeader`, which tells the number of diffs. Librbd and a cluster are
    not needed. Memory holds one part at a time. Reading ends after the last part, even if the stream has more bytes.

    If a wait is cancelled, bytes of the stream may be lost: do not continue.

    Args:
        source: A path, or a `ByteReceiveStream` of anyio. The stream stays open.

    Raises:
        DiffFormatError: The stream is no diff, is damaged, or ends too early.
        OSError: The file cannot be read.
    """
    return DiffReader(source)


async def _export_header(source: ByteSource) -> ExportHeader:
    fields: dict[str, Any] = {}
    metadata: dict[str, str] = {}
    begin = source.position
    while (tag := await source.take(1)) != b"E":
        length = await _number(source)
        if tag in _NUMBERS:
            if length != 8:
                raise source.malformed(f"a number has {length} bytes instead of 8")
            fields[_NUMBERS[tag]] = await _number(source)
        elif tag == b"M":
            key = await _text(source, _LONGEST_TEXT)
            value = await _text(source, _LONGEST_TEXT)
            if length != 8 + len(os.fsencode(key)) + len(os.fsencode(value)):
                raise source.malformed("the length of metadata is wrong")
            metadata[key] = value
            if source.position - begin > _MOST_METADATA:
                raise source.malformed(f"more than {_MOST_METADATA} bytes of metadata")
        else:
            await source.skip(length)
    if await source.take(len(DIFFS)) != DIFFS:
        raise source.malformed("the banner of the diffs is missing")
    return ExportHeader(await _number(source), **fields, metadata=metadata)


async def _header(source: ByteSource, version: DiffFormat) -> tuple[DiffHeader, bytes, int]:
    """Read the header of a diff. Return also the tag and the length of the record behind the header."""
    fields: dict[str, Any] = {}
    value: Any
    while True:
        tag, length = await _tag(source, version)
        if tag in (b"f", b"t"):
            name, value = ("from_snapshot" if tag == b"f" else "to_snapshot"), await _text(source, _LONGEST_NAME)
            if not value:
                raise source.malformed("the name of a snapshot is empty")
            found = 4 + len(os.fsencode(value))
        elif tag == b"s":
            name, value, found = "size", await _number(source), 8
        elif tag == b"p" and version is DiffFormat.V2:
            # The rbd tool writes the length 8 before this one byte.
            name, value, found = "protected", await source.take(1) != b"\0", length if length == 8 else 1
        elif tag in (b"w", b"z", b"e"):
            break
        else:
            await _skip_unknown(source, version, tag, length)
            continue
        if name in fields:
            raise source.malformed(f"{name} comes twice")
        if version is DiffFormat.V2 and length != found:
            raise source.malformed(f"the length of {name} is wrong")
        fields[name] = value
    if "size" not in fields:
        raise source.malformed("the size of the image is missing")
    return DiffHeader(version, **{"from_snapshot": None, "to_snapshot": None} | fields), tag, length


async def _tag(source: ByteSource, version: DiffFormat) -> tuple[bytes, int]:
    """Read the tag of a record, and its length, which version 2 has."""
    tag = await source.take(1)
    return tag, await _number(source) if version is DiffFormat.V2 and tag != b"e" else 0


async def _skip_unknown(source: ByteSource, version: DiffFormat, tag: bytes, length: int) -> None:
    if version is DiffFormat.V1:
        raise source.malformed(f"the tag {tag!r} is unknown")
    await source.skip(length)


async def _number(source: ByteSource) -> int:
    """Read a number of 64 bits that librbd can handle."""
    number = int(struct.unpack("<Q", await source.take(8))[0])
    if number >= _LIMIT:
        raise source.malformed(f"the number {number} is too large")
    return number


async def _text(source: ByteSource, longest: int) -> str:
    length = int(struct.unpack("<I", await source.take(4))[0])
    if length > longest:
        raise source.malformed(f"a text has {length} bytes, more than {longest}")
    data = await source.take(length)
    if b"\0" in data:
        raise source.malformed("a text contains NUL")
    return os.fsdecode(data)
