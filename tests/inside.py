"""The inside of public objects, for tests that cause a fault there. No other module of the tests reaches in."""

from typing import Any

from aiorbd import ClusterStats


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
