"""The configuration of one connection to a cluster."""

from typing import Any

from aiorbd._native.loader import ffi, rados
from aiorbd._native.marshal import decode


def conf_get(cluster: Any, name: str) -> str:
    """Return the value of an option."""
    buffer = ffi.new("char[]", 4096)
    code = rados().rados_conf_get(cluster, name.encode(), buffer, len(buffer))
    return decode(buffer) if code >= 0 else ""
