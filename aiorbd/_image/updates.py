"""Wait for changes of an open image."""

import errno
from typing import Final, Self

import anyio
from anyio.lowlevel import checkpoint

from aiorbd._core.resource import Resource
from aiorbd._image.handle import ImageHandle
from aiorbd.errors import ClosedError, OperationNotSupported

#: The seconds after which a task that waits for changes asks the cluster whether this client is blocklisted.
_PROBE: Final = 2.0


class Updates:
    """Changes of an image's header by any client: of its size, snapshots and features. Made by `Image.watch`.

    Listening begins when this object is made. Listening ends when an ``async with`` block around the object ends, when
    `aclose` is called, or when the image closes.

    One notification may stand for several changes. After a notification, all changes before it are visible. Use the
    object in one task only, and call `Image.watch` again for other tasks.
    """

    def __init__(self, handle: ImageHandle) -> None:
        """Private: use `Image.watch`."""
        handle.check()
        self._handle = handle
        self._source = handle.new_source(endless=True)
        handle.watchers.add(self._source)

    def __repr__(self) -> str:
        return f"<aiorbd.Updates: {self._handle.target}, {'ended' if self._source.ended else 'listening'}>"

    async def wait(self) -> None:
        """Wait until the header has changed since the last notification.

        Raises:
            ClosedError: The image or this object was closed.
            ConnectionShutdown: The cluster has blocklisted this client. A blocklisted client gets no notifications.
        """
        try:
            await anext(self)
        except StopAsyncIteration:
            raise ClosedError(f"updates of {self._handle.target} have ended: it was closed") from None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> None:
        handle, source = self._handle, self._source
        handle.check_loop()
        await checkpoint()
        told = source.ended
        while not told:
            with anyio.move_on_after(_PROBE):
                await source.wait()
                told = True
            if not told:
                handle.prober.ask()
        if source.error is not None:
            raise source.error
        if source.ended:
            raise StopAsyncIteration

    async def aclose(self) -> None:
        """Stop listening for changes."""
        self._source.close()
        await checkpoint()

    #: `close` is another name of `aclose`.
    close = aclose

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._source.close()


class ImageWatch(Resource[ImageHandle]):
    """Changes of an open image. Part of `Image`."""

    _read_only: bool

    def watch(self) -> Updates:
        """Listen for changes of the image's header. Iterate over the result, or await `Updates.wait`.

        Listening ends when the image closes. librbd's callback only records the change, so no thread of librbd waits.

        Raises:
            OperationNotSupported: The image is open for reading only. Ceph does not notify such a client.

        Implements: rbd_update_watch, rbd_update_unwatch
        """
        if self._read_only:
            message = "Ceph reports no changes to an image that is open for reading only"
            raise OperationNotSupported(errno.EOPNOTSUPP, message, "rbd_update_watch", str(self._handle.target))
        return Updates(self._handle)
