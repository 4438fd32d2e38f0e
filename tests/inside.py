"""The inside of public objects, for tests that cause a fault there. No other module of the tests reaches in."""

from typing import Any

import aiorbd
from aiorbd import ClusterStats
from aiorbd._image import encryption as encryption  # noqa: PLC0414 - for other modules of the tests
from aiorbd._image.aio_calls import call_aio
from aiorbd._native.loader import ffi as ffi  # noqa: PLC0414 - for other modules of the tests


def handle_of(resource: Any) -> Any:
    """Return the native side of an open object."""
    return resource._handle


def bridge_of(resource: Any) -> Any:
    """Return the bridge of the connection: the operation table and the worker threads."""
    return resource._handle.bridge


def stats_of(resource: Any) -> ClusterStats:
    """Return the statistics of the connection."""
    stats: ClusterStats = resource._handle.bridge.stats()
    return stats


def children_of(resource: Any) -> Any:
    """Return the handles that are open below an object."""
    return resource._handle._children


def change(image: Any) -> None:
    """Do what librbd does when another client has changed the image: the known size is no longer sure."""
    image._handle.lib.aiorbd_image_changed(image._handle.native)


def quiesce_request(watch: aiorbd.QuiesceWatch) -> aiorbd.QuiesceRequest:
    """Return a request that no client made."""
    return aiorbd.QuiesceRequest(watch._handle, 1, None)


async def refused_call(image: aiorbd.Image) -> int:
    """Make an asynchronous call that librbd refuses at the submit: the size of the struct is wrong."""
    out = ffi.new("rbd_mirror_image_info_t *")
    return await call_aio(image._handle, "rbd_aio_mirror_image_get_info", out, 1, keep=out)
