"""Ceph RBD block images for asyncio and trio.

General layout
--------------

``enums``, ``errors``, ``models``, ``stats``: the vocabulary. ``_native`` imports the compiled modules (their source
lies in ``ffi/``), and ``_table`` the operation table's busy half, which is C as well; nobody else does.
``_marshal`` and ``options`` put values into C's shape. ``_bridge``
turns completions into tasks that go on: the operation table, the event loops' adapters, the worker threads,
the streams, counting and observing. ``_lifecycle`` is how everything opens and closes, ``_handle`` how every
call of C is made, ``_image_gate`` which calls may not meet on one image, ``_image_strays`` which writes wait for
cancelled ones, ``_endings`` how long closing may take. What users see comes last: ``image`` with
a module for each topic (``snapshots``, ``diff``, ``copying``, ``facts``, ``watch``, ``file``, ``locks``,
``metadata``), ``ioctx`` with its own (``trash``, ``namespaces``, ``objects``), ``cluster`` with ``insight``.
``testing`` starts a real cluster for tests. Imports go in this order only.
"""

from importlib.metadata import version as _installed_version

from aiorbd._bridge.listing import Listing
from aiorbd._bridge.progress import Progress
from aiorbd._resource import Opening
from aiorbd.cluster import Cluster, connect
from aiorbd.cluster_log import ClusterLog, LogLevel
from aiorbd.commands import Command
from aiorbd.diff import Diff
from aiorbd.enums import (
    FEATURE_NAMES,
    FEATURES_DEFAULT,
    FEATURES_INCOMPATIBLE,
    FEATURES_MUTABLE,
    FEATURES_RW_INCOMPATIBLE,
    FEATURES_SINGLE_CLIENT,
    Feature,
    ImageFlag,
    ImageOption,
    LockMode,
    MirrorImageMode,
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
    ClosedError,
    CloseTimeout,
    CompareMismatch,
    ConfigFileNotFound,
    ConnectionShutdown,
    DiskQuotaExceeded,
    Error,
    ForkedError,
    FunctionNotSupported,
    ImageBusy,
    ImageExists,
    ImageHasSnapshots,
    ImageMemberOfGroup,
    ImageNotFound,
    ImageShrank,
    IncompleteDiffWarning,
    IncompleteReadError,
    InterruptedOrTimeoutError,
    InvalidArgument,
    KeyringNotFound,
    LibraryNotFoundError,
    LockBusy,
    LockExists,
    LockNotFound,
    MetadataNotFound,
    NamespaceBusy,
    NamespaceExists,
    NamespaceNotFound,
    NoSpace,
    NotSupportedError,
    ObjectExists,
    ObjectNotFound,
    OperationCanceled,
    OperationNotSupported,
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
)
from aiorbd.file import BlockingImageFile, ImageFile
from aiorbd.image import Image
from aiorbd.ioctx import IoCtx
from aiorbd.library import Capabilities, capabilities, rados_version, version
from aiorbd.locks import Locks
from aiorbd.metadata import Metadata
from aiorbd.models import (
    CommandResult,
    Extent,
    ImageInfo,
    ImageSpec,
    LinkedImage,
    Locker,
    Lockers,
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
from aiorbd.namespaces import Namespaces
from aiorbd.object_watch import Notification, ObjectWatch
from aiorbd.objects import Objects
from aiorbd.options import ImageKeywords, ImageOptions
from aiorbd.pooling import ConnectionPool
from aiorbd.reader import Chunk, ReadStream
from aiorbd.snapshots import Snapshot
from aiorbd.stats import LATENCY_BOUNDS, ClusterStats, CompletedOperation, Observer, OperationStats
from aiorbd.transfer import copy_image, export_image, import_image
from aiorbd.trash import Trash
from aiorbd.watch import Updates
from aiorbd.writer import Writer

__version__ = _installed_version("aiorbd")

__all__ = [
    "FEATURES_DEFAULT",
    "FEATURES_INCOMPATIBLE",
    "FEATURES_MUTABLE",
    "FEATURES_RW_INCOMPATIBLE",
    "FEATURES_SINGLE_CLIENT",
    "FEATURE_NAMES",
    "LATENCY_BOUNDS",
    "ArgumentOutOfRange",
    "BlockingImageFile",
    "Capabilities",
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
    "ConfigFileNotFound",
    "ConnectionPool",
    "ConnectionShutdown",
    "Diff",
    "DiskQuotaExceeded",
    "Error",
    "Extent",
    "Feature",
    "ForkedError",
    "FunctionNotSupported",
    "Image",
    "ImageBusy",
    "ImageExists",
    "ImageFile",
    "ImageFlag",
    "ImageHasSnapshots",
    "ImageInfo",
    "ImageKeywords",
    "ImageMemberOfGroup",
    "ImageNotFound",
    "ImageOption",
    "ImageOptions",
    "ImageShrank",
    "ImageSpec",
    "IncompleteDiffWarning",
    "IncompleteReadError",
    "InterruptedOrTimeoutError",
    "InvalidArgument",
    "IoCtx",
    "KeyringNotFound",
    "LibraryNotFoundError",
    "LinkedImage",
    "Listing",
    "LockBusy",
    "LockExists",
    "LockMode",
    "LockNotFound",
    "Locker",
    "Lockers",
    "Locks",
    "LogEntry",
    "LogLevel",
    "Metadata",
    "MetadataNotFound",
    "MirrorImageMode",
    "NamespaceBusy",
    "NamespaceExists",
    "NamespaceNotFound",
    "Namespaces",
    "NoSpace",
    "NotSupportedError",
    "Notification",
    "NotifyReply",
    "NotifyResult",
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
    "Parent",
    "PastEndOfImage",
    "PermissionError",
    "PoolExists",
    "PoolNotFound",
    "PoolStatOption",
    "PoolStats",
    "Progress",
    "RbdError",
    "ReadOnlyImage",
    "ReadStream",
    "Snapshot",
    "SnapshotBusy",
    "SnapshotCreateFlag",
    "SnapshotExists",
    "SnapshotNamespaceType",
    "SnapshotNotFound",
    "SnapshotRemoveFlag",
    "Timeout",
    "Trash",
    "TrashEntry",
    "TrashImageSource",
    "Updates",
    "UsageError",
    "Version",
    "Watcher",
    "Writer",
    "WrongLoopError",
    "__version__",
    "capabilities",
    "connect",
    "copy_image",
    "export_image",
    "import_image",
    "rados_version",
    "version",
]
