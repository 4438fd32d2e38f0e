"""Carry out the requests of an NBD client on an image."""

import errno
import logging
import struct
from contextlib import suppress
from typing import NamedTuple

import anyio
from nbd_handshake import BITMAP, Choice
from nbd_wire import (
    CHUNK,
    CHUNK_MAGIC,
    ERRORS,
    LARGEST,
    REQUEST,
    REQUEST_MAGIC,
    SIMPLE_REPLY,
    SIMPLE_REPLY_MAGIC,
    Buffer,
    Chunk,
    Command,
    Flag,
)

import aiorbd

logger = logging.getLogger("nbd_server")

#: The largest number of requests of one connection that run at once.
WORKERS = 32

#: How many of them may move more than 1 MiB. With these limits, a connection without TLS holds at most 160 MiB.
LARGE_WORKERS = 4
LARGE = 1 << 20

#: How much of an image the answer to a block status request describes at most: many ranges, or only the first.
STATUS_BYTES = 256 << 20
FIRST_STATUS_BYTES = 32 << 20

#: The largest number of ranges in such an answer.
STATUS_RANGES = 8192

#: The flags that a request may have. FUA is allowed everywhere, and matters for changes.
FLAGS: dict[int, int] = {
    Command.READ: Flag.FUA | Flag.DF,
    Command.WRITE_ZEROES: Flag.FUA | Flag.NO_HOLE | Flag.FAST_ZERO,
    Command.BLOCK_STATUS: Flag.FUA | Flag.REQ_ONE,
}

#: The descriptions of ranges in base:allocation: data, or a hole that reads as zeroes. In a bitmap: changed or not.
DATA, HOLE = 0, 3
CHANGED, UNCHANGED = 1, 0


class Request(NamedTuple):
    """A request of a client, with the data to write, or with the room for the data to read."""

    flags: int
    command: int
    cookie: int
    offset: int
    length: int
    data: memoryview

    @property
    def large(self) -> bool:
        """Whether the request moves much data."""
        return len(self.data) > LARGE


class Part(NamedTuple):
    """A part of a reply."""

    kind: Chunk
    data: tuple[Buffer, ...] = ()


