"""A connection, its I/O contexts and its images that many tasks share.

This is for services that often open and close images by name.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Generic, NamedTuple, Self, TypeVar, cast

import anyio

from aiorbd._cluster.cluster import Cluster
from aiorbd._core.resource import Opening
from aiorbd._image.image import Image
from aiorbd._pool.ioctx import IoCtx
from aiorbd.errors import ClosedError, ConnectionShutdown, Error, PoolNotFound, UsageError
from aiorbd.stats import NO_STATS, ClusterStats

R = TypeVar("R", Cluster, IoCtx, Image)

_logger = logging.getLogger("aiorbd")


class _Shared(Generic[R]):
    """A shared open object, and the number of its users."""

    def __init__(self) -> None:
        self.opening: anyio.Lock = anyio.Lock()
        self.resource: R | None = None
        #: Keeps the objects that this object was opened from in use, as long as this object is open.
        self.stack: AsyncExitStack = AsyncExitStack()
        self.users: int = 0
        self.idle_since: float = 0.0

    @property
    def usable(self) -> bool:
        """Whether further tasks may use the object. An object that is not open yet is usable.

        A blocklisted or closed object is not usable. Neither is an image with a failed flush, nor one with loaded
        encryption: only the task that knows the passphrase may read the decrypted data.
        """
        resource = self.resource
        if isinstance(resource, Image) and (resource.encryption.loaded or resource._handle.durability.has_failed):
            return False
        return resource is None or not (resource.blocklisted or resource.closed)

    async def is_current(self, pool: str, name: str | None) -> bool:
        """Tell whether these names still belong to the open object. Another object may have the names by now."""
        resource = self.resource
        if resource is None or not self.usable:
            return False
        if isinstance(resource, Cluster):
            return True
        with suppress(ConnectionShutdown, PoolNotFound):  # then the object is not current either
            return await resource._is_current(pool, name)
        return False

    def keep(self, evict: "Callable[[], Awaitable[None]] | None") -> None:
        """Set the function with which a removal of the image closes this object; None allows no such close."""
        if isinstance(self.resource, Image):
            self.resource._handle.evict = evict

    async def close(self, timeout: float | None = None) -> None:
        """Close the object. Errors of the close are logged, not raised."""
        resource, self.resource = self.resource, None
        with anyio.CancelScope(shield=True):
            try:
                if resource is not None:
                    await (resource.close() if timeout is None else resource.close(timeout))
            except Error as error:
                _logger.warning("closing a shared object failed: %s", error)
            finally:  # also after a cancellation by asyncio: the shield is anyio's
                await self.stack.aclose()


class _PoolKey(NamedTuple):
    """The key of a shared I/O context."""

    pool: str
    namespace: str
    full_try: bool


class _ImageKey(NamedTuple):
    """The key of a shared image."""

    pool: str
    namespace: str
    name: str | None
    image_id: str | None
    snapshot: str | None
    read_only: bool
    full_try: bool


def _require_texts(*names: object) -> None:
    """Raise if a name is not a string. None stands for a name that was not given."""
    for name in names:
        if name is not None and not isinstance(name, str):
            raise TypeError(f"names must be str, not {type(name).__name__}")


def _tell_all_of_failures(resource: object) -> None:
    """Let each task that uses an image hear of a failed flush."""
    if isinstance(resource, Image):
        resource._handle.durability.fails_for_good = True


async def _make_durable(resource: object) -> None:
    """Flush an image that was written to, within the image's `close_timeout`."""
    if isinstance(resource, Image):
        handle = resource._handle
        with suppress(ClosedError):
            await resource._make_durable()
        if not handle.usable and handle.is_dirty():
            message = f"{handle.target} was closed meanwhile: it is unknown whether the last writes are durable"
            raise ClosedError(message)


