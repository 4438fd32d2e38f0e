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
from aiorbd._cluster.log import ClusterLog, LogLevel, forward_log, open_log
from aiorbd._cluster.statistics import ClusterStatistics
from aiorbd._core.bridge import Bridge
from aiorbd._core.current import current_loop
from aiorbd._core.handle import Handle
from aiorbd._core.resource import Opening
from aiorbd._native import loader
from aiorbd._native.loader import ffi, rados
from aiorbd._native.marshal import encode_name, encode_new_name, encode_text, grow, invalid, number, seconds
from aiorbd._pool.ioctx import IoCtx, open_ioctx
from aiorbd.errors import PoolNotFound, Target, Timeout

logger: logging.Logger = logging.getLogger("aiorbd")

#: Seconds `connect` waits for the monitors.
CONNECT_TIMEOUT: Final = 30.0

#: Seconds a close waits for operations in flight.
CLOSE_TIMEOUT: Final = 10.0


class ClusterHandle(Handle):
    """A ``rados_t``; None until it is connected."""

    def shut(self) -> None:
        """Disconnect on a worker thread; the bridge goes last."""
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


class Cluster(ClusterCommands, ClusterStatistics):
    """A connection to a Ceph cluster, made by `connect`.

    It belongs to the event loop that connected it. Use it as an async context manager, or call
    `close`.
    """

    def __init__(self, handle: ClusterHandle, fsid: str, instance_id: int, close_timeout: float) -> None:
        """Private: use `connect`."""
        super().__init__(handle, close_timeout)
        self._fsid = fsid
        self._instance_id = instance_id

    async def close(self, timeout: float | None = None) -> None:
        """Disconnect, and close before that whatever was opened from here; wait for that at most `timeout` seconds.

        Implements: rados_shutdown
        """
        await super().close(timeout)

    def get_fsid(self) -> str:
        """Return the cluster's unique id, as ``ceph fsid`` prints it.

        Implements: rados_cluster_fsid
        """
        return self._fsid

    def get_instance_id(self) -> int:
        """Return the number the cluster gave this connection; watchers and blocklists show it.

        Implements: rados_get_instance_id
        """
        return self._instance_id

    # -- pools ---------------------------------------------------------------------------------

    async def create_pool(self, name: str) -> None:
        """Create a pool. When cancelled, the outcome is unknown.

        Raises:
            PoolExists: There is a pool of that name.
            InvalidArgument: The name is empty or holds ``@`` or ``/``.

        Implements: rados_pool_create
        """
        encoded = encode_new_name(name, "pool name", "rados_pool_create")
        await self._handle.call("rados_pool_create", encoded, on=Target("pool", f"pool {name!r}"))

    async def delete_pool(self, name: str) -> None:
        """Delete a pool and all that is in it. When cancelled, the outcome is unknown.

        Raises:
            PoolNotFound: There is no such pool.
            PermissionError: The monitors do not allow it (``mon_allow_pool_delete``).

        Implements: rados_pool_delete
        """
        encoded = encode_name(name, "pool name", "rados_pool_delete")
        await self._handle.call("rados_pool_delete", encoded, on=Target("pool", f"pool {name!r}"))

    async def list_pools(self) -> list[str]:
        """Return the names of all pools.

        Implements: rados_pool_list
        """
        handle = self._handle

        def read(size: int) -> tuple[int, bytes]:
            buffer = ffi.new("char[]", size)
            length = handle.raise_for(rados().rados_pool_list(handle.pointer, buffer, size), "rados_pool_list")
            return (-errno.ERANGE if length > size else 0), bytes(ffi.buffer(buffer)[:length])

        names = await handle.run("rados_pool_list", lambda: grow(read, 1024))
        return [os.fsdecode(name) for name in names.split(b"\0") if name]

    async def pool_lookup(self, name: str) -> int:
        """Return the id of a pool.

        Raises:
            PoolNotFound: There is no such pool.

        Implements: rados_pool_lookup
        """
        encoded = encode_name(name, "pool name", "rados_pool_lookup")
        return await self._handle.call("rados_pool_lookup", encoded, on=Target("pool", f"pool {name!r}"))

    async def pool_reverse_lookup(self, pool_id: int) -> str:
        """Return the name of a pool.

        Raises:
            PoolNotFound: There is no such pool.

        Implements: rados_pool_reverse_lookup
        """
        on = Target("pool", f"pool id {pool_id}")
        pool_id = number(pool_id, "pool id", "rados_pool_reverse_lookup", on)
        return await self._handle.get_string("rados_pool_reverse_lookup", pool_id, on=on)

    async def pool_exists(self, name: str) -> bool:
        """Tell whether there is a pool of that name.

        Implements: rados_pool_lookup
        """
        try:
            await self.pool_lookup(name)
        except PoolNotFound:
            return False
        return True

    def open_ioctx(self, pool: str | int, namespace: str = "", *, full_try: bool = False) -> Opening[IoCtx]:
        """Open an I/O context: a pool, by name or by id, and a namespace in it.

        Await the result, or use it with ``async with``.

        Args:
            pool: Its name or its id.
            namespace: A namespace in it; empty for the default one.
            full_try: When the pool is full or its quota is reached, let writes, `IoCtx.create_image` and other
                changes fail with `NoSpace` or `DiskQuotaExceeded`. Without it Ceph makes them wait until there is
                room. It holds for the images opened from here.

        Raises:
            PoolNotFound: There is no such pool.

        Implements: rados_ioctx_create, rados_ioctx_create2, rados_ioctx_set_namespace, rados_set_pool_full_try
        """
        return Opening(lambda: open_ioctx(self._handle, self._close_timeout, pool, namespace, full_try=full_try))

    def monitor_log(self, level: LogLevel = "info") -> Opening[ClusterLog]:
        """Listen to the cluster's log. Await the result, or use it with ``async with``.

        A connection has one such listener at a time.

        Args:
            level: What is worth telling.

        Raises:
            InvalidArgument: There is no such level.
            UsageError: One is open already.

        Implements: rados_monitor_log2
        """
        return Opening(lambda: open_log(self._handle, level, self._close_timeout))


