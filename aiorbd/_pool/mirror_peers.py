"""The other sites with which a pool mirrors its images."""

import errno
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from aiorbd._core.listing import Listing
from aiorbd._core.pool_handle import PoolHandle
from aiorbd._core.resource import Topic
from aiorbd._image.mirror_values import text
from aiorbd._native.loader import ffi, rbd
from aiorbd._native.marshal import decode, encode_name, grow, invalid, number, split, utc
from aiorbd.enums import MirrorPeerDirection
from aiorbd.errors import Target
from aiorbd.mirror_models import BootstrapToken, MirrorPeer

if TYPE_CHECKING:
    from aiorbd._native.c_functions import CFunction


class MirrorPeers(Topic[PoolHandle]):
    """The other sites of a mirrored pool: `Mirror.peers`.

    The usual way to add a peer: one site calls `create_token`, and the other site calls `import_token`.
    """

    def _peer(self, uuid: str) -> Target:
        return self._handle.about("other", f"mirror peer {uuid!r}")

    def sites(self) -> Listing[MirrorPeer]:
        """List the peers: await the result, or iterate over it.

        Implements: rbd_mirror_peer_site_list, rbd_mirror_peer_site_list_cleanup
        """
        return self._handle.listing(
            "rbd_mirror_peer_site_list",
            "rbd_mirror_peer_site_t",
            "rbd_mirror_peer_site_list_cleanup",
            _converted,
            count_type="int *",
            when_empty=self._handle.require_all,
        )

    async def create_token(self) -> BootstrapToken:
        """Return a secret with which the other site adds this site as a peer.

        The call makes the user ``client.rbd-mirror-peer`` in this cluster, if there is none.

        Raises:
            InvalidArgument: The pool does not mirror its images.

        Implements: rbd_mirror_peer_bootstrap_create
        """
        return BootstrapToken(await self._handle.get_string("rbd_mirror_peer_bootstrap_create", size_type="size_t *"))

    async def import_token(
        self, token: BootstrapToken | str, direction: MirrorPeerDirection | int = MirrorPeerDirection.RX_TX
    ) -> None:
        """Add the site that created a token as a peer, and add this site there. A second import changes nothing.

        If the call is cancelled, the outcome is unknown.

        Args:
            token: The token of the other site.
            direction: Whether this pool receives images, or both sends and receives.

        Raises:
            InvalidArgument: The token is malformed, comes from this cluster, or the pool does not mirror its images.

        Implements: rbd_mirror_peer_bootstrap_import
        """
        function: Final = "rbd_mirror_peer_bootstrap_import"
        handle, on = self._handle, self._handle.about("other", "bootstrap token")
        secret = token.text if isinstance(token, BootstrapToken) else token
        if not isinstance(secret, str):
            raise TypeError(f"a token must be a BootstrapToken or str, not {type(token).__name__}")
        if not secret.isascii() or "\0" in secret or not secret:  # the error must not show the token
            raise invalid("the token is malformed", function, on)
        way = _direction(direction, function, on)
        await handle.call(function, way, secret.encode(), on=on)

    async def add(
        self, site_name: str, client_name: str, direction: MirrorPeerDirection | int = MirrorPeerDirection.RX_TX
    ) -> str:
        """Add a peer by hand, and return its id. If the call is cancelled, the outcome is unknown.

        Args:
            site_name: The name of the other site.
            client_name: The client with which the mirror daemon connects, like ``client.rbd-mirror-peer``.
            direction: Whether this pool receives images, sends images, or both.

        Raises:
            ObjectExists: The site is a peer already.
            InvalidArgument: The pool does not mirror its images.

        Implements: rbd_mirror_peer_site_add
        """
        function: Final = "rbd_mirror_peer_site_add"
        handle, on = self._handle, self._peer(site_name)
        site, client = encode_name(site_name, "site name", function), encode_name(client_name, "client name", function)
        way = _direction(direction, function, on)
        uuid = ffi.new("char[]", 128)

        def call() -> str:
            code = rbd().rbd_mirror_peer_site_add(handle.pointer, uuid, len(uuid), way, site, client)
            handle.raise_on_thread(code, function, on)
            return decode(uuid)

        return await handle.run(function, call, on=on)

    async def remove(self, uuid: str) -> None:
        """Remove a peer. If the call is cancelled, the outcome is unknown.

        Raises:
            ObjectNotFound: No peer has this id.

        Implements: rbd_mirror_peer_site_remove
        """
        function: Final = "rbd_mirror_peer_site_remove"
        handle, on, encoded = self._handle, self._peer(uuid), encode_name(uuid, "peer id", function)

        def require() -> None:  # librbd reports success for a missing peer
            if uuid not in self._uuids():
                handle.raise_for(-errno.ENOENT, function, on)

        await handle.call(function, encoded, on=on, first=require)

    async def set_site_name(self, uuid: str, name: str) -> None:
        """Change the name of a peer's site. If the call is cancelled, the outcome is unknown.

        Raises:
            ObjectNotFound: No peer has this id.

        Implements: rbd_mirror_peer_site_set_name
        """
        function: Final = "rbd_mirror_peer_site_set_name"
        await self._set(function, uuid, encode_name(name, "site name", function))

    async def set_client_name(self, uuid: str, name: str) -> None:
        """Change the client with which the mirror daemon connects. If the call is cancelled, the outcome is unknown.

        Raises:
            ObjectNotFound: No peer has this id.

        Implements: rbd_mirror_peer_site_set_client_name
        """
        function: Final = "rbd_mirror_peer_site_set_client_name"
        await self._set(function, uuid, encode_name(name, "client name", function))

    async def set_direction(self, uuid: str, direction: MirrorPeerDirection | int) -> None:
        """Change the direction of the mirroring with a peer. If the call is cancelled, the outcome is unknown.

        Raises:
            ObjectNotFound: No peer has this id.

        Implements: rbd_mirror_peer_site_set_direction
        """
        function: Final = "rbd_mirror_peer_site_set_direction"
        await self._set(function, uuid, _direction(direction, function, self._peer(uuid)))

    async def attributes(self, uuid: str) -> dict[str, str]:
        """Return the attributes of a peer, like ``mon_host`` and the secret ``key``.

        Raises:
            ObjectNotFound: No peer has this id, or it has no attributes.

        Implements: rbd_mirror_peer_site_get_attributes
        """
        function: Final = "rbd_mirror_peer_site_get_attributes"
        handle, on, encoded = self._handle, self._peer(uuid), encode_name(uuid, "peer id", function)

        def read(size: int) -> tuple[int, dict[str, str]]:
            keys, values, count = ffi.new("char[]", size), ffi.new("char[]", size), ffi.new("size_t *")
            key_length, value_length = ffi.new("size_t *", size), ffi.new("size_t *", size)
            code = rbd().rbd_mirror_peer_site_get_attributes(
                handle.pointer, encoded, keys, key_length, values, value_length, count
            )
            if code == -errno.ERANGE:
                return code, {}
            handle.raise_on_thread(code, function, on)
            return 0, dict(zip(split(keys, key_length[0]), split(values, value_length[0]), strict=True))

        return await handle.run(function, lambda: grow(read, 1024), on=on)

    async def set_attributes(self, uuid: str, attributes: Mapping[str, str]) -> None:
        """Set the attributes of a peer: the ``mon_host`` and the secret ``key`` of the other site.

        If the call is cancelled, the outcome is unknown.

        Raises:
            ObjectNotFound: No peer has this id.
            InvalidArgument: A key or a value contains NUL or is not ASCII.

        Implements: rbd_mirror_peer_site_set_attributes
        """
        function: Final = "rbd_mirror_peer_site_set_attributes"
        on = self._peer(uuid)
        if not isinstance(attributes, Mapping):
            raise TypeError(f"attributes must be a mapping, not {type(attributes).__name__}")
        for part in (*attributes, *attributes.values()):
            if not isinstance(part, str):
                raise TypeError(f"an attribute must be str, not {type(part).__name__}")
            if "\0" in part or not part.isascii():  # the error must not show a key
                raise invalid("an attribute must be ASCII without NUL", function, on)
        keys, values = ("".join(f"{part}\0" for part in parts).encode() for parts in (attributes, attributes.values()))
        await self._set(function, uuid, keys, values, len(attributes))

    async def _set(self, function: "CFunction", uuid: str, *arguments: Any) -> None:
        encoded = encode_name(uuid, "peer id", function)
        await self._handle.call(function, encoded, *arguments, on=self._peer(uuid))

    def _uuids(self) -> list[str]:
        """Return the ids of all peers. Runs on a worker thread."""
        handle, function = self._handle, "rbd_mirror_peer_site_list"

        def read(size: int) -> tuple[int, list[str]]:
            peers, count = ffi.new("rbd_mirror_peer_site_t[]", size), ffi.new("int *", size)
            code = rbd().rbd_mirror_peer_site_list(handle.pointer, peers, count)
            if code == -errno.ERANGE:
                return code, []
            handle.raise_on_thread(code, function)
            try:
                return 0, [text(peer.uuid) for peer in peers[0 : count[0]]]
            finally:
                rbd().rbd_mirror_peer_site_list_cleanup(peers, count[0])

        return grow(read, 16)


def _direction(value: MirrorPeerDirection | int, function: str, on: Target) -> int:
    wanted = number(value, "direction", function, on, bits=31)
    if wanted not in list(MirrorPeerDirection):
        raise invalid(f"no such direction: {wanted}", function, on)
    return wanted


def _converted(peer: Any) -> MirrorPeer:
    return MirrorPeer(
        text(peer.uuid),
        MirrorPeerDirection(peer.direction),
        text(peer.site_name),
        text(peer.mirror_uuid),
        text(peer.client_name),
        utc(peer.last_seen) if peer.last_seen else None,
    )
