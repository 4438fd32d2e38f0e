"""The native side of an I/O context."""

import errno
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import anyio

from aiorbd._handle import Handle
from aiorbd._marshal import decode, encode_name, encode_new_name
from aiorbd._native import ffi, rados, rbd
from aiorbd.errors import ImageBusy, Target, UsageError, error_for

if TYPE_CHECKING:
    from aiorbd._lifecycle import Lifecycle


class IoCtxHandle(Handle):
    """A ``rados_ioctx_t``."""

    #: ``pool`` or ``pool/namespace``, for the names of images in errors.
    name: str = ""
    #: The number of the pool.
    pool_id: int = -1
    #: A second ``rados_ioctx_t``, through which nothing is written: see ``handover.c``.
    idle: Any = ffi.NULL

    def __init__(self, cluster: Handle, target: Target, namespace: str) -> None:
        super().__init__(cluster.bridge, cluster, target)
        self.namespace: str = namespace
        self.cluster: Lifecycle = cluster
        #: For what removes images: one without `full_try`, with which librbd 16.2 fails when an object that its
        #: map has is not there, as after a write that found the pool full.
        self.plain: IoCtxHandle = self

    def image(self, name: str) -> Target:
        """Name an image in errors."""
        return Target("image", f"image {self.name + '/' + name!r}")

    def require_pool(self) -> None:
        """On a worker thread: raise when the pool is gone. To librbd it would just have no images."""
        buffer = ffi.new("char[]", 4096)
        pool_id = rados().rados_ioctx_get_id(self.pointer)
        code = rados().rados_pool_reverse_lookup(self.cluster.pointer, pool_id, buffer, len(buffer))
        self.raise_for(code, "rados_pool_reverse_lookup")

    def raise_for_new(self, code: int, function: str, on: Target) -> None:
        """On a worker thread: like `raise_for`, for what makes an image here. What is missing decides the class."""
        if code == -errno.ENOENT and self.namespace:
            exists = ffi.new("bool *")
            found = rbd().rbd_namespace_exists(self.pointer, os.fsencode(self.namespace), exists)
            if found >= 0 and not exists[0]:
                missing = self.about("namespace", f"namespace {self.namespace!r}")
                raise error_for(code, function, missing, "no such namespace")
        self.raise_for(code, function, on)

    def shut(self) -> None:
        """Destroy it: librados only drops a reference."""
        for pointer in (self.pointer, self.idle):
            if pointer:
                rados().rados_ioctx_destroy(pointer)
        self.closed()


#: Seconds between two tries to remove what is open somewhere.
_PAUSE: Final = 0.5


async def remove_when_free(
    ioctx: IoCtxHandle, remove: Callable[[], Awaitable[object]], opening: tuple[str, bytes], retry_for: float
) -> None:
    """Remove an image, for `retry_for` seconds if need be; in the end, say who has it open.

    `opening` is the C function that opens it for reading only, and what that takes.
    """
    deadline = anyio.current_time() + retry_for
    while True:
        try:
            await remove()
        except ImageBusy as error:
            left = deadline - anyio.current_time()
            if left <= 0:
                if addresses := await ioctx.run("rbd_watchers_list", lambda: _watchers(ioctx, *opening)):
                    message = f"the image is open at {', '.join(addresses)}"
                    raise error_for(-errno.EBUSY, error.operation, Target("image", error.target), message) from None
                raise
            await anyio.sleep(min(_PAUSE, left))
        else:
            return


def _watchers(ioctx: IoCtxHandle, opening: str, name: bytes) -> list[str]:
    """On a worker thread: the addresses of who has an image open for writing; none when that cannot be found out."""
    image = ffi.new("rbd_image_t *")
    if getattr(rbd(), opening)(ioctx.pointer, name, image, ffi.NULL) < 0:
        return []
    watchers, count = ffi.new("rbd_image_watcher_t[]", 64), ffi.new("size_t *", 64)
    try:
        if rbd().rbd_watchers_list(image[0], watchers, count) < 0:
            return []
        addresses = [decode(watchers[index].addr) for index in range(count[0])]
        rbd().rbd_watchers_list_cleanup(watchers, count[0])
        return addresses
    finally:
        rbd().rbd_close(image[0])


async def clone_snapshot(
    parent: IoCtxHandle, name: str, snapshot: str, child: IoCtxHandle, child_name: str, options: Any
) -> None:
    """Clone an image's snapshot into the same or another pool or namespace."""
    parent.check()
    child.check()
    if str(parent.cluster.target) != str(child.cluster.target):
        raise UsageError(f"{child.target} belongs to another cluster than {parent.target}: only a copy goes there")
    function = "rbd_clone3"
    encoded = encode_name(name, "image name", function), encode_name(snapshot, "snapshot name", function)
    encoded_child = encode_new_name(child_name, "image name", function)
    on = Target("image", f"{child.image(child_name)}, clone of {name + '@' + snapshot!r}")

    def call() -> None:
        code = rbd().rbd_clone3(parent.pointer, *encoded, child.pointer, encoded_child, options)
        if code == -errno.ENOENT:
            _require_snapshot(parent, name, snapshot, *encoded)
        child.raise_for_new(code, function, on)

    await parent.run(function, call, on=on, also=[child])


def _require_snapshot(ioctx: IoCtxHandle, name: str, snapshot: str, encoded: bytes, encoded_snapshot: bytes) -> None:
    """On a worker thread: raise when it is the image or the snapshot that is missing."""
    image, snapshot_id = ffi.new("rbd_image_t *"), ffi.new("uint64_t *")
    code = rbd().rbd_open_read_only(ioctx.pointer, encoded, image, ffi.NULL)
    ioctx.raise_for(code, "rbd_open_read_only", ioctx.image(name))
    try:
        code = rbd().rbd_snap_get_id(image[0], encoded_snapshot, snapshot_id)
        on = Target("snapshot", f"snapshot {snapshot!r} of {ioctx.image(name)}")
        if code < 0:
            raise error_for(code, "rbd_snap_get_id", on)
    finally:
        rbd().rbd_close(image[0])
