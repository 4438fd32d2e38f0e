"""A connection to a Ceph cluster."""

import errno
import logging
import math
import os
import warnings
from collections.abc import Mapping
from typing import Final

import anyio
from anyio import to_thread

from aiorbd._cluster import connect as connecting
from aiorbd._cluster.commands import ClusterCommands
from aiorbd._cluster.configuration import ClusterConfiguration
from aiorbd._cluster.log import ClusterLog, LogLevel, forward_log, open_log
from aiorbd._cluster.statistics import ClusterStatistics
from aiorbd._core.bridge import Bridge
from aiorbd._core.current import current_loop
from aiorbd._core.handle import Handle
from aiorbd._core.listing import Listing, whole
from aiorbd._core.observers import Watching
from aiorbd._core.resource import Default, Opening
from aiorbd._native import loader
from aiorbd._native.loader import ffi, rados
from aiorbd._native.marshal import encode_name, encode_new_name, encode_secret, grow, number, require_callable, seconds
from aiorbd._pool.ioctx import IoCtx, open_ioctx
from aiorbd.errors import PoolNotFound, Target, Timeout
from aiorbd.stats import Observer, StartObserver

logger: logging.Logger = logging.getLogger("aiorbd")

#: The value of `conffile` that means the usual places of Ceph's configuration file.
DEFAULT_CONF_FILES: Final = ""

#: The default number of seconds that `connect` waits for the monitors.
CONNECT_TIMEOUT: Final = 30.0

#: The default number of seconds that a close waits for operations in flight. If another client of an image was killed,
#: the cluster waits for it five seconds when librbd tells of the exclusive lock, and five when librbd gives it back.
CLOSE_TIMEOUT: Final = 15.0


class ClusterHandle(Handle):
    """The handle of a ``rados_t``. The pointer is None until the connection is made."""

    closes_with = "rados_shutdown"

    def shut(self) -> None:
        """Disconnect on a worker thread, and then release the bridge."""
        if self.pointer is None:
            self._gone(0)
        else:
            self.bridge.start_background(self, "rados_shutdown", self._shutdown, self._gone)

    def _shutdown(self) -> int:
        rados().rados_shutdown(self.pointer)
        return 0

    def _gone(self, _code: int) -> None:
        self.closed()
        self.bridge.release()


