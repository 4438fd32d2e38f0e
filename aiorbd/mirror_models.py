"""The results of calls about mirroring."""

from dataclasses import dataclass, field
from datetime import datetime

from aiorbd.enums import (
    MirrorImageMode,
    MirrorImageState,
    MirrorPeerDirection,
    MirrorSnapshotState,
    MirrorStatusState,
)


@dataclass(frozen=True, slots=True)
class MirrorPeer:
    """A cluster with which a pool mirrors its images.

    Attributes:
        uuid: The id of the peer in this pool.
        direction: Whether the pool receives images from the peer, sends images to the peer, or both.
        site_name: The name of the other site.
        mirror_uuid: The id of the pool on the other site; empty while unknown.
        client_name: The name of the client with which the mirror daemon connects to the other site.
        last_seen: The time when the daemon of the other site was last seen; None for never.
    """

    uuid: str
    direction: MirrorPeerDirection
    site_name: str
    mirror_uuid: str
    client_name: str
    last_seen: datetime | None


@dataclass(frozen=True, slots=True)
class MirrorImageInfo:
    """The mirroring of one image, as its own cluster knows it.

    Attributes:
        global_id: The id that the image has on all sites; empty without mirroring.
        state: The state of the mirroring.
        primary: Whether this site has the copy that clients may write to; None if a list does not tell.
    """

    global_id: str
    state: MirrorImageState
    primary: bool | None


@dataclass(frozen=True, slots=True)
class MirrorSiteStatus:
    """The state of an image on one site, as the mirror daemon of the site reports it.

    Attributes:
        mirror_uuid: The id of the site's pool; empty for this site.
        state: The state that the daemon reports.
        description: A text about the state. Often JSON follows after a comma.
        last_update: The time of the report; None for never.
        up: Whether a daemon works on the image now.
    """

    mirror_uuid: str
    state: MirrorStatusState
    description: str
    last_update: datetime | None
    up: bool


@dataclass(frozen=True, slots=True)
class MirrorImageStatus:
    """The state of a mirrored image on all sites.

    Attributes:
        id: The id of the image in this cluster.
        name: The name of the image.
        info: The mirroring of the image.
        sites: The reports of the sites.
    """

    id: str
    name: str
    info: MirrorImageInfo
    sites: tuple[MirrorSiteStatus, ...]

    @property
    def local(self) -> MirrorSiteStatus | None:
        """The report of this site; None if there is none."""
        return next((site for site in self.sites if not site.mirror_uuid), None)


@dataclass(frozen=True, slots=True)
class MirroredImage:
    """A mirrored image in a list.

    Attributes:
        id: The id of the image.
        mode: Whether a journal or snapshots carry the changes.
        info: The mirroring of the image.
    """

    id: str
    mode: MirrorImageMode
    info: MirrorImageInfo


@dataclass(frozen=True, slots=True)
class MirrorSnapshotInfo:
    """The role of a snapshot that belongs to mirroring.

    Attributes:
        state: The role of the snapshot.
        peer_uuids: The ids of the peers that have not copied the snapshot yet.
        complete: Whether the snapshot has all its data.
        primary_mirror_uuid: The id of the pool from which the snapshot was copied; empty for a primary one.
        primary_snapshot_id: The id of the snapshot there.
        last_copied_object: The number of the object that was copied last.
    """

    state: MirrorSnapshotState
    peer_uuids: tuple[str, ...]
    complete: bool
    primary_mirror_uuid: str
    primary_snapshot_id: int
    last_copied_object: int


@dataclass(frozen=True, slots=True)
class BootstrapToken:
    """A secret with which the other site adds this site as a peer: `MirrorPeers.create_token`.

    The token contains a key of the cluster. So its `repr` does not show the token.

    Attributes:
        text: The token, for `MirrorPeers.import_token` and for ``rbd mirror pool peer bootstrap import``.
    """

    text: str = field(repr=False)
