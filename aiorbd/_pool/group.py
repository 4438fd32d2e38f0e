"""A consistency group: its member images and its snapshots."""

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aiorbd._core.listing import Listing
from aiorbd._core.long_call import LongCall
from aiorbd._core.operation import Job
from aiorbd._core.pool_handle import PoolHandle
from aiorbd._core.progress import Progress
from aiorbd._native.loader import ffi, rbd
from aiorbd._native.marshal import decode, encode_name, encode_new_name, handle_of, number
from aiorbd._pool.group_members import group_names, hold_members
from aiorbd.enums import (
    GroupImageState,
    GroupSnapshotNamespaceType,
    GroupSnapshotState,
    SnapshotCreateFlag,
)
from aiorbd.error_codes import error_for
from aiorbd.errors import GroupNotFound, InvalidArgument, Target
from aiorbd.pool_models import GroupImage, GroupMemberSnapshot, GroupSnapshot, GroupSnapshotInfo

if TYPE_CHECKING:
    from aiorbd._native.c_functions import CFunction
    from aiorbd._pool.ioctx import IoCtx

T = TypeVar("T")


def group_target(handle: PoolHandle, name: str, more: str = "") -> Target:
    """Describe a group for errors."""
    return Target("group", f"group {handle.name + '/' + name!r}{more}")