def connect(
    conffile: str | os.PathLike[str] | None = "",
    *,
    client_id: str = "admin",
    conf: Mapping[str, str] | None = None,
    timeout: float | None = CONNECT_TIMEOUT,
    cluster_name: str = "ceph",
    close_timeout: float = CLOSE_TIMEOUT,
    cluster_log: LogLevel | None = None,
) -> Opening[Cluster]:
    """Connect to a cluster. Await the result, or use it with ``async with``.

    Args:
        conffile: Path of the configuration file. The empty string means the usual places
            (``$CEPH_CONF``, ``/etc/ceph/ceph.conf``, ``~/.ceph/ceph.conf``, ``ceph.conf``); None means no
            file: then `conf` has to name the monitors.
        client_id: Who connects, without the ``client.`` before it.
        conf: Ceph's options by name; they override the file. Leave ``librados_thread_count`` alone,
            although 1 reads and writes faster: some of librbd's own calls then wait for ever. One default is
            aiorbd's and not Ceph's: ``ms_tcp_prefetch_max_size`` is 32768 instead of 4096, which makes small
            reads faster, for 56 KiB more memory per OSD.
        timeout: Seconds to wait for the monitors; None waits for ever. Cancelling returns at once too.
        cluster_name: The name that default paths contain.
        close_timeout: Seconds that leaving ``async with`` and `Cluster.close` wait for operations in flight,
            also for the I/O contexts and images opened from this connection.
        cluster_log: Hand lines of the cluster's own log, from this level on, to the logger
            ``aiorbd.cluster_log``; None for none. `Cluster.monitor_log` cannot be had beside it.

    Warns:
        RuntimeWarning: ``rados_osd_op_timeout`` is set so low that data is lost.

    Raises:
        ConfigFileNotFound: `conffile` is not there.
        ObjectNotFound: No monitor's address is configured.
        InvalidArgument: An option in `conf` does not exist or does not take its value.
        KeyringNotFound: No key for the client was found.
        PermissionError: The monitors do not accept the key.
        Timeout: The monitors did not answer in time.
        LibraryNotFoundError: librados or librbd is not installed.

    Implements: rados_create2, rados_conf_parse_argv, rados_conf_read_file, rados_conf_set, rados_connect
    """
    if conf is not None and not isinstance(conf, Mapping):
        raise TypeError(f"conf must be a mapping of options, not {type(conf).__name__}")
    return Opening(
        lambda: _open_cluster(conffile, client_id, dict(conf or {}), timeout, cluster_name, close_timeout, cluster_log)
    )


async def _open_cluster(
    conffile: str | os.PathLike[str] | None,
    client_id: str,
    conf: dict[str, str],
    timeout: float | None,
    cluster_name: str,
    close_timeout: float,
    cluster_log: LogLevel | None,
) -> Cluster:
    for name in (client_id, cluster_name):
        encode_name(name, "client or cluster name", "rados_create2")
    for name, value in conf.items():
        if "\0" in name or "\0" in str(value):
            raise invalid("an option's name and value must not contain NUL", "rados_conf_set", f"option {name!r}")
        for text in (name, str(value)):
            encode_text(text, "option", "rados_conf_set")
    if timeout is not None:
        timeout = None if timeout == math.inf else seconds(timeout, "timeout", "rados_connect", f"client.{client_id}")
    # librados' own limit would be five minutes; 0 is none.
    conf = {"client_mount_timeout": "0" if timeout is None else str(max(1, math.ceil(timeout)))} | conf
    loop = current_loop()
    await to_thread.run_sync(loader.bridge)  # loads the libraries the first time: tens of milliseconds
    request = connecting.Request(conffile, client_id, cluster_name, conf)
    handle = ClusterHandle(Bridge(loop), None, request.target)

    def run() -> connecting.Connected:
        connected = connecting.connect(request)
        handle.take(connected.pointer)
        return connected

    try:
        with anyio.fail_after(timeout):
            connected = await handle.run("rados_connect", run)
    except TimeoutError as error:
        handle.begin_close()
        if isinstance(error, Timeout):
            raise
        raise Timeout(
            errno.ETIMEDOUT, f"the monitors did not answer within {timeout} s", "rados_connect", str(request.target)
        ) from None
    except BaseException:
        # Cancelled: the thread goes on, and what it connects is shut down when it is done.
        handle.begin_close()
        raise
    handle.target = Target("cluster", f"cluster {connected.fsid}")
    logger.debug("connected: %s as client.%s, id %d", handle.target, client_id, connected.instance_id)
    try:
        if connected.warning:
            warnings.warn(connected.warning, RuntimeWarning, stacklevel=2)  # may be an error to the caller
        if cluster_log is not None:
            await forward_log(handle, cluster_log)
    except BaseException:
        handle.begin_close()
        raise
    return Cluster(handle, connected.fsid, connected.instance_id, close_timeout)