class SharedConnection:
    """Share one connection, its I/O contexts and its images among tasks.

    Each object is opened once, and shared among all tasks that ask for it. Objects that have been idle for a while are
    closed. Use the shared connection as an async context manager, in the event loop of these tasks::

        async with aiorbd.SharedConnection(lambda: aiorbd.connect("/etc/ceph/ceph.conf")) as shared:
            async with shared.open_image("rbd", "vm-1") as image:
                ...

    `open_image` with a name returns the image that has this name at the time of the call. Each call asks the cluster.
    `IoCtx.remove_image` over this connection closes an image that is only kept open for later use.

    Tasks that share an image also share its exclusive lock and its cache. All tasks see a change by one task
    immediately. If a flush of a shared image fails, all later flushes of that open image raise the error, and the next
    task gets the image opened anew. An image with loaded encryption is shared with no further task. Do not call
    `Image.set_snapshot` or `close` on a shared image, because these calls affect all tasks.

    If the cluster has blocklisted the connection, later calls get a new connection. The end of the block, or
    `close`, closes all objects, within the `close_timeout` of the connection. The end of an image's block flushes the
    image if it was written to.
    """

    def __init__(self, connect: Callable[[], Opening[Cluster]], *, idle_timeout: float | None = 60.0) -> None:
        """Prepare a shared connection. The first call connects.

        Args:
            connect: A function that calls `aiorbd.connect` and returns the result.
            idle_timeout: Seconds after which an unused object is closed. 0 closes unused objects at once, None never.
        """
        if idle_timeout is not None and idle_timeout < 0:
            raise ValueError("idle_timeout must not be negative")
        self._connect = connect
        self._idle_timeout = idle_timeout
        self._shared: dict[Hashable, _Shared[Any]] = {}
        #: The objects that are still in use, but that no further task gets.
        self._outdated: set[_Shared[Any]] = set()
        self._tasks: anyio.abc.TaskGroup | None = None
        #: Set by `close`; None while the shared connection is not open.
        self._closing: anyio.Event | None = None
        #: The statistics of the connections that have ended.
        self._former: ClusterStats = NO_STATS
        #: The seconds that closing one object may take; None means the object's own `close_timeout`.
        self._bound: float | None = None

    def __repr__(self) -> str:
        state = f"{len(self._shared)} open objects" if self._closing is not None else "not open"
        return f"<aiorbd.SharedConnection: {state}>"

    @property
    def stats(self) -> ClusterStats:
        """The statistics of all connections that were made, added up.

        So the counts never fall, also when a new connection replaces a blocklisted one. The numbers of calls in flight,
        calls that wait, and threads are those of the present connection.
        """
        total = self._former
        for shared in (*self._outdated, self._shared.get(())):
            cluster = None if shared is None else shared.resource
            if isinstance(cluster, Cluster) and not cluster.closed:
                total = total.followed_by(cluster.stats)
        return total

    def connect(self) -> AbstractAsyncContextManager[Cluster]:
        """Use the shared connection, within ``async with``.

        Raises:
            ClosedError: The shared connection is not open.
            RbdError: Any error of `aiorbd.connect`.

        Implements: rados_connect
        """
        return self._use((), lambda _: self._connect())

    def open_ioctx(
        self, pool: str, namespace: str = "", *, full_try: bool = False
    ) -> AbstractAsyncContextManager[IoCtx]:
        """Use a shared I/O context, within ``async with``. `full_try` is explained at `Cluster.open_ioctx`.

        An I/O context with `full_try` is shared separately.

        Raises:
            ClosedError: The shared connection is not open.
            RbdError: Any error of `Cluster.open_ioctx`.

        Implements: rados_ioctx_create
        """

        async def make(stack: AsyncExitStack) -> IoCtx:
            cluster = await stack.enter_async_context(self.connect())
            return await cluster.open_ioctx(pool, namespace, full_try=full_try)

        _require_texts(pool, namespace)
        return self._use(_PoolKey(pool, namespace, bool(full_try)), make)

    def open_image(
        self,
        pool: str,
        name: str | None = None,
        *,
        image_id: str | None = None,
        namespace: str = "",
        snapshot: str | None = None,
        read_only: bool = False,
        full_try: bool = False,
    ) -> AbstractAsyncContextManager[Image]:
        """Use a shared image, by name or by id, within ``async with``. `full_try` is explained at `Cluster.open_ioctx`.

        An image that is open at a snapshot, for reading only, or with `full_try` is shared separately.

        Raises:
            ClosedError: The shared connection is not open.
            RbdError: Any error of `IoCtx.open_image`.

        Implements: rbd_aio_open, rbd_aio_open_by_id, rbd_aio_open_read_only, rbd_aio_open_by_id_read_only
        """

        async def make(stack: AsyncExitStack) -> Image:
            ioctx = await stack.enter_async_context(self.open_ioctx(pool, namespace, full_try=full_try))
            return await ioctx.open_image(name, image_id=image_id, snapshot=snapshot, read_only=read_only)

        _require_texts(pool, namespace, name, image_id, snapshot)
        key = _ImageKey(pool, namespace, name, image_id, snapshot, bool(read_only), bool(full_try))
        return self._use(key, make)

    async def evict_image(
        self, pool: str, name: str | None = None, *, image_id: str | None = None, namespace: str = ""
    ) -> None:
        """Stop sharing an image that was opened by this name, or by this id.

        The image is closed as soon as no task uses it. The next call opens the image anew. A name does not find an
        image that was opened by id, and an id does not find an image that was opened by name.

        Implements: rbd_aio_close
        """
        if (name is None) == (image_id is None):
            raise TypeError("evict_image() takes either a name or an image_id")
        for key, shared in list(self._shared.items()):
            if isinstance(key, _ImageKey) and key[:4] == (pool, namespace, name, image_id):
                await self._retire(key, shared)

    @asynccontextmanager
    async def _use(self, key: Hashable, make: Callable[[AsyncExitStack], Awaitable[R]]) -> AsyncIterator[R]:
        shared = await self._get(key, make)
        try:
            resource = cast("R", shared.resource)
            yield resource
            await _make_durable(resource)
        finally:
            await self._give_back(key, shared)

    async def _get(self, key: Hashable, make: Callable[[AsyncExitStack], Awaitable[R]]) -> _Shared[R]:
        """Return the open object, or open the object. The object is then in use."""
        pool = key.pool if isinstance(key, (_PoolKey, _ImageKey)) else ""
        name = key.name if isinstance(key, _ImageKey) else None
        while True:
            if self._closing is None:
                raise ClosedError("the shared connection is not open: use it within 'async with'")
            shared: _Shared[R] | None = self._shared.get(key)
            if shared is not None and not shared.usable:
                await self._retire(key, shared)
                continue
            if shared is None:
                self._shared[key] = shared = _Shared()
            shared.users += 1
            shared.keep(None)
            try:
                async with shared.opening:  # the first task opens; if that fails or is cancelled, the next one tries
                    if shared.resource is None:
                        async with AsyncExitStack() as stack:
                            shared.resource = await make(stack)
                            shared.stack = stack.pop_all()
                        _tell_all_of_failures(shared.resource)
                        return shared
                if await shared.is_current(pool, name) and shared.resource is not None:
                    return shared
            except BaseException:
                await self._give_back(key, shared)
                raise
            await self._retire(key, shared)
            await self._give_back(key, shared)

    async def _give_back(self, key: Hashable, shared: _Shared[Any]) -> None:
        """End one use of an object. After the last use, close the object or keep it for later."""
        shared.users -= 1
        shared.idle_since = anyio.current_time()
        useless = shared.resource is None or not shared.usable or self._idle_timeout == 0 or self._closing is None
        if not shared.users and (useless or shared in self._outdated):
            await self._drop(key, shared)
        elif not shared.users:
            shared.keep(lambda: self._evict(key, shared))

    async def _evict(self, key: Hashable, shared: _Shared[Any]) -> None:
        """Close an object that is kept for later, unless a task has begun to use it."""
        if not shared.users:
            await self._drop(key, shared)

    async def _retire(self, key: Hashable, shared: _Shared[Any]) -> None:
        """Stop sharing an object, and close the object when no task uses it."""
        if self._shared.get(key) is shared:
            del self._shared[key]
        if shared.users:
            self._outdated.add(shared)
        else:
            await self._drop(key, shared)

    async def _drop(self, key: Hashable, shared: _Shared[Any]) -> None:
        if self._shared.get(key) is shared:
            del self._shared[key]
        self._outdated.discard(shared)
        self._keep_stats(shared)
        await shared.close(self._bound)

    def _keep_stats(self, shared: _Shared[Any]) -> None:
        """Keep the statistics of a connection that is about to end."""
        if isinstance(shared.resource, Cluster):
            with suppress(ClosedError):
                ended = replace(shared.resource.stats, in_flight=0, abandoned=0, queued=0, threads=0)
                self._former = self._former.followed_by(ended)

    async def _close_what_is_idle(self, idle_timeout: float, closing: anyio.Event) -> None:
        while not closing.is_set():
            with anyio.move_on_after(max(idle_timeout / 4, 0.01)):
                await closing.wait()
            for key, shared in list(self._shared.items()):
                if not shared.users and anyio.current_time() - shared.idle_since >= idle_timeout:
                    await self._drop(key, shared)

    async def __aenter__(self) -> Self:
        if self._tasks is not None:
            raise UsageError("the shared connection is open already")
        self._tasks = await anyio.create_task_group().__aenter__()
        self._bound = None
        self._closing = anyio.Event()
        if self._idle_timeout:
            self._tasks.start_soon(self._close_what_is_idle, self._idle_timeout, self._closing)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        tasks, self._tasks = cast("anyio.abc.TaskGroup", self._tasks), None
        try:
            await self.aclose()
        finally:
            await tasks.__aexit__(None, None, None)

    async def aclose(self) -> None:
        """Close all objects, also those that tasks still use. Later calls raise `ClosedError`.

        Implements: rados_shutdown
        """
        if self._closing is None:
            return
        self._closing.set()
        self._closing = None
        everything = {*self._shared.values(), *self._outdated}
        # Closing a connection closes its images and I/O contexts, all at once and within one limit.
        async with anyio.create_task_group() as closing:
            for shared in everything:
                if isinstance(shared.resource, Cluster):
                    self._keep_stats(shared)
                    closing.start_soon(shared.close)
        self._bound = 0.0
        # Close all remaining entries, the last ones first.
        for key, shared in reversed(list(self._shared.items())):
            await self._drop(key, shared)
        for shared in list(self._outdated):
            await self._drop((), shared)

    #: `close` is another name of `aclose`.
    close = aclose
