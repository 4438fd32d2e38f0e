"""The native side of an I/O context."""

import errno
import os
import struct
from typing import TYPE_CHECKING, Any

from aiorbd._handle import Handle, Why
from aiorbd._native import ffi, rados, rbd
from aiorbd.errors import NamespaceNotFound, ObjectNotFound, PoolNotFound, Target

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

    # -- what may be missing -------------------------------------------------------------------

    def require_place(self, operation: str) -> None:
        """Any thread: raise when the pool was deleted. To librbd it would just have no images."""
        if self.pool_id >= 0:
            self.require_pool(self.pool_id, operation)

    def require_pool(self, pool_id: int, operation: str) -> None:
        """Any thread: raise when the map of pools, which librados has, says that there is no such pool."""
        buffer = ffi.new("char[]", 4096)
        if rados().rados_pool_reverse_lookup(self.cluster.pointer, pool_id, buffer, len(buffer)) == -errno.ENOENT:
            which = str(self.target) if pool_id == self.pool_id else f"data pool, id {pool_id}"
            raise PoolNotFound(errno.ENOENT, "the pool was deleted", operation, which)

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

    async def image_id(self, name: bytes) -> str | None:
        """Return the id of the image that has a name now; None when there is none, or one of format 1."""
        found = await self._ask("rbd_id." + os.fsdecode(name), b"get_id", b"")
        return None if found is None else found[4:].decode()  # after its length, in 32 bits

    async def snapshot_name(self, image_id: str, snapshot_id: int) -> str | None:
        """Return the name that a snapshot of an image has now; None when it is gone."""
        found = await self._ask("rbd_header." + image_id, b"snapshot_get", struct.pack("<Q", snapshot_id))
        if found is None:
            return None
        length = struct.unpack_from("<I", found, 14)[0]  # after version, length and id of the encoded snapshot
        return os.fsdecode(found[18 : 18 + length])

    async def _ask(self, key: str, method: bytes, data: bytes) -> bytes | None:
        """Call a method of the OSDs' class ``rbd``; None when there is no such object, or it knows nothing of that."""
        out = ffi.new("char[]", 4096)
        given = ffi.from_buffer(data)
        try:
            length = await self.submit_rados(
                "rados_aio_exec",
                lambda completion: rados().rados_aio_exec(
                    self.pointer, os.fsencode(key), completion, b"rbd", method, given, len(data), out, len(out)
                ),
                keep=(out, given),
                on=Target("object", f"object {self.name + '/' + key!r}"),
            )
        except ObjectNotFound as error:
            if isinstance(error, PoolNotFound):
                raise
            return None
        return bytes(ffi.buffer(out, length))

    # -- closing -------------------------------------------------------------------------------

    def shut(self) -> None:
        """Destroy it: librados only drops a reference."""
        for pointer in (self.pointer, self.idle):
            if pointer:
                rados().rados_ioctx_destroy(pointer)
        self.closed()
