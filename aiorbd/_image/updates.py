"""Hearing of changes of an open image."""

import errno
from typing import Final, Self

import anyio
from anyio.lowlevel import checkpoint

from aiorbd._core.resource import Resource
from aiorbd._image.handle import ImageHandle
from aiorbd.errors import ClosedError, OperationNotSupported

#: Seconds after which a task that waits for changes asks the cluster whether it still knows this client.
_PROBE: Final = 2.0


class Updates:
    """Changes of an image's header: its size, its snapshots, its features, by anybody. Made by `Image.watch`.

    It listens from when it is made, until the end of an ``async with`` block around it, `aclose`, or the
    image's close. Several changes may be told at once, but what was changed before the last thing told can be
    seen by then. Use it in one task; others make their own.
    """

    def __init__(self, handle: ImageHandle) -> None:
        """Private: use `Image.watch`."""
        handle.check()
        self._handle = handle
        self._source = handle.new_source(endless=True)
        handle.watchers.add(self._source)

    async def wait(self) -> None:
        """Wait until something changed since the last time.

        Raises:
            ClosedError: The image or this was closed.
            ConnectionShutdown: The cluster has blocklisted this client, which is told of no change any more.
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
        """Listen no longer."""
        self._source.close()
        await checkpoint()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._source.close()


class ImageWatch(Resource[ImageHandle]):
    """Hearing of changes of an image: part of `Image`."""

    _read_only: bool

    def watch(self) -> Updates:
        """Listen to changes of the image's header: iterate over the result, or await its `Updates.wait`.

        librbd's own callback only leaves a note; nobody waits on its threads, and listening ends with the image.

        Raises:
            OperationNotSupported: The image is open for reading only: Ceph tells such a client nothing.

        Implements: rbd_update_watch, rbd_update_unwatch
        """
        if self._read_only:
            message = "an image that is open for reading only is told of no changes"
            raise OperationNotSupported(errno.EOPNOTSUPP, message, "rbd_update_watch", str(self._handle.target))
        return Updates(self._handle)
