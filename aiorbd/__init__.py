"""Ceph RBD block images for asyncio and trio.

General layout
--------------

``errors``, ``enums``, ``models``: the vocabulary. ``_native`` is the only importer of the compiled
modules (their source lies in ``ffi/``), ``_marshal`` and ``options`` put values into C's shape.
``_bridge`` turns completions into tasks that go on: the operation table, the event loops' adapters,
the worker threads. ``_handle`` is how everything opens and closes. ``cluster``, ``ioctx`` and
``image`` are what users see; ``testing`` starts a real cluster for tests. Imports go in this order
only.
"""

from importlib.metadata import version as _version

from aiorbd._resource import Opening
from aiorbd.cluster import Cluster, connect
from aiorbd.enums import Feature, ImageOption, MirrorImageMode, OpFlag
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
    ImageNotFound,
    IncompleteReadError,
    InterruptedOrTimeoutError,
    InvalidArgument,
    KeyringNotFound,
    LibraryNotFoundError,
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
    SnapshotNotFound,
    Timeout,
    UsageError,
    WrongLoopError,
)
from aiorbd.image import Image
from aiorbd.ioctx import IoCtx
from aiorbd.models import CommandResult, ImageInfo, ImageSpec

__version__ = _version("aiorbd")

__all__ = [
    "ArgumentOutOfRange",
    "CloseTimeout",
    "ClosedError",
    "Cluster",
    "CommandResult",
    "CompareMismatch",
    "ConfigFileNotFound",
    "ConnectionShutdown",
    "DiskQuotaExceeded",
    "Error",
    "Feature",
    "ForkedError",
    "FunctionNotSupported",
    "Image",
    "ImageBusy",
    "ImageExists",
    "ImageHasSnapshots",
    "ImageInfo",
    "ImageNotFound",
    "ImageOption",
    "ImageSpec",
    "IncompleteReadError",
    "InterruptedOrTimeoutError",
    "InvalidArgument",
    "IoCtx",
    "KeyringNotFound",
    "LibraryNotFoundError",
    "MirrorImageMode",
    "NoSpace",
    "NotSupportedError",
    "ObjectExists",
    "ObjectNotFound",
    "OpFlag",
    "Opening",
    "OperationCanceled",
    "OperationNotSupported",
    "PastEndOfImage",
    "PermissionError",
    "PoolExists",
    "PoolNotFound",
    "RbdError",
    "ReadOnlyImage",
    "SnapshotNotFound",
    "Timeout",
    "UsageError",
    "WrongLoopError",
    "__version__",
    "connect",
]
