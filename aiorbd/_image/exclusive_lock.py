"""The exclusive lock of an image, which librbd manages."""

import errno
from typing import Any, Final

from aiorbd._core.listing import Listing, whole
from aiorbd._core.resource import Topic
from aiorbd._image.handle import ImageHandle
from aiorbd._native.loader import ffi, rbd
from aiorbd._native.marshal import decode, encode_name, grow, number
from aiorbd.enums import LockMode
from aiorbd.errors import LockNotFound, Target
from aiorbd.models import LockOwner


class ExclusiveLock(Topic[ImageHandle]):
    """The exclusive lock of an open image: `Image.exclusive_lock`.

    librbd takes this lock before it writes to an image with the feature ``EXCLUSIVE_LOCK``, and hands the lock over
    when another client wants to write. Use either this lock or `AdvisoryLocks`.
    """

    @property
    def _target(self) -> Target:
        return self._handle.about("lock", "exclusive lock")

    async def is_owner(self) -> bool:
        """Tell whether librbd holds the lock for this open image.

        Implements: rbd_is_exclusive_lock_owner
        """
        return bool(await self._handle.get("rbd_is_exclusive_lock_owner", "int *"))

    async def acquire(self, mode: LockMode | int = LockMode.EXCLUSIVE) -> None:
        """Take the lock, and keep it when other clients request it.

        If the call is cancelled, the outcome is unknown.

        Raises:
            InvalidArgument: The image does not have the feature ``EXCLUSIVE_LOCK``, or is open for reading only.
            OperationNotSupported: `mode` is ``SHARED``, or a mode that this librbd does not know.
            LockBusy: Another client keeps the lock.

        Implements: rbd_lock_acquire
        """
        mode = number(mode, "lock mode", "rbd_lock_acquire", self._target, bits=31)
        fresh = self._handle.image_size.require_fresh
        await self._handle.call("rbd_lock_acquire", int(mode), on=self._target, first=fresh)

    async def release(self) -> None:
        """Release the lock. Data that was written before becomes durable.

        Afterwards, only `acquire` takes the lock for this open image. Without the lock, writes and flushes raise
        `LockBusy`. If the call is cancelled, the outcome is unknown.

        Raises:
            InvalidArgument: The image does not have the feature ``EXCLUSIVE_LOCK``.

        Implements: rbd_lock_release
        """
        handle = self._handle
        covered = handle.durability.covered_by_a_flush()
        await handle.call("rbd_lock_release", on=self._target, first=handle.image_size.require_fresh)
        handle.durability.note_flushed(covered)

    def owners(self) -> Listing[LockOwner]:
        """List the owners of the lock: await the result, or iterate over it. Without an owner, the list is empty.

        Implements: rbd_lock_get_owners
        """
        function: Final = "rbd_lock_get_owners"
        handle = self._handle

        def read(size: int) -> tuple[int, Any]:
            mode, owners, count = ffi.new("rbd_lock_mode_t *"), ffi.new("char *[]", size), ffi.new("size_t *", size)
            code = rbd().rbd_lock_get_owners(handle.pointer, mode, owners, count)
            if code == -errno.ERANGE:
                return code, None
            try:
                handle.raise_for(code, function, self._target)
            except LockNotFound:
                return 0, []
            try:
                return code, [LockOwner(decode(owner), LockMode(mode[0])) for owner in owners[0 : count[0]]]
            finally:
                rbd().rbd_lock_get_owners_cleanup(owners, count[0])

        async def found() -> list[LockOwner]:
            return await handle.run(function, lambda: grow(read, 8))

        return whole(f"owners of {self._target}", found)

    async def break_lock(self, owner: str, *, mode: LockMode | int = LockMode.EXCLUSIVE) -> None:
        """Take the lock away from another client. Ceph blocklists that client, unless configured otherwise.

        If the call is cancelled, the outcome is unknown.

        Args:
            owner: The address of the lock's owner: see `LockOwner.address`.
            mode: The mode of the lock: only ``EXCLUSIVE``.

        Raises:
            LockBusy: A client other than `owner` holds the lock.

        Implements: rbd_lock_break
        """
        on = self._handle.about("lock", f"exclusive lock held by {owner}")
        encoded = encode_name(owner, "owner", "rbd_lock_break")
        mode = number(mode, "lock mode", "rbd_lock_break", on, bits=31)
        await self._handle.call("rbd_lock_break", int(mode), encoded, on=on)
