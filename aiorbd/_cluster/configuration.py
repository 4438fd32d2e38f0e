"""The options of an open connection."""

import errno
import warnings
from typing import Final

from aiorbd._cluster.connect import timeout_warning
from aiorbd._core.handle import Handle
from aiorbd._core.resource import Resource
from aiorbd._native.loader import rados
from aiorbd._native.marshal import encode_name, encode_secret, grow_string
from aiorbd.errors import OperationNotSupported, Target

#: librados restarts the threads that run all callbacks if the first option changes. librbd sets it from the second one.
_FIXED: Final = frozenset({"librados_thread_count", "rbd_op_threads"})


class ClusterConfiguration(Resource[Handle]):
    """The options of the connection. Part of `Cluster`."""

    async def conf_get(self, name: str) -> str:
        """Return the value of one of Ceph's options, as this connection uses it.

        Raises:
            OptionNotFound: Ceph has no such option.

        Implements: rados_conf_get
        """
        handle, function = self._handle, "rados_conf_get"
        encoded, on = encode_name(name, "option", function), _option(name)

        def read(buffer: object, size: int) -> int:
            code: int = rados().rados_conf_get(handle.pointer, encoded, buffer, size)
            return -errno.ERANGE if code == -errno.ENAMETOOLONG else code

        return await handle.run(
            function, lambda: grow_string(read, lambda code: handle.raise_for(code, function, on), 4096), on=on
        )

    async def conf_set(self, name: str, value: str) -> None:
        """Set one of Ceph's options for this connection. If the call is cancelled, the outcome is unknown.

        The new value applies to images that are opened afterwards, unless Ceph also observes the option in open images.
        `Config.set` of an image or a pool stores an option in the cluster, for all clients.

        Warns:
            RuntimeWarning: ``rados_osd_op_timeout`` is so low that data is lost.

        Raises:
            OptionNotFound: Ceph has no such option.
            InvalidArgument: The option does not take this value.
            OperationNotSupported: The option cannot change while the connection is open. Give it to `connect`.

        Implements: rados_conf_set
        """
        handle = self._handle
        function: Final = "rados_conf_set"
        encoded, on = encode_name(name, "option", function), _option(name)
        text = encode_secret(value, "the value of an option", function, on)
        plain = name.replace("-", "_").replace(" ", "_")
        if plain in _FIXED:
            message = "the option cannot change while the connection is open"
            raise OperationNotSupported(errno.EOPNOTSUPP, message, function, str(on))
        await handle.call(function, encoded, text, on=on)
        if plain == "rados_osd_op_timeout":
            warning = await handle.run("rados_conf_get", lambda: timeout_warning(handle.pointer))
            if warning:
                warnings.warn(warning, RuntimeWarning, stacklevel=2)

    async def wait_for_latest_osdmap(self) -> None:
        """Wait until this connection has the newest map of the cluster, which names the pools and the blocked clients.

        Call this after another client has changed the map, for example after it has blocklisted a client or has set a
        quota, so that this client does not act on the old map.

        Implements: rados_wait_for_latest_osdmap
        """
        await self._handle.call("rados_wait_for_latest_osdmap")


def _option(name: str) -> Target:
    return Target("option", f"option {name!r}")
