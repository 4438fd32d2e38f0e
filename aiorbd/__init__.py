"""Ceph RBD block images for asyncio and trio.

General layout
--------------

Seven modules are the vocabulary that all others use: `enums`, `errors`, `error_codes`, `models`, `pool_models`,
`mirror_models` and `stats`. Everything else lies in one folder for each owner, and each folder imports only from the
folders below it:

* `_cluster` is a connection: options, commands, the cluster log, connections that tasks share.
* `_pool` is a pool, opened as an I/O context: images, the trash, namespaces, objects, transfers, diff streams.
* `_image` is an open image: reads, writes, streams, snapshots, diffs, copies, locks.
* `_core` leads from a completion of librbd to the task that awaits it. It has the operation table, the event-loop
  adapters, the worker threads, and the life of everything that opens and closes.
* `_native` is the door to C. It loads librados, librbd and the compiled bridge, whose source is in ``ffi/``.
* `_stream` has files, byte streams and Ceph's formats for diffs and images. It needs no library of Ceph.

The docstring of each folder's ``__init__`` tells what its modules do. `testing` starts a real cluster for tests and
uses only the public names below.
"""

from importlib.metadata import version as _installed_version

from aiorbd._cluster.cluster import DEFAULT_CONF_FILES, Cluster, connect
from aiorbd._cluster.commands import Command
from aiorbd._cluster.log import ClusterLog, LogLevel
from aiorbd._cluster.shared_connection import SharedConnection
from aiorbd._core.config import Config
from aiorbd._core.listing import Listing
from aiorbd._core.metadata import Metadata
from aiorbd._core.progress import Progress
from aiorbd._core.resource import Default, Opening
from aiorbd._image.advisory_locks import AdvisoryLocks
from aiorbd._image.diff import Diff
from aiorbd._image.encryption import Encryption
from aiorbd._image.exclusive_lock import ExclusiveLock
from aiorbd._image.file import BlockingImageFile, ImageFile
from aiorbd._image.image import Image
from aiorbd._image.mirror import ImageMirror
from aiorbd._image.quiesce import QuiesceRequest, QuiesceWatch
from aiorbd._image.read_stream import Chunk, ReadStream
from aiorbd._image.snapshots import Snapshot
from aiorbd._image.updates import Updates
from aiorbd._image.writer import Writer
from aiorbd._native.capabilities import Capabilities, capabilities, rados_version, version
from aiorbd._native.image_options import ImageKeywords, ImageOptions
from aiorbd._pool.diff_streams import export_diff, export_history, import_diff, import_history
from aiorbd._pool.group import Group
from aiorbd._pool.groups import Groups
from aiorbd._pool.ioctx import IoCtx
from aiorbd._pool.migration import Migration
from aiorbd._pool.mirror import Mirror
from aiorbd._pool.mirror_peers import MirrorPeers
from aiorbd._pool.namespaces import Namespaces
from aiorbd._pool.object_watch import Notification, ObjectWatch
from aiorbd._pool.objects import Objects
from aiorbd._pool.restore import import_into
from aiorbd._pool.transfer import copy_image, export_image, import_image
from aiorbd._pool.trash import Trash
from aiorbd._stream.merge import merge_diff
from aiorbd._stream.reader import DiffReader, read_diff
from aiorbd._stream.records import DiffData, DiffFormat, DiffHeader, DiffRecord, DiffZeroes, ExportHeader
from aiorbd._stream.source import StreamSource
from aiorbd._stream.target import StreamTarget
from aiorbd.enums import (
    FEATURE_NAMES,
    FEATURES_DEFAULT,
    FEATURES_INCOMPATIBLE,
    FEATURES_MUTABLE,
    FEATURES_RW_INCOMPATIBLE,
    FEATURES_SINGLE_CLIENT,
    ConfigSource,
    EncryptionAlgorithm,
    EncryptionFormat,
    Feature,
    GroupImageState,
    GroupSnapshotNamespaceType,
    GroupSnapshotState,
    ImageFlag,
    ImageOption,
    LockMode,
    MigrationState,
    MirrorImageMode,
    MirrorImageState,
    MirrorMode,
    MirrorPeerDirection,
    MirrorSnapshotState,
    MirrorStatusState,
    OperationFeature,
    OpFlag,
    PoolStatOption,
    SnapshotCreateFlag,
    SnapshotNamespaceType,
    SnapshotRemoveFlag,
    TrashImageSource,
)
from aiorbd.errors import (
    ArgumentOutOfRange,
    ChecksumMismatch,
    ClosedError,
    CloseTimeout,
    CompareMismatch,
    ConfigFileNotFound,
    ConnectionShutdown,
    DiffFormatError,
    DiffMismatchError,
    DiskQuotaExceeded,
    Error,
    ForkedError,
    FunctionNotSupported,
    GroupExists,
    GroupNotFound,
    ImageBusy,
    ImageExists,
    ImageHasSnapshots,
    ImageMemberOfGroup,
    ImageNotEncrypted,
    ImageNotFound,
    ImageShrank,
    ImageTooSmall,
    IncompleteDiffWarning,
    InterruptedOrTimeoutError,
    InvalidArgument,
    KeyringNotFound,
    LibraryNotFoundError,
    LibraryTooOldError,
    LockBusy,
    LockExists,
    LockNotFound,
    MetadataNotFound,
    NamespaceBusy,
    NamespaceExists,
    NamespaceNotFound,
    NoSpace,
    NotSupportedError,
    ObjectBusy,
    ObjectExists,
    ObjectNotFound,
    OperationCanceled,
    OperationNotSupported,
    OptionNotFound,
    PastEndOfImage,
    PermissionError,  # noqa: A004 - the name in Python's `rbd` module
    PoolExists,
    PoolNotFound,
    RbdError,
    ReadOnlyImage,
    SnapshotBusy,
    SnapshotExists,
    SnapshotNotFound,
    Timeout,
    UsageError,
    WrongLoopError,
    WrongPassphrase,
)
from aiorbd.mirror_models import (
    BootstrapToken,
    MirroredImage,
    MirrorImageInfo,
    MirrorImageStatus,
    MirrorPeer,
    MirrorSiteStatus,
    MirrorSnapshotInfo,
)
from aiorbd.models import (
    CommandResult,
    Extent,
    ImageInfo,
    ImageSpec,
    LinkedImage,
    Locker,
    LockOwner,
    LogEntry,
    NotifyReply,
    NotifyResult,
    ObjectStat,
    Parent,
    PoolStats,
    TrashEntry,
    Version,
    Watcher,
)
from aiorbd.pool_models import (
    ConfigOption,
    DiskUsage,
    GroupImage,
    GroupMemberSnapshot,
    GroupSnapshot,
    GroupSnapshotInfo,
    GroupSpec,
    ImageDiskUsage,
    MigrationStatus,
    TrashSnapshotInfo,
    UsageEntry,
)
from aiorbd.stats import (
    LATENCY_BOUNDS,
    ClusterStats,
    CompletedOperation,
    Observer,
    OperationStats,
    StartedOperation,
    StartObserver,
)

