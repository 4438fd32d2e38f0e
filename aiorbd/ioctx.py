"""A pool, or a namespace of it, and the images there."""

import errno
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar

from aiorbd._handle import Handle
from aiorbd._marshal import decode, encode_name, encode_new_name, grow, grow_string, invalid
from aiorbd._native import ffi, rados, rbd
from aiorbd._resource import Opening, Resource
from aiorbd.enums import Feature, ImageOption, MirrorImageMode
from aiorbd.errors import PoolNotFound, Subject
from aiorbd.image import Image, open_image
from aiorbd.models import ImageSpec
from aiorbd.options import image_options


class IoCtxHandle(Handle):
    """A ``rados_ioctx_t``."""

    subject: ClassVar[Subject] = "pool"

    #: ``pool`` or ``pool/namespace``, for the names of images in errors.
    name: str = ""

    def shut(self) -> None:
        """Destroy it: librados only drops a reference."""
        if self.pointer is not None:
            rados().rados_ioctx_destroy(self.pointer)
        self.closed()


async def open_ioctx(cluster: Any, close_timeout: float, pool: str | int, namespace: str) -> "IoCtx":
    """Open an I/O context: see `Cluster.open_ioctx`."""
    encoded = encode_name(namespace, "namespace", "rados_ioctx_set_namespace") if namespace else b""
    if isinstance(pool, int) and not 0 <= pool < 1 << 63:
        raise invalid(f"pool id {pool} is out of range", "rados_ioctx_create2", f"pool {pool}")
    name = encode_name(pool, "pool name", "rados_ioctx_create") if isinstance(pool, str) else b""
    handle = IoCtxHandle(cluster.bridge, cluster, f"pool {pool!r}")

    def call() -> str:
        pointer = ffi.new("rados_ioctx_t *")
        if isinstance(pool, str):
            handle.raise_for(rados().rados_ioctx_create(cluster.pointer, name, pointer), "rados_ioctx_create")
        else:
            handle.raise_for(rados().rados_ioctx_create2(cluster.pointer, pool, pointer), "rados_ioctx_create2")
        handle.take(pointer[0])
        rados().rados_ioctx_set_namespace(handle.pointer, encoded)

        return grow_string(
            lambda buffer, size: rados().rados_ioctx_get_pool_name(handle.pointer, buffer, size),
            lambda code: handle.raise_for(code, "rados_ioctx_get_pool_name"),
        )

    try:
        pool_name = await handle.run(call)
    except BaseException:
        handle.begin_close()
        raise
    handle.name = f"{pool_name}/{namespace}" if namespace else pool_name
    handle.target = f"pool {pool_name!r}" + (f" namespace {namespace!r}" if namespace else "")
    return IoCtx(handle, pool_name, namespace, close_timeout)


