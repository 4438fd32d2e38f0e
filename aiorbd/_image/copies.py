"""Clone, copy, flatten and sparsify an open image, and list its parent and clones."""

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Unpack

from aiorbd._core.listing import Listing
from aiorbd._core.long_call import LongCall
from aiorbd._core.pool import Pool
from aiorbd._core.pool_handle import PoolHandle
from aiorbd._core.progress import Progress
from aiorbd._core.resource import Resource
from aiorbd._image.gate import COPY_TARGET
from aiorbd._image.handle import ImageHandle
from aiorbd._image.new_image import clone_snapshot, explain_new, keep_data_pool
from aiorbd._image.presence import confirm_there, require_same_image
from aiorbd._image.snapshot_ids import require_users
from aiorbd._image.snapshots import Snapshot, id_of, name_of, require_name
from aiorbd._native.capabilities import capabilities
from aiorbd._native.image_options import ImageKeywords, ImageOptions, merged
from aiorbd._native.loader import ffi, rbd
from aiorbd._native.marshal import decode, encode_new_name, handle_of, number
from aiorbd.enums import SnapshotNamespaceType
from aiorbd.error_codes import error_for
from aiorbd.models import LinkedImage, Parent

if TYPE_CHECKING:
    from aiorbd._image.image import Image
    from aiorbd._native.c_functions import CFunction


class _CopyInto(LongCall):
    """A copy of an image to a new image."""

    handle: ImageHandle

    def __init__(
        self,
        handle: ImageHandle,
        function: "CFunction",
        other: PoolHandle,
        name: str,
        options: ImageOptions,
        after: tuple[int, ...],
    ) -> None:
        encoded, self._on = encode_new_name(name, "image name", function), other.image(name)
        super().__init__(
            handle, function, other.pointer, encoded, options._pointer, on=self._on, also=[other], after=after
        )
        self._other = other
        self._options = options

    def prepare(self) -> None:
        """Have librbd read a changed header, and put the data pool into the options.

        librbd itself does not keep the data pool of the image.
        """
        self.handle.image_size.require_fresh()
        keep_data_pool(self.handle.ioctx, self.handle.layout.data_pool_id, self._other, self._options)

    def explain(self, code: int) -> None:
        """Tell which place, snapshot or option is missing."""
        self._other.explain(code, self.function, None)
        self.handle.image_size.require_view()
        explain_new(self._other, self._options, code, self.function, self._on)


class _CopyTo(LongCall):
    """A copy of an image to another open image. `leave` releases the gate of the other image."""

    handle: ImageHandle

    def __init__(self, handle: ImageHandle, other: ImageHandle, leave: Callable[[], None] | None) -> None:
        super().__init__(handle, "rbd_copy_with_progress2", other.pointer, on=other.target, also=[other])
        self._other = other
        self._leave = leave

    def begin(self) -> None:
        """Note a write, so that leaving ``async with`` flushes the other image."""
        self._other.lib.aiorbd_image_add_write(self._other.native)

    def prepare(self) -> None:
        """Have librbd read a changed header."""
        self.handle.image_size.require_fresh()

    def ended(self) -> None:
        """Let other calls of the other image begin."""
        if self._leave is not None:
            self._leave()


class _Flatten(LongCall):
    """The detachment of a clone from its parent."""

    def explain(self, code: int) -> None:
        """Tell if the image has no parent."""
        if code != -errno.EINVAL:
            return
        image, snapshot = ffi.new("rbd_linked_image_spec_t *"), ffi.new("rbd_snap_spec_t *")
        found = rbd().rbd_get_parent(self.handle.pointer, image, snapshot)
        if found >= 0:
            rbd().rbd_linked_image_spec_cleanup(image)
            rbd().rbd_snap_spec_cleanup(snapshot)
        elif found == -errno.ENOENT:
            raise error_for(code, self.function, self.handle.target, "the image has no parent")


