"""The handshake of the NBD protocol: a client lists the exports, asks about them and chooses one."""

import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import anyio
from anyio.abc import SocketStream
from nbd_wire import (
    GREETING,
    LARGEST,
    OPTION,
    OPTION_REPLY,
    OPTION_REPLY_MAGIC,
    Ability,
    Answer,
    Option,
    PlainWire,
    ProtocolError,
    TLSWire,
    Wire,
    receive,
)

import aiorbd

#: The seconds that a client may take to choose its export.
TIMEOUT = 30

#: What the names of contexts with changed ranges begin with.
BITMAP = "qemu:dirty-bitmap:"


@dataclass
class Exports:
    """What a client may choose from."""

    #: Opens the image or the snapshot with a name.
    open: Callable[[str], AbstractAsyncContextManager[aiorbd.Image]]
    #: Returns the names of all images and snapshots.
    names: Callable[[], Awaitable[list[str]]]
    #: With this, clients must use TLS.
    tls: ssl.SSLContext | None
    #: To call when the cluster has blocklisted this client.
    lost: Callable[[], None]


@dataclass
class Choice:
    """What a client has chosen."""

    image: aiorbd.Image
    #: The size that the client knows, in bytes.
    size: int
    wire: Wire
    #: Whether replies are structured.
    structured: bool
    #: The names of the contexts for block status requests, by number.
    contexts: dict[int, str]
    #: To call when the cluster has blocklisted this client.
    lost: Callable[[], None]


class OptionError(Exception):
    """An option is refused. The handshake goes on."""

    def __init__(self, answer: Answer, text: str) -> None:
        super().__init__(text)
        self.answer = answer


@asynccontextmanager
async def negotiated(exports: Exports, connected: socket.socket) -> AsyncIterator[Choice | None]:
    """Use the image that a client chooses. Yield None if the client gives up."""
    async with AsyncExitStack() as stack:
        with anyio.fail_after(TIMEOUT):
            choice = await Handshake(exports, connected, stack).run()
        yield choice


