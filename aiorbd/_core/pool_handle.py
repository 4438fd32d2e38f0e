"""The native side of an I/O context."""

import errno
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiorbd._core.handle import Handle, Why
from aiorbd._core.operation import URGENT
from aiorbd._native.loader import ffi, rados, rbd
from aiorbd._native.marshal import take_buffer
from aiorbd.errors import Error, ImageNotFound, NamespaceNotFound, PoolNotFound, Target

if TYPE_CHECKING:
    from aiorbd._core.lifecycle import Lifecycle


#: Errors that may come from a pool that is not there.
_DOUBTFUL: Final = {-errno.ENOENT, -errno.EPERM}

#: Seconds between two looks whether the pool is there, after calls that succeed without one.
_OFTEN: Final = 1.0


class SnapshotNow(NamedTuple):
    """A snapshot, as the cluster has it."""

    name: str
    size: int
    seconds: int
    nanoseconds: int


def _out() -> tuple[Any, Any, Any]:
    return ffi.new("char **"), ffi.new("size_t *"), ffi.new("int *")


class PoolHandle(Handle):
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
        self.plain: PoolHandle = self
        #: Pools that are known to be deleted: their numbers do not come back.
        self._gone: set[int] = set()

    def image(self, name: str) -> Target:
        """Name an image in errors."""
        return Target("image", f"image {self.name + '/' + name!r}")

    # -- what may be missing -------------------------------------------------------------------

    def require_place(self, operation: str) -> None:
        """Any thread: raise when the pool was deleted. To librbd it would just have no images."""
        if self.pool_id >= 0:
            self.require_pool(self.pool_id, operation)

    def require_pool(self, pool_id: int, operation: str) -> None:
        """Any thread: raise when there is no such pool. The loop's thread only remembers what others have found.

        librados looks at its map of the pools. When the pool is not there, it asks the monitors for a newer map.
        """
        if pool_id not in self._gone and get_ident() != self.bridge.loop_thread:
            buffer = ffi.new("char[]", 4096)
            if rados().rados_pool_reverse_lookup(self.cluster.pointer, pool_id, buffer, len(buffer)) == -errno.ENOENT:
                self._gone.add(pool_id)
        if pool_id in self._gone:
            which = str(self.target) if pool_id == self.pool_id else f"data pool, id {pool_id}"
            raise PoolNotFound(errno.ENOENT, "the pool was deleted", operation, which)

    def is_pool(self, name: bytes) -> bool:
        """On a worker thread: whether the pool of that name is this one, and not one that was made in its place."""
        return bool(rados().rados_pool_lookup(self.cluster.pointer, name) == self.pool_id)

    async def find_place(self, code: int = -errno.ENOENT) -> None:
        """After a call of the loop's that failed so: let a thread look whether the pool is there."""
        await self.let_look(self, code)

    async def let_look(self, handle: Handle, code: int) -> None:
        """Let a thread look whether a handle's place is there, if an error may come from that."""
        if code in _DOUBTFUL:
            with suppress(Error):  # the handle remembers what was found
                await self.run("rados_pool_reverse_lookup", lambda: handle.require_place(""), group=URGENT)

    async def confirm_place(self, handle: Handle, operation: str) -> None:
        """After a success that a missing pool would be one as well: look again once in a second."""
        if time.monotonic() - handle.looked >= _OFTEN:
            handle.looked = time.monotonic()
            await self.let_look(handle, -errno.ENOENT)
        handle.require_place(operation)

    def require_namespace(self, operation: str = "rbd_namespace_exists") -> None:
        """On a worker thread: raise when there is no such namespace, as far as this client may know."""
        exists = ffi.new("bool *")
        name = os.fsencode(self.namespace)
        if self.namespace and rbd().rbd_namespace_exists(self.pointer, name, exists) >= 0 and not exists[0]:
            pool = self.name.removesuffix(f"/{self.namespace}")
            target = f"namespace {self.namespace!r} of pool {pool!r}"
            raise NamespaceNotFound(errno.ENOENT, "no such namespace", operation, target)

    def require_all(self) -> None:
        """On a worker thread: raise when pool or namespace are not there, and so nothing in them."""
        self.require_place("rados_pool_reverse_lookup")
        self.require_namespace()

    def explain(self, code: int, operation: str, why: Why | None) -> None:
        """Like any handle's; but what is not found may be missing with its namespace."""
        if code == -errno.ENOENT:
            self.require_place(operation)
            self.require_namespace(operation)
        super().explain(code, operation, why)

    # -- what has a name now -------------------------------------------------------------------

    def id_of(self, name: bytes) -> str | None:
        """On a worker thread: the id of the image that has a name now; None for none, or one of format 1."""
        found = self._ask(b"rbd_id." + name, b"get_id", b"")
        return None if found is None else found[4:].decode()  # after its length, in 32 bits

    def require_image(self, name: bytes, image_id: str | None, operation: str) -> None:
        """On a worker thread: raise when a name has come to belong to another image than that of this id."""
        if image_id is not None and self.id_of(name) != image_id:
            message = f"the name is not that of the image of id {image_id!r} any more"
            raise ImageNotFound(errno.ENOENT, message, operation, str(self.image(os.fsdecode(name))))

    def image_exists(self, image_id: str) -> bool:
        """On a worker thread: whether an image of format 2 is there, whatever its name is."""
        return self._ask(b"rbd_header." + image_id.encode(), b"get_object_prefix", b"") is not None

    def snapshot_now(self, image_id: str, snapshot_id: int) -> "SnapshotNow | None":
        """On a worker thread: what a snapshot is now, as the cluster has it; None when it is gone."""
        found = self._ask(b"rbd_header." + image_id.encode(), b"snapshot_get", struct.pack("<Q", snapshot_id))
        if found is None:
            return None
        # An encoded structure: version and length, the id, an encoded kind, the name, the size, the time.
        at = 14 + 6 + struct.unpack_from("<I", found, 16)[0]
        length = struct.unpack_from("<I", found, at)[0]
        name = os.fsdecode(found[at + 4 : at + 4 + length])
        return SnapshotNow(name, *struct.unpack_from("<QII", found, at + 4 + length))

    def _ask(self, key: bytes, method: bytes, data: bytes) -> bytes | None:
        """Call a method of the OSDs' class ``rbd``; None when there is no such object, or it knows nothing of that."""
        function, out, length, result = "rados_read_op_operate", *_out()
        operation = rados().rados_create_read_op()
        try:
            rados().rados_read_op_exec(operation, b"rbd", method, data, len(data), out, length, result)
            code = rados().rados_read_op_operate(operation, self.pointer, key, 0)
        finally:
            rados().rados_release_read_op(operation)
        answer = take_buffer(out, length, rados().rados_buffer_free)
        if code == -errno.ENOENT:
            self.require_place(function)
            return None
        self.raise_for(code, function, Target("object", f"object {self.name + '/' + os.fsdecode(key)!r}"))
        return answer

    @contextmanager
    def opened(self, function: str, name: bytes) -> Iterator[tuple[int, Any]]:
        """On a worker thread: open an image for reading only, to ask it something; gives C's answer and the image."""
        image = ffi.new("rbd_image_t *")
        code = getattr(rbd(), function)(self.pointer, name, image, ffi.NULL)
        try:
            yield code, image[0]
        finally:
            if code >= 0:
                rbd().rbd_close(image[0])

    # -- closing -------------------------------------------------------------------------------

    def shut(self) -> None:
        """Destroy it: librados only drops a reference."""
        for pointer in (self.pointer, self.idle):
            if pointer:
                rados().rados_ioctx_destroy(pointer)
        self.closed()