class ImageCopies(Resource[ImageHandle]):
    """Copies, clones, parents and children of an open image. Part of `Image`."""

    async def clone(
        self,
        snapshot: str | Snapshot,
        ioctx: Pool,
        name: str,
        options: ImageOptions | None = None,
        **keywords: Unpack[ImageKeywords],
    ) -> None:
        """Clone a snapshot of this image. If the call is cancelled, the outcome is unknown.

        Args:
            snapshot: The snapshot. It must be protected unless `clone_format` is 2.
            ioctx: The pool and namespace in which to create the clone. Any pool and namespace of the same cluster will
                do.
            name: The name of the clone.
            options: Options of the clone.
            **keywords: More options: see `ImageKeywords`.

        Raises:
            SnapshotNotFound: The snapshot does not exist.
            ImageNotFound: The image is in the trash, or its name now belongs to another image. librbd clones by name.
            ImageExists: An image `name` already exists.
            InvalidArgument: The snapshot is not protected, or an option is not acceptable.
            OperationNotSupported: The snapshot is not a user's snapshot, and librbd is older than 19.2.

        Implements: rbd_clone3, rbd_clone4
        """
        child = handle_of(ioctx, PoolHandle, "ioctx")
        handle, wanted = self._handle, merged(options, keywords, "clone")
        if isinstance(snapshot, Snapshot):
            require_same_image(handle, snapshot._handle, "rbd_clone3", handle.target)
            if snapshot.namespace_type is SnapshotNamespaceType.USER:
                await require_name(snapshot)
            elif "rbd_clone4" not in capabilities():
                require_users(snapshot.namespace_type, "rbd_clone3", handle.target)
        name_now = await handle.get_string("rbd_get_name", size_type="size_t *")
        await clone_snapshot(
            handle.ioctx,
            name_now,
            name_of(snapshot),
            child,
            name,
            wanted,
            image_id=handle.image_id,
            snapshot_id=id_of(snapshot),
        )

    async def copy(
        self,
        ioctx: Pool,
        name: str,
        options: ImageOptions | None = None,
        *,
        sparse_size: int = 0,
        progress: Progress | None = None,
        **keywords: Unpack[ImageKeywords],
    ) -> None:
        """Copy the data of this image to a new image, without its snapshots.

        The source is the data that reads of this image return: the current data, or the data of the snapshot that the
        image is read at.

        librbd cannot be stopped: a cancelled copy continues in librbd.

        Args:
            ioctx: The pool and namespace in which to create the copy.
            name: The name of the copy.
            options: Options of the copy. An option that is not given keeps its value from this image. In another
                cluster, the data goes to the pool of the copy unless `data_pool` names another pool.
            sparse_size: Zeroes of at least this many bytes become holes. 0 selects librbd's own value.
            progress: Called on the event loop as ``progress(done, total)``.
            **keywords: More options: see `ImageKeywords`.

        Raises:
            SnapshotNotFound, ImageNotFound: The snapshot or image that is read no longer exists. A copy may exist:
                do not use the copy.
            NamespaceNotFound: The namespace of `ioctx` does not exist.
            PoolNotFound: The data pool or journal pool does not exist.
            ImageExists: An image `name` already exists.
            InvalidArgument: The name or an option is not acceptable.

        Implements: rbd_copy_with_progress4
        """
        function: Final = "rbd_copy_with_progress4"
        sparse_size = number(sparse_size, "sparse size", function, self._handle.target)
        wanted = merged(options, keywords, "copy")
        await self._copy_into(function, ioctx, name, wanted, progress, after=(sparse_size,))

    async def copy_to(self, image: "Image", *, progress: Progress | None = None) -> None:
        """Copy the data of this image to another open image, which must be at least as large.

        The source is the data that reads of this image return: the current data, or the data of the snapshot that the
        image is read at.

        librbd skips ranges that are zeroes in this image. The other image keeps its data in these ranges and beyond
        the end of this image. So copy to a new image, or to an image that was filled with zeroes before.

        librbd cannot be stopped: a cancelled copy continues in librbd.

        Raises:
            SnapshotNotFound, ImageNotFound: The snapshot or image that is read no longer exists. The copied data may
                not be the data of that snapshot or image.
            InvalidArgument: The other image is smaller.
            ReadOnlyImage: The other image is open for reading only.

        Implements: rbd_copy_with_progress2
        """
        other = handle_of(image, ImageHandle, "image")
        other.check()
        leave = await other.pass_gate(COPY_TARGET)  # the other image must not shrink during the copy
        await _CopyTo(self._handle, other, leave).run(progress)
        await confirm_there(self._handle, "rbd_copy_with_progress2")

    async def deep_copy(
        self,
        ioctx: Pool,
        name: str,
        options: ImageOptions | None = None,
        *,
        progress: Progress | None = None,
        **keywords: Unpack[ImageKeywords],
    ) -> None:
        """Copy the image and its snapshots to a new image.

        librbd cannot be stopped: a cancelled copy continues in librbd.

        Args:
            ioctx: The pool and namespace in which to create the copy.
            name: The name of the copy.
            options: Options of the copy. An option that is not given keeps its value from this image. In another
                cluster, the data goes to the pool of the copy unless `data_pool` names another pool.
            progress: Called on the event loop as ``progress(done, total)``.
            **keywords: More options: see `ImageKeywords`. The option `flatten` makes a copy without a parent.

        Raises:
            SnapshotNotFound, ImageNotFound: The snapshot or image that is read no longer exists. A copy may exist:
                do not use the copy.
            NamespaceNotFound: The namespace of `ioctx` does not exist.
            PoolNotFound: The data pool or journal pool does not exist.
            ImageExists: An image `name` already exists.
            InvalidArgument: The name or an option is not acceptable.

        Implements: rbd_deep_copy_with_progress
        """
        wanted = merged(options, keywords, "deep_copy")
        await self._copy_into("rbd_deep_copy_with_progress", ioctx, name, wanted, progress)

    async def _copy_into(
        self,
        function: "CFunction",
        ioctx: Pool,
        name: str,
        wanted: ImageOptions,
        progress: Progress | None,
        after: tuple[int, ...] = (),
    ) -> None:
        """Call a librbd function that copies this image to a new image."""
        other = handle_of(ioctx, PoolHandle, "ioctx")
        other.check()
        await _CopyInto(self._handle, function, other, name, wanted, after).run(progress)
        await confirm_there(self._handle, function)

    async def flatten(self, *, progress: Progress | None = None) -> None:
        """Copy the parent's data to this clone, and detach the clone from its parent.

        If the call is cancelled, librbd is asked to stop. Another call continues the work.

        Args:
            progress: Called on the event loop as ``progress(done, total)``. If `progress` raises, librbd is asked to
                stop, and this call raises the error. If the work is already done, the error is logged instead.

        Raises:
            InvalidArgument: The image has no parent.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_flatten_with_progress
        """
        await _Flatten(self._handle, "rbd_flatten_with_progress").run(progress)

    async def sparsify(self, sparse_size: int, *, progress: Progress | None = None) -> None:
        """Free the space of zeroes.

        If the call is cancelled, librbd is asked to stop. No data is lost.

        Args:
            sparse_size: The smallest number of consecutive zero bytes to free. It must be a power of two from 4096 to
                the object size.
            progress: Called on the event loop as ``progress(done, total)``.

        Raises:
            InvalidArgument: `sparse_size` is not a power of two, or is out of range.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_sparsify_with_progress
        """
        sparse_size = number(sparse_size, "sparse size", "rbd_sparsify_with_progress", self._handle.target)
        await LongCall(self._handle, "rbd_sparsify_with_progress", sparse_size).run(progress)

    async def rebuild_object_map(self, *, progress: Progress | None = None) -> None:
        """Examine all objects and rebuild the object map.

        If the call is cancelled, librbd is asked to stop.

        Raises:
            InvalidArgument: The image does not have the feature ``OBJECT_MAP``.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_rebuild_object_map
        """
        await LongCall(self._handle, "rbd_rebuild_object_map").run(progress)

    async def parent(self) -> Parent | None:
        """Return the parent of a clone. Return None if the image is not a clone, or no longer a clone.

        Implements: rbd_get_parent
        """
        handle = self._handle
        on = handle.about("other", "parent")

        def call() -> Parent | None:
            image, snapshot = ffi.new("rbd_linked_image_spec_t *"), ffi.new("rbd_snap_spec_t *")
            code = rbd().rbd_get_parent(handle.pointer, image, snapshot)
            if code == -errno.ENOENT:
                return None
            handle.raise_for(code, "rbd_get_parent", on)
            try:
                kind = SnapshotNamespaceType(snapshot.namespace_type)
                return Parent(_linked(image), snapshot.id, decode(snapshot.name), kind)
            finally:
                rbd().rbd_linked_image_spec_cleanup(image)
                rbd().rbd_snap_spec_cleanup(snapshot)

        return await handle.run("rbd_get_parent", call)

    async def overlap(self) -> int:
        """Return how many bytes, from offset 0, a clone may still take from its parent. Return 0 without a parent.

        Implements: rbd_get_overlap
        """
        overlap: int = await self._handle.get("rbd_get_overlap", "uint64_t *")
        return overlap

    def children(self) -> Listing[LinkedImage]:
        """Iterate over the clones of all snapshots, or of the one snapshot that the image is read at.

        Implements: rbd_list_children3
        """
        return _linked_images(self._handle, "rbd_list_children3")

    def descendants(self) -> Listing[LinkedImage]:
        """Iterate over the clones of the image, the clones of these clones, and so on.

        Implements: rbd_list_descendants
        """
        return _linked_images(self._handle, "rbd_list_descendants")


def _linked_images(handle: ImageHandle, function: "CFunction") -> Listing[LinkedImage]:
    return handle.listing(function, "rbd_linked_image_spec_t", "rbd_linked_image_spec_list_cleanup", _linked)


def _linked(spec: Any) -> LinkedImage:
    return LinkedImage(
        spec.pool_id,
        decode(spec.pool_name),
        decode(spec.pool_namespace),
        decode(spec.image_id),
        decode(spec.image_name),
        bool(spec.trash),
    )
