"""The parts of the NBD protocol that know no images: numbers, layouts and sockets."""

import errno
import socket
import ssl
from enum import IntEnum, IntFlag
from struct import Struct
from typing import Protocol

import anyio
from anyio.abc import SocketStream
from anyio.streams.tls import TLSStream

GREETING = Struct(">8s8sH")
OPTION = Struct(">8sII")
OPTION_REPLY = Struct(">QIII")
OPTION_REPLY_MAGIC = 0x3E889045565A9
REQUEST = Struct(">IHHQQI")
REQUEST_MAGIC = 0x25609513
SIMPLE_REPLY = Struct(">IIQ")
SIMPLE_REPLY_MAGIC = 0x67446698
CHUNK = Struct(">IHHQI")
CHUNK_MAGIC = 0x668E33EF

#: The most data in one request. Clients expect at least this size.
LARGEST = 32 << 20


class Option(IntEnum):
    """What a client asks for before it names its export."""

    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    STARTTLS = 5
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10


class Answer(IntEnum):
    """The kinds of answers to an option."""

    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4
    UNSUPPORTED = 0x80000001
    INVALID = 0x80000003
    PLATFORM = 0x80000004
    TLS_REQUIRED = 0x80000005
    UNKNOWN = 0x80000006


class Ability(IntFlag):
    """What an export can do."""

    HAS_FLAGS = 1
    READ_ONLY = 2
    FLUSH = 4
    FUA = 8
    TRIM = 32
    WRITE_ZEROES = 64
    DF = 128
    MULTI_CONN = 256
    FAST_ZERO = 2048


class Command(IntEnum):
    """The kinds of requests."""

    READ = 0
    WRITE = 1
    DISCONNECT = 2
    FLUSH = 3
    TRIM = 4
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


class Flag(IntEnum):
    """The flags of a request. Operations on an `IntFlag` would take longer."""

    FUA = 1
    NO_HOLE = 2
    DF = 4
    REQ_ONE = 8
    FAST_ZERO = 16


class Chunk(IntEnum):
    """The kinds of parts of a structured reply."""

    NONE = 0
    OFFSET_DATA = 1
    BLOCK_STATUS = 5
    ERROR = 0x8001


#: NBD defines a few error numbers, with the values of Linux. All other errors become EIO.
ERRORS = {
    errno.EPERM: errno.EPERM,
    errno.EROFS: errno.EPERM,
    errno.ENOMEM: errno.ENOMEM,
    errno.EINVAL: errno.EINVAL,
    errno.ENOSPC: errno.ENOSPC,
    errno.EDQUOT: errno.ENOSPC,
    errno.EFBIG: errno.ENOSPC,
    errno.ESHUTDOWN: errno.ESHUTDOWN,
}

Buffer = bytes | bytearray | memoryview


class ProtocolError(Exception):
    """The client breaks the protocol. The connection ends."""


class Wire(Protocol):
    """A connection to a client."""

    async def fill(self, buffer: memoryview) -> None:
        """Wait until the buffer is full. Raise `EOFError` if the client ends the connection."""

    async def send(self, *parts: Buffer) -> None:
        """Send all parts, one after the other."""


class PlainWire:
    """A socket without buffers in between.

    The streams of asyncio copy all data into a buffer of their own. That would halve the throughput.
    """

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self._socket = connected

    async def fill(self, buffer: memoryview) -> None:
        """Wait until the buffer is full."""
        while buffer:
            try:
                count = self._socket.recv_into(buffer)
            except BlockingIOError:
                await anyio.wait_readable(self._socket)
                continue
            if not count:
                raise EOFError
            buffer = buffer[count:]

    async def send(self, *parts: Buffer) -> None:
        """Send all parts, if possible at once."""
        views = [memoryview(part) for part in parts if part]
        while views:
            try:
                count = self._socket.sendmsg(views[:512])  # Linux takes up to 1024
            except BlockingIOError:
                await anyio.wait_writable(self._socket)
                continue
            while views and count >= len(views[0]):
                count -= len(views.pop(0))
            if count:
                views[0] = views[0][count:]


class TLSWire:
    """A socket with TLS."""

    def __init__(self, stream: TLSStream) -> None:
        self._stream = stream
        self._received = bytearray()

    @classmethod
    async def start(cls, stream: SocketStream, context: ssl.SSLContext) -> "TLSWire":
        """Let the client begin with TLS."""
        return cls(await TLSStream.wrap(stream, server_side=True, ssl_context=context, standard_compatible=False))

    async def fill(self, buffer: memoryview) -> None:
        """Wait until the buffer is full."""
        while len(self._received) < len(buffer):
            try:
                self._received += await self._stream.receive(1 << 18)
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                raise EOFError from None
        buffer[:] = self._received[: len(buffer)]
        del self._received[: len(buffer)]

    async def send(self, *parts: Buffer) -> None:
        """Send all parts."""
        for part in parts:
            await self._stream.send(bytes(part))


async def receive(wire: Wire, length: int) -> bytes:
    """Wait for this number of bytes."""
    data = bytearray(length)
    await wire.fill(memoryview(data))
    return bytes(data)
