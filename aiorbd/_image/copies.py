"""Clones and copies of an open image, and what makes it independent or smaller."""

import errno
from typing import TYPE_CHECKING, Any, Unpack

from aiorbd._core.listing import Listing
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
from aiorbd.errors import Target, error_for
from aiorbd.models import LinkedImage, Parent

if TYPE_CHECKING:
    from aiorbd._image.image import Image


class ImageCopies(Resource[ImageHandle]):
    """Copies, clones, parents and children of an open image: part of `Image`."""

    _name: str

    async def clone(
        self,
        snapshot: str | Snapshot,
        ioctx: Pool,
        name: str,
        options: ImageOptions | None = None,
        **keywords: Unpack[ImageKeywords],
    ) -> None:
        """Make a clone of one of this image's snapshots. When cancelled, the outcome is unknown.

        Args:
            snapshot: The snapshot; it must be protected, unless `clone_format` is 2.
            ioctx: Where the clone is made: any pool and namespace of the same cluster.
            name: The clone's name.
            options: Options of the clone.
            **keywords: Options too: see `ImageKeywords`.

        Raises:
            SnapshotNotFound: There is no such snapshot.
            ImageNotFound: The image is in the trash, or its name is another image's by now: librbd clones by name.
            ImageExists: There is an image `name`.
            InvalidArgument: The snapshot is not protected, or an option is not acceptable.
            OperationNotSupported: It is not a user's snapshot, and librbd is older than 19.2.

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
        """Copy what the image is read at into a new image, without its snapshots.

        librbd cannot be stopped: when cancelled, the copy goes on.

        Args:
            ioctx: Where the copy is made.
            name: The copy's name.
            options: Options of the copy; what is not given is as it is here. In another cluster the data goes to the
                pool of the copy, unless `data_pool` says otherwise.
            sparse_size: Zeroes of at least this many bytes become holes; 0 for librbd's own choice.
            progress: Called on the event loop with what is done and what there is to do.
            **keywords: Options too: see `ImageKeywords`.

        Raises:
            SnapshotNotFound, ImageNotFound: What is read is gone. A copy may have been made: do not use it.
            NamespaceNotFound: The namespace of `ioctx` is not there.
            PoolNotFound: There is no such data pool or journal pool.
            ImageExists: There is an image `name`.
            InvalidArgument: The name or an option is not acceptable.

        Implements: rbd_copy_with_progress4
        """
        function = "rbd_copy_with_progress4"
        sparse_size = number(sparse_size, "sparse size", function, self._handle.target)
        wanted = merged(options, keywords, "copy")
        await self._copy_into(function, ioctx, name, wanted, progress, after=(sparse_size,))

    async def copy_to(self, image: "Image", *, progress: Progress | None = None) -> None:
        """Copy what this image is read at into another open one, which must be at least as large.

        librbd leaves out what is zeroes here: the other image keeps what it has there, and beyond this one's end.
        So take a new one, or one that was written with zeroes before.

        librbd cannot be stopped: when cancelled, the copy goes on.

        Raises:
            SnapshotNotFound, ImageNotFound: What is read is gone: what was copied may not be its data.
            InvalidArgument: The other image is smaller.
            ReadOnlyImage: The other image is open for reading only.

        Implements: rbd_copy_with_progress2
        """
        other = handle_of(image, ImageHandle, "image")
        other.check()
        leave = await other.pass_gate(COPY_TARGET)  # it must not shrink meanwhile
        begun = False

        def begin() -> None:
            nonlocal begun
            begun = True
            other.lib.aiorbd_image_add_write(other.native)  # for the flush on leaving

        def ended() -> None:
            if leave is not None:
                leave()

        try:
            await self._handle.call_with_progress(
                "rbd_copy_with_progress2",
                other.pointer,
                progress=progress,
                on=other.target,
                also=[other],
                begin=begin,
                ended=ended,
                first=self._handle.image_size.require_fresh,
            )
            await confirm_there(self._handle, "rbd_copy_with_progress2")
        except BaseException:
            if not begun:
                ended()
            raise

    async def deep_copy(
        self,
        ioctx: Pool,
        name: str,
        options: ImageOptions | None = None,
        *,
        progress: Progress | None = None,
        **keywords: Unpack[ImageKeywords],
    ) -> None:
        """Copy the image with its snapshots into a new one. librbd cannot be stopped: when cancelled, it goes on.

        Args:
            ioctx: Where the copy is made.
            name: The copy's name.
            options: Options of the copy; what is not given is as it is here. In another cluster the data goes to the
                pool of the copy, unless `data_pool` says otherwise.
            progress: Called on the event loop with what is done and what there is to do.
            **keywords: Options too: see `ImageKeywords`; `flatten` leaves the copy without a parent.

        Raises:
            SnapshotNotFound, ImageNotFound: What is read is gone. A copy may have been made: do not use it.
            NamespaceNotFound: The namespace of `ioctx` is not there.
            PoolNotFound: There is no such data pool or journal pool.
            ImageExists: There is an image `name`.
            InvalidArgument: The name or an option is not acceptable.

        Implements: rbd_deep_copy_with_progress
        """
        wanted = merged(options, keywords, "deep_copy")
        await self._copy_into("rbd_deep_copy_with_progress", ioctx, name, wanted, progress)

    async def _copy_into(
        self,
        function: str,
        ioctx: Pool,
        name: str,
        wanted: ImageOptions,
        progress: Progress | None,
        after: tuple[int, ...] = (),
    ) -> None:
        """Call one of librbd's functions that make a new image of this one."""
        other = handle_of(ioctx, PoolHandle, "ioctx")
        other.check()
        encoded, on = encode_new_name(name, "image name", function), other.image(name)
        await self._handle.call_with_progress(
            function,
            other.pointer,
            encoded,
            wanted._pointer,
            progress=progress,
            on=on,
            after=after,
            also=[other],
            first=lambda: self._prepare_copy(other, wanted),
            why=lambda code: self._explain_copy(other, wanted, code, function, on),
        )
        await confirm_there(self._handle, function)

    def _prepare_copy(self, other: PoolHandle, options: ImageOptions) -> None:
        """On a worker thread: see to it that librbd knows the image as it is, and the copy gets what it forgets."""
        handle = self._handle
        handle.image_size.require_fresh()
        keep_data_pool(handle.ioctx, handle.layout.data_pool_id, other, options)

    def _explain_copy(self, other: PoolHandle, options: ImageOptions, code: int, function: str, on: Target) -> None:
        """On a worker thread: raise if it is known why a copy could not be made."""
        other.explain(code, function, None)
        self._handle.image_size.require_view()
        explain_new(other, options, code, function, on)

    async def flatten(self, *, progress: Progress | None = None) -> None:
        """Copy what a clone has of its parent, and part it from there.

        When cancelled, librbd is asked to stop; calling again goes on with the work.

        Args:
            progress: Called on the event loop with what is done and what there is to do. If it raises, librbd is asked
                to stop, and the error is raised here; if the work was done by then, the error is logged instead.

        Raises:
            InvalidArgument: The image has no parent.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_flatten_with_progress
        """
        function, handle = "rbd_flatten_with_progress", self._handle

        def why(code: int) -> None:
            image, snapshot = ffi.new("rbd_linked_image_spec_t *"), ffi.new("rbd_snap_spec_t *")
            if code != -errno.EINVAL:
                return
            found = rbd().rbd_get_parent(handle.pointer, image, snapshot)
            if found >= 0:
                rbd().rbd_linked_image_spec_cleanup(image)
                rbd().rbd_snap_spec_cleanup(snapshot)
            elif found == -errno.ENOENT:
                raise error_for(code, function, handle.target, "the image has no parent")

        await handle.call_with_progress(function, progress=progress, why=why)

    async def sparsify(self, sparse_size: int, *, progress: Progress | None = None) -> None:
        """Give up the space of zeroes. When cancelled, librbd is asked to stop; nothing is lost.

        Args:
            sparse_size: How many zeroes in a row are worth it: a power of two, 4096 to the object's size.
            progress: Called on the event loop with what is done and what there is to do.

        Raises:
            InvalidArgument: `sparse_size` is no such number.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_sparsify_with_progress
        """
        sparse_size = number(sparse_size, "sparse size", "rbd_sparsify_with_progress", self._handle.target)
        await self._handle.call_with_progress("rbd_sparsify_with_progress", sparse_size, progress=progress)

    async def rebuild_object_map(self, *, progress: Progress | None = None) -> None:
        """Look at all objects and make the object map anew. When cancelled, librbd is asked to stop.

        Raises:
            InvalidArgument: The image does not have the feature ``OBJECT_MAP``.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_rebuild_object_map
        """
        await self._handle.call_with_progress("rbd_rebuild_object_map", progress=progress)

    async def get_parent(self) -> Parent | None:
        """Return what the image was cloned from; None when it is no clone, or not any more.

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
        """Return how many bytes, from the beginning, a clone may still have of its parent; 0 without one.

        Implements: rbd_get_overlap
        """
        overlap: int = await self._handle.get("rbd_get_overlap", "uint64_t *")
        return overlap

    def children(self) -> Listing[LinkedImage]:
        """Iterate over the clones of what the image is read at: of a snapshot, or of all snapshots.

        Implements: rbd_list_children3
        """
        return _linked_images(self._handle, "rbd_list_children3")

    def descendants(self) -> Listing[LinkedImage]:
        """Iterate over the clones of the image, their clones, and so on.

        Implements: rbd_list_descendants
        """
        return _linked_images(self._handle, "rbd_list_descendants")


def _linked_images(handle: ImageHandle, function: str) -> Listing[LinkedImage]:
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
