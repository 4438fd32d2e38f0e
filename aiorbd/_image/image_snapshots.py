"""Take, list and read the snapshots of an open image."""

import errno
import os
from typing import Final

from aiorbd._core.listing import Listing
from aiorbd._core.long_call import LongCall
from aiorbd._core.progress import Progress
from aiorbd._core.resource import Resource
from aiorbd._image.handle import ImageHandle
from aiorbd._image.presence import require_same_image
from aiorbd._image.snapshot_ids import facts, list_facts, name_by_id, set_snapshot, size_by_id, snapshot_target, which
from aiorbd._image.snapshots import Snapshot
from aiorbd._native.loader import ffi, rbd
from aiorbd._native.marshal import decode, encode_name, encode_new_name, number
from aiorbd.enums import SnapshotCreateFlag, SnapshotNamespaceType
from aiorbd.errors import SnapshotNotFound

#: librbd's value for no limit on the number of snapshots.
_NO_LIMIT: Final = (1 << 64) - 1


class ImageSnapshots(Resource[ImageHandle]):
    """The snapshots of an open image. Part of `Image`."""

    async def create_snapshot(
        self, name: str, flags: SnapshotCreateFlag | int = SnapshotCreateFlag.NONE, *, progress: Progress | None = None
    ) -> Snapshot:
        """Take a snapshot, and return it. If the call is cancelled, the outcome is unknown.

        The snapshot includes data that was written before and not flushed.

        Args:
            name: The name of the snapshot, without ``@`` and ``/``.
            flags: Whether librbd first asks clients that watch for quiesce requests to quiesce.
            progress: Called on the event loop as ``progress(done, total)`` while these clients quiesce.

        Raises:
            SnapshotExists: The image already has a snapshot with this name.
            InvalidArgument: The name is empty or contains ``@`` or ``/``.
            ReadOnlyImage: The image is open for reading only.
            DiskQuotaExceeded: The image has reached its limit of snapshots.

        Implements: rbd_snap_create2
        """
        await take_snapshot(self._handle, name, flags, progress)
        return await self.get_snapshot(name)

    def snapshots(self, *, any_namespace: bool = False) -> Listing[Snapshot]:
        """List the users' snapshots, oldest first: await the result, or iterate over it.

        Args:
            any_namespace: Whether to include snapshots of groups, of mirroring, and in the trash of snapshots.

        Implements: rbd_snap_list, rbd_snap_get_namespace_type, rbd_snap_is_protected
        """
        handle = self._handle
        wanted = tuple(SnapshotNamespaceType) if any_namespace else (SnapshotNamespaceType.USER,)
        return handle.listing(
            "rbd_snap_list",
            "rbd_snap_info_t",
            "rbd_snap_list_end",
            lambda item, facts: Snapshot(handle, item.id, decode(item.name), item.size, facts),
            returns_count=True,
            examine=lambda items, count: list_facts(handle, items, count, wanted),
        )

    async def get_snapshot(self, name: str | None = None, *, snapshot_id: int | None = None) -> Snapshot:
        """Return a user's snapshot by its name, or a snapshot of any kind by its id.

        Raises:
            SnapshotNotFound: The snapshot does not exist.

        Implements: rbd_snap_get_id, rbd_snap_get_name, rbd_snap_list
        """
        handle = self._handle
        handle.check()
        encoded, known = which(handle, name, snapshot_id)
        on = snapshot_target(handle, name, snapshot_id)

        def call() -> Snapshot:
            found = known
            if encoded is not None:
                out = ffi.new("uint64_t *")
                handle.raise_for(rbd().rbd_snap_get_id(handle.pointer, encoded, out), "rbd_snap_get_id", on)
                found = out[0]
            found_name = name_by_id(handle, found)
            size = size_by_id(handle, found, on)
            what = facts(handle, found, os.fsencode(found_name))
            if what is None:
                raise SnapshotNotFound(errno.ENOENT, "no such snapshot", "rbd_snap_get_namespace_type", str(on))
            return Snapshot(handle, found, found_name, size, what)

        return await handle.run("rbd_snap_get_id", call, on=on)

    async def snapshot_exists(self, name: str) -> bool:
        """Tell whether the image has a snapshot with this name.

        Implements: rbd_snap_exists
        """
        return bool(
            await self._handle.get(
                "rbd_snap_exists",
                "bool *",
                encode_name(name, "snapshot name", "rbd_snap_exists", may_be_empty=True),
            )
        )

    async def set_snapshot(self, snapshot: str | Snapshot | None) -> None:
        """Make later reads return the data of a snapshot, or the current data for None.

        Pass the name of the snapshot, or a `Snapshot`. While a snapshot is set, the image cannot be written to. If the
        call is cancelled, the outcome is unknown.

        Raises:
            SnapshotNotFound: The snapshot does not exist.

        Implements: rbd_snap_get_id, rbd_snap_set, rbd_snap_set_by_id
        """
        if isinstance(snapshot, Snapshot):
            require_same_image(self._handle, snapshot._handle, "rbd_snap_set_by_id", self._handle.target)
            await set_snapshot(self._handle, snapshot_id=snapshot.id)
        else:
            await set_snapshot(self._handle, snapshot)

    async def snapshot_limit(self) -> int | None:
        """Return the largest number of snapshots that the image may have; None means no limit.

        Implements: rbd_snap_get_limit
        """
        limit: int = await self._handle.get("rbd_snap_get_limit", "uint64_t *")
        return None if limit == _NO_LIMIT else limit

    async def set_snapshot_limit(self, limit: int | None) -> None:
        """Set the largest number of snapshots that the image may have; None means no limit.

        If the call is cancelled, the outcome is unknown.

        Raises:
            InvalidArgument: The limit is out of range, or the image already has more snapshots.

        Implements: rbd_snap_set_limit
        """
        value = _NO_LIMIT if limit is None else number(limit, "limit", "rbd_snap_set_limit", self._handle.target)
        await self._handle.call("rbd_snap_set_limit", value)


async def take_snapshot(handle: ImageHandle, name: str, flags: int = 0, progress: Progress | None = None) -> None:
    """Take a snapshot: see `Image.create_snapshot`."""
    encoded = encode_new_name(name, "snapshot name", "rbd_snap_create2")
    on = snapshot_target(handle, name)
    flags = number(flags, "flags", "rbd_snap_create2", on, bits=32)
    await LongCall(handle, "rbd_snap_create2", encoded, flags, on=on).run(progress)
