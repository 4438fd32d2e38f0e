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
from aiorbd._core.lifecycle import Place
from aiorbd._core.operation import URGENT
from aiorbd._native.loader import ffi, rados, rbd
from aiorbd._native.marshal import decode, take_buffer
from aiorbd.errors import Error, ImageNotFound, NamespaceNotFound, PoolNotFound, Target

if TYPE_CHECKING:
    from aiorbd._core.lifecycle import Lifecycle


#: Errors that a missing pool may cause.
_DOUBTFUL: Final = {-errno.ENOENT, -errno.EPERM}

#: Seconds between two checks that the pool exists, after calls that succeed even without the pool.
_OFTEN: Final = 1.0


class SnapshotNow(NamedTuple):
    """The state of a snapshot, as stored in the cluster."""

    name: str
    size: int
    seconds: int
    nanoseconds: int


def _out() -> tuple[Any, Any, Any]:
    return ffi.new("char **"), ffi.new("size_t *"), ffi.new("int *")


#: Ceph's snapshot id of the current data.
_CURRENT: Final = (1 << 64) - 2


def _first_number(answer: bytes | None) -> int:
    return 0 if answer is None else int(struct.unpack_from("<Q", answer)[0])


class PoolHandle(Handle):
    """The handle of a ``rados_ioctx_t``."""

    closes_with = "rados_ioctx_destroy"

    #: ``pool`` or ``pool/namespace``, for the names of images in errors.
    name: str = ""
    #: The name of the pool.
    pool_name: str | None = None
    #: The number of the pool.
    pool_id: int = -1
    #: A second ``rados_ioctx_t``, which no write uses: see ``handover.c``.
    idle: Any = ffi.NULL

    def __init__(self, cluster: Handle, target: Target, namespace: str) -> None:
        super().__init__(cluster.bridge, cluster, target)
        self.namespace: str = namespace
        self.cluster: Lifecycle = cluster
        #: The handle without `full_try`, for calls that remove images. With `full_try`, librbd 16.2 fails if an object
        #: of the object map is missing, for example after a write to a full pool.
        self.plain: PoolHandle = self
        #: Whether changes in a full pool fail at once, instead of waiting for room.
        self.full_try: bool = False
        #: The numbers of deleted pools. Ceph does not use these numbers again.
        self._gone: set[int] = set()

    def place(self) -> Place:
        """Return the pool and the namespace, for the observers."""
        return Place(self.pool_name, self.namespace, None)

    def image(self, name: str) -> Target:
        """Return the target of an image, for errors."""
        return Target("image", f"image {self.name + '/' + name!r}")

    # -- missing pools and namespaces ----------------------------------------------------------

    def require_place(self, operation: str) -> None:
        """Raise if the pool was deleted. Any thread may call this.

        librbd shows a deleted pool as a pool without images.
        """
        if self.pool_id >= 0:
            self.require_pool(self.pool_id, operation)

    def require_pool(self, pool_id: int, operation: str) -> None:
        """Raise if no pool has the number `pool_id`. Any thread may call this.

        librados looks at its map of the pools. If the map lacks the pool, librados asks the monitors for a newer map.
        On the event loop's thread, only the remembered findings of other threads count.
        """
        if pool_id not in self._gone and get_ident() != self.bridge.loop_thread:
            buffer = ffi.new("char[]", 4096)
            if rados().rados_pool_reverse_lookup(self.cluster.pointer, pool_id, buffer, len(buffer)) == -errno.ENOENT:
                self._gone.add(pool_id)
        if pool_id in self._gone:
            which = str(self.target) if pool_id == self.pool_id else f"data pool, id {pool_id}"
            raise PoolNotFound(errno.ENOENT, "the pool was deleted", operation, which)

    def is_pool(self, name: bytes) -> bool:
        """Return whether a pool name still belongs to this pool. Runs on a worker thread.

        A new pool may have taken the name of a deleted pool.
        """
        return bool(rados().rados_pool_lookup(self.cluster.pointer, name) == self.pool_id)

    async def find_place(self, code: int = -errno.ENOENT) -> None:
        """Have a worker thread check that the pool exists, after a call on the event loop failed with `code`."""
        await self.let_look(self, code)

    async def let_look(self, handle: Handle, code: int) -> None:
        """Have a worker thread check that a handle's place exists, if a missing place may cause the error `code`."""
        if code in _DOUBTFUL:
            with suppress(Error):  # the handle remembers the finding
                await self.run("rados_pool_reverse_lookup", lambda: handle.require_place(""), group=URGENT)

    async def confirm_place(self, handle: Handle, operation: str) -> None:
        """Raise if the pool is gone, after a call that succeeds even without the pool.

        At most once a second, a worker thread checks that the pool exists.
        """
        if time.monotonic() - handle.looked >= _OFTEN:
            handle.looked = time.monotonic()
            await self.let_look(handle, -errno.ENOENT)
        handle.require_place(operation)

    def require_namespace(self, operation: str = "rbd_namespace_exists") -> None:
        """Raise if the namespace does not exist. Runs on a worker thread.

        A client that may not ask for namespaces gets no error.
        """
        exists = ffi.new("bool *")
        name = os.fsencode(self.namespace)
        if self.namespace and rbd().rbd_namespace_exists(self.pointer, name, exists) >= 0 and not exists[0]:
            pool = self.name.removesuffix(f"/{self.namespace}")
            target = f"namespace {self.namespace!r} of pool {pool!r}"
            raise NamespaceNotFound(errno.ENOENT, "no such namespace", operation, target)

    def require_all(self) -> None:
        """Raise if the pool or the namespace does not exist. Runs on a worker thread."""
        self.require_place("rados_pool_reverse_lookup")
        self.require_namespace()

    def explain(self, code: int, operation: str, why: Why | None) -> None:
        """Like `Handle.explain`, but ENOENT may also come from a missing namespace."""
        if code == -errno.ENOENT:
            self.require_place(operation)
            self.require_namespace(operation)
        super().explain(code, operation, why)

    # -- images and snapshots in the cluster now -----------------------------------------------

    def id_of(self, name: bytes, elsewhere: Any = None) -> str | None:
        """Return the id of the image that has a name now. Runs on a worker thread.

        The result is None if no image has the name, or if the image has format 1. `elsewhere` is the
        ``rados_ioctx_t`` of another pool, which contains the image.
        """
        found = self._ask(b"rbd_id." + name, b"get_id", b"", elsewhere)
        return None if found is None else found[4:].decode()  # after the length, in 32 bits

    def require_image(self, name: bytes, image_id: str | None, operation: str) -> None:
        """Raise if a name now belongs to another image than the image with this id. Runs on a worker thread."""
        if image_id is not None and self.id_of(name) != image_id:
            message = f"the name is not that of the image of id {image_id!r} any more"
            raise ImageNotFound(errno.ENOENT, message, operation, str(self.image(os.fsdecode(name))))

    def migration_of(self, name: bytes) -> str | None:
        """Return the name of the new image, if an image with this name is in a migration. Runs on a worker thread."""
        status = ffi.new("rbd_image_migration_status_t *")
        if rbd().rbd_migration_status(self.pointer, name, status, ffi.sizeof("rbd_image_migration_status_t")) < 0:
            return None
        try:
            return decode(status.dest_image_name)
        finally:
            rbd().rbd_migration_status_cleanup(status)

    def image_exists(self, image_id: str) -> bool:
        """Return whether an image of format 2 exists, under any name. Runs on a worker thread."""
        return self._ask(b"rbd_header." + image_id.encode(), b"get_object_prefix", b"") is not None

    def snapshots_and_flags(self, image_id: str) -> tuple[int, int]:
        """Return the id of the newest snapshot ever, and the flags, as the cluster stores them now.

        Runs on a worker thread.
        """
        header = b"rbd_header." + image_id.encode()
        snapshots = self._ask(header, b"get_snapcontext", b"")
        flags = self._ask(header, b"get_flags", struct.pack("<Q", _CURRENT))
        return _first_number(snapshots), _first_number(flags)

    def snapshot_now(self, image_id: str, snapshot_id: int) -> "SnapshotNow | None":
        """Return the stored state of a snapshot; None if the snapshot is gone. Runs on a worker thread."""
        found = self._ask(b"rbd_header." + image_id.encode(), b"snapshot_get", struct.pack("<Q", snapshot_id))
        if found is None:
            return None
        # An encoded structure: version and length, id, encoded kind, name, size, time.
        at = 14 + 6 + struct.unpack_from("<I", found, 16)[0]
        length = struct.unpack_from("<I", found, at)[0]
        name = os.fsdecode(found[at + 4 : at + 4 + length])
        return SnapshotNow(name, *struct.unpack_from("<QII", found, at + 4 + length))

    def _ask(self, key: bytes, method: bytes, data: bytes, elsewhere: Any = None) -> bytes | None:
        """Call a method of the OSDs' class ``rbd``, and return the answer.

        The answer is None if the object does not exist, or if the object has no such entry.
        """
        function, out, length, result = "rados_read_op_operate", *_out()
        operation = rados().rados_create_read_op()
        try:
            rados().rados_read_op_exec(operation, b"rbd", method, data, len(data), out, length, result)
            code = rados().rados_read_op_operate(operation, elsewhere or self.pointer, key, 0)
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
        """Open an image for reading only, for a question. Runs on a worker thread.

        Yields C's return value and the image.
        """
        image = ffi.new("rbd_image_t *")
        code = getattr(rbd(), function)(self.pointer, name, image, ffi.NULL)
        try:
            yield code, image[0]
        finally:
            if code >= 0:
                rbd().rbd_close(image[0])

    # -- closing -------------------------------------------------------------------------------

    def shut(self) -> None:
        """Destroy the I/O contexts. librados only drops references."""
        for pointer in (self.pointer, self.idle):
            if pointer:
                rados().rados_ioctx_destroy(pointer)
        self.closed()
