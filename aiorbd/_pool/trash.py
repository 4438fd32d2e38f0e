"""The trash of a pool: images that can be restored or removed for good."""

import time
from datetime import datetime, timedelta
from typing import Any, Final

from aiorbd._core.listing import Listing
from aiorbd._core.long_call import LongCall
from aiorbd._core.pool_handle import PoolHandle
from aiorbd._core.progress import Progress
from aiorbd._core.resource import Topic
from aiorbd._native.loader import ffi, rbd
from aiorbd._native.marshal import decode, encode_name, encode_new_name, invalid, seconds, utc
from aiorbd._pool.removal import explain_purge, remove_from_trash
from aiorbd.enums import TrashImageSource
from aiorbd.errors import Target
from aiorbd.models import TrashEntry

#: The last second that Ceph can store, in the year 2106.
_LATEST: Final = (1 << 32) - 1


class Trash(Topic[PoolHandle]):
    """The trash of a pool or namespace: `IoCtx.trash`."""

    def _entry(self, image_id: str) -> Target:
        return Target("image", f"image id {image_id!r} in the trash of {self._handle.target}")

    async def move(self, name: str, delay: float | timedelta = 0) -> None:
        """Move an image to the trash. If the call is cancelled, the outcome is unknown.

        Clients that have the image open can still use the image.

        Args:
            name: The name of the image.
            delay: Seconds until the image can be removed from the trash without `force`.

        Raises:
            ImageNotFound: The image does not exist.
            ImageMemberOfGroup: The image is a member of a group. Remove the image from the group first.
            InvalidArgument: The delay is negative, or ends after the year 2106.

        Implements: rbd_trash_move
        """
        asked = delay.total_seconds() if isinstance(delay, timedelta) else delay
        encoded = encode_name(name, "image name", "rbd_trash_move")
        on = self._handle.image(name)
        whole = int(seconds(asked, "delay", "rbd_trash_move", on))
        if whole > _LATEST - time.time():
            raise invalid(
                f"delay {whole} ends after {utc(_LATEST)}, the latest time that Ceph can store", "rbd_trash_move", on
            )
        await self._handle.call("rbd_trash_move", encoded, whole, on=on)

    async def get(self, image_id: str) -> TrashEntry:
        """Return one entry of the trash.

        Raises:
            ImageNotFound: The trash has no image with this id.

        Implements: rbd_trash_get
        """
        handle, on = self._handle, self._entry(image_id)
        encoded = encode_name(image_id, "image id", "rbd_trash_get")

        def call() -> TrashEntry:
            info = ffi.new("rbd_trash_image_info_t *")
            handle.raise_on_thread(rbd().rbd_trash_get(handle.pointer, encoded, info), "rbd_trash_get", on)
            try:
                return _entry(info)
            finally:
                rbd().rbd_trash_get_cleanup(info)

        return await handle.run("rbd_trash_get", call, on=on)

    def entries(self) -> Listing[TrashEntry]:
        """Iterate over the images in the trash.

        Raises:
            PoolNotFound: The pool was deleted in the meantime.
            NamespaceNotFound: The namespace of this I/O context does not exist.

        Implements: rbd_trash_list
        """
        handle, cleanup = self._handle, "rbd_trash_list_cleanup"
        return handle.listing(
            "rbd_trash_list", "rbd_trash_image_info_t", cleanup, _entry, when_empty=handle.require_all
        )

    async def remove(
        self, image_id: str, *, force: bool = False, progress: Progress | None = None, retry_for: float = 0.0
    ) -> None:
        """Remove an image in the trash for good.

        If the call is cancelled, librbd is asked to stop. Another call completes the removal.

        Args:
            image_id: The id of the image.
            force: Remove the image even before its `TrashEntry.deferment_end_time`.
            progress: Called on the event loop as ``progress(done, total)``.
            retry_for: Seconds to retry while the image is open somewhere.

        Raises:
            ImageNotFound: The trash has no image with this id.
            PermissionError: The `deferment_end_time` has not passed, or the key does not allow the removal.
            ImageHasSnapshots: The image has snapshots. Remove the snapshots first.
            ImageMemberOfGroup: The image is a member of a group. Remove the image from the group first.
            ImageBusy: The image is open somewhere. The message names the addresses.

        Implements: rbd_trash_remove_with_progress
        """
        handle = self._handle
        await remove_from_trash(handle, image_id, force=force, progress=progress, retry_for=retry_for)

    async def restore(self, image_id: str, name: str) -> None:
        """Restore an image from the trash, under a name. If the call is cancelled, the outcome is unknown.

        Raises:
            ImageNotFound: The trash has no image with this id.
            ImageExists: An image with this name already exists.

        Implements: rbd_trash_restore
        """
        encoded = encode_name(image_id, "image id", "rbd_trash_restore")
        encoded_name = encode_new_name(name, "image name", "rbd_trash_restore")
        on = Target("image", f"{self._entry(image_id)}, new name {name!r}")
        await self._handle.call("rbd_trash_restore", encoded, encoded_name, on=on)

    async def purge(
        self,
        expired_before: datetime | None = None,
        threshold: float | None = None,
        *,
        progress: Progress | None = None,
    ) -> None:
        """Remove all images for good that have been in the trash for long enough.

        librbd cannot be stopped: a cancelled purge continues in librbd.

        Args:
            expired_before: Remove the images that can be removed without force at this time. None means now.
            threshold: Instead, remove the oldest images until at most this fraction of the pool is used. 1 is a full
                pool.
            progress: Called on the event loop as ``progress(done, total)``.

        Raises:
            InvalidArgument: The threshold is not between 0 and 1, or the time has no time zone.
            ImageBusy, ImageHasSnapshots, ImageMemberOfGroup: An image cannot be removed. The message names this image.
                The images that can be removed are gone.

        Implements: rbd_trash_purge_with_progress
        """
        function: Final = "rbd_trash_purge_with_progress"
        if threshold is not None and not 0 <= threshold <= 1:
            raise invalid(f"threshold {threshold} is not between 0 and 1", function, self._handle.target)
        if expired_before is not None and not isinstance(expired_before, datetime):
            raise TypeError(f"expired_before must be a datetime, not {type(expired_before).__name__}")
        if expired_before is not None and expired_before.tzinfo is None:
            raise invalid(f"{expired_before} has no time zone", function, self._handle.target)
        # Ceph stores these times in 32 bits.
        when = min(max(int(time.time() if expired_before is None else expired_before.timestamp()), 0), _LATEST)
        limit = -1.0 if threshold is None else threshold
        on = Target("other", f"trash of {self._handle.target}")
        await _Purge(self._handle, when, limit, on).run(progress)


class _Purge(LongCall):
    """The removal of images from the trash."""

    def __init__(self, ioctx: PoolHandle, when: int, threshold: float, on: Target) -> None:
        super().__init__(ioctx.plain, "rbd_trash_purge_with_progress", when, threshold, on=on, also=[ioctx])
        self._ioctx = ioctx
        self._when = when

    def prepare(self) -> None:
        """Check that the pool and the namespace exist."""
        self._ioctx.require_all()

    def explain(self, code: int) -> None:
        """Tell which image cannot be removed."""
        explain_purge(self._ioctx, self._when, code)


def _entry(info: Any) -> TrashEntry:
    return TrashEntry(
        decode(info.id),
        decode(info.name),
        TrashImageSource(info.source),
        utc(info.deletion_time),
        utc(info.deferment_end_time),
    )