class Group:
    """A consistency group, from `Groups.create` or `Groups.get`. Usable while its I/O context is open.

    librbd finds a group by name. So after a rename, use a new object.

    Attributes:
        name: The name of the group.
    """

    def __init__(self, handle: PoolHandle, name: str) -> None:
        """Private."""
        self._handle = handle
        self.name: str = name
        self._encoded = encode_name(name, "group name", "rbd_group_image_list")
        self._target = group_target(handle, name)

    def __repr__(self) -> str:
        return f"<aiorbd.Group: {self._target}>"

    def _snapshot(self, name: str) -> Target:
        return Target("snapshot", f"snapshot {name!r} of {self._target}")

    async def id(self) -> str:
        """Return the id of the group. The id never changes.

        Raises:
            GroupNotFound: The group does not exist.
            LibraryTooOldError: librbd is older than 20.2.

        Implements: rbd_group_get_id
        """
        return await self._handle.get_string("rbd_group_get_id", self._encoded, size_type="size_t *", on=self._target)

    # -- member images -------------------------------------------------------------------------

    def images(self) -> Listing[GroupImage]:
        """List the member images: await the result, or iterate over it.

        Raises:
            GroupNotFound: The group does not exist.

        Implements: rbd_group_image_list, rbd_group_image_list_cleanup
        """
        return self._listing(
            "rbd_group_image_list",
            "rbd_group_image_info_t",
            lambda item: GroupImage(decode(item.name), item.pool, GroupImageState(item.state)),
        )

    async def add_image(self, name: str, ioctx: "IoCtx | None" = None) -> None:
        """Add an image to the group. If the call is cancelled, the outcome is unknown.

        If the image is a member already, nothing changes.

        Args:
            name: The name of the image.
            ioctx: The pool of the image, if the image is not in the group's pool. The namespace must be the group's.

        Raises:
            GroupNotFound: The group does not exist.
            ImageNotFound: The image does not exist.
            ImageExists: The image is a member of another group.

        Implements: rbd_group_image_add
        """
        function: Final = "rbd_group_image_add"
        encoded = encode_name(name, "image name", function)
        pool = self._pool_of(ioctx, function)
        await self._change_image(function, encoded, pool, pool.image(name))

    async def remove_image(
        self, name: str | None = None, ioctx: "IoCtx | None" = None, *, image_id: str | None = None
    ) -> None:
        """Remove an image from the group, by name or by id. The image itself stays.

        If the image is no member, nothing changes.

        If the call is cancelled, the outcome is unknown.

        Args:
            name: The name of the image.
            ioctx: The pool of the image, if the image is not in the group's pool.
            image_id: The id of the image, instead of the name. This works even for an image that is gone.

        Raises:
            GroupNotFound: The group does not exist.
            ImageNotFound: The image does not exist.

        Implements: rbd_group_image_remove, rbd_group_image_remove_by_id
        """
        if (name is None) == (image_id is None):
            raise TypeError("remove_image() takes either a name or an image_id")
        if name is not None:
            pool = self._pool_of(ioctx, "rbd_group_image_remove")
            encoded = encode_name(name, "image name", "rbd_group_image_remove")
            await self._change_image("rbd_group_image_remove", encoded, pool, pool.image(name))
        elif image_id is not None:
            pool = self._pool_of(ioctx, "rbd_group_image_remove_by_id")
            encoded = encode_name(image_id, "image id", "rbd_group_image_remove_by_id")
            on = Target("image", f"image id {image_id!r} of {pool.target}")
            await self._change_image("rbd_group_image_remove_by_id", encoded, pool, on)

    def _pool_of(self, ioctx: "IoCtx | None", function: str) -> PoolHandle:
        pool = self._handle if ioctx is None else handle_of(ioctx, PoolHandle, "ioctx")
        if pool.bridge is not self._handle.bridge or pool.namespace != self._handle.namespace:
            message = "a group and its images have the same connection and the same namespace"
            raise InvalidArgument(errno.EINVAL, message, function, str(self._target))
        return pool

    async def _change_image(self, function: "CFunction", encoded: bytes, pool: PoolHandle, image: Target) -> None:
        on = Target("image", f"{image}, {self._target}")

        def why(code: int) -> None:
            self._explain_missing(code, function)
            if code == -errno.EEXIST:
                raise error_for(code, function, on, "the image is a member of another group")

        await self._handle.call(function, self._encoded, pool.pointer, encoded, on=on, also=[pool], why=why)

    def _listing(
        self, function: "CFunction", item_type: str, convert: Callable[[Any], T], *, sized: bool = True
    ) -> Listing[T]:
        return self._handle.listing(
            function,
            item_type,
            f"{function}_cleanup",
            convert,
            before=(self._encoded,),
            sized=sized,
            on=self._target,
            when_empty=lambda: self._explain_missing(-errno.ENOENT, function),  # a missing group looks empty
        )

    def _explain_missing(self, code: int, function: str) -> None:
        """Raise if the group is missing. Runs on a worker thread."""
        if code == -errno.ENOENT and self._encoded not in group_names(self._handle):
            raise GroupNotFound(errno.ENOENT, "no such group", function, str(self._target))

    # -- snapshots -----------------------------------------------------------------------------

    def snapshots(self) -> Listing[GroupSnapshot]:
        """List the snapshots of the group: await the result, or iterate over it.

        Raises:
            GroupNotFound: The group does not exist.

        Implements: rbd_group_snap_list, rbd_group_snap_list_cleanup
        """
        return self._listing(
            "rbd_group_snap_list",
            "rbd_group_snap_info_t",
            lambda item: GroupSnapshot(decode(item.name), GroupSnapshotState(item.state)),
        )

    def snapshot_infos(self) -> Listing[GroupSnapshotInfo]:
        """List the snapshots of the group with the snapshots of their members.

        Await the result, or iterate over it.

        Raises:
            GroupNotFound: The group does not exist.
            LibraryTooOldError: librbd is older than 20.2.

        Implements: rbd_group_snap_list2, rbd_group_snap_list2_cleanup
        """
        return self._listing("rbd_group_snap_list2", "rbd_group_snap_info2_t", _info, sized=False)

    async def get_snapshot(self, name: str) -> GroupSnapshotInfo:
        """Return one snapshot of the group with the snapshots of its members.

        Raises:
            SnapshotNotFound: The group has no such snapshot.
            GroupNotFound: The group does not exist.
            LibraryTooOldError: librbd is older than 20.2.

        Implements: rbd_group_snap_get_info, rbd_group_snap_get_info_cleanup
        """
        function: Final = "rbd_group_snap_get_info"
        handle, on = self._handle, self._snapshot(name)
        encoded = encode_name(name, "snapshot name", function, may_be_empty=True)

        def call() -> GroupSnapshotInfo:
            info = ffi.new("rbd_group_snap_info2_t *")
            code = rbd().rbd_group_snap_get_info(handle.pointer, self._encoded, encoded, info)
            handle.raise_on_thread(code, function, on, lambda code: self._explain_missing(code, function))
            try:
                return _info(info)
            finally:
                rbd().rbd_group_snap_get_info_cleanup(info)

        return await handle.run(function, call, on=on)

    async def create_snapshot(
        self, name: str, flags: SnapshotCreateFlag | int = SnapshotCreateFlag.NONE
    ) -> GroupSnapshot:
        """Take a snapshot of all member images at the same time. If the call is cancelled, the outcome is unknown.

        librbd takes the exclusive locks of all members for a moment, so no client writes in between. Reads, writes and
        copies of this connection on the members wait until the snapshot is taken.

        Args:
            name: The name of the snapshot, without ``@`` and ``/``.
            flags: Whether librbd first asks clients that watch for quiesce requests to quiesce.

        Raises:
            GroupNotFound: The group does not exist.
            SnapshotExists: The group already has a snapshot with this name.
            InvalidArgument: The name is empty or contains ``@`` or ``/``.
            LockBusy: Another client keeps the exclusive lock of a member, or a member is not primary. The call waits
                while a member has an advisory lock.

        Implements: rbd_group_snap_create2
        """
        function: Final = "rbd_group_snap_create2"
        encoded, on = encode_new_name(name, "snapshot name", function), self._snapshot(name)
        flags = number(flags, "flags", function, on, bits=32)
        await self._change_snapshot(function, on, encoded, flags)
        return GroupSnapshot(name, GroupSnapshotState.COMPLETE)

    async def remove_snapshot(self, name: str) -> None:
        """Remove a snapshot of the group. If the call is cancelled, the outcome is unknown.

        Raises:
            SnapshotNotFound: The group has no such snapshot.
            GroupNotFound: The group does not exist.
            LockBusy: A member has an advisory lock, another client keeps its exclusive lock, or it is not primary.

        Implements: rbd_group_snap_remove
        """
        encoded = encode_name(name, "snapshot name", "rbd_group_snap_remove")
        await self._change_snapshot("rbd_group_snap_remove", self._snapshot(name), encoded)

    async def rename_snapshot(self, name: str, new_name: str) -> None:
        """Rename a snapshot of the group. If the call is cancelled, the outcome is unknown.

        Raises:
            SnapshotNotFound: The group has no snapshot with the name `name`.
            SnapshotExists: The group has a snapshot with the name `new_name` already.
            GroupNotFound: The group does not exist.

        Implements: rbd_group_snap_rename
        """
        function: Final = "rbd_group_snap_rename"
        encoded = encode_name(name, "snapshot name", function)
        new = encode_new_name(new_name, "new snapshot name", function)
        on = Target("snapshot", f"{self._snapshot(name)}, new name {new_name!r}")
        await self._handle.call(
            function, self._encoded, encoded, new, on=on, why=lambda code: self._explain_missing(code, function)
        )

    async def rollback(self, name: str, *, progress: Progress | None = None) -> None:
        """Set all member images back to a snapshot of the group. All later changes of their data are lost.

        The rollback cannot be stopped: after a cancellation, the rollback continues. Reads, writes and copies of this
        connection on the members wait until the rollback has ended. If another client has the exclusive lock of a
        member and does not answer, the rollback waits for that client.

        Args:
            name: The name of the snapshot.
            progress: Called on the event loop as ``progress(done, total)``.

        Raises:
            SnapshotNotFound: The group has no such snapshot.
            GroupNotFound: The group does not exist.
            InvalidArgument: The snapshot is incomplete, or the members are no longer those of the snapshot.
            LockBusy: Another client refuses to release the exclusive lock of a member, or a member is not primary. The
                call waits while a member has an advisory lock.

        Implements: rbd_group_snap_rollback_with_progress
        """
        encoded = encode_name(name, "snapshot name", "rbd_group_snap_rollback_with_progress")
        leave = await hold_members(self._handle, self._encoded)
        await _GroupRollback(self, encoded, self._snapshot(name), leave).run(progress)

    async def _change_snapshot(self, function: "CFunction", on: Target, *arguments: Any) -> None:
        """Call a C function that changes the snapshots of all members."""
        handle, c_function = self._handle, getattr(rbd(), function)

        def call() -> None:
            code = c_function(handle.pointer, self._encoded, *arguments)
            handle.raise_on_thread(code, function, on, lambda code: self._explain_missing(code, function))
            handle.require_place(function)

        leave = await hold_members(handle, self._encoded)
        try:
            job = await handle.start_with(function, lambda _: Job(handle, function, call, on=on, ended=leave))
        except BaseException:
            leave()
            raise
        await handle.bridge.call(job)


class _GroupRollback(LongCall):
    """A rollback of all members of a group."""

    def __init__(self, group: Group, snapshot: bytes, on: Target, leave: Callable[[], None]) -> None:
        super().__init__(
            group._handle,
            "rbd_group_snap_rollback_with_progress",
            group._encoded,
            snapshot,
            on=on,
            stoppable=False,
        )
        self._group = group
        self._leave = leave

    def explain(self, code: int) -> None:
        """Tell whether the group is missing."""
        self._group._explain_missing(code, self.function)

    def ended(self) -> None:
        """Let the calls on the members continue."""
        self._leave()


def _info(item: Any) -> GroupSnapshotInfo:
    members = [item.image_snaps[index] for index in range(item.image_snaps_count)]
    return GroupSnapshotInfo(
        decode(item.id),
        decode(item.name),
        GroupSnapshotState(item.state),
        GroupSnapshotNamespaceType(item.namespace_type),
        decode(item.image_snap_name),
        tuple(GroupMemberSnapshot(decode(one.image_name), one.pool_id, one.snap_id) for one in members),
    )
