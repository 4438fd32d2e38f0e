"""Make diffs by hand, and apply them to a model of an image: independent of the library."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream

import aiorbd

#: A range of a diff: its offset, and its data or the number of zeroes.
Range = tuple[int, bytes | int]


def text(value: str) -> bytes:
    return struct.pack("<I", len(value)) + value.encode()


def record(version: int, tag: bytes, body: bytes) -> bytes:
    return tag + (struct.pack("<Q", len(body)) if version == 2 else b"") + body


def diff(version: int, begin: str | None, end: str | None, size: int, ranges: Sequence[Range]) -> bytes:
    """Return a diff as the format's description says."""
    parts = [b"rbd diff v%d\n" % version]
    if begin is not None:
        parts.append(record(version, b"f", text(begin)))
    if end is not None:
        parts.append(record(version, b"t", text(end)))
    parts.append(record(version, b"s", struct.pack("<Q", size)))
    for offset, content in ranges:
        if isinstance(content, bytes):
            parts.append(record(version, b"w", struct.pack("<QQ", offset, len(content)) + content))
        else:
            parts.append(record(version, b"z", struct.pack("<QQ", offset, content)))
    return b"".join(parts) + b"e"


def applied(image: bytes, size: int, ranges: Sequence[Range]) -> bytes:
    """Return the content of an image after a diff."""
    content = bytearray(image[:size].ljust(size, b"\0"))
    for offset, change in ranges:
        data = change if isinstance(change, bytes) else bytes(change)
        content[offset : offset + len(data)] = data
    return bytes(content)


@dataclass
class Stream(ByteReceiveStream):
    """A stream that returns a few bytes at a time."""

    data: bytes
    most: int = 1 << 30
    closed: bool = False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await anyio.lowlevel.checkpoint()
        part, self.data = self.data[: min(max_bytes, self.most)], self.data[min(max_bytes, self.most) :]
        if not part:
            raise anyio.EndOfStream
        return part

    async def aclose(self) -> None:
        self.closed = True


class Sink(ByteSendStream):
    """A stream that keeps what it is sent."""

    def __init__(self) -> None:
        self.data = b""
        self.closed = False

    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        self.data += item

    async def aclose(self) -> None:
        self.closed = True


async def read(source: Any) -> list[Any]:
    async with aiorbd.read_diff(source) as records:
        return [record async for record in records]


def ranges_of(records: Sequence[Any]) -> list[Range]:
    """Return the ranges of records that were read."""
    return [
        (record.offset, record.data if isinstance(record, aiorbd.DiffData) else record.length)
        for record in records
        if not isinstance(record, aiorbd.DiffHeader | aiorbd.ExportHeader)
    ]