class RequestError(Exception):
    """A request is refused."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.errno = code


class Connection:
    """The requests of a client that has chosen an export."""

    def __init__(self, choice: Choice) -> None:
        self._choice = choice
        self._image = choice.image
        self._size = choice.size
        self._wire = choice.wire
        self._structured = choice.structured
        self._contexts = choice.contexts
        self._receiving = anyio.Lock(fast_acquire=True)
        self._sending = anyio.Lock(fast_acquire=True)
        self._large = anyio.Semaphore(LARGE_WORKERS, fast_acquire=True)
        self._head = memoryview(bytearray(REQUEST.size))
        #: Set when no more requests are to be received.
        self.ended = False
        #: Whether the outcome of a request is unknown, because the end did not wait for it.
        self.abandoned = False
        #: Whether a write was acknowledged after the last flush.
        self.dirty = False

    def __repr__(self) -> str:
        return f"<connection to {self._image!r}>"

    async def serve(self) -> None:
        """Answer the requests until the client disconnects."""
        async with anyio.create_task_group() as tasks:
            for _ in range(WORKERS):
                tasks.start_soon(self._work)

    async def _work(self) -> None:
        """Take turns with the other workers: receive a request, carry it out, send the reply."""
        buffer = memoryview(bytearray(LARGE))  # for the data of one request after the other
        while (request := await self._next(buffer)) is not None:
            try:
                reply = await self._reply(request)
            except anyio.get_cancelled_exc_class():
                self.abandoned = True
                raise
            async with self._sending:
                with suppress(OSError, anyio.BrokenResourceError):  # receiving notices it, too
                    await self._wire.send(*reply)
            if request.large:
                self._large.release()

    async def _next(self, buffer: memoryview) -> Request | None:
        """Wait for a request. Return None after the last."""
        async with self._receiving:
            request = None if self.ended else await self._receive(buffer)
            self.ended = self.ended or request is None
            return request

    async def _receive(self, buffer: memoryview) -> Request | None:
        """Receive a request, with the data to write or with room for the data to read."""
        try:
            await self._wire.fill(self._head)
            magic, flags, command, cookie, offset, length = REQUEST.unpack(self._head)
            moves = command in (Command.READ, Command.WRITE)
            if magic != REQUEST_MAGIC or (command == Command.WRITE and length > LARGEST):
                logger.warning("%r: the client sends no valid request", self._image)
                return None
            if moves and LARGE < length <= LARGEST:
                await self._large.acquire()
                buffer = memoryview(bytearray(length))
            if command == Command.WRITE:
                await self._wire.fill(buffer[:length])
        except (EOFError, OSError):
            return None
        data = buffer[:length] if moves else buffer[:0]
        return None if command == Command.DISCONNECT else Request(flags, command, cookie, offset, length, data)

    async def _reply(self, request: Request) -> list[Buffer]:
        """Carry out a request. Return the reply."""
        code = 0
        try:
            self._check(request)
            parts = await self._carry_out(request)
        except RequestError as error:
            code = error.errno
            await anyio.lowlevel.checkpoint()  # a flood of wrong requests must not stop the other clients
        except (aiorbd.Error, OSError) as error:
            logger.warning("%r: a request fails: %s", self._image, error)
            code = ERRORS.get(getattr(error, "errno", None) or 0, errno.EIO)
            if isinstance(error, aiorbd.ConnectionShutdown):
                self._choice.lost()
        if not self._structured:
            head = SIMPLE_REPLY.pack(SIMPLE_REPLY_MAGIC, code, request.cookie)
            return [head] if code else [head, *(data[-1] for _, data in parts if data)]
        if code:
            parts = [Part(Chunk.ERROR, (struct.pack(">IH", code, 0),))]
        reply: list[Buffer] = []
        for number, (kind, data) in enumerate(parts, 1):
            last = number == len(parts)
            reply += [CHUNK.pack(CHUNK_MAGIC, last, kind, request.cookie, sum(map(len, data))), *data]
        return reply

    def _check(self, request: Request) -> None:
        """Refuse what no client may ask for."""
        if request.flags & ~FLAGS.get(request.command, Flag.FUA):
            raise RequestError(errno.EINVAL, "the request has wrong flags")
        if request.command != Command.FLUSH and request.offset + request.length > self._size:
            writes = request.command in (Command.WRITE, Command.WRITE_ZEROES)
            raise RequestError(errno.ENOSPC if writes else errno.EINVAL, "the range exceeds the size")

    async def _carry_out(self, request: Request) -> list[Part]:
        image = self._image
        flags, command, _, offset, length, data = request
        match command:
            case Command.READ if 0 < length <= LARGEST:
                await image.read_into(data, offset)
                return [Part(Chunk.OFFSET_DATA, (struct.pack(">Q", offset), data))]
            case Command.BLOCK_STATUS if self._contexts and length:
                return [await self._status(number, request) for number in self._contexts]
            case Command.WRITE:
                await image.write(data, offset)
            case Command.WRITE_ZEROES if not (flags & Flag.FAST_ZERO and flags & Flag.NO_HOLE):
                await image.write_zeroes(offset, length, thick=bool(flags & Flag.NO_HOLE))
            case Command.WRITE_ZEROES:
                raise RequestError(errno.ENOTSUP, "allocating zeroes is not fast")
            case Command.TRIM:
                await image.discard(offset, length)
            case Command.FLUSH:
                await self._flush()
            case Command.READ if not length:
                pass
            case _:
                raise RequestError(errno.EINVAL, "this server does not support the request")
        if command in (Command.WRITE, Command.WRITE_ZEROES, Command.TRIM):
            self.dirty = True
            if flags & Flag.FUA:
                await self._flush()
        return [Part(Chunk.NONE)]

    async def _flush(self) -> None:
        """Make the writes durable that were acknowledged before."""
        dirty, self.dirty = self.dirty, False
        try:
            await self._image.flush()
        except BaseException:
            self.dirty |= dirty
            raise

    async def _status(self, number: int, request: Request) -> Part:
        """Describe the first ranges of a request in one context."""
        context = self._contexts[number]
        since = context.removeprefix(BITMAP) if context.startswith(BITMAP) else None
        other = HOLE if since is None else UNCHANGED
        first = request.flags & Flag.REQ_ONE
        at = request.offset
        end = at + min(request.length, FIRST_STATUS_BYTES if first else STATUS_BYTES)
        ranges: list[tuple[int, int]] = []
        found = [extent async for extent in self._image.diff(at, end - at, since)]
        for extent in sorted(found, key=lambda extent: extent.offset):
            if extent.offset > at:
                _add(ranges, extent.offset - at, other)
            kind = CHANGED if since is not None else DATA if extent.exists else HOLE
            _add(ranges, extent.length, kind)
            at = extent.offset + extent.length
            if len(ranges) > STATUS_RANGES:
                break
        else:
            if at < end:
                _add(ranges, end - at, other)
        if first:
            del ranges[1:]
        described = b"".join(struct.pack(">II", *one) for one in ranges[:STATUS_RANGES])
        return Part(Chunk.BLOCK_STATUS, (struct.pack(">I", number), described))


def _add(ranges: list[tuple[int, int]], length: int, kind: int) -> None:
    """Append a range. Join it with the last one if both are of one kind."""
    if ranges and ranges[-1][1] == kind:
        length += ranges.pop()[0]
    ranges.append((length, kind))
