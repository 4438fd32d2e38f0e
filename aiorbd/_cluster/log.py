"""Follow the cluster log."""

import logging
import os
from typing import Final, Literal, Self

from aiorbd._core.handle import Handle
from aiorbd._core.loops import Loop
from aiorbd._core.mailbox import Mailbox, Messages
from aiorbd._core.resource import Default, Resource
from aiorbd._core.stream import Source
from aiorbd._native.loader import ffi, rados
from aiorbd._native.marshal import invalid, utc
from aiorbd.errors import Target, UsageError
from aiorbd.models import LogEntry

#: The lowest level of the log lines to receive. The levels are in rising order.
LogLevel = Literal["debug", "info", "sec", "warn", "error"]

_LEVELS: Final = ("debug", "info", "sec", "warn", "error")

#: The largest number of lines that may wait in the mailbox.
ROOM: Final = 4096


class LogHandle(Handle):
    """The handle of the log callback. A client has only one log callback."""

    closes_with = "rados_monitor_log2"

    def __init__(self, cluster: Handle, level: str, source: Source | None = None) -> None:
        super().__init__(cluster.bridge, cluster, Target("cluster", f"log of {cluster.target}"))
        self.cluster: Handle = cluster
        self.level: bytes = level.encode()
        self.source: Source = source or self.new_source(endless=True)
        self.mailbox: Mailbox = Mailbox(self, self.source, ROOM)

    def listen(self) -> None:
        """Register the callback. Runs on a worker thread."""
        callback = self.mailbox.function("log", "rados_log_callback2_t")
        code = rados().rados_monitor_log2(self.cluster.pointer, self.level, callback, self.mailbox.argument)
        self.raise_for(code, "rados_monitor_log2")
        self.take(self.level)

    def shut(self) -> None:
        """Remove the callback. Once librados has returned, no callback is running."""
        if self.pointer is None:
            self._gone(0)
        else:
            self.bridge.start_background(self, "rados_monitor_log2", self._stop, self._gone)

    def _stop(self) -> int:
        code: int = rados().rados_monitor_log2(self.cluster.pointer, self.level, ffi.NULL, ffi.NULL)
        return code

    def _gone(self, code: int) -> None:
        self.mailbox.release()
        self.closed(code, "rados_monitor_log2")


class ClusterLog(Resource[LogHandle]):
    """The new lines of the cluster log, made by `Cluster.monitor_log`. Iterate over the lines with ``async for``."""

    def __init__(self, handle: LogHandle, close_timeout: float) -> None:
        """Private: use `Cluster.monitor_log`."""
        super().__init__(handle, close_timeout)
        self._messages = Messages(handle.source, handle, handle.mailbox, _entry)

    async def close(self, timeout: float | Default | None = Default.CLOSE_TIMEOUT) -> None:
        """Stop following the log.

        The close waits at most `timeout` seconds for operations in flight. None waits without a
        limit. After a cancelled or overdue wait, the close continues in the background.

        Raises:
            CloseTimeout: Operations are still in flight after `timeout` seconds.
            RbdError: Ceph reported an error during the close. The log is closed all the same.

        Implements: rados_monitor_log2
        """
        await super().close(timeout)

    @property
    def lost(self) -> int:
        """The number of dropped lines: no task took them in time."""
        return self._handle.mailbox.lost

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LogEntry:
        return await anext(self._messages)


def _entry(numbers: list[int], data: bytes) -> LogEntry:
    channel, who, name, level, message = (os.fsdecode(part) for part in data.split(b"\0")[:5])
    seconds, nanoseconds, sequence = numbers
    return LogEntry(utc(seconds, nanoseconds), channel, who, name, sequence, level, message)


#: The logger for the lines that `aiorbd.connect` was asked to send. `_AS` maps the levels.
logger: logging.Logger = logging.getLogger("aiorbd.cluster_log")
_AS: Final = {
    "DBG": logging.DEBUG,
    "INF": logging.INFO,
    "SEC": logging.WARNING,
    "WRN": logging.WARNING,
    "ERR": logging.ERROR,
}


class _Forwarding(Source):
    """A source that passes lines to `logging` as they arrive, without a task."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop, endless=True)
        self.mailbox: Mailbox | None = None

    def notify(self) -> None:
        """Log the lines that have arrived. Runs on the event loop."""
        while self.mailbox is not None and (entries := self.mailbox.take(_entry)):
            for entry in entries:
                logger.log(_AS.get(entry.level.strip("[]"), logging.INFO), "%s: %s", entry.name, entry.message)


async def forward_log(cluster: Handle, level: str) -> None:
    """Pass the cluster log to `logging` until the cluster closes: see `aiorbd.connect`."""
    await _listen(cluster, level, _Forwarding(cluster.bridge.loop))


async def open_log(cluster: Handle, level: str, close_timeout: float) -> ClusterLog:
    """Follow the cluster log: see `Cluster.monitor_log`."""
    return ClusterLog(await _listen(cluster, level, None), close_timeout)


async def _listen(cluster: Handle, level: str, forwarding: _Forwarding | None) -> LogHandle:
    cluster.check()
    if level not in _LEVELS:
        raise invalid(f"level {level!r} is none of {', '.join(_LEVELS)}", "rados_monitor_log2", cluster.target)
    if any(isinstance(child, LogHandle) for child in cluster.children):
        raise UsageError(f"the log of {cluster.target} is open already: a connection has one")
    handle = LogHandle(cluster, level, forwarding)
    if forwarding is not None:
        forwarding.mailbox = handle.mailbox
    try:
        await handle.run("rados_monitor_log2", handle.listen)
    except BaseException:
        handle.begin_close()
        raise
    return handle