__version__ = _installed_version("aiorbd")

__all__ = [
    "DEFAULT_CONF_FILES",
    "FEATURES_DEFAULT",
    "FEATURES_INCOMPATIBLE",
    "FEATURES_MUTABLE",
    "FEATURES_RW_INCOMPATIBLE",
    "FEATURES_SINGLE_CLIENT",
    "FEATURE_NAMES",
    "LATENCY_BOUNDS",
    "AdvisoryLocks",
    "ArgumentOutOfRange",
    "BlockingImageFile",
    "BootstrapToken",
    "Capabilities",
    "ChecksumMismatch",
    "Chunk",
    "CloseTimeout",
    "ClosedError",
    "Cluster",
    "ClusterLog",
    "ClusterStats",
    "Command",
    "CommandResult",
    "CompareMismatch",
    "CompletedOperation",
    "Config",
    "ConfigFileNotFound",
    "ConfigOption",
    "ConfigSource",
    "ConnectionShutdown",
    "Default",
    "Diff",
    "DiffData",
    "DiffFormat",
    "DiffFormatError",
    "DiffHeader",
    "DiffMismatchError",
    "DiffReader",
    "DiffRecord",
    "DiffZeroes",
    "DiskQuotaExceeded",
    "DiskUsage",
    "Encryption",
    "EncryptionAlgorithm",
    "EncryptionFormat",
    "Error",
    "ExclusiveLock",
    "ExportHeader",
    "Extent",
    "Feature",
    "ForkedError",
    "FunctionNotSupported",
    "Group",
    "GroupExists",
    "GroupImage",
    "GroupImageState",
    "GroupMemberSnapshot",
    "GroupNotFound",
    "GroupSnapshot",
    "GroupSnapshotInfo",
    "GroupSnapshotNamespaceType",
    "GroupSnapshotState",
    "GroupSpec",
    "Groups",
    "Image",
    "ImageBusy",
    "ImageDiskUsage",
    "ImageExists",
    "ImageFile",
    "ImageFlag",
    "ImageHasSnapshots",
    "ImageInfo",
    "ImageKeywords",
    "ImageMemberOfGroup",
    "ImageMirror",
    "ImageNotEncrypted",
    "ImageNotFound",
    "ImageOption",
    "ImageOptions",
    "ImageShrank",
    "ImageSpec",
    "ImageTooSmall",
    "IncompleteDiffWarning",
    "InterruptedOrTimeoutError",
    "InvalidArgument",
    "IoCtx",
    "KeyringNotFound",
    "LibraryNotFoundError",
    "LibraryTooOldError",
    "LinkedImage",
    "Listing",
    "LockBusy",
    "LockExists",
    "LockMode",
    "LockNotFound",
    "LockOwner",
    "Locker",
    "LogEntry",
    "LogLevel",
    "Metadata",
    "MetadataNotFound",
    "Migration",
    "MigrationState",
    "MigrationStatus",
    "Mirror",
    "MirrorImageInfo",
    "MirrorImageMode",
    "MirrorImageState",
    "MirrorImageStatus",
    "MirrorMode",
    "MirrorPeer",
    "MirrorPeerDirection",
    "MirrorPeers",
    "MirrorSiteStatus",
    "MirrorSnapshotInfo",
    "MirrorSnapshotState",
    "MirrorStatusState",
    "MirroredImage",
    "NamespaceBusy",
    "NamespaceExists",
    "NamespaceNotFound",
    "Namespaces",
    "NoSpace",
    "NotSupportedError",
    "Notification",
    "NotifyReply",
    "NotifyResult",
    "ObjectBusy",
    "ObjectExists",
    "ObjectNotFound",
    "ObjectStat",
    "ObjectWatch",
    "Objects",
    "Observer",
    "OpFlag",
    "Opening",
    "OperationCanceled",
    "OperationFeature",
    "OperationNotSupported",
    "OperationStats",
    "OptionNotFound",
    "Parent",
    "PastEndOfImage",
    "PermissionError",
    "PoolExists",
    "PoolNotFound",
    "PoolStatOption",
    "PoolStats",
    "Progress",
    "QuiesceRequest",
    "QuiesceWatch",
    "RbdError",
    "ReadOnlyImage",
    "ReadStream",
    "SharedConnection",
    "Snapshot",
    "SnapshotBusy",
    "SnapshotCreateFlag",
    "SnapshotExists",
    "SnapshotNamespaceType",
    "SnapshotNotFound",
    "SnapshotRemoveFlag",
    "StartObserver",
    "StartedOperation",
    "StreamSource",
    "StreamTarget",
    "Timeout",
    "Trash",
    "TrashEntry",
    "TrashImageSource",
    "TrashSnapshotInfo",
    "Updates",
    "UsageEntry",
    "UsageError",
    "Version",
    "Watcher",
    "Writer",
    "WrongLoopError",
    "WrongPassphrase",
    "__version__",
    "capabilities",
    "connect",
    "copy_image",
    "export_diff",
    "export_history",
    "export_image",
    "import_diff",
    "import_history",
    "import_image",
    "import_into",
    "merge_diff",
    "rados_version",
    "read_diff",
    "version",
]


def _show_as_public() -> None:
    """Let tracebacks, pickles and documentation name the place from which users import."""
    for name in __all__:
        value = globals()[name]
        if getattr(value, "__module__", "").startswith("aiorbd."):
            value.__module__ = __name__


_show_as_public()
