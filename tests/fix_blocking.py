"""Fail a test in which a C function that may block runs on the event loop.

The fixture wraps each function of librbd and librados that Python calls. The compiled bridge calls further functions,
which do not block: they submit asynchronous requests.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from trio.lowlevel import in_trio_run

from aiorbd._native import loader

#: The functions that the event loop may call. They only use the memory of this process.
LOCAL = frozenset(
    {
        "rados_aio_cancel",
        "rados_buffer_free",
        "rados_create_read_op",
        "rados_create_write_op",
        "rados_decode_notify_response",
        "rados_free_notify_response",
        "rados_ioctx_destroy",
        "rados_omap_get_end",
        "rados_omap_get_next2",
        "rados_read_op_omap_get_vals2",
        "rados_release_read_op",
        "rados_release_write_op",
        "rados_version",
        "rados_write_op_omap_rm_keys2",
        "rados_write_op_omap_set2",
        "rbd_config_image_list_cleanup",
        "rbd_config_pool_list_cleanup",
        "rbd_features_from_string",
        "rbd_features_to_string",
        "rbd_group_image_list_cleanup",
        "rbd_group_snap_list2_cleanup",
        "rbd_group_snap_list_cleanup",
        "rbd_image_options_clear",
        "rbd_image_options_create",
        "rbd_image_options_destroy",
        "rbd_image_options_get_string",
        "rbd_image_options_get_uint64",
        "rbd_image_options_is_empty",
        "rbd_image_options_is_set",
        "rbd_image_options_set_string",
        "rbd_image_options_set_uint64",
        "rbd_image_options_unset",
        "rbd_image_spec_list_cleanup",
        "rbd_linked_image_spec_cleanup",
        "rbd_linked_image_spec_list_cleanup",
        "rbd_lock_get_owners_cleanup",
        "rbd_mirror_image_get_info_cleanup",
        "rbd_mirror_image_global_status_cleanup",
        "rbd_mirror_peer_site_list_cleanup",
        "rbd_pool_stats_create",
        "rbd_pool_stats_destroy",
        "rbd_pool_stats_option_add_uint64",
        "rbd_quiesce_complete",
        "rbd_snap_list_end",
        "rbd_snap_spec_cleanup",
        "rbd_trash_get_cleanup",
        "rbd_trash_list_cleanup",
        "rbd_version",
        "rbd_watchers_list_cleanup",
    }
)

#: The functions that have run on the event loop and are not `LOCAL`, since the last look.
_seen: set[str] = set()


def on_event_loop() -> bool:
    """Tell whether this thread runs an event loop."""
    return asyncio._get_running_loop() is not None or in_trio_run()


def noted() -> set[str]:
    """Return the functions that were noted, and forget them."""
    found = set(_seen)
    _seen.clear()
    return found


class Watched:
    """A C function that notes its calls on the event loop."""

    def __init__(self, name: str, function: Any) -> None:
        self._name, self._function = name, function

    def __call__(self, *arguments: Any) -> Any:
        if on_event_loop():
            _seen.add(self._name)
        return self._function(*arguments)


@pytest.fixture(scope="session", autouse=True)
def _watched_libraries() -> Iterator[None]:
    """Wrap the functions at their first use."""
    look_up = loader.Library.__getattr__

    def wrap(library: loader.Library, name: str) -> Any:
        function = look_up(library, name)
        if name.startswith(("rbd_", "rados_")) and name not in LOCAL:
            function = Watched(name, function)
            setattr(library, name, function)
        return function

    patch = pytest.MonkeyPatch()
    patch.setattr(loader.Library, "__getattr__", wrap)
    for library in (loader.rados(), loader.rbd()):
        for name in [name for name in vars(library) if name.startswith(("rbd_", "rados_"))]:
            delattr(library, name)
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def _no_blocking_call(_watched_libraries: None) -> Iterator[None]:
    """Fail the test if a function that may block has run on the event loop."""
    noted()
    yield
    blocking = noted()
    assert not blocking, f"on the event loop, and perhaps blocking: {', '.join(sorted(blocking))}"
