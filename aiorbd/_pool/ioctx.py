"""A pool, or a namespace of a pool, and its images."""

from typing import Final, Unpack

from aiorbd._core.handle import Handle
from aiorbd._core.listing import Listing
from aiorbd._core.metadata import Metadata
from aiorbd._core.pool import Pool
from aiorbd._core.pool_handle import PoolHandle
from aiorbd._core.progress import Progress
from aiorbd._core.resource import Default, Opening
from aiorbd._image.image import Image, open_image
from aiorbd._image.new_image import clone_snapshot, explain_new
from aiorbd._image.snapshots import Snapshot
from aiorbd._native.image_options import ImageKeywords, ImageOptions, merged
from aiorbd._native.loader import ffi, rados, rbd
from aiorbd._native.marshal import decode, encode_name, encode_new_name, grow_string, handle_of, number
from aiorbd._pool.namespaces import Namespaces
from aiorbd._pool.objects import Objects
from aiorbd._pool.removal import mark_removing, remove_by_id, remove_by_name
from aiorbd._pool.trash import Trash
from aiorbd.enums import PoolStatOption
from aiorbd.errors import Target
from aiorbd.models import ImageSpec, PoolStats


async def open_ioctx(
    cluster: Handle, close_timeout: float, pool: str | int, namespace: str, *, full_try: bool
) -> "IoCtx":
    """Open an I/O context: see `Cluster.open_ioctx`."""
    encoded = encode_name(namespace, "namespace", "rados_ioctx_set_namespace") if namespace else b""
    if isinstance(pool, int):
        pool = number(pool, "pool id", "rados_ioctx_create2", f"pool {pool}")
    name = encode_name(pool, "pool name", "rados_ioctx_create") if isinstance(pool, str) else b""
    handle = PoolHandle(cluster, Target("pool", f"pool {pool!r}"), namespace)
    if full_try:
        handle.plain = PoolHandle(handle, handle.target, namespace)
        handle.plain.cluster = cluster

    def call() -> str:
        pointer = ffi.new("rados_ioctx_t *")
        if isinstance(pool, str):
            handle.raise_for(rados().rados_ioctx_create(cluster.pointer, name, pointer), "rados_ioctx_create")
        else:
            handle.raise_for(rados().rados_ioctx_create2(cluster.pointer, pool, pointer), "rados_ioctx_create2")
        handle.take(pointer[0])
        handle.pool_id = rados().rados_ioctx_get_id(handle.pointer)
        handle.raise_for(rados().rados_ioctx_create2(cluster.pointer, handle.pool_id, pointer), "rados_ioctx_create2")
        handle.idle = pointer[0]
        rados().rados_ioctx_set_namespace(handle.pointer, encoded)
        if full_try:
            handle.raise_for(
                rados().rados_ioctx_create2(cluster.pointer, handle.pool_id, pointer),
                "rados_ioctx_create2",
            )
            handle.plain.take(pointer[0])
            rados().rados_ioctx_set_namespace(handle.plain.pointer, encoded)
            rados().rados_set_pool_full_try(handle.pointer)
        return grow_string(
            lambda buffer, size: rados().rados_ioctx_get_pool_name(handle.pointer, buffer, size),
            lambda code: handle.raise_for(code, "rados_ioctx_get_pool_name"),
        )

    try:
        pool_name = await handle.run("rados_ioctx_create", call, also=[handle.plain])
    except BaseException:
        handle.begin_close()
        raise
    handle.group = handle.plain.group = handle.plain.pool_id = handle.pool_id
    handle.name = f"{pool_name}/{namespace}" if namespace else pool_name
    handle.target = Target("pool", f"pool {pool_name!r}" + (f" namespace {namespace!r}" if namespace else ""))
    return IoCtx(handle, pool_name, namespace, close_timeout)


