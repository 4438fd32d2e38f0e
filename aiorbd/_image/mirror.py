"""The mirroring of an open image."""

import errno
from typing import Final

from aiorbd._core.resource import Topic
from aiorbd._image.aio_calls import call_aio
from aiorbd._image.handle import ImageHandle
from aiorbd._image.mirror_values import image_info, image_status
from aiorbd._native.loader import ffi, rbd
from aiorbd._native.marshal import number
from aiorbd.enums import MirrorImageMode, MirrorImageState, SnapshotCreateFlag
from aiorbd.errors import InvalidArgument, ReadOnlyImage
from aiorbd.mirror_models import MirrorImageInfo, MirrorImageStatus


class ImageMirror(Topic[ImageHandle]):
    """The mirroring of an open image: `Image.mirror`.

    The image's pool must have mirroring enabled: see `Mirror.set_mode`. A primary image can be written to. A copy on
    another site cannot be written to until it is promoted.
    """

    async def enable(self, mode: MirrorImageMode = MirrorImageMode.SNAPSHOT) -> None:
        """Mirror the image. If the call is cancelled, the outcome is unknown.

        Args:
            mode: Whether a journal or snapshots carry the changes. ``JOURNAL`` also switches the feature ``JOURNALING``
                on.

        Raises:
            InvalidArgument: The pool does not mirror single images, the image is mirrored in the other mode, or its
                parent is not mirrored.
            ReadOnlyImage: The image is open for reading only, or at a snapshot.

        Implements: rbd_mirror_image_enable2
        """
        wanted = number(mode, "mode", "rbd_mirror_image_enable2", self._handle.target, bits=31)
        self._require_writable("rbd_mirror_image_enable2")
        await self._handle.call("rbd_mirror_image_enable2", wanted)

    async def disable(self, *, force: bool = False) -> None:
        """End the mirroring of the image. Mirror daemons remove the copies on other sites.

        If the call is cancelled, the outcome is unknown.

        Args:
            force: Whether to end the mirroring of an image that is not primary.

        Raises:
            InvalidArgument: The image is not primary and `force` is false, or the pool mirrors all images.
            ReadOnlyImage: The image is open for reading only, or at a snapshot.

        Implements: rbd_mirror_image_disable
        """
        self._require_writable("rbd_mirror_image_disable")
        await self._handle.call("rbd_mirror_image_disable", bool(force))

    async def promote(self, *, force: bool = False) -> None:
        """Make this copy primary, so that clients may write to it. If the call is cancelled, the outcome is unknown.

        Args:
            force: Whether to promote a copy while another site has the primary image, for example because that site is
                lost. Afterwards both sites are primary, which is called split brain. After the other site has
                returned, demote the image there, and call `resync` there.

        Raises:
            ImageBusy: The image is primary elsewhere and `force` is false.
            InvalidArgument: The image is not mirrored, or is primary already.
            LockBusy: A write, which fails because the image is not primary, asks for the exclusive lock. Try again.
            ReadOnlyImage: The image is open for reading only, or at a snapshot.

        Implements: rbd_aio_mirror_image_promote
        """
        self._require_writable("rbd_aio_mirror_image_promote")
        await call_aio(self._handle, "rbd_aio_mirror_image_promote", bool(force))

    async def demote(self) -> None:
        """Make this copy not primary, so that another site can promote its copy. Data that was written is durable then.

        If the call is cancelled, the outcome is unknown.

        Raises:
            InvalidArgument: The image is not mirrored, or is not primary.
            ReadOnlyImage: The image is open for reading only, or at a snapshot.

        Implements: rbd_aio_mirror_image_demote
        """
        self._require_writable("rbd_aio_mirror_image_demote")
        handle = self._handle
        await handle.make_durable()
        covered = handle.durability.covered_by_a_flush()
        await call_aio(handle, "rbd_aio_mirror_image_demote")
        handle.durability.note_flushed(covered)  # librbd has released the exclusive lock, which flushes

    async def resync(self) -> None:
        """Ask the mirror daemon to copy the image again from the primary site. All data of this copy is lost.

        The daemon removes this copy and makes a new one, so close the image soon. If the call is cancelled, the outcome
        is unknown.

        Raises:
            InvalidArgument: The image is not mirrored, or is primary.
            ReadOnlyImage: The image is open for reading only, or at a snapshot.

        Implements: rbd_mirror_image_resync
        """
        self._require_writable("rbd_mirror_image_resync")
        await self._handle.call("rbd_mirror_image_resync")

    async def create_snapshot(self, flags: SnapshotCreateFlag | int = SnapshotCreateFlag.NONE) -> int:
        """Take a mirror snapshot of a primary image, and return its id. The other sites then copy the changes.

        If the call is cancelled, the outcome is unknown.

        Args:
            flags: Whether librbd first asks clients that watch for quiesce requests to quiesce.

        Raises:
            InvalidArgument: The image is not mirrored with snapshots, or is not primary, or the pool has no peer.
            ReadOnlyImage: The image is open for reading only, or at a snapshot.

        Implements: rbd_aio_mirror_image_create_snapshot
        """
        function: Final = "rbd_aio_mirror_image_create_snapshot"
        flags = number(flags, "flags", function, self._handle.target, bits=32)
        self._require_writable(function)
        out = ffi.new("uint64_t *")
        await call_aio(self._handle, function, flags, out, keep=out)
        return int(out[0])

    async def info(self) -> MirrorImageInfo:
        """Return the id and the state of the mirroring. An image without mirroring has the state ``DISABLED``.

        Implements: rbd_aio_mirror_image_get_info, rbd_mirror_image_get_info_cleanup
        """
        size = ffi.sizeof("rbd_mirror_image_info_t")
        # Python frees the strings with the struct, even if the call is cancelled.
        out = ffi.gc(ffi.new("rbd_mirror_image_info_t *"), rbd().rbd_mirror_image_get_info_cleanup)
        await call_aio(self._handle, "rbd_aio_mirror_image_get_info", out, size, keep=out)
        return image_info(out)

    async def mode(self) -> MirrorImageMode | None:
        """Return whether a journal or snapshots carry the changes; None for an image without mirroring.

        Implements: rbd_aio_mirror_image_get_mode
        """
        if (await self.info()).state is MirrorImageState.DISABLED:  # before 20.2, librbd reports JOURNAL
            return None
        out = ffi.new("rbd_mirror_image_mode_t *")
        await call_aio(self._handle, "rbd_aio_mirror_image_get_mode", out, keep=out)
        return MirrorImageMode(out[0])

    async def status(self) -> MirrorImageStatus:
        """Return the reports of all sites about the image.

        Raises:
            InvalidArgument: The image is not mirrored.

        Implements: rbd_aio_mirror_image_get_global_status, rbd_mirror_image_global_status_cleanup
        """
        function: Final = "rbd_aio_mirror_image_get_global_status"
        handle = self._handle
        if (await self.info()).state is MirrorImageState.DISABLED:
            raise InvalidArgument(errno.EINVAL, "the image is not mirrored", function, str(handle.target))
        size = ffi.sizeof("rbd_mirror_image_global_status_t")
        out = ffi.gc(ffi.new("rbd_mirror_image_global_status_t *"), rbd().rbd_mirror_image_global_status_cleanup)
        await call_aio(handle, function, out, size, keep=out)
        return image_status(handle.image_id, out)

    async def instance_id(self) -> str:
        """Return the id of the mirror daemon's instance that works on the image.

        Raises:
            ObjectNotFound: No daemon works on the image.
            InvalidArgument: The image is not mirrored.

        Implements: rbd_mirror_image_get_instance_id
        """
        return await self._handle.get_string(
            "rbd_mirror_image_get_instance_id", size_type="size_t *", on=self._handle.about("other", "mirroring")
        )

    def _require_writable(self, function: str) -> None:
        """Raise if the image is open for reading only, or at a snapshot."""
        handle = self._handle
        handle.check()
        handle.require_place(function)
        if handle.image_size.may_refuse_writes or handle.image_size.snapshot_id is not None:
            message = "the image is open for reading only, or at a snapshot"
            raise ReadOnlyImage(errno.EROFS, message, function, str(handle.target))
