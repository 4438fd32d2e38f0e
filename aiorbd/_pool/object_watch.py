"""Watch a RADOS object: receive the notifications that clients send about the object."""

import errno
from typing import TYPE_CHECKING, Any, Final, Self

from aiorbd._core.handle import Handle
from aiorbd._core.mailbox import Mailbox, Messages
from aiorbd._core.pool_handle import PoolHandle
from aiorbd._core.resource import Default, Resource
from aiorbd._core.stream import Source
from aiorbd._native.loader import ffi, rados
from aiorbd._native.marshal import encode_name, invalid, number, readable, seconds
from aiorbd.errors import Target

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

#: The largest number of notifications that may wait in the mailbox.
ROOM: Final = 4096


class WatchHandle(Handle):
    """The handle of a librados watch: the cookie of the watch, and the mailbox that the callbacks fill."""

    closes_with = "rados_unwatch2"

    def __init__(self, ioctx: PoolHandle, key: bytes, target: Target) -> None:
        super().__init__(ioctx.bridge, ioctx, Target("object", f"watch of {target}"))
        self.ioctx: PoolHandle = ioctx
        self.key: bytes = key
        self.source: Source = self.new_source(endless=True)
        self.mailbox: Mailbox = Mailbox(self, self.source, ROOM)
        #: librados stores the cookie here, even if the waiting task was cancelled. 0 means no cookie.
        self.cookie: Any = ffi.new("uint64_t *")

    def require_place(self, operation: str) -> None:
        """Raise if the pool was deleted. Any thread may call this."""
        self.ioctx.require_place(operation)

    async def find_place(self, code: int = -errno.ENOENT) -> None:
        """Have a worker thread check that the pool exists, after a call on the event loop failed with `code`."""
        await self.ioctx.find_place(code)

    def shut(self) -> None:
        """Unwatch on a worker thread, and wait until no callback is running."""
        if self.pointer is None:
            self._gone(0)
        else:
            self.bridge.start_background(self, "rados_unwatch2", self._unwatch, self._gone)

    def _unwatch(self) -> int:
        code: int = rados().rados_unwatch2(self.ioctx.pointer, self.pointer)
        rados().rados_watch_flush(rados().rados_ioctx_get_cluster(self.ioctx.pointer))
        # If the watch is broken or the object was removed, the watch no longer exists.
        return 0 if code in (-errno.ENOTCONN, -errno.ENOENT) else code

    def _gone(self, code: int) -> None:
        self.mailbox.release()
        self.closed(code, "rados_unwatch2")


class Notification:
    """A notification about a watched object, from `ObjectWatch`.

    Attributes:
        id: The number of the notification.
        notifier_id: The number of the client that sent the notification.
        data: The data that the client sent.
    """

    __slots__ = ("_handle", "data", "id", "notifier_id")

    def __init__(self, handle: WatchHandle, numbers: list[int], data: bytes) -> None:
        """Private."""
        self._handle = handle
        self.id: int = numbers[0]
        self.notifier_id: int = numbers[2]
        self.data: bytes = data

    def __repr__(self) -> str:
        return f"<aiorbd.Notification {self.id} of client {self.notifier_id}: {len(self.data)} bytes>"

    async def ack(self, reply: "ReadableBuffer" = b"") -> None:
        """Acknowledge the notification with a reply. The sender waits for this.

        If the call is cancelled, the acknowledgement may have been sent.

        Raises:
            ClosedError: The watch is closed.

        Implements: rados_notify_ack
        """
        handle, function = self._handle, "rados_notify_ack"
        view = readable(reply, "reply", function, handle.target)
        number(len(view), "length of the reply", function, handle.target, bits=31)
        # The C function takes the handle of the pool. This handle cannot close before the watch has closed.
        await handle.run(
            function,
            lambda: handle.raise_for(
                rados().rados_notify_ack(handle.ioctx.pointer, handle.key, self.id, handle.pointer, view, len(view)),
                function,
            ),
        )


class ObjectWatch(Resource[WatchHandle]):
    """A watch of an object, made by `Objects.watch`. Iterate over the watch with ``async for``.

    Acknowledge each notification with `Notification.ack`. The sender waits for the acknowledgement.
    """

    def __init__(self, handle: WatchHandle, close_timeout: float) -> None:
        """Private: use `Objects.watch`."""
        super().__init__(handle, close_timeout)
        self._messages = Messages(
            handle.source, handle, handle.mailbox, lambda numbers, data: Notification(handle, numbers, data)
        )

    async def close(self, timeout: float | Default | None = Default.CLOSE_TIMEOUT) -> None:
        """Stop the watch.

        The close waits at most `timeout` seconds for operations in flight. None waits without a
        limit. After a cancelled or overdue wait, the close continues in the background.

        Raises:
            CloseTimeout: Operations are still in flight after `timeout` seconds.
            RbdError: Ceph reported an error during the close. The watch is closed all the same.

        Implements: rados_unwatch2, rados_watch_flush
        """
        await super().close(timeout)

    @property
    def lost(self) -> int:
        """The number of dropped notifications: no task took them in time. Their senders got no reply."""
        return self._handle.mailbox.lost

    async def check(self) -> float:
        """Return the number of seconds since the cluster last confirmed the watch.

        Raises:
            ConnectionShutdown: The watch is broken, and notifications may have been missed. Make a new watch.

        Implements: rados_watch_check
        """
        handle = self._handle
        return (
            await handle.run(
                "rados_watch_check",
                lambda: handle.raise_for(
                    rados().rados_watch_check(handle.ioctx.pointer, handle.pointer), "rados_watch_check"
                ),
            )
            / 1000
        )

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Notification:
        return await anext(self._messages)


async def open_watch(ioctx: PoolHandle, key: str, on: Target, silence: float, close_timeout: float) -> ObjectWatch:
    """Watch an object: see `Objects.watch`."""
    function = "rados_aio_watch2"
    encoded = encode_name(key, "object name", function)
    if not 1 <= seconds(silence, "silence", function, on) < 1 << 32:
        raise invalid(f"silence {silence} is out of range", function, on)
    handle = WatchHandle(ioctx, encoded, on)
    mailbox = handle.mailbox

    def submit(completion: Any) -> int:
        code: int = rados().rados_aio_watch2(
            ioctx.pointer,
            encoded,
            completion,
            handle.cookie,
            mailbox.function("notify", "rados_watchcb2_t"),
            mailbox.function("watch_error", "rados_watcherrcb_t"),
            int(silence),
            mailbox.argument,
        )
        return code

    def ended(code: int) -> None:  # also after a cancellation: closing then unwatches
        if code >= 0:
            handle.take(handle.cookie[0])

    try:
        await handle.submit_rados(function, submit, handle.cookie, on=on, ended=ended)
    except BaseException:
        handle.begin_close()
        raise
    return ObjectWatch(handle, close_timeout)