class Cluster(ClusterCommands, ClusterConfiguration, ClusterStatistics):
    """A connection to a Ceph cluster, made by `connect`.

    The connection belongs to the event loop that made it. Use the connection as an async context manager, or call
    `close`.
    """

    def __init__(self, handle: ClusterHandle, fsid: str, instance_id: int, close_timeout: float) -> None:
        """Private: use `connect`."""
        super().__init__(handle, close_timeout)
        self._fsid = fsid
        self._instance_id = instance_id

    async def close(self, timeout: float | Default | None = Default.CLOSE_TIMEOUT) -> None:
        """Disconnect, after closing all objects that were opened from this connection.

        The close waits at most `timeout` seconds for operations in flight. None waits without a
        limit. After a cancelled or overdue wait, the close continues in the background.

        Raises:
            CloseTimeout: Operations are still in flight after `timeout` seconds.
            RbdError: Ceph reported an error during the close. The connection is closed all the same.

        Implements: rados_shutdown
        """
        await super().close(timeout)

    @property
    def fsid(self) -> str:
        """The unique id of the cluster, as ``ceph fsid`` prints it.

        Implements: rados_cluster_fsid
        """
        return self._fsid

    @property
    def instance_id(self) -> int:
        """The number that the cluster gave this connection. Watchers and blocklists show this number.

        Implements: rados_get_instance_id
        """
        return self._instance_id

    # -- pools ---------------------------------------------------------------------------------

    async def create_pool(self, name: str) -> None:
        """Create a pool. If the call is cancelled, the outcome is unknown.

        Raises:
            PoolExists: A pool with this name already exists.
            InvalidArgument: The name is empty or contains ``@`` or ``/``.

        Implements: rados_pool_create
        """
        encoded = encode_new_name(name, "pool name", "rados_pool_create")
        await self._handle.call("rados_pool_create", encoded, on=Target("pool", f"pool {name!r}"))

    async def delete_pool(self, name: str) -> None:
        """Delete a pool with all its contents. If the call is cancelled, the outcome is unknown.

        Raises:
            PoolNotFound: The pool does not exist.
            PermissionError: The monitors do not allow the deletion (``mon_allow_pool_delete``).

        Implements: rados_pool_delete
        """
        encoded = encode_name(name, "pool name", "rados_pool_delete")
        await self._handle.call("rados_pool_delete", encoded, on=Target("pool", f"pool {name!r}"))

    def pools(self) -> Listing[str]:
        """List the names of all pools: await the result, or iterate over it.

        Implements: rados_pool_list
        """
        handle = self._handle

        def read(size: int) -> tuple[int, bytes]:
            buffer = ffi.new("char[]", size)
            length = handle.raise_for(rados().rados_pool_list(handle.pointer, buffer, size), "rados_pool_list")
            return (-errno.ERANGE if length > size else 0), bytes(ffi.buffer(buffer)[:length])

        async def names() -> list[str]:
            found = await handle.run("rados_pool_list", lambda: grow(read, 1024))
            return [os.fsdecode(name) for name in found.split(b"\0") if name]

        return whole(f"pools of {handle.target}", names)

    async def pool_id(self, name: str) -> int:
        """Return the id of a pool.

        Raises:
            PoolNotFound: The pool does not exist.

        Implements: rados_pool_lookup
        """
        encoded = encode_name(name, "pool name", "rados_pool_lookup")
        return await self._handle.call("rados_pool_lookup", encoded, on=Target("pool", f"pool {name!r}"))

    async def pool_name(self, pool_id: int) -> str:
        """Return the name of a pool.

        Raises:
            PoolNotFound: The pool does not exist.

        Implements: rados_pool_reverse_lookup
        """
        on = Target("pool", f"pool id {pool_id}")
        pool_id = number(pool_id, "pool id", "rados_pool_reverse_lookup", on)
        return await self._handle.get_string("rados_pool_reverse_lookup", pool_id, on=on)

    async def pool_exists(self, name: str) -> bool:
        """Tell whether a pool with this name exists.

        Implements: rados_pool_lookup
        """
        try:
            await self.pool_id(name)
        except PoolNotFound:
            return False
        return True

    def open_ioctx(self, pool: str | int, namespace: str = "", *, full_try: bool = False) -> Opening[IoCtx]:
        """Open an I/O context: a pool, by name or by id, or a namespace of the pool.

        Await the result, or use the result with ``async with``.

        Args:
            pool: The name or the id of the pool.
            namespace: A namespace of the pool; empty for the default namespace.
            full_try: If the pool is full or has reached its quota, let writes, `IoCtx.create_image` and other changes
                fail with `NoSpace` or `DiskQuotaExceeded`. Without `full_try`, Ceph delays these changes until there is
                room. The option also applies to the images opened from the I/O context: their writes complete when they
                are durable.

        Raises:
            PoolNotFound: The pool does not exist.

        Implements: rados_ioctx_create, rados_ioctx_create2, rados_ioctx_set_namespace, rados_set_pool_full_try
        """
        return Opening(lambda: open_ioctx(self._handle, self._close_timeout, pool, namespace, full_try=full_try))

    def monitor_log(self, level: LogLevel = "info") -> Opening[ClusterLog]:
        """Follow the cluster log. Await the result, or use the result with ``async with``.

        A connection can have only one open `ClusterLog` at a time.

        Args:
            level: The lowest level of the lines to receive.

        Raises:
            InvalidArgument: The level does not exist.
            UsageError: The connection already follows the log.

        Implements: rados_monitor_log2
        """
        return Opening(lambda: open_log(self._handle, level, self._close_timeout))


