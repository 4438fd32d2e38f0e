"""The consistency groups of a pool or namespace."""

import errno
import os
from typing import Final

from aiorbd._core.listing import Listing, whole
from aiorbd._core.pool_handle import PoolHandle
from aiorbd._core.resource import Topic
from aiorbd._native.marshal import encode_name, encode_new_name
from aiorbd._pool.group import Group, group_target
from aiorbd._pool.group_members import group_names
from aiorbd.errors import GroupNotFound


class Groups(Topic[PoolHandle]):
    """The consistency groups of a pool or namespace: `IoCtx.groups`.

    A group has member images, also of other pools. A group snapshot is a snapshot of all members at the same time.
    """

    async def create(self, name: str) -> Group:
        """Create an empty group, and return it. If the call is cancelled, the outcome is unknown.

        Raises:
            GroupExists: A group with this name already exists.
            NamespaceNotFound: The namespace of the I/O context does not exist.
            InvalidArgument: The name is empty or contains ``@`` or ``/``.

        Implements: rbd_group_create
        """
        handle, encoded = self._handle, encode_new_name(name, "group name", "rbd_group_create")
        await handle.call("rbd_group_create", encoded, on=group_target(handle, name), first=handle.require_all)
        return Group(handle, name)

    def get(self, name: str) -> Group:
        """Return a group by its name. The calls on the group find out whether the group exists."""
        encode_name(name, "group name", "rbd_group_image_list")
        return Group(self._handle, name)

    async def exists(self, name: str) -> bool:
        """Tell whether a group with this name exists.

        Implements: rbd_group_list
        """
        return encode_name(name, "group name", "rbd_group_list") in await self._names()

    async def remove(self, name: str) -> None:
        """Remove a group with its snapshots. The member images stay. If the call is cancelled, the outcome is unknown.

        Raises:
            GroupNotFound: No group has this name.
            LockBusy: A member of a group with snapshots has an advisory lock, or another client keeps its exclusive
                lock. Nothing is lost: call again.

        Implements: rbd_group_remove
        """
        function: Final = "rbd_group_remove"
        handle, encoded = self._handle, encode_name(name, "group name", function)
        on = group_target(handle, name)

        def require() -> None:  # librbd reports success for a missing group
            if encoded not in group_names(handle):
                handle.require_all()
                raise GroupNotFound(errno.ENOENT, "no such group", function, str(on))

        await handle.call(function, encoded, on=on, first=require)

    async def rename(self, name: str, new_name: str) -> None:
        """Rename a group. If the call is cancelled, the outcome is unknown.

        Raises:
            GroupNotFound: No group has the name `name`.
            GroupExists: A group with the name `new_name` already exists.
            InvalidArgument: `new_name` is empty or contains ``@`` or ``/``.

        Implements: rbd_group_rename
        """
        function: Final = "rbd_group_rename"
        encoded = encode_name(name, "group name", function)
        new = encode_new_name(new_name, "new group name", function)
        await self._handle.call(function, encoded, new, on=group_target(self._handle, name, f", new name {new_name!r}"))

    def names(self) -> Listing[str]:
        """List the names of all groups: await the result, or iterate over it.

        Raises:
            PoolNotFound: The pool was deleted in the meantime.
            NamespaceNotFound: The namespace of the I/O context does not exist.

        Implements: rbd_group_list
        """

        async def names() -> list[str]:
            return [os.fsdecode(name) for name in await self._names()]

        return whole(f"groups of {self._handle.target}", names)

    async def _names(self) -> list[bytes]:
        return await self._handle.run("rbd_group_list", lambda: group_names(self._handle))
