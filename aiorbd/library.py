"""The libraries that the host has."""

from collections.abc import Callable

from aiorbd._native import ffi, rados, rbd
from aiorbd.models import Version


def version() -> Version:
    """Return librbd's version: 1.16.0 for Ceph 16.2, 1.20.0 for 20.2.

    Raises:
        LibraryNotFoundError: librbd is not installed.

    Implements: rbd_version
    """
    return _ask(rbd().rbd_version)


def rados_version() -> Version:
    """Return librados's version.

    Raises:
        LibraryNotFoundError: librados is not installed.

    Implements: rados_version
    """
    return _ask(rados().rados_version)


def _ask(function: Callable[..., object]) -> Version:
    numbers = [ffi.new("int *") for _ in range(3)]
    function(*numbers)
    return Version(*(number[0] for number in numbers))
