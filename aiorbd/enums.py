"""Ceph's integer constants by name. A test compares each value with the C headers."""

from collections.abc import Iterable
from enum import IntEnum, IntFlag
from typing import Final, Self


class OpFlag(IntFlag):
    """Hints for one read or write. librbd passes the hints on to the OSDs (``LIBRADOS_OP_FLAG_...``)."""

    NONE = 0
    EXCL = 0x1
    FAILOK = 0x2
    FADVISE_RANDOM = 0x4
    FADVISE_SEQUENTIAL = 0x8
    FADVISE_WILLNEED = 0x10
    FADVISE_DONTNEED = 0x20
    FADVISE_NOCACHE = 0x40
    FADVISE_FUA = 0x80


class Feature(IntFlag):
    """Features of an image (``RBD_FEATURE_...``). Bits without a name here are kept."""

    LAYERING = 1 << 0
    STRIPINGV2 = 1 << 1
    EXCLUSIVE_LOCK = 1 << 2
    OBJECT_MAP = 1 << 3
    FAST_DIFF = 1 << 4
    DEEP_FLATTEN = 1 << 5
    JOURNALING = 1 << 6
    DATA_POOL = 1 << 7
    OPERATIONS = 1 << 8
    MIGRATING = 1 << 9
    NON_PRIMARY = 1 << 10
    DIRTY_CACHE = 1 << 11

    def names(self) -> list[str]:
        """Return the feature names that the ``rbd`` tool shows, like ``exclusive-lock``. Unknown bits have no names."""
        return [name for feature, name in FEATURE_NAMES.items() if feature in self]

    @classmethod
    def from_names(cls, names: str | Iterable[str]) -> Self:
        """Return the features with these names.

        Args:
            names: The names; or one text, as in the option ``rbd_default_features``: names with commas between them, or
                a number.

        Raises:
            ValueError: No feature has that name.
        """
        if isinstance(names, str):
            names = [name for part in names.split(",") if (name := part.strip())]
            if len(names) == 1 and names[0].isdecimal():
                return cls(int(names[0]))
        by_name = {name: feature for feature, name in FEATURE_NAMES.items()}
        features = cls(0)
        for name in names:
            if name not in by_name:
                raise ValueError(f"no such feature: {name!r}; known are {', '.join(by_name)}")
            features |= by_name[name]
        return features


#: The name of each feature in the ``rbd`` tool and its configuration (``RBD_FEATURE_NAME_...``).
FEATURE_NAMES: Final = {
    Feature.LAYERING: "layering",
    Feature.STRIPINGV2: "striping",
    Feature.EXCLUSIVE_LOCK: "exclusive-lock",
    Feature.OBJECT_MAP: "object-map",
    Feature.FAST_DIFF: "fast-diff",
    Feature.DEEP_FLATTEN: "deep-flatten",
    Feature.JOURNALING: "journaling",
    Feature.DATA_POOL: "data-pool",
    Feature.OPERATIONS: "operations",
    Feature.MIGRATING: "migrating",
    Feature.NON_PRIMARY: "non-primary",
    Feature.DIRTY_CACHE: "dirty-cache",
}

#: The default features of new images (``RBD_FEATURES_...``).
FEATURES_DEFAULT: Final = (
    Feature.LAYERING | Feature.EXCLUSIVE_LOCK | Feature.OBJECT_MAP | Feature.FAST_DIFF | Feature.DEEP_FLATTEN
)
#: A client that does not know one of these features cannot open the image.
FEATURES_INCOMPATIBLE: Final = Feature.LAYERING | Feature.STRIPINGV2 | Feature.DATA_POOL | Feature.DIRTY_CACHE
#: A client that does not know one of these features cannot write to the image.
FEATURES_RW_INCOMPATIBLE: Final = (
    FEATURES_INCOMPATIBLE
    | Feature.EXCLUSIVE_LOCK
    | Feature.OBJECT_MAP
    | Feature.FAST_DIFF
    | Feature.DEEP_FLATTEN
    | Feature.JOURNALING
    | Feature.OPERATIONS
    | Feature.MIGRATING
    | Feature.NON_PRIMARY
)
#: Features that can be enabled and disabled on an existing image.
FEATURES_MUTABLE: Final = (
    Feature.EXCLUSIVE_LOCK
    | Feature.OBJECT_MAP
    | Feature.FAST_DIFF
    | Feature.JOURNALING
    | Feature.NON_PRIMARY
    | Feature.DIRTY_CACHE
)
#: Features that make sense only with one writer at a time.
FEATURES_SINGLE_CLIENT: Final = (
    Feature.EXCLUSIVE_LOCK | Feature.OBJECT_MAP | Feature.FAST_DIFF | Feature.JOURNALING | Feature.DIRTY_CACHE
)


class OperationFeature(IntFlag):
    """The ways in which an image is used (``RBD_OPERATION_FEATURE_...``)."""

    CLONE_PARENT = 1 << 0
    CLONE_CHILD = 1 << 1
    GROUP = 1 << 2
    SNAP_TRASH = 1 << 3


class ImageFlag(IntFlag):
    """The data about an image that is out of date (``RBD_FLAG_...``)."""

    OBJECT_MAP_INVALID = 1 << 0
    FAST_DIFF_INVALID = 1 << 1


