"""Ceph RBD block images for asyncio and trio.

General layout
--------------

Four modules are the vocabulary that all others use: `enums`, `errors`, `models` and `stats`. Everything else lies in
one folder for each owner, and each folder imports only from the folders above it:

* `_native` is the door to C. It loads librados, librbd and the compiled bridge, whose source is in ``ffi/``.
* `_core` leads from a completion of librbd to the task that awaits it. It has the operation table, the event-loop
  adapters, the worker threads, and the life of everything that opens and closes.
* `_image` is an open image: reads, writes, streams, snapshots, diffs, copies, locks.
* `_pool` is a pool, opened as an I/O context: images, the trash, namespaces, objects, transfers.
* `_cluster` is a connection: options, commands, the cluster log, connections that tasks share.

The docstring of each folder's ``__init__`` tells what its modules do. `testing` starts a real cluster for tests and
uses only the public names below.
"""

from importlib.metadata import version as _installed_version

from aiorbd._cluster.cluster import DEFAULT_CONF_FILES, Cluster, connect
from aiorbd._cluster.commands import Command
from aiorbd._cluster.log import ClusterLog, LogLevel
from aiorbd._cluster.shared_connection import SharedConnection
from aiorbd._core.listing import Listing
from aiorbd._core.metadata import Metadata
from aiorbd._core.progress import Progress
from aiorbd._core.resource import Default, Opening
from aiorbd._image.advisory_locks import AdvisoryLocks
from aiorbd._image.diff import Diff
from aiorbd._image.exclusive_lock import ExclusiveLock
from aiorbd._image.file import BlockingImageFile, ImageFile
from aiorbd._image.image import Image
from aiorbd._image.read_stream import Chunk, ReadStream
from aiorbd._image.snapshots import Snapshot
from aiorbd._image.updates import Updates
from aiorbd._image.writer import Writer
from aiorbd._native.capabilities import Capabilities, capabilities, rados_version, version
from aiorbd._native.image_options import ImageKeywords, ImageOptions
from aiorbd._pool.ioctx import IoCtx
from aiorbd._pool.namespaces import Namespaces
from aiorbd._pool.object_watch import Notification, ObjectWatch
from aiorbd._pool.objects import Objects
from aiorbd._pool.transfer import copy_image, export_image, import_image
from aiorbd._pool.trash import Trash
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
    "ConnectionShutdown",
    "Default",
    "Diff",
    "DiskQuotaExceeded",
    "Error",
    "ExclusiveLock",
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


def _show_as_public() -> None:
    """Let tracebacks, pickles and documentation name the place from which users import."""
    for name in __all__:
        value = globals()[name]
        if getattr(value, "__module__", "").startswith("aiorbd."):
            value.__module__ = __name__


_show_as_public()
