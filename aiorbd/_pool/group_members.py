"""Hold up the calls on the members of a group, while librbd changes the snapshots of all members.

librbd opens each member itself for such a change. So the change is a call on another handle of each image, and the
gates of the images must know. See `aiorbd._image.gate`.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiorbd._core.pool_handle import PoolHandle
from aiorbd._image.gate import GROUP, enter_all, gate_of
from aiorbd._native.loader import ffi, rados, rbd
from aiorbd._native.marshal import decode, grow


def group_names(handle: PoolHandle) -> list[bytes]:
    """Return the names of all groups. Runs on a worker thread."""

    def read(size: int) -> tuple[int, bytes]:
        names, length = ffi.new("char[]", size), ffi.new("size_t *", size)
        code = rbd().rbd_group_list(handle.pointer, names, length)
        if code == -errno.ERANGE:
            return code, b""
        handle.raise_on_thread(code, "rbd_group_list")
        return 0, bytes(ffi.buffer(names, size))

    # librbd 16.2 does not return the length.
    found = [name for name in grow(read, 1024).split(b"\0") if name]
    if not found:
        handle.require_all()
    return found


def read_members(handle: PoolHandle, group: bytes) -> list[tuple[int, str]]:
    """Return the pool and the name of each member of a group. Runs on a worker thread."""
    size_of_item = ffi.sizeof("rbd_group_image_info_t")

    def read(size: int) -> tuple[int, Any]:
        items, count = ffi.new("rbd_group_image_info_t[]", size), ffi.new("size_t *", size)
        code = rbd().rbd_group_image_list(handle.pointer, group, items, size_of_item, count)
        if code < 0:
            if code not in (-errno.ERANGE, -errno.ENOENT):
                handle.raise_for(code, "rbd_group_image_list")
            return code, None
        try:
            return 0, [(item.pool, decode(item.name)) for item in items[0 : count[0]]]
        finally:
            rbd().rbd_group_image_list_cleanup(items, size_of_item, count[0])

    return grow(read, 64) or []


async def hold_members(handle: PoolHandle, group: bytes) -> Callable[[], None]:
    """Wait until no read, write, copy or change of snapshots runs on a member of a group, and hold up new ones.

    Members that are not open count too, because another task may open them meanwhile. Return a function that lets the
    calls continue. Run it once.
    """
    handle.check()
    places = await handle.run("rbd_group_image_list", lambda: _places(handle, group))
    return await enter_all(handle, [gate_of(handle.bridge, place) for place in places], GROUP)


def _places(handle: PoolHandle, group: bytes) -> list[tuple[int, str, str]]:
    """Return the pool, the namespace and the id of each member. Runs on a worker thread."""
    members = read_members(handle, group)
    found = []
    for pool in sorted({pool for pool, _ in members}):
        with _opened(handle, pool) as elsewhere:
            ids = [handle.id_of(os.fsencode(name), elsewhere) for other, name in members if other == pool]
        found += [(pool, handle.namespace, image_id) for image_id in ids if image_id is not None]
    return found


@contextmanager
def _opened(handle: PoolHandle, pool: int) -> Iterator[Any]:
    """Open the pool of members, for questions. Runs on a worker thread."""
    pointer = ffi.new("rados_ioctx_t *")
    handle.raise_for(rados().rados_ioctx_create2(handle.cluster.pointer, pool, pointer), "rados_ioctx_create2")
    try:
        rados().rados_ioctx_set_namespace(pointer[0], os.fsencode(handle.namespace))
        yield pointer[0]
    finally:
        rados().rados_ioctx_destroy(pointer[0])
