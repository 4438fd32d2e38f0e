"""The results of calls about groups, options, migrations and the origin of snapshots."""

from dataclasses import dataclass

from aiorbd.enums import (
    ConfigSource,
    GroupImageState,
    GroupSnapshotNamespaceType,
    GroupSnapshotState,
    MigrationState,
    SnapshotNamespaceType,
)


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """The group of an image, or the group snapshot that a snapshot belongs to.

    Attributes:
        pool_id: The id of the group's pool.
        name: The name of the group.
        snapshot: The name of the group snapshot; None for the group of an image.
    """

    pool_id: int
    name: str
    snapshot: str | None = None


@dataclass(frozen=True, slots=True)
class TrashSnapshotInfo:
    """What a snapshot was before it was moved to the trash of snapshots.

    Attributes:
        name: The name that the snapshot had.
        namespace_type: The kind that the snapshot had. None with librbd before 19.2, which does not tell.
    """

    name: str
    namespace_type: SnapshotNamespaceType | None


@dataclass(frozen=True, slots=True)
class GroupImage:
    """A member image of a group.

    Attributes:
        name: The name of the image.
        pool_id: The id of the image's pool.
        state: ``ATTACHED``; or ``INCOMPLETE`` while the image is added or removed, or after that was interrupted.
    """

    name: str
    pool_id: int
    state: GroupImageState


@dataclass(frozen=True, slots=True)
class GroupSnapshot:
    """A snapshot of a group.

    Attributes:
        name: The name of the snapshot.
        state: ``INCOMPLETE`` while the snapshot is taken, or after that was interrupted.
    """

    name: str
    state: GroupSnapshotState


@dataclass(frozen=True, slots=True)
class GroupMemberSnapshot:
    """The snapshot of one member image, which belongs to a group snapshot.

    Attributes:
        image_name: The name of the image.
        pool_id: The id of the image's pool.
        snapshot_id: The id of the image's snapshot.
    """

    image_name: str
    pool_id: int
    snapshot_id: int


@dataclass(frozen=True, slots=True)
class GroupSnapshotInfo:
    """A snapshot of a group, with the snapshots of the members.

    Attributes:
        id: The id of the group snapshot.
        name: The name of the group snapshot.
        state: ``INCOMPLETE`` while the snapshot is taken, or after that was interrupted.
        namespace_type: The kind of the group snapshot, by its owner.
        image_snapshot_name: The name that the snapshot has in each member image.
        members: The snapshot of each member.
    """

    id: str
    name: str
    state: GroupSnapshotState
    namespace_type: GroupSnapshotNamespaceType
    image_snapshot_name: str
    members: tuple[GroupMemberSnapshot, ...]


@dataclass(frozen=True, slots=True)
class ConfigOption:
    """An option of librbd, with the value that applies to an image or a pool.

    Attributes:
        name: The name of the option, like ``rbd_cache``.
        value: The value as text.
        source: Whether the value comes from Ceph's configuration, from the pool or from the image.
    """

    name: str
    value: str
    source: ConfigSource


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """The state of a migration, with its source and its destination.

    Attributes:
        source_pool_id: The id of the source's pool; -1 for an import.
        source_pool_namespace: The namespace of the source.
        source_image_name: The name of the source image.
        source_image_id: The id of the source image.
        dest_pool_id: The id of the destination's pool.
        dest_pool_namespace: The namespace of the destination.
        dest_image_name: The name of the destination image.
        dest_image_id: The id of the destination image.
        state: The state of the migration.
        state_description: A text about the state, mostly for errors.
    """

    source_pool_id: int
    source_pool_namespace: str
    source_image_name: str
    source_image_id: str
    dest_pool_id: int
    dest_pool_namespace: str
    dest_image_name: str
    dest_image_id: str
    state: MigrationState
    state_description: str


@dataclass(frozen=True, slots=True)
class UsageEntry:
    """The size and the used bytes of an image at a snapshot, or of its current data.

    Attributes:
        snapshot: The name of the snapshot; None for the current data.
        provisioned: The size of the image in bytes.
        used: The bytes that exist, and changed since the snapshot before.
    """

    snapshot: str | None
    provisioned: int
    used: int


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """The bytes that an image uses, in total and for each snapshot.

    Attributes:
        entries: The snapshots, oldest first. The state that the image is read at comes last.
        exact: Whether bytes were counted instead of whole objects.
    """

    entries: tuple[UsageEntry, ...]
    exact: bool

    @property
    def provisioned(self) -> int:
        """The size of the newest entry in bytes."""
        return self.entries[-1].provisioned if self.entries else 0

    @property
    def used(self) -> int:
        """The bytes that all entries use together."""
        return sum(entry.used for entry in self.entries)


@dataclass(frozen=True, slots=True)
class ImageDiskUsage:
    """The used bytes of one image of a pool.

    Attributes:
        name: The name of the image.
        id: The id of the image.
        usage: The used bytes.
    """

    name: str
    id: str
    usage: DiskUsage