class ImageOption(IntEnum):
    """The options for creating an image (``RBD_IMAGE_OPTION_...``)."""

    FORMAT = 0
    FEATURES = 1
    ORDER = 2
    STRIPE_UNIT = 3
    STRIPE_COUNT = 4
    JOURNAL_ORDER = 5
    JOURNAL_SPLAY_WIDTH = 6
    JOURNAL_POOL = 7
    FEATURES_SET = 8
    FEATURES_CLEAR = 9
    DATA_POOL = 10
    FLATTEN = 11
    CLONE_FORMAT = 12
    MIRROR_IMAGE_MODE = 13


class MirrorImageMode(IntEnum):
    """The modes of mirroring an image (``RBD_MIRROR_IMAGE_MODE_...``)."""

    JOURNAL = 0
    SNAPSHOT = 1


class SnapshotNamespaceType(IntEnum):
    """The kinds of snapshots, by their owner (``RBD_SNAP_NAMESPACE_TYPE_...``)."""

    USER = 0
    GROUP = 1
    TRASH = 2
    MIRROR = 3


class SnapshotCreateFlag(IntFlag):
    """Flags for taking a snapshot (``RBD_SNAP_CREATE_...``)."""

    NONE = 0
    SKIP_QUIESCE = 1 << 0
    IGNORE_QUIESCE_ERROR = 1 << 1


class SnapshotRemoveFlag(IntFlag):
    """Steps that come before the removal of a snapshot in use (``RBD_SNAP_REMOVE_...``)."""

    NONE = 0
    UNPROTECT = 1 << 0
    FLATTEN = 1 << 1
    FORCE = UNPROTECT | FLATTEN


class LockMode(IntEnum):
    """The modes of an image's exclusive lock (``RBD_LOCK_MODE_...``). Ceph 18.2 lacks ``EXCLUSIVE_TRANSIENT``."""

    EXCLUSIVE = 0
    SHARED = 1
    EXCLUSIVE_TRANSIENT = 2


class TrashImageSource(IntEnum):
    """The origin of an image's move to the trash (``RBD_TRASH_IMAGE_SOURCE_...``)."""

    USER = 0
    MIRRORING = 1
    MIGRATION = 2
    REMOVING = 3
    USER_PARENT = 4


class PoolStatOption(IntEnum):
    """The statistics in `PoolStats` (``RBD_POOL_STAT_OPTION_...``)."""

    IMAGES = 0
    IMAGE_PROVISIONED_BYTES = 1
    IMAGE_MAX_PROVISIONED_BYTES = 2
    IMAGE_SNAPSHOTS = 3
    TRASH_IMAGES = 4
    TRASH_PROVISIONED_BYTES = 5
    TRASH_MAX_PROVISIONED_BYTES = 6
    TRASH_SNAPSHOTS = 7


class GroupImageState(IntEnum):
    """The states of an image in a group (``RBD_GROUP_IMAGE_STATE_...``)."""

    ATTACHED = 0
    INCOMPLETE = 1


class GroupSnapshotState(IntEnum):
    """The states of a group snapshot (``RBD_GROUP_SNAP_STATE_...``). An incomplete one cannot be rolled back to."""

    INCOMPLETE = 0
    COMPLETE = 1


class GroupSnapshotNamespaceType(IntEnum):
    """The kinds of group snapshots, by their owner (``RBD_GROUP_SNAP_NAMESPACE_TYPE_...``)."""

    USER = 0


class ConfigSource(IntEnum):
    """The place where the value of an option was set (``RBD_CONFIG_SOURCE_...``)."""

    CONFIG = 0
    POOL = 1
    IMAGE = 2


class MigrationState(IntEnum):
    """The states of a migration (``RBD_IMAGE_MIGRATION_STATE_...``)."""

    UNKNOWN = -1
    ERROR = 0
    PREPARING = 1
    PREPARED = 2
    EXECUTING = 3
    EXECUTED = 4
    ABORTING = 5


class EncryptionFormat(IntEnum):
    """The formats of an encrypted image (``RBD_ENCRYPTION_FORMAT_...``). ``LUKS`` is for loading only, from 18.2."""

    LUKS1 = 0
    LUKS2 = 1
    LUKS = 2


class EncryptionAlgorithm(IntEnum):
    """The ciphers of an encrypted image (``RBD_ENCRYPTION_ALGORITHM_...``), in XTS mode."""

    AES128 = 0
    AES256 = 1


class MirrorMode(IntEnum):
    """The modes of mirroring a pool (``RBD_MIRROR_MODE_...``)."""

    DISABLED = 0
    IMAGE = 1
    POOL = 2
    INIT_ONLY = 3


class MirrorPeerDirection(IntEnum):
    """The directions in which a peer mirrors (``RBD_MIRROR_PEER_DIRECTION_...``), seen from the pool."""

    RX = 0
    TX = 1
    RX_TX = 2


class MirrorImageState(IntEnum):
    """The states of the mirroring of an image (``RBD_MIRROR_IMAGE_...``)."""

    DISABLING = 0
    ENABLED = 1
    DISABLED = 2
    CREATING = 3


class MirrorStatusState(IntEnum):
    """The states that a mirror daemon reports for an image (``MIRROR_IMAGE_STATUS_STATE_...``)."""

    UNKNOWN = 0
    ERROR = 1
    SYNCING = 2
    STARTING_REPLAY = 3
    REPLAYING = 4
    STOPPING_REPLAY = 5
    STOPPED = 6


class MirrorSnapshotState(IntEnum):
    """The roles of a mirror snapshot (``RBD_SNAP_MIRROR_STATE_...``)."""

    PRIMARY = 0
    PRIMARY_DEMOTED = 1
    NON_PRIMARY = 2
    NON_PRIMARY_DEMOTED = 3