class Handshake:
    """The handshake with one client."""

    def __init__(self, exports: Exports, connected: socket.socket, stack: AsyncExitStack) -> None:
        """Prepare a handshake. The end of the stack closes the chosen image, and TLS."""
        self._exports = exports
        self._socket = connected
        self._wire: Wire = PlainWire(connected)
        self._stack = stack
        self._structured = False
        #: The size that the client was told last.
        self._size = 0
        #: The contexts that the client chose, and the export that they belong to.
        self._contexts: dict[int, str] = {}
        self._contexts_of: str | None = None

    async def run(self) -> Choice | None:
        """Answer the client's options until it chooses an export. Return None if the client gives up."""
        await self._wire.send(GREETING.pack(b"NBDMAGIC", b"IHAVEOPT", 3))  # fixed newstyle, no zeroes
        (flags,) = struct.unpack(">I", await receive(self._wire, 4))
        if flags & ~3:
            raise ProtocolError(f"the client has unknown flags: {flags:#x}")
        while True:
            await anyio.lowlevel.checkpoint()  # a flood of options must not stop the other clients
            magic, option, length = OPTION.unpack(await receive(self._wire, OPTION.size))
            if magic != b"IHAVEOPT" or length > 1 << 16:
                raise ProtocolError("the client sends no valid option")
            data = await receive(self._wire, length)
            try:
                if option == Option.ABORT:
                    await self._reply(option, Answer.ACK)
                    return None
                if self._exports.tls and isinstance(self._wire, PlainWire) and option != Option.STARTTLS:
                    raise OptionError(Answer.TLS_REQUIRED, "this server requires TLS")
                if option == Option.EXPORT_NAME:
                    return await self._old_choice(decoded(data), padding=0 if flags & 2 else 124)
                image = await self._answer(option, data)
            except (OptionError, struct.error, aiorbd.Error) as error:
                if option == Option.EXPORT_NAME:  # has no answer for errors
                    raise ProtocolError(str(error)) from error
                await self._reply(option, _answer_for(error), encoded(str(error))[:4096])
                continue
            await self._reply(option, Answer.ACK)
            if option == Option.STARTTLS and self._exports.tls:
                stream = await self._stack.enter_async_context(await SocketStream.from_socket(self._socket))
                self._wire = await TLSWire.start(stream, self._exports.tls)
            if image:
                return self._choice(image)

    def _choice(self, image: aiorbd.Image) -> Choice:
        return Choice(image, self._size, self._wire, self._structured, self._contexts, self._exports.lost)

    async def _reply(self, option: int, answer: Answer, data: bytes = b"") -> None:
        await self._wire.send(OPTION_REPLY.pack(OPTION_REPLY_MAGIC, option, answer, len(data)), data)

    async def _old_choice(self, name: str, padding: int) -> Choice:
        image = await self._stack.enter_async_context(self._exports.open(name))
        self._forget_contexts_of_others(name)
        self._size = await image.size()
        await self._wire.send(struct.pack(">QH", self._size, self._abilities(image)), bytes(padding))
        return self._choice(image)

    async def _answer(self, option: int, data: bytes) -> aiorbd.Image | None:
        """Answer an option, except for the final acknowledgement. Return the chosen image."""
        if data and option in (Option.STARTTLS, Option.STRUCTURED_REPLY, Option.LIST):
            raise OptionError(Answer.INVALID, "the option takes no data")
        match option:
            case Option.STARTTLS if self._exports.tls:
                if isinstance(self._wire, TLSWire):
                    raise OptionError(Answer.INVALID, "the connection has TLS already")
                return None
            case Option.STRUCTURED_REPLY:
                self._structured = True
                return None
            case Option.LIST:
                for export in map(encoded, await self._exports.names()):
                    await self._reply(option, Answer.SERVER, struct.pack(">I", len(export)) + export)
                return None
            case Option.INFO:
                async with self._exports.open(take_string(data)[0]) as image:
                    await self._inform(option, image)
                return None
            case Option.GO:
                name, _ = take_string(data)
                async with AsyncExitStack() as inner:
                    image = await inner.enter_async_context(self._exports.open(name))
                    await self._inform(option, image)
                    self._stack.push_async_exit(inner.pop_all())
                self._forget_contexts_of_others(name)
                return image
            case Option.LIST_META_CONTEXT | Option.SET_META_CONTEXT:
                if not self._structured:
                    raise OptionError(Answer.INVALID, "contexts need structured replies")
                await self._offer_contexts(option, data)
                return None
        raise OptionError(Answer.UNSUPPORTED, "this server does not support the option")

    async def _inform(self, option: int, image: aiorbd.Image) -> None:
        self._size = await image.size()
        await self._reply(option, Answer.INFO, struct.pack(">HQH", 0, self._size, self._abilities(image)))
        await self._reply(option, Answer.INFO, struct.pack(">HIII", 3, 1, 4096, LARGEST))  # the block sizes

    def _abilities(self, image: aiorbd.Image) -> Ability:
        able = Ability.HAS_FLAGS | Ability.FLUSH | Ability.FUA | Ability.MULTI_CONN
        if self._structured:
            able |= Ability.DF
        if image.read_only:
            return able | Ability.READ_ONLY
        return able | Ability.TRIM | Ability.WRITE_ZEROES | Ability.FAST_ZERO

    def _forget_contexts_of_others(self, export: str) -> None:
        if self._contexts_of != export:
            self._contexts = {}

    async def _offer_contexts(self, option: int, data: bytes) -> None:
        if option == Option.SET_META_CONTEXT:
            self._contexts = {}  # also if the option fails
        export, data = take_string(data)
        (count,), data = struct.unpack(">I", data[:4]), data[4:]
        queries: list[str] = []
        while len(queries) < count:
            query, data = take_string(data)
            queries.append(query)
        async with self._exports.open(export) as image:
            snapshots = [one.name for one in await image.snapshots()]
            if image.snapshot in snapshots:  # only older snapshots have changes up to this one
                del snapshots[snapshots.index(image.snapshot) :]
        contexts = dict(enumerate(["base:allocation", *(BITMAP + name for name in snapshots)], 1))
        wanted = tuple(queries)
        if option == Option.SET_META_CONTEXT:
            contexts = {number: name for number, name in contexts.items() if name in wanted}
            self._contexts, self._contexts_of = contexts, export
        elif queries:  # a query that ends with a colon asks for all names that begin so
            begins = tuple(query for query in queries if query.endswith(":"))
            contexts = {n: name for n, name in contexts.items() if name in wanted or name.startswith(begins)}
        for number, name in contexts.items():
            await self._reply(option, Answer.META_CONTEXT, struct.pack(">I", number) + encoded(name))


def take_string(data: bytes) -> tuple[str, bytes]:
    """Return the text at the start of an option's data, and the rest."""
    (length,) = struct.unpack(">I", data[:4])
    if len(data) < 4 + length:
        raise OptionError(Answer.INVALID, "the option is too short")
    return decoded(data[4 : 4 + length]), data[4 + length :]


def encoded(name: str) -> bytes:
    """Return a name as NBD sends it. Names in Ceph may have bytes that are no UTF-8."""
    return name.encode(errors="surrogateescape")


def decoded(name: bytes) -> str:
    """Return a name that a client sent."""
    return name.decode(errors="surrogateescape")


def _answer_for(error: Exception) -> Answer:
    if isinstance(error, OptionError):
        return error.answer
    if isinstance(error, aiorbd.ImageNotFound | aiorbd.SnapshotNotFound):
        return Answer.UNKNOWN
    return Answer.INVALID if isinstance(error, struct.error | aiorbd.InvalidArgument) else Answer.PLATFORM