class IoCtx(Resource):
    """An I/O context, made by `Cluster.open_ioctx`: where images are listed, made and opened.

    Use it as an async context manager, or call `close`.
    """

    _handle: IoCtxHandle

    def __init__(self, handle: IoCtxHandle, pool: str, namespace: str, close_timeout: float) -> None:
        """Private: use `Cluster.open_ioctx`."""
        super().__init__(handle, close_timeout)
        self._pool = pool
        self._namespace = namespace

    @property
    def pool(self) -> str:
        """The pool's name when it was opened."""
        return self._pool

    @property
    def namespace(self) -> str:
        """The namespace; empty for the default one."""
        return self._namespace

    def _image(self, name: str) -> str:
        return f"image {self._handle.name + '/' + name!r}"

    # -- images --------------------------------------------------------------------------------

    async def create_image(
        self,
        name: str,
        size: int,
        *,
        order: int | None = None,
        features: Feature | int | None = None,
        features_set: Feature | int | None = None,
        features_clear: Feature | int | None = None,
        stripe_unit: int | None = None,
        stripe_count: int | None = None,
        data_pool: str | None = None,
        journal_order: int | None = None,
        journal_splay_width: int | None = None,
        journal_pool: str | None = None,
        mirror_image_mode: MirrorImageMode | int | None = None,
        image_format: int | None = None,
    ) -> None:
        """Create an image. What is None is chosen by the cluster. When cancelled, the outcome is unknown.

        Args:
            name: The image's name, without ``@`` and ``/``.
            size: Bytes.
            order: Objects are ``1 << order`` bytes, 12 to 25 (4 KiB to 32 MiB); usually 22.
            features: All features of the image.
            features_set: Features to have beside the cluster's default ones.
            features_clear: Features not to have of the cluster's default ones.
            stripe_unit: Bytes of a stripe unit; needs `stripe_count`.
            stripe_count: Objects that a stripe spans.
            data_pool: The pool that holds the data when it is not this one.
            journal_order: Like `order`, for the journal's objects.
            journal_splay_width: Active objects of the journal.
            journal_pool: The pool that holds the journal.
            mirror_image_mode: Enable mirroring of the new image in this mode.
            image_format: 2; 1 is obsolete.

        Raises:
            ImageExists: There is an image of that name.
            PoolNotFound: There is no such namespace, data pool or journal pool.
            InvalidArgument: The name or an option is not acceptable.
            ArgumentOutOfRange: `order` is out of range.

        Implements: rbd_create4
        """
        handle = self._handle
        handle.check()
        encoded = encode_new_name(name, "image name", "rbd_create4")
        target = self._image(name)
        if not 0 <= size < 1 << 63:
            raise invalid(f"size {size} is out of range", "rbd_create4", target)
        values = {
            ImageOption.ORDER: order,
            ImageOption.FEATURES: features,
            ImageOption.FEATURES_SET: features_set,
            ImageOption.FEATURES_CLEAR: features_clear,
            ImageOption.STRIPE_UNIT: stripe_unit,
            ImageOption.STRIPE_COUNT: stripe_count,
            ImageOption.DATA_POOL: data_pool,
            ImageOption.JOURNAL_ORDER: journal_order,
            ImageOption.JOURNAL_SPLAY_WIDTH: journal_splay_width,
            ImageOption.JOURNAL_POOL: journal_pool,
            ImageOption.MIRROR_IMAGE_MODE: mirror_image_mode,
            ImageOption.FORMAT: image_format,
        }
        for option, value in values.items():
            if isinstance(value, int) and not 0 <= value < 1 << 64:
                raise invalid(f"{option.name.lower()} {value} is out of range", "rbd_create4", target)

        def call() -> None:
            with image_options(values) as options:
                code = rbd().rbd_create4(handle.pointer, encoded, size, options)
            if code == -errno.ENOENT:
                message = "no such namespace, data pool or journal pool"
                raise PoolNotFound(errno.ENOENT, message, "rbd_create4", target)
            handle.raise_for(code, "rbd_create4", subject="image", target=target)

        await handle.run(call)

    async def remove_image(self, name: str, *, progress: Callable[[int, int], object] | None = None) -> None:
        """Remove an image.

        When cancelled, librbd is asked to stop; how much of the image is left is unknown, and calling
        again finishes the work.

        Args:
            name: The image's name.
            progress: Called on the event loop with what is done and what there is to do.

        Raises:
            ImageNotFound: There is no such image.
            ImageHasSnapshots: Its snapshots must go first.
            ImageBusy: It is open somewhere, or a client that had it open died less than 30 s ago.

        Implements: rbd_remove_with_progress
        """
        encoded = encode_name(name, "image name", "rbd_remove_with_progress")
        await self._handle.call_with_progress(
            "rbd_remove_with_progress", encoded, progress=progress, subject="image", target=self._image(name)
        )

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
        target = f"{self._image(name)}, new name {new_name!r}"
        await self._handle.call("rbd_rename", source, destination, subject="image", target=target)

    async def list_images(self) -> list[str]:
        """Return the names of all images.

        Implements: rbd_list2
        """
        return [spec.name async for spec in self.images()]

    async def images(self) -> AsyncIterator[ImageSpec]:
        """Iterate over the ids and names of all images.

        Implements: rbd_list2
        """
        handle = self._handle

        def read(size: int) -> tuple[int, list[ImageSpec]]:
            specs, count = ffi.new("rbd_image_spec_t[]", size), ffi.new("size_t *", size)
            code = rbd().rbd_list2(handle.pointer, specs, count)
            if code == -errno.ERANGE:
                return code, []
            handle.raise_for(code, "rbd_list2")
            try:
                return code, [ImageSpec(decode(spec.id), decode(spec.name)) for spec in specs[0 : count[0]]]
            finally:
                rbd().rbd_image_spec_list_cleanup(specs, count[0])

        for spec in await handle.run(lambda: grow(read, 256)):
            yield spec

    def open_image(
        self,
        name: str | None = None,
        *,
        image_id: str | None = None,
        snapshot: str | None = None,
        read_only: bool = False,
    ) -> Opening[Image]:
        """Open an image, by name or by id. Await the result, or use it with ``async with``.

        Args:
            name: The image's name.
            image_id: Its id, instead of its name.
            snapshot: Open it as it was then; implies reading only.
            read_only: Take no lock and refuse writes.

        Raises:
            ImageNotFound: There is no such image.
            SnapshotNotFound: It has no such snapshot.

        Implements: rbd_aio_open, rbd_aio_open_by_id, rbd_aio_open_read_only, rbd_aio_open_by_id_read_only
        """
        return Opening(
            lambda: open_image(self._handle, self._close_timeout, name, image_id, snapshot, read_only=read_only)
        )
