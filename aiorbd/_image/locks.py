"""Take, release and list the locks of an image: the advisory lock, and the managed lock of librbd."""

import errno
from typing import Any

from aiorbd._core.resource import Topic
from aiorbd._image.handle import ImageHandle
from aiorbd._native.loader import ffi, rados, rbd
from aiorbd._native.marshal import decode, encode_name, grow, number, split
from aiorbd.enums import LockMode
from aiorbd.errors import Target, error_for
from aiorbd.models import Locker, Lockers


class Locks(Topic[ImageHandle]):
    """The locks of an open image, from `Image.locks`.

    The advisory lock is a note that every client can see. Nothing enforces this lock. The lock stays when its holder
    dies, and `break_lock` removes the lock.

    The managed lock is the exclusive lock of librbd. librbd takes this lock before it writes to an image with the
    feature ``EXCLUSIVE_LOCK``.

    Use only one of the two. The cluster treats both as the same lock. While a client holds the advisory lock of an
    image with the feature ``EXCLUSIVE_LOCK``, no client can write to the image: writes wait.
    """

    def _lock(self, cookie: str) -> Target:
        return self._handle.about("lock", f"lock {cookie!r}")

    async def lock_exclusive(self, cookie: str) -> None:
        """Take the advisory lock for this client alone. If the call is cancelled, the outcome is unknown.

        Args:
            cookie: A name for the lock, chosen by this client.

        Raises:
            LockBusy: Another client holds or shares the lock, or this client holds the lock with another cookie.
            LockExists: This client already holds the lock.

        Implements: rbd_lock_exclusive
        """
        encoded = encode_name(cookie, "cookie", "rbd_lock_exclusive", may_be_empty=True)
        on = self._lock(cookie)
        await self._handle.call(
            "rbd_lock_exclusive", encoded, on=on, why=lambda code: self._explain_busy(code, "rbd_lock_exclusive", on)
        )

    async def lock_shared(self, cookie: str, tag: str) -> None:
        """Share the advisory lock with all clients that use the same tag.

        If the call is cancelled, the outcome is unknown.

        Args:
            cookie: A name for the lock, chosen by this client.
            tag: The tag of all clients that share the lock.

        Raises:
            LockBusy: Another client holds the lock exclusively, or with another tag.
            LockExists: This client already holds the lock.

        Implements: rbd_lock_shared
        """
        encoded = encode_name(cookie, "cookie", "rbd_lock_shared", may_be_empty=True)
        encoded_tag = encode_name(tag, "tag", "rbd_lock_shared", may_be_empty=True)
        on = self._lock(cookie)
        await self._handle.call(
            "rbd_lock_shared",
            encoded,
            encoded_tag,
            on=on,
            why=lambda code: self._explain_busy(code, "rbd_lock_shared", on),
        )

    async def unlock(self, cookie: str) -> None:
        """Release the advisory lock of this client. If the call is cancelled, the outcome is unknown.

        Args:
            cookie: The cookie with which this client took the lock.

        Raises:
            LockNotFound: This client holds no lock with this cookie.

        Implements: rbd_unlock
        """
        encoded = encode_name(cookie, "cookie", "rbd_unlock", may_be_empty=True)
        await self._handle.call("rbd_unlock", encoded, on=self._lock(cookie))

    async def break_lock(self, client: str, cookie: str) -> None:
        """Remove the advisory lock of another client. Ceph blocklists that client, unless configured otherwise.

        If the call is cancelled, the outcome is unknown.

        Args:
            client: The holder of the lock, as `list_lockers` returns it, for example ``client.4123``.
            cookie: The cookie with which that client took the lock.

        Raises:
            LockNotFound: That client holds no lock with this cookie.
            InvalidArgument: `client` is not the name of a client.

        Implements: rbd_break_lock
        """
        encoded = encode_name(client, "client", "rbd_break_lock")
        encoded_cookie = encode_name(cookie, "cookie", "rbd_break_lock", may_be_empty=True)
        on = self._handle.about("lock", f"lock {cookie!r} held by {client}")
        await self._handle.call("rbd_break_lock", encoded, encoded_cookie, on=on)

    def _explain_busy(self, code: int, function: str, on: Target) -> None:
        """Raise an error that names the holders of the lock, which may include this client. Runs on a worker thread."""
        if code != -errno.EBUSY:
            return
        lockers = self._list_lockers()
        mine = f"client.{rados().rados_get_instance_id(self._handle.ioctx.cluster.pointer)}"
        who = [f"{'this client' if one.client == mine else one.client} as {one.cookie!r}" for one in lockers.lockers]
        if who:
            how = "exclusively" if lockers.exclusive else f"shared with the tag {lockers.tag!r}"
            raise error_for(code, function, on, f"the lock is held {how} by {', '.join(who)}")

    async def list_lockers(self) -> Lockers:
        """Return the holders of the advisory lock. If librbd holds the managed lock, the cookie begins with ``auto``.

        Implements: rbd_list_lockers
        """
        return await self._handle.run("rbd_list_lockers", self._list_lockers)

    def _list_lockers(self) -> Lockers:
        """Return the holders of the advisory lock. Runs on a worker thread."""
        handle = self._handle

        def read(size: int) -> tuple[int, Any]:
            exclusive = ffi.new("int *")
            buffers = [ffi.new("char[]", size) for _ in range(4)]
            lengths = [ffi.new("size_t *", size) for _ in range(4)]
            arguments = [item for pair in zip(buffers, lengths, strict=True) for item in pair]
            code = rbd().rbd_list_lockers(handle.pointer, exclusive, *arguments)
            if code == -errno.ERANGE:
                return code, None
            if handle.raise_for(code, "rbd_list_lockers") == 0:
                return code, Lockers(False, "", ())
            tag, *lists = zip(buffers, lengths, strict=True)
            clients, cookies, addresses = (split(buffer, length[0]) for buffer, length in lists)
            lockers = tuple(map(Locker, clients, cookies, addresses))
            return code, Lockers(bool(exclusive[0]), decode(tag[0]), lockers)

        lockers: Lockers = grow(read, 1024)
        return lockers

    async def is_exclusive_lock_owner(self) -> bool:
        """Tell whether librbd holds the managed lock for this open image.

        Implements: rbd_is_exclusive_lock_owner
        """
        return bool(await self._handle.get("rbd_is_exclusive_lock_owner", "int *"))

    async def lock_acquire(self, mode: LockMode | int = LockMode.EXCLUSIVE) -> None:
        """Take the managed lock, and keep the lock when other clients request it.

        If the call is cancelled, the outcome is unknown.

        Raises:
            InvalidArgument: The image does not have the feature ``EXCLUSIVE_LOCK``, or is open for reading only.
            OperationNotSupported: `mode` is ``SHARED``, or a mode that this librbd does not know.
            LockBusy: Another client keeps the lock.

        Implements: rbd_lock_acquire
        """
        on = self._handle.about("lock", "managed lock")
        mode = number(mode, "lock mode", "rbd_lock_acquire", on, bits=31)
        await self._handle.call("rbd_lock_acquire", int(mode), on=on, first=self._handle.image_size.require_fresh)

    async def lock_release(self) -> None:
        """Release the managed lock. Data that was written before becomes durable.

        Afterwards, only `lock_acquire` takes the lock for this open image. Without the lock, writes and flushes raise
        `LockBusy`. If the call is cancelled, the outcome is unknown.

        Raises:
            InvalidArgument: The image does not have the feature ``EXCLUSIVE_LOCK``.

        Implements: rbd_lock_release
        """
        handle = self._handle
        covered = handle.requests.covered_by_a_flush()
        on = handle.about("lock", "managed lock")
        await handle.call("rbd_lock_release", on=on, first=handle.image_size.require_fresh)
        handle.requests.note_flushed(covered)

    async def lock_get_owners(self) -> tuple[LockMode, list[str]]:
        """Return the mode of the managed lock, and the addresses of its owners.

        Raises:
            LockNotFound: No client holds the lock.

        Implements: rbd_lock_get_owners
        """
        handle = self._handle
        on = handle.about("lock", "managed lock")

        def read(size: int) -> tuple[int, Any]:
            mode, owners, count = ffi.new("rbd_lock_mode_t *"), ffi.new("char *[]", size), ffi.new("size_t *", size)
            code = rbd().rbd_lock_get_owners(handle.pointer, mode, owners, count)
            if code == -errno.ERANGE:
                return code, None
            handle.raise_for(code, "rbd_lock_get_owners", on)
            try:
                return code, (LockMode(mode[0]), [decode(owner) for owner in owners[0 : count[0]]])
            finally:
                rbd().rbd_lock_get_owners_cleanup(owners, count[0])

        found: tuple[LockMode, list[str]] = await handle.run("rbd_lock_get_owners", lambda: grow(read, 8))
        return found

    async def lock_break(self, mode: LockMode | int, owner: str) -> None:
        """Take the managed lock away from another client. Ceph blocklists that client, unless configured otherwise.

        If the call is cancelled, the outcome is unknown.

        Args:
            mode: The mode of the lock: only ``EXCLUSIVE``.
            owner: The address of the lock's owner, as `lock_get_owners` returns it.

        Raises:
            LockBusy: A client other than `owner` holds the lock.

        Implements: rbd_lock_break
        """
        on = self._handle.about("lock", f"managed lock held by {owner}")
        encoded = encode_name(owner, "owner", "rbd_lock_break")
        mode = number(mode, "lock mode", "rbd_lock_break", on, bits=31)
        await self._handle.call("rbd_lock_break", int(mode), encoded, on=on)
