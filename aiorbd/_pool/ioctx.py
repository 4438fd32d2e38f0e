"""A pool, or a namespace of it, and the images there."""

from typing import Final, Unpack

from aiorbd._core.handle import Handle
from aiorbd._core.listing import Listing
from aiorbd._core.metadata import Metadata
from aiorbd._core.pool import Pool
from aiorbd._core.pool_handle import PoolHandle
from aiorbd._core.progress import Progress
from aiorbd._core.resource import Opening
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
    """An I/O context, made by `Cluster.open_ioctx`: where images are listed, made and opened.

    Use it as an async context manager, or call `close`.
    """

    def __init__(self, handle: PoolHandle, pool: str, namespace: str, close_timeout: float) -> None:
        """Private: use `Cluster.open_ioctx`."""
        super().__init__(handle, close_timeout)
        self._pool = pool
        self._namespace = namespace

    async def close(self, timeout: float | None = None) -> None:
        """Close the I/O context, and the images and watches opened from it; wait for that at most `timeout` seconds.

        Implements: rados_ioctx_destroy
        """
        await super().close(timeout)

    async def _is_current(self, pool: str, _name: str | None) -> bool:
        """Tell whether the pool of that name is the one that is open."""
        handle, encoded = self._handle, encode_name(pool, "pool name", "rados_pool_lookup")
        return await handle.run("rados_pool_lookup", lambda: handle.is_pool(encoded))

    @property
    def pool(self) -> str:
        """The pool's name when it was opened."""
        return self._pool

    @property
    def namespace(self) -> str:
        """The namespace; empty for the default one."""
        return self._namespace

    @property
    def trash(self) -> Trash:
        """Its trash."""
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
        """The RADOS objects here."""
        return Objects(self._handle, self._close_timeout)

    # -- images --------------------------------------------------------------------------------

    async def create_image(
        self, name: str, size: int, options: ImageOptions | None = None, **keywords: Unpack[ImageKeywords]
    ) -> None:
        """Create an image. What is not given is chosen by the cluster. When cancelled, the outcome is unknown.

        Args:
            name: The image's name, without ``@`` and ``/``.
            size: Bytes.
            options: Options of the image.
            **keywords: Options too, like ``order=22``: see `ImageKeywords`.

        Raises:
            ImageExists: There is an image of that name.
            NamespaceNotFound: The namespace of this I/O context is not there.
            PoolNotFound: There is no such data pool or journal pool.
            InvalidArgument: The name or an option is not acceptable, or the pool does not mirror its images.
            ArgumentOutOfRange: librbd cannot keep the value of an option: see `ImageKeywords`.
            NoSpace, DiskQuotaExceeded: The pool is full, and the I/O context was opened with `full_try`. Without
                that the call waits until there is room.

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
        """Make a clone of a snapshot of an image here. When cancelled, the outcome is unknown.

        Args:
            parent_name: The image's name.
            parent_snapshot: Its snapshot; it must be protected, unless `clone_format` is 2.
            ioctx: Where the clone is made: this one, or another pool or namespace of the cluster.
            name: The clone's name.
            options: Options of the clone.
            **keywords: Options too: see `ImageKeywords`.

        Raises:
            ImageNotFound: There is no image `parent_name`.
            SnapshotNotFound: It has no such snapshot.
            NamespaceNotFound: The namespace of `ioctx` is not there.
            PoolNotFound: There is no such data pool.
            ImageExists: There is an image `name`.
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

        When cancelled, or when `progress` raises, librbd is asked to stop. If it does, the image is half removed: its
        name is free for others, `images` marks it as `removing`, and a call with its `image_id` finishes the work.
        librbd removes by name: the name is compared with the image's just before, and a rename in that instant is not
        noticed.

        Args:
            name: The image's name.
            image_id: Its id, instead of its name.
            progress: Called on the event loop with what is done and what there is to do. What it raises is raised
                here, if the image was not removed all the same.
            retry_for: For how many seconds to try again while it is open somewhere. A client that died is
                watching for up to 30 s.

        Raises:
            ImageNotFound: There is no such image.
            ImageHasSnapshots: Its snapshots must go first.
            ImageMemberOfGroup: It must be taken out of its group first.
            ImageBusy: It is open somewhere, or a client that had it open died less than 30 s ago; the message says
                at which addresses. What a `ConnectionPool` of this connection keeps open for later is closed.
            InvalidArgument: The image of that id is in the trash: see `trash`.

        Implements: rbd_remove_with_progress, rbd_trash_remove_with_progress
        """
        if name is not None and image_id is None:
            await remove_by_name(self._handle, name, progress, retry_for)
        elif name is None and image_id is not None:
            await remove_by_id(self._handle, image_id, progress, retry_for)
        else:
            raise TypeError("remove_image() takes either a name or an image_id")

    async def rename_image(self, name: str, new_name: str) -> None:
        """Rename an image. When cancelled, the outcome is unknown.

        Raises:
            ImageNotFound: There is no image `name`.
            ImageExists: There is an image `new_name`.
            InvalidArgument: `new_name` is empty or holds ``@`` or ``/``.

        Implements: rbd_rename
        """
        source = encode_name(name, "image name", "rbd_rename")
        destination = encode_new_name(new_name, "new image name", "rbd_rename")
        on = Target("image", f"{self._handle.image(name)}, new name {new_name!r}")
        await self._handle.call("rbd_rename", source, destination, on=on)

    async def list_images(self) -> list[str]:
        """Return the names of all images, also of those that are half removed: see `images`.

        Raises:
            PoolNotFound: The pool was deleted meanwhile.
            NamespaceNotFound: The namespace of this I/O context is not there.

        Implements: rbd_list2
        """
        return [spec.name async for spec in self.images()]

    def images(self) -> Listing[ImageSpec]:
        """Iterate over the ids and names of all images. Those that are half removed come last, marked as `removing`.

        Raises:
            PoolNotFound: The pool was deleted meanwhile.
            NamespaceNotFound: The namespace of this I/O context is not there.

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
        """Open an image, by name or by id. Await the result, or use it with ``async with``.

        Args:
            name: The image's name.
            image_id: Its id, instead of its name.
            snapshot: Open it as it was then; implies reading only.
            read_only: Take no lock and refuse writes. Such an image does not hear of changes by others, of its size for
                example.

        Raises:
            ImageNotFound: There is no such image.
            SnapshotNotFound: It has no such snapshot.
            NamespaceNotFound: The namespace of this I/O context is not there.

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

    async def pool_init(self, force: bool = False) -> None:
        """Prepare a new pool for images. When cancelled, the outcome is unknown.

        Args:
            force: Although it is used for something else already.

        Raises:
            PermissionError: It is used for something else.

        Implements: rbd_pool_init
        """
        await self._handle.call("rbd_pool_init", bool(force))

    async def pool_stats_get(self) -> PoolStats:
        """Return what the images of the pool, or of its namespace, come to.

        Raises:
            PoolNotFound: The pool was deleted meanwhile.
            NamespaceNotFound: The namespace of this I/O context is not there.

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
