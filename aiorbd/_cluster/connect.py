"""Connect on a worker thread: set options, reach the monitors, and raise errors that name the missing part."""

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from aiorbd._native.configuration import conf_get
from aiorbd._native.loader import ffi, rados
from aiorbd._native.marshal import decode
from aiorbd.error_codes import error_for
from aiorbd.errors import ConfigFileNotFound, InvalidArgument, RbdError, Target


@dataclass(frozen=True)
class Request:
    """A request for a connection, from the arguments of `aiorbd.connect`."""

    conffile: str | os.PathLike[str] | None
    client_id: str
    cluster_name: str
    conf: dict[str, str] = field(repr=False)  # may hold a key

    @property
    def target(self) -> Target:
        """The name of the connection in errors, until its fsid is known."""
        return Target("cluster", f"client.{self.client_id} of cluster {self.cluster_name!r}")


class Connected(NamedTuple):
    """The result of `connect`."""

    pointer: Any
    fsid: str
    instance_id: int
    #: A warning about the configuration for the user; empty if there is none.
    warning: str


def connect(request: Request) -> Connected:
    """Connect to a cluster. Return the ``rados_t`` and facts about the connection. Blocks."""
    lib = rados()
    pointer = ffi.new("rados_t *")
    code = lib.rados_create2(pointer, os.fsencode(request.cluster_name), os.fsencode(f"client.{request.client_id}"), 0)
    if code < 0:
        raise error_for(code, "rados_create2", request.target)
    cluster = pointer[0]
    try:
        _configure(cluster, request)
        code = lib.rados_connect(cluster)
        if code < 0:
            raise _why_not(cluster, code, request)
        buffer = ffi.new("char[]", 64)
        code = lib.rados_cluster_fsid(cluster, buffer, len(buffer))
        if code < 0:
            raise error_for(code, "rados_cluster_fsid", request.target)
        return Connected(cluster, decode(buffer), lib.rados_get_instance_id(cluster), timeout_warning(cluster))
    except BaseException:
        lib.rados_shutdown(cluster)
        raise


#: The values that `ms_type` may have.
_MESSENGERS = {"", "async", "async+posix", "async+rdma", "async+dpdk", "random"}


#: aiorbd's defaults, which replace Ceph's defaults. Values from the monitors, the file and `conf` override them.
#: librados reads answers into buffers of this size, two for each OSD. A buffer of Ceph's default size, 4096 bytes,
#: cannot hold the answer to a read of 4 KiB with its header. librados would then ask the kernel at least twice for each
#: answer, and would never get several answers at once.
_DEFAULTS = {"ms_tcp_prefetch_max_size": "32768"}


def _configure(cluster: Any, request: Request) -> None:
    lib = rados()
    words = ["", *(f"--default-{name}={value}" for name, value in _DEFAULTS.items())]
    arguments = [ffi.new("char[]", word.encode()) for word in words]
    lib.rados_conf_parse_argv(cluster, len(arguments), ffi.new("const char *[]", arguments))
    if request.conffile is not None:
        path = os.fspath(request.conffile)
        if path and not Path(path).is_file():
            raise ConfigFileNotFound(errno.ENOENT, "no such configuration file", "rados_conf_read_file", repr(path))
        code = lib.rados_conf_read_file(cluster, os.fsencode(path) if path else ffi.NULL)
        # Without a file in the usual places, the options in `conf` may be enough.
        if code < 0 and (path or code != -errno.ENOENT):
            raise error_for(
                code,
                "rados_conf_read_file",
                Target("other", repr(path)) if path else request.target,
                "unreadable configuration",
            )
    for name, value in request.conf.items():
        code = lib.rados_conf_set(cluster, os.fsencode(name), os.fsencode(str(value)))
        if code == -errno.ENOENT:
            raise InvalidArgument(errno.EINVAL, "no such option", "rados_conf_set", f"option {name!r}")
        if code < 0:
            target = Target("other", f"option {name!r}")
            raise error_for(code, "rados_conf_set", target, "the option does not take this value")
    for name in ("ms_type", "ms_public_type"):
        # librados aborts the process if the messenger does not exist.
        if conf_get(cluster, name) not in _MESSENGERS:
            message = f"no such messenger; there are {', '.join(sorted(filter(None, _MESSENGERS)))}"
            raise InvalidArgument(errno.EINVAL, message, "rados_connect", f"option {name!r}")


def _usual_places(request: Request) -> list[str]:
    """Return the places where librados looks for a configuration file by default."""
    if places := os.environ.get("CEPH_CONF"):
        return places.split(",")
    name = f"{request.cluster_name}.conf"
    return [f"/etc/ceph/{name}", str(Path("~/.ceph", name).expanduser()), name]


def timeout_warning(cluster: Any) -> str:
    """Return a warning if ``rados_osd_op_timeout`` loses data; otherwise an empty text.

    A cluster replaces a dead OSD after the grace and a heartbeat. A shorter timeout drops operations that Ceph would
    still complete.
    """
    limit, grace, interval = (
        float(conf_get(cluster, name) or 0)
        for name in ("rados_osd_op_timeout", "osd_heartbeat_grace", "osd_heartbeat_interval")
    )
    if not 0 < limit <= grace + interval:
        return ""
    return (
        f"rados_osd_op_timeout is {limit:g} s, less than it takes to replace a dead OSD ({grace + interval:g} s): "
        "librados gives up writes that librbd has already reported as done, and flush does not tell. "
        "Put timeouts around awaits instead."
    )


def _why_not(cluster: Any, code: int, request: Request) -> RbdError:
    """Return the error for a failed connect.

    librados returns ENOENT for several different faults. So this function looks at the options that librados used.
    """
    monitors = conf_get(cluster, "mon_host")
    if code == -errno.ENOENT and not monitors:
        message = "no monitor address: neither the configuration file nor conf has 'mon_host'"
        if request.conffile == "":
            message += f"; looked for a file at {', '.join(_usual_places(request))}"
        return error_for(code, "rados_connect", request.target, message)
    if code == -errno.ENOENT:
        searched = conf_get(cluster, "keyring")
        message = f"no keyring with a key for client.{request.client_id} in {searched}"
        return error_for(code, "rados_connect", Target("keyring", str(request.target)), message)
    target = Target("cluster", f"{request.target} at {monitors}")
    if code in (-errno.EACCES, -errno.EPERM):
        message = f"the monitors do not know client.{request.client_id}, or do not accept its key"
        return error_for(code, "rados_connect", target, message)
    if code == -errno.ETIMEDOUT:
        return error_for(code, "rados_connect", target, "the monitors did not answer in time")
    return error_for(code, "rados_connect", target)