def connect(
    conffile: str | os.PathLike[str] | None = DEFAULT_CONF_FILES,
    *,
    client_id: str = "admin",
    conf: Mapping[str, str] | None = None,
    timeout: float | None = CONNECT_TIMEOUT,
    cluster_name: str = "ceph",
    close_timeout: float | None = CLOSE_TIMEOUT,
    cluster_log: LogLevel | None = None,
    observer: Observer | None = None,
    on_start: StartObserver | None = None,
) -> Opening[Cluster]:
    """Connect to a cluster. Await the result, or use the result with ``async with``.

    Args:
        conffile: The path of the configuration file. `DEFAULT_CONF_FILES` means the usual places (``$CEPH_CONF``,
            ``/etc/ceph/ceph.conf``, ``~/.ceph/ceph.conf``, ``ceph.conf``). None means no file: `conf` must then name
            the monitors.
        client_id: The name of the client, without the prefix ``client.``.
        conf: Options of Ceph, by name. These options override the file. Do not set ``librados_thread_count``: with 1,
            reads and writes are faster, but some of librbd's own calls then wait for ever. One default differs from
            Ceph's default: ``ms_tcp_prefetch_max_size`` is 32768 instead of 4096. This makes small reads faster, and
            needs 56 KiB more memory per OSD.
        timeout: Seconds to wait for the monitors; None waits without a limit. If the call is cancelled, it returns at
            once.
        cluster_name: The name of the cluster in the default paths.
        close_timeout: Seconds that `Cluster.close` and the end of ``async with`` wait for operations in flight; None
            waits without a limit. The limit also applies to the I/O contexts and images opened from this connection.
        cluster_log: Send the lines of the cluster log, from this level on, to the logger ``aiorbd.cluster_log``; None
            sends no lines. `Cluster.monitor_log` is then not available.
        observer: Called at the end of each call of this connection, the connect included: see `Cluster.add_observer`.
        on_start: Called at the start of each call. Needs an `observer`.

    Warns:
        RuntimeWarning: ``rados_osd_op_timeout`` is so low that data is lost.

    Raises:
        ConfigFileNotFound: The file `conffile` does not exist.
        ObjectNotFound: No address of a monitor is configured.
        InvalidArgument: An option in `conf` does not exist or does not accept its value.
        KeyringNotFound: No key for the client was found.
        PermissionError: The monitors do not accept the key.
        Timeout: The monitors did not answer in time.
        LibraryNotFoundError: librados or librbd is not installed.

    Implements: rados_create2, rados_conf_parse_argv, rados_conf_read_file, rados_conf_set, rados_connect
    """
    if conf is not None and not isinstance(conf, Mapping):
        raise TypeError(f"conf must be a mapping of options, not {type(conf).__name__}")
    require_callable(observer, "observer")
    require_callable(on_start, "on_start")
    if observer is None and on_start is not None:
        raise TypeError("on_start needs an observer")
    watching = [] if observer is None else [Watching(observer, on_start)]
    return Opening(
        lambda: _open_cluster(
            conffile, client_id, dict(conf or {}), timeout, cluster_name, close_timeout, cluster_log, watching
        )
    )


def _limit(value: float | None, what: str, client_id: str) -> float:
    """Return a time limit in seconds. None stands for no limit."""
    if value is None or value == math.inf:
        return math.inf
    return seconds(value, what, "rados_connect", f"client.{client_id}")


async def _open_cluster(
    conffile: str | os.PathLike[str] | None,
    client_id: str,
    conf: dict[str, str],
    timeout: float | None,
    cluster_name: str,
    close_timeout: float | None,
    cluster_log: LogLevel | None,
    watching: list[Watching],
) -> Cluster:
    for name in (client_id, cluster_name):
        encode_name(name, "client or cluster name", "rados_create2")
    for name, value in conf.items():
        encode_name(name, "option", "rados_conf_set")
        encode_secret(str(value), "the value of an option", "rados_conf_set", f"option {name!r}")
    connect_within = _limit(timeout, "timeout", client_id)
    close_within = _limit(close_timeout, "close_timeout", client_id)
    # Without this option, librados waits for five minutes. 0 means no limit.
    mount_timeout = 0 if connect_within == math.inf else max(1, math.ceil(connect_within))
    conf = {"client_mount_timeout": str(mount_timeout)} | conf
    loop = current_loop()
    await to_thread.run_sync(loader.bridge)  # the first call loads the libraries, which takes tens of milliseconds
    request = connecting.Request(conffile, client_id, cluster_name, conf)
    handle = ClusterHandle(Bridge(loop), None, request.target)
    handle.bridge.observers.extend(watching)

    def run() -> connecting.Connected:
        connected = connecting.connect(request)
        handle.take(connected.pointer)
        return connected

    try:
        with anyio.fail_after(connect_within):
            connected = await handle.run("rados_connect", run)
    except TimeoutError as error:
        handle.begin_close()
        if isinstance(error, Timeout):
            raise
        raise Timeout(
            errno.ETIMEDOUT, f"the monitors did not answer within {timeout} s", "rados_connect", str(request.target)
        ) from None
    except BaseException:
        # The task was cancelled: the thread continues. Once the thread has connected, the connection is shut down.
        handle.begin_close()
        raise
    handle.target = Target("cluster", f"cluster {connected.fsid}")
    logger.debug("connected: %s as client.%s, id %d", handle.target, client_id, connected.instance_id)
    try:
        if connected.warning:
            warnings.warn(connected.warning, RuntimeWarning, stacklevel=2)  # the caller may turn warnings into errors
        if cluster_log is not None:
            await forward_log(handle, cluster_log)
    except BaseException:
        handle.begin_close()
        raise
    return Cluster(handle, connected.fsid, connected.instance_id, close_within)
