"""RADOS objects beside the images. Block clients keep their own state in such objects."""

import errno
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from aiorbd._core.listing import Listing
from aiorbd._core.pool_handle import PoolHandle
from aiorbd._core.resource import Opening, Topic
from aiorbd._native.loader import bridge_ffi, ffi, rados
from aiorbd._native.marshal import encode_name, invalid, number, readable, seconds, take_buffer, utc
from aiorbd._pool.object_watch import ObjectWatch, open_watch
from aiorbd.error_codes import error_for
from aiorbd.errors import OperationNotSupported, Target, Timeout
from aiorbd.models import NotifyReply, NotifyResult, ObjectStat

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

#: The largest number of bytes for one call. librados counts the bytes in an int.
LARGEST: Final = (1 << 31) - 1

#: The number of omap entries in one request.
PAGE: Final = 512


class Objects(Topic[PoolHandle]):
    """The RADOS objects of a pool or namespace: `IoCtx.objects`.

    If a call is cancelled, librados cancels the request. This does not apply to `flush`, `notify` and `watch`. A
    cancelled read ends at once. A cancelled change has an unknown outcome, because the change may already be in flight.
    The change may even take effect after a change that began later. After `IoCtx.drain` has returned, no cancelled
    change takes effect.
    """

    def __init__(self, handle: PoolHandle, close_timeout: float) -> None:
        """Private."""
        super().__init__(handle)
        self._close_timeout = close_timeout

    def _object(self, key: str) -> Target:
        return Target("object", f"object {self._handle.name + '/' + key!r}")

    async def _submit(self, function: str, key: str, *arguments: Any, keep: object = None) -> int:
        """Submit a C function that takes the I/O context, the object's name and a completion first."""
        handle = self._handle
        encoded = encode_name(key, "object name", function)
        c_function = getattr(rados(), function)
        return await handle.submit_rados(
            function,
            lambda completion: c_function(handle.pointer, encoded, completion, *arguments),
            keep,
            on=self._object(key),
            cancel=self._cancel,
        )

    def _cancel(self, completion: Any) -> None:
        rados().rados_aio_cancel(self._handle.pointer, completion)

    # -- data ----------------------------------------------------------------------------------

    async def read(self, key: str, length: int | None = None, offset: int = 0) -> bytes:
        """Return up to `length` bytes from `offset`, or fewer bytes at the end of the object.

        Without a `length`, return all bytes up to the end that the object has at the beginning of the call.

        Raises:
            ObjectNotFound: The object does not exist.

        Implements: rados_aio_read, rados_aio_stat
        """
        on = self._object(key)
        offset = number(offset, "offset", "rados_aio_read", on)
        if length is None:
            length = max(0, (await self.stat(key)).size - offset)
        length = number(length, "length", "rados_aio_read", on, bits=31)
        if not length:  # librados takes 0 for "all", and would write past the end of the buffer
            await self.stat(key)
            return b""
        buffer = ffi.new("char[]", length)
        got = await self._submit("rados_aio_read", key, buffer, length, offset, keep=buffer)
        return bytes(ffi.buffer(buffer, got))

    async def write(self, key: str, data: "ReadableBuffer", offset: int = 0) -> None:
        """Write at `offset`. If the object does not exist, create it. If the call is cancelled, the outcome is unknown.

        Implements: rados_aio_write
        """
        view = self._view(data, "rados_aio_write", key)
        offset = number(offset, "offset", "rados_aio_write", self._object(key))
        await self._submit("rados_aio_write", key, view, len(view), offset, keep=view)

    async def write_full(self, key: str, data: "ReadableBuffer") -> None:
        """Replace the data of the object. If the call is cancelled, the outcome is unknown.

        Implements: rados_aio_write_full
        """
        view = self._view(data, "rados_aio_write_full", key)
        await self._submit("rados_aio_write_full", key, view, len(view), keep=view)

    async def append(self, key: str, data: "ReadableBuffer") -> None:
        """Write at the end of the object. If the call is cancelled, the outcome is unknown.

        Implements: rados_aio_append
        """
        view = self._view(data, "rados_aio_append", key)
        await self._submit("rados_aio_append", key, view, len(view), keep=view)

    def _view(self, data: "ReadableBuffer", function: str, key: str) -> Any:
        view = readable(data, "data", function, self._object(key))
        if len(view) > LARGEST:
            raise invalid(f"{len(view)} bytes are too many for one operation", function, self._object(key))
        return view

    async def stat(self, key: str) -> ObjectStat:
        """Return the size of an object, and the time of its last write.

        Raises:
            ObjectNotFound: The object does not exist.

        Implements: rados_aio_stat
        """
        size, modified = ffi.new("uint64_t *"), ffi.new("time_t *")
        await self._submit("rados_aio_stat", key, size, modified, keep=(size, modified))
        return ObjectStat(size[0], utc(modified[0]))

    async def remove(self, key: str) -> None:
        """Remove an object. If the call is cancelled, the outcome is unknown.

        Raises:
            ObjectNotFound: The object does not exist.

        Implements: rados_aio_remove
        """
        await self._submit("rados_aio_remove", key)

    async def flush(self) -> None:
        """Wait for all changes through this I/O context that began before this call.

        The await of each change raises the error of that change.

        Implements: rados_aio_flush_async
        """
        handle = self._handle
        handle.check()
        # librados waits only for requests that were submitted. Some may still wait for a thread to submit them.
        begun = handle.bridge.submissions(handle)
        await handle.wait_until(lambda: all(operation.value is not None for operation in begun), None)
        await handle.submit_rados(
            "rados_aio_flush_async",
            lambda completion: rados().rados_aio_flush_async(handle.pointer, completion),
            on=handle.target,
        )
        await handle.confirm_place(handle, "rados_aio_flush_async")

    # -- omap ----------------------------------------------------------------------------------

    async def omap_set(self, key: str, values: Mapping[str, "ReadableBuffer"]) -> None:
        """Set entries of an object's omap. If the object does not exist, create it.

        If the call is cancelled, the outcome is unknown.

        Implements: rados_aio_write_op_operate, rados_write_op_omap_set2
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"values must be a mapping, not {type(values).__name__}")
        names = _names(values, "rados_write_op_omap_set2")
        views = [readable(value, "value", "rados_write_op_omap_set2", self._object(key)) for value in values.values()]
        operation = _write_op()
        rados().rados_write_op_omap_set2(
            operation,
            ffi.new("char *[]", names),
            ffi.new("char *[]", [ffi.cast("char *", int(bridge_ffi.cast("uintptr_t", view))) for view in views]),
            ffi.new("size_t[]", [len(name) for name in names]),
            ffi.new("size_t[]", [len(view) for view in views]),
            len(names),
        )  # librados has copied the names and values
        await self._write(operation, key)

    async def omap_remove(self, key: str, names: Iterable[str]) -> None:
        """Remove entries of an object's omap. Names without an entry are ignored.

        If the call is cancelled, the outcome is unknown.

        Implements: rados_aio_write_op_operate, rados_write_op_omap_rm_keys2
        """
        encoded = _names(names, "rados_write_op_omap_rm_keys2")
        operation = _write_op()
        lengths = ffi.new("size_t[]", [len(name) for name in encoded])
        rados().rados_write_op_omap_rm_keys2(operation, ffi.new("char *[]", encoded), lengths, len(encoded))
        await self._write(operation, key)

    def omap_items(self, key: str, *, start_after: str = "", prefix: str = "") -> Listing[tuple[str, bytes]]:
        """List the entries of an object's omap, in the order of their names.

        Await the result, or iterate over it.

        One page of entries at a time is in memory.

        Args:
            key: The name of the object.
            start_after: Return only entries with names after this name.
            prefix: Return only entries with names that begin with this prefix.

        Raises:
            ObjectNotFound: The object does not exist.

        Implements: rados_aio_read_op_operate, rados_read_op_omap_get_vals2
        """
        function, on = "rados_aio_read_op_operate", self._object(key)
        handle, encoded = self._handle, encode_name(key, "object name", function)
        for text in (start_after, prefix):
            encode_name(text, "omap name", function, may_be_empty=True)
        last: str | None = start_after

        async def next_page() -> list[tuple[str, bytes]]:
            nonlocal last
            if last is None:
                return []
            handle.check()
            page = _OmapPage(last, prefix)
            await handle.submit_rados(
                function,
                lambda completion: rados().rados_aio_read_op_operate(
                    page.operation, handle.pointer, completion, encoded, 0
                ),
                page,
                on=on,
                cancel=self._cancel,
            )
            handle.raise_for(page.result[0], "rados_read_op_omap_get_vals2", on)
            entries = page.entries()
            last = entries[-1][0] if page.more[0] and entries else None
            if last is not None and "\0" in last:
                message = "librados cannot list the keys after an omap key that contains NUL"
                raise OperationNotSupported(errno.EOPNOTSUPP, message, function, str(on))
            return entries

        return Listing(f"omap entries of {on}", next_page)

    async def _write(self, operation: Any, key: str) -> None:
        function = "rados_aio_write_op_operate"
        handle = self._handle
        encoded = encode_name(key, "object name", function)
        await handle.submit_rados(
            function,
            lambda completion: rados().rados_aio_write_op_operate(
                operation, handle.pointer, completion, encoded, ffi.NULL, 0
            ),
            operation,
            on=self._object(key),
            cancel=self._cancel,
        )

    # -- watch and notify ----------------------------------------------------------------------

    def watch(self, key: str, *, silence: float = 30) -> Opening[ObjectWatch]:
        """Receive the notifications about an object. Await the result, or use the result with ``async with``.

        Args:
            key: The name of the object. The object must exist.
            silence: The cluster drops the watch of a client that is silent for this number of seconds.

        Raises:
            ObjectNotFound: The object does not exist.

        Implements: rados_aio_watch2
        """
        return Opening(lambda: open_watch(self._handle, key, self._object(key), silence, self._close_timeout))

    async def notify(self, key: str, data: "ReadableBuffer" = b"", *, timeout: float = 5) -> NotifyResult:
        """Send a notification to all watchers of an object, and collect their replies.

        If the call is cancelled, the watchers may have received the notification.

        Args:
            key: The name of the object.
            data: The data of the notification.
            timeout: Seconds to wait for replies. `NotifyResult.timeouts` has the watchers that did not reply in time.

        Raises:
            ObjectNotFound: The object does not exist.

        Implements: rados_aio_notify, rados_decode_notify_response, rados_free_notify_response
        """
        function, on = "rados_aio_notify", self._object(key)
        handle, encoded = self._handle, encode_name(key, "object name", function)
        view = self._view(data, function, key)
        milliseconds = number(int(seconds(timeout, "timeout", function, on) * 1000), "timeout", function, on, bits=32)
        reply, length = ffi.new("char **"), ffi.new("size_t *")
        answer = b""

        def submit(completion: Any) -> int:
            code: int = rados().rados_aio_notify(
                handle.pointer, encoded, completion, view, len(view), milliseconds, reply, length
            )
            return code

        def ended(_code: int) -> None:  # also after a cancellation: the buffer of librados must be freed
            nonlocal answer
            answer = take_buffer(reply, length, rados().rados_buffer_free)

        try:
            await handle.submit_rados(function, submit, (view, reply, length), on=on, ended=ended)
        except Timeout:  # some watchers did not reply, but the replies of the others are there
            if not answer:
                raise
        return _decode(answer)


class _OmapPage:
    """A request for one page of omap entries, and the result."""

    def __init__(self, start_after: str, prefix: str) -> None:
        lib = rados()
        self.operation: Any = ffi.gc(lib.rados_create_read_op(), lib.rados_release_read_op)
        self.iterator: Any = ffi.new("rados_omap_iter_t *")
        self.more: Any = ffi.new("unsigned char *")
        self.result: Any = ffi.new("int *")
        lib.rados_read_op_omap_get_vals2(
            self.operation, os.fsencode(start_after), os.fsencode(prefix), PAGE, self.iterator, self.more, self.result
        )

    def __del__(self) -> None:
        # librados creates the iterator with the request. The result may arrive after the task was cancelled.
        if self.iterator[0]:
            rados().rados_omap_get_end(self.iterator[0])

    def entries(self) -> list[tuple[str, bytes]]:
        """Return the entries of the page."""
        key, value = ffi.new("char **"), ffi.new("char **")
        key_length, value_length = ffi.new("size_t *"), ffi.new("size_t *")
        found: list[tuple[str, bytes]] = []
        while True:
            rados().rados_omap_get_next2(self.iterator[0], key, value, key_length, value_length)
            if not key[0]:
                return found
            name = os.fsdecode(bytes(ffi.buffer(key[0], key_length[0])))
            found.append((name, bytes(ffi.buffer(value[0], value_length[0])) if value_length[0] else b""))


def _names(names: Iterable[str], function: str) -> list[Any]:
    """Return the names of omap entries for C. An empty name is refused, because such an entry could never be listed."""
    return [ffi.from_buffer("char[]", encode_name(name, "omap name", function)) for name in names]


def _write_op() -> Any:
    return ffi.gc(rados().rados_create_write_op(), rados().rados_release_write_op)


def _decode(answer: bytes) -> NotifyResult:
    """Decode the replies of watchers from librados's format."""
    acks, ack_count = ffi.new("struct notify_ack_t **"), ffi.new("size_t *")
    timeouts, timeout_count = ffi.new("struct notify_timeout_t **"), ffi.new("size_t *")
    if not answer:
        return NotifyResult((), ())
    packed = ffi.new("char[]", answer)
    code = rados().rados_decode_notify_response(packed, len(answer), acks, ack_count, timeouts, timeout_count)
    if code < 0:
        raise error_for(code, "rados_decode_notify_response", Target("other", "answers of watchers"))
    try:
        replies = [
            NotifyReply(ack.notifier_id, ack.cookie, bytes(ffi.buffer(ack.payload, ack.payload_len)))
            for ack in acks[0][0 : ack_count[0]]
        ]
        late = [(late.notifier_id, late.cookie) for late in timeouts[0][0 : timeout_count[0]]]
    finally:
        rados().rados_free_notify_response(acks[0], ack_count[0], timeouts[0])
    return NotifyResult(tuple(replies), tuple(late))
