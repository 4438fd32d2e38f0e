"""A pool, or a namespace of a pool, and its images."""

from typing import Final, Unpack

from aiorbd._core.config import Config
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
from aiorbd._native.marshal import decode, encode_name, encode_new_name, handle_of, number
from aiorbd._pool.applications import pool_applications
from aiorbd._pool.groups import Groups
from aiorbd._pool.migration import Migration
from aiorbd._pool.mirror import Mirror
from aiorbd._pool.namespaces import Namespaces
from aiorbd._pool.objects import Objects
from aiorbd._pool.opening import open_pool
from aiorbd._pool.removal import mark_removing, remove_by_id, remove_by_name
from aiorbd._pool.trash import Trash
from aiorbd._pool.usage import pool_stats, pool_usage
from aiorbd.errors import Target
from aiorbd.models import ImageSpec, PoolStats
from aiorbd.pool_models import ImageDiskUsage


async def open_ioctx(
    cluster: Handle, close_timeout: float, pool: str | int, namespace: str, *, full_try: bool
) -> "IoCtx":
    """Open an I/O context: see `Cluster.open_ioctx`."""
    handle, pool_name = await open_pool(cluster, pool, namespace, full_try=full_try)
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
    def pool_id(self) -> int:
        """The id of the pool. Ceph does not use the id again after the pool was deleted.

        Implements: rados_ioctx_get_id
        """
        return self._handle.pool_id

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
    def groups(self) -> Groups:
        """The consistency groups of the pool or namespace."""
        return Groups(self._handle)

    @property
    def migration(self) -> Migration:
        """The migrations of images from or to the pool or namespace."""
        return Migration(self._handle)

    @property
    def mirror(self) -> Mirror:
        """The mirroring of the pool or namespace to other sites."""
        return Mirror(self._handle)

    @property
    def config(self) -> Config:
        """The options of librbd that apply to the pool's images."""
        return Config(self._handle, "pool")

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
            ImageBusy: The image is in a migration. Or the image is open somewhere, or a client that had the image open
                died less than 30 s ago: the message names the addresses. If a `SharedConnection` of this connection
                only keeps the image open for later use, the image is closed and does not count as open.
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
            ImageNotFound: The image does not exist. For the source of a migration, the message names the new image.
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

    async def application_enable(self, name: str, *, force: bool = False) -> None:
        """Mark the pool as used by an application, as `init_pool` does with ``rbd``.

        If the call is cancelled, the outcome is unknown.

        Args:
            name: The name of the application, for example ``rbd``.
            force: Add the application even if the pool already has another one.

        Raises:
            PermissionError: The pool already has another application and `force` is false.
            InvalidArgument: The name is not acceptable.

        Implements: rados_application_enable
        """
        encoded = encode_name(name, "application", "rados_application_enable")
        await self._handle.call("rados_application_enable", encoded, bool(force))

    def applications(self) -> Listing[str]:
        """List the applications of the pool: await the result, or iterate over it.

        Implements: rados_application_list
        """
        return pool_applications(self._handle)

    def disk_usage(self, *, exact: bool = False, depth: int = 4) -> Listing[ImageDiskUsage]:
        """List the used bytes of each image: await the result, or iterate over it. See `Image.disk_usage`.

        Images that are removed meanwhile are left out.

        Args:
            exact: Whether to count bytes instead of whole objects.
            depth: The number of images to examine at the same time.

        Raises:
            PoolNotFound: The pool was deleted in the meantime.
            NamespaceNotFound: The namespace of this I/O context does not exist.

        Implements: rbd_list2, rbd_diff_iterate2
        """
        return pool_usage(self._handle, self._close_timeout, self.images(), exact=exact, depth=depth)

    async def pool_stats(self) -> PoolStats:
        """Return aggregate statistics of the images of the pool or namespace.

        Raises:
            PoolNotFound: The pool was deleted in the meantime.
            NamespaceNotFound: The namespace of this I/O context does not exist.

        Implements: rbd_pool_stats_create, rbd_pool_stats_option_add_uint64, rbd_pool_stats_get,
        rbd_pool_stats_destroy
        """
        return await pool_stats(self._handle)