class IoCtx(Pool):
    """An open pool, or one namespace of a pool, made by `Cluster.open_ioctx`. Lists, creates and opens images.

    Use the I/O context as an async context manager, or call `close`.
    """

    def __init__(self, handle: PoolHandle, pool: str, namespace: str, close_timeout: float) -> None:
        """Private: use `Cluster.open_ioctx`."""
        super().__init__(handle, close_timeout)
        self._pool = pool
        self._namespace = namespace

    async def close(self, timeout: float | Default | None = Default.CLOSE_TIMEOUT) -> None:
        """Close the I/O context, after the images and watches that were opened from it.

        The close waits at most `timeout` seconds for operations in flight. None waits without a
        limit. After a cancelled or overdue wait, the close continues in the background.

        Raises:
            CloseTimeout: Operations are still in flight after `timeout` seconds.
            RbdError: Ceph reported an error during the close. The I/O context is closed all the same.

        Implements: rados_ioctx_destroy
        """
        await super().close(timeout)

    async def _is_current(self, pool: str, _name: str | None) -> bool:
        """Tell whether the pool name still belongs to the open pool."""
        handle, encoded = self._handle, encode_name(pool, "pool name", "rados_pool_lookup")
        return await handle.run("rados_pool_lookup", lambda: handle.is_pool(encoded))

    @property
    def pool(self) -> str:
        """The name that the pool had when it was opened."""
        return self._pool

    @property
    def namespace(self) -> str:
        """The namespace; empty for the default namespace."""
        return self._namespace

    @property
    def trash(self) -> Trash:
        """The trash of the pool or namespace."""
        return Trash(self._handle)

    @property
    def namespaces(self) -> Namespaces:
        """The pool's namespaces."""
        return Namespaces(self._handle)

    @property
    def metadata(self) -> Metadata:
        """The pool's metadata."""
        return Metadata(self._handle, "rbd_pool_metadata")

    @property
    def objects(self) -> Objects:
        """The RADOS objects of the pool or namespace."""
        return Objects(self._handle, self._close_timeout)

    # -- images --------------------------------------------------------------------------------

    async def create_image(
        self, name: str, size: int, options: ImageOptions | None = None, **keywords: Unpack[ImageKeywords]
    ) -> None:
        """Create an image. If the call is cancelled, the outcome is unknown.

        The cluster chooses the value of each option that is not given.

        Args:
            name: The name of the image, without ``@`` and ``/``.
            size: The size of the image in bytes.
            options: Options of the image.
            **keywords: More options, like ``order=22``: see `ImageKeywords`.

        Raises:
            ImageExists: An image with this name already exists.
            NamespaceNotFound: The namespace of this I/O context does not exist.
            PoolNotFound: The data pool or journal pool does not exist.
            InvalidArgument: The name or an option is not acceptable, or the pool does not mirror its images.
            ArgumentOutOfRange: librbd cannot store the value of an option: see `ImageKeywords`.
            NoSpace, DiskQuotaExceeded: The pool is full, and the I/O context was opened with `full_try`. Without
                `full_try`, the call waits until there is room.

        Implements: rbd_create4
        """
        function: Final = "rbd_create4"
        handle = self._handle
        handle.check()
        encoded, on = encode_new_name(name, "image name", function), handle.image(name)
        size = number(size, "size", function, on)
        wanted = merged(options, keywords, "create_image")
        await handle.call(
            function,
            encoded,
            size,
            wanted._pointer,
            on=on,
            why=lambda code: explain_new(handle, wanted, code, function, on),
        )

    async def clone_image(
        self,
        parent_name: str,
        parent_snapshot: str,
        ioctx: "IoCtx",
        name: str,
        options: ImageOptions | None = None,
        **keywords: Unpack[ImageKeywords],
    ) -> None:
        """Clone a snapshot of an image. If the call is cancelled, the outcome is unknown.

        Args:
            parent_name: The name of the image to clone, in the pool or namespace of this I/O context.
            parent_snapshot: The name of the image's snapshot. The snapshot must be protected, unless `clone_format` is
                2.
            ioctx: The pool or namespace in which to create the clone: this I/O context, or another one of the same
                cluster.
            name: The name of the clone.
            options: Options of the clone.
            **keywords: More options: see `ImageKeywords`.

        Raises:
            ImageNotFound: No image has the name `parent_name`.
            SnapshotNotFound: The image has no snapshot with the name `parent_snapshot`.
            NamespaceNotFound: The namespace of `ioctx` does not exist.
            PoolNotFound: The data pool does not exist.
            ImageExists: An image with the name `name` already exists.
            InvalidArgument: The snapshot is not protected, or an option is not acceptable.

        Implements: rbd_clone3
        """
        wanted = merged(options, keywords, "clone_image")
        child = handle_of(ioctx, PoolHandle, "ioctx")
        await clone_snapshot(self._handle, parent_name, parent_snapshot, child, name, wanted)

    async def remove_image(
        self,
        name: str | None = None,
        *,
        image_id: str | None = None,
        progress: Progress | None = None,
        retry_for: float = 0.0,
    ) -> None:
        """Remove an image, by name or by id.

        If the call is cancelled, or if `progress` raises, librbd is asked to stop. If librbd stops, the image is half
        removed: the name is free for other images, and `images` marks the image as `removing`. A call with the
        `image_id` completes the removal.

        librbd removes an image by name. So this call checks just before the removal that the name belongs to the image.
        A rename in that instant is not noticed.

        Args:
            name: The name of the image.
            image_id: The id of the image, instead of the name.
            progress: Called on the event loop as ``progress(done, total)``. If `progress` raises, this call raises the
                error, unless the image was removed all the same.
            retry_for: Seconds to retry while the image is open somewhere. A dead client keeps its watch for up to 30 s.

        Raises:
            ImageNotFound: The image does not exist.
            ImageHasSnapshots: The image has snapshots. Remove the snapshots first.
            ImageMemberOfGroup: The image is a member of a group. Remove the image from the group first.
            ImageBusy: The image is open somewhere, or a client that had the image open died less than 30 s ago. The
                message names the addresses. If a `SharedConnection` of this connection only keeps the image open for
                later use, the image is closed and does not count as open.
            InvalidArgument: The image with this id is in the trash: see `trash`.

        Implements: rbd_remove_with_progress, rbd_trash_remove_with_progress
        """
        if name is not None and image_id is None:
            await remove_by_name(self._handle, name, progress, retry_for)
        elif name is None and image_id is not None:
            await remove_by_id(self._handle, image_id, progress, retry_for)
        else:
            raise TypeError("remove_image() takes either a name or an image_id")

    async def rename_image(self, name: str, new_name: str) -> None:
        """Rename an image. If the call is cancelled, the outcome is unknown.

        Raises:
            ImageNotFound: No image has the name `name`.
            ImageExists: An image with the name `new_name` already exists.
            InvalidArgument: `new_name` is empty or contains ``@`` or ``/``.

        Implements: rbd_rename
        """
        source = encode_name(name, "image name", "rbd_rename")
        destination = encode_new_name(new_name, "new image name", "rbd_rename")
        on = Target("image", f"{self._handle.image(name)}, new name {new_name!r}")
        await self._handle.call("rbd_rename", source, destination, on=on)

    async def list_images(self) -> list[str]:
        """Return the names of all images, half-removed images included: see `images`.

        Raises:
            PoolNotFound: The pool was deleted in the meantime.
            NamespaceNotFound: The namespace of this I/O context does not exist.

        Implements: rbd_list2
        """
        return [spec.name for spec in await self.images()]

    def images(self) -> Listing[ImageSpec]:
        """List the ids and names of all images: await the result, or iterate over it.

        Half-removed images come last, marked as `removing`.

        Raises:
            PoolNotFound: The pool was deleted in the meantime.
            NamespaceNotFound: The namespace of this I/O context does not exist.

        Implements: rbd_list2, rbd_trash_get
        """
        handle = self._handle
        return handle.listing(
            "rbd_list2",
            "rbd_image_spec_t",
            "rbd_image_spec_list_cleanup",
            lambda item, removing: ImageSpec(decode(item.id), decode(item.name), removing),
            when_empty=handle.require_all,
            examine=lambda items, count: mark_removing(handle, items, count),
        )

    def open_image(
        self,
        name: str | None = None,
        *,
        image_id: str | None = None,
        snapshot: str | Snapshot | None = None,
        read_only: bool = False,
    ) -> Opening[Image]:
        """Open an image, by name or by id. Await the result, or use the result with ``async with``.

        Args:
            name: The name of the image.
            image_id: The id of the image, instead of the name.
            snapshot: Open the image at this snapshot, for reading only.
            read_only: Take no lock and refuse writes. The open image does not notice changes by other clients, for
                example of the image size.

        Raises:
            ImageNotFound: The image does not exist.
            SnapshotNotFound: The image has no such snapshot.
            NamespaceNotFound: The namespace of this I/O context does not exist.

        Implements: rbd_aio_open, rbd_aio_open_by_id, rbd_aio_open_read_only, rbd_aio_open_by_id_read_only
        """
        return Opening(
            lambda: open_image(
                self._handle,
                self._close_timeout,
                name,
                image_id,
                snapshot,
                read_only=read_only,
            )
        )

    # -- the pool ------------------------------------------------------------------------------

    async def init_pool(self, *, force: bool = False) -> None:
        """Prepare a new pool for images. If the call is cancelled, the outcome is unknown.

        Args:
            force: Prepare the pool even if it already has another use.

        Raises:
            PermissionError: The pool has another use.

        Implements: rbd_pool_init
        """
        await self._handle.call("rbd_pool_init", bool(force))

    async def pool_stats(self) -> PoolStats:
        """Return aggregate statistics of the images of the pool or namespace.

        Raises:
            PoolNotFound: The pool was deleted in the meantime.
            NamespaceNotFound: The namespace of this I/O context does not exist.

        Implements: rbd_pool_stats_create, rbd_pool_stats_option_add_uint64, rbd_pool_stats_get,
        rbd_pool_stats_destroy
        """
        handle = self._handle

        def call() -> PoolStats:
            pointer = ffi.new("rbd_pool_stats_t *")
            values = ffi.new("uint64_t[]", len(PoolStatOption))
            rbd().rbd_pool_stats_create(pointer)
            try:
                for option in PoolStatOption:
                    code = rbd().rbd_pool_stats_option_add_uint64(pointer[0], option, values + option)
                    handle.raise_for(code, "rbd_pool_stats_option_add_uint64")
                handle.raise_on_thread(rbd().rbd_pool_stats_get(handle.pointer, pointer[0]), "rbd_pool_stats_get")
            finally:
                rbd().rbd_pool_stats_destroy(pointer[0])
            if not any(values):
                handle.require_all()
            return PoolStats(*values)

        return await handle.run("rbd_pool_stats_get", call)
