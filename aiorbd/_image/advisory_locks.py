"""The advisory locks of an image: notes that every client can see."""

import errno

from aiorbd._core.listing import Listing, whole
from aiorbd._core.resource import Topic
from aiorbd._image.handle import ImageHandle
from aiorbd._native.loader import ffi, rados, rbd
from aiorbd._native.marshal import decode, encode_name, grow, split
from aiorbd.error_codes import error_for
from aiorbd.errors import Target
from aiorbd.models import Locker


class AdvisoryLocks(Topic[ImageHandle]):
    """The advisory locks of an open image: `Image.advisory_locks`.

    An advisory lock is a note that every client can see. It stops no writer, except on an image with the feature
    ``EXCLUSIVE_LOCK``: there it stops every writer, because the cluster treats it and the `ExclusiveLock` as the same
    lock. Writes then wait. So use one of the two. The lock stays when its holder dies, and `break_lock` removes it.
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
            client: The holder of the lock, as `Locker.client` returns it, for example ``client.4123``.
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
        who = [f"{'this client' if one.client == mine else one.client} as {one.cookie!r}" for one in lockers]
        if who:
            how = "exclusively" if lockers[0].exclusive else f"shared with the tag {lockers[0].tag!r}"
            raise error_for(code, function, on, f"the lock is held {how} by {', '.join(who)}")

    def lockers(self) -> Listing[Locker]:
        """List the holders of the advisory lock: await the result, or iterate over it.

        If librbd holds the `ExclusiveLock` of an image, the cookie begins with ``auto``.

        Implements: rbd_list_lockers
        """
        handle = self._handle
        return whole(f"lockers of {handle.target}", lambda: handle.run("rbd_list_lockers", self._list_lockers))

    def _list_lockers(self) -> list[Locker]:
        """Return the holders of the advisory lock. Runs on a worker thread."""
        handle = self._handle

        def read(size: int) -> tuple[int, list[Locker]]:
            exclusive = ffi.new("int *")
            buffers = [ffi.new("char[]", size) for _ in range(4)]
            lengths = [ffi.new("size_t *", size) for _ in range(4)]
            arguments = [item for pair in zip(buffers, lengths, strict=True) for item in pair]
            code = rbd().rbd_list_lockers(handle.pointer, exclusive, *arguments)
            if code == -errno.ERANGE or handle.raise_for(code, "rbd_list_lockers") == 0:
                return code, []
            tag, *lists = zip(buffers, lengths, strict=True)
            clients, cookies, addresses = (split(buffer, length[0]) for buffer, length in lists)
            return code, [
                Locker(client, cookie, address, bool(exclusive[0]), decode(tag[0]))
                for client, cookie, address in zip(clients, cookies, addresses, strict=True)
            ]

        return grow(read, 1024)
