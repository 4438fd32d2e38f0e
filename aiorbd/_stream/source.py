"""Where the bytes of a diff come from: a file, or a stream like a pipe, a socket or the body of an HTTP response."""

import os
from typing import Final, TypeAlias

import anyio
from anyio.abc import ByteReceiveStream

from aiorbd._stream.local_file import LocalFile
from aiorbd.errors import DiffFormatError

#: A path, or an open stream.
StreamSource: TypeAlias = str | os.PathLike[str] | ByteReceiveStream

#: The number of bytes to read from a file at once, if fewer are asked for.
_AHEAD: Final = 1 << 16


class ByteSource:
    """Reads bytes in order. Reading begins, and a file is opened, at the first call."""

    def __init__(self, source: StreamSource) -> None:
        if not isinstance(source, str | os.PathLike | ByteReceiveStream):
            raise TypeError(f"a source is a path or a ByteReceiveStream, not {type(source).__name__}")
        self._source = source
        self._file: LocalFile | None = None
        self._ahead = memoryview(b"")
        #: The number of bytes that were taken.
        self.position: int = 0

    def __repr__(self) -> str:
        return repr(os.fspath(self._source) if isinstance(self._source, str | os.PathLike) else self._source)

    async def take(self, length: int) -> bytes:
        """Return the next `length` bytes."""
        data = await self._collect(length)
        if len(data) < length:
            raise self.malformed(f"the stream ends {length - len(data)} bytes too early")
        self.position += length
        return data

    async def up_to(self, length: int) -> bytes:
        """Return the next `length` bytes, or fewer at the end of the stream."""
        data = await self._collect(length)
        self.position += len(data)
        return data

    async def _collect(self, length: int) -> bytes:
        """Return the next bytes. A stream may return a few bytes at a time, so they are collected without a list."""
        part = self._ahead[:length]
        self._ahead = self._ahead[length:]
        if not part and (data := await self._receive(length)):
            if len(data) == length:
                return data  # without a copy
            part, self._ahead = memoryview(data)[:length], memoryview(data)[length:]
        if len(part) == length:
            return bytes(part)
        found = bytearray(part)
        while len(found) < length and (data := await self._receive(length - len(found))):
            missing = length - len(found)
            found += memoryview(data)[:missing]
            self._ahead = memoryview(data)[missing:]
        return bytes(found)

    async def skip(self, length: int) -> None:
        """Read over bytes."""
        while length:
            length -= len(await self.take(min(length, _AHEAD)))

    async def _receive(self, length: int) -> bytes:
        """Return some of the next bytes. From a stream come no more than `length`, because the rest is its owner's."""
        if isinstance(self._source, ByteReceiveStream):
            try:
                return await self._source.receive(length)
            except anyio.EndOfStream:
                return b""
        if self._file is None:
            self._file = LocalFile()
            await self._file.open(self._source, os.O_RDONLY, abandon=True)
        return await self._file.call(os.read, max(length, _AHEAD), abandon=True)

    def malformed(self, message: str) -> DiffFormatError:
        """Return the error for bytes that are no diff."""
        return DiffFormatError(message, self.position)

    def close(self) -> None:
        """Close a file that this object opened. A stream belongs to its owner."""
        if self._file is not None:
            self._file.close()
