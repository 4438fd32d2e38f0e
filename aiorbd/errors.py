"""The exceptions of this package.

Three families derive from :class:`Error`. :class:`RbdError` and its subclasses report the answers of Ceph. They are
also `OSError`s and carry an errno. :class:`UsageError` and its subclasses report misuse that never reached Ceph.
:class:`NotSupportedError` and its subclasses report what this librbd, or this image, does not support.

The names follow one rule. A subclass of `RbdError` is named after the condition, without ``Error``: `ImageNotFound`.
All other classes end in ``Error`` or ``Warning``: `ClosedError`. A name that Python's `rbd` module has stays as it is
there.
"""

import builtins
import errno as _errno
import os
from dataclasses import dataclass
from typing import Any, Final, Literal

#: The kind of a call's target. The kind and an errno select the class of the exception.
Subject = Literal["image", "pool", "cluster", "keyring", "snapshot", "namespace", "lock", "key", "object", "other"]


#: The largest number of characters of a message or a target.
_LONGEST: Final = 400


def shortened(text: str) -> str:
    """Return a text for a message, without the middle of a very long text."""
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2 - 10
    return f"{text[:half]} [...] {text[-half:]}"


@dataclass(frozen=True, slots=True)
class Target:
    """The target of a call: the target's kind, and its name in errors."""

    kind: Subject
    label: str

    def __str__(self) -> str:
        return self.label


class Error(Exception):
    """The base class of this package's own exceptions."""


class UsageError(Error, RuntimeError):
    """The program used the library in a way that cannot work. Nothing reached Ceph."""


class ClosedError(UsageError):
    """The cluster, I/O context or image is closed or closing."""


class WrongLoopError(UsageError):
    """The cluster belongs to another event loop, or no event loop is running."""


class ForkedError(UsageError):
    """The parent process connected the cluster. Connect again in the child process."""


class NotSupportedError(Error):
    """The call is not supported: by the library on this host, by the cluster, or by the image. See the subclasses."""


class LibraryTooOldError(NotSupportedError, NotImplementedError):
    """The host's librbd or librados is too old for this call. Nothing reached Ceph.

    Attributes:
        function: The missing C function.
        since: The Ceph release that introduced the function.
        library: The loaded library that lacks the function.
        found: The version of this library.
    """

    def __init__(self, function: str, since: str, library: str, found: str) -> None:
        super().__init__(function, since, library, found)
        self.function = function
        self.since = since
        self.library = library
        self.found = found

    def __str__(self) -> str:
        return f"{self.function} needs Ceph {self.since} or newer; {self.library}, version {self.found}, lacks it"


class LibraryNotFoundError(Error, ImportError):
    """librbd or librados cannot be loaded on this host."""


class IncompleteDiffWarning(UserWarning):
    """A diff of a clone with `include_parent=False` may lack the ranges that the clone emptied. See `Image.diff`."""


class RbdError(Error, OSError):
    """Ceph refused or failed a call.

    Attributes:
        errno: The positive error number.
        operation: The C function that returned the error, or that would have been called. Empty if there is no such
            function.
        target: The target of the call, for example ``image 'rbd/vm-1'``. A long name is shortened.
    """

    operation: str
    target: str

    def __init__(self, errno: int, message: str | None = None, operation: str = "", target: str = "") -> None:
        super().__init__(errno, shortened(message) if message is not None else os.strerror(errno))
        self.operation = operation
        self.target = shortened(target)

    def __str__(self) -> str:
        where = " on ".join(part for part in (self.operation, self.target) if part)
        name = _errno.errorcode.get(self.errno or 0, str(self.errno))
        return f"{self.strerror} [{name}]" + (f" ({where})" if where else "")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.errno}, {self.strerror!r}, {self.operation!r}, {self.target!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.errno, self.strerror, self.operation, self.target)


class ObjectNotFound(RbdError, FileNotFoundError):
    """A named item does not exist. Subclasses tell the kind of the item."""


class ImageNotFound(ObjectNotFound):
    """The image does not exist."""


class SnapshotNotFound(ObjectNotFound):
    """The image has no such snapshot."""


class PoolNotFound(ObjectNotFound):
    """The pool, the data pool or the journal pool does not exist."""


class NamespaceNotFound(ObjectNotFound):
    """The pool has no such namespace."""


class LockNotFound(ObjectNotFound):
    """No client holds such a lock."""


class MetadataNotFound(ObjectNotFound, KeyError):
    """The metadata has no such key."""


class ConfigFileNotFound(ObjectNotFound):
    """The configuration file does not exist."""


class KeyringNotFound(ObjectNotFound):
    """No keyring that Ceph searched holds a key for the client."""


class ObjectExists(RbdError, FileExistsError):
    """An item with this name already exists. Subclasses tell the kind of the item."""


class ImageExists(ObjectExists):
    """An image with this name already exists."""


class PoolExists(ObjectExists):
    """A pool with this name already exists."""


class SnapshotExists(ObjectExists):
    """The image already has a snapshot with this name."""


class NamespaceExists(ObjectExists):
    """The pool already has a namespace with this name."""


class LockExists(ObjectExists):
    """This client already holds the lock."""


class PermissionError(RbdError, builtins.PermissionError):  # noqa: A001 - the name in Python's `rbd` module
    """The key is wrong, or the capabilities of the key do not allow the call."""


class ReadOnlyImage(RbdError):
    """The image was opened for reading only, or at a snapshot."""


class ObjectBusy(RbdError):
    """An item is in use. Subclasses tell the kind of the item."""


class ImageBusy(ObjectBusy):
    """The image is in use: by watchers, by the holder of a lock, or by another operation."""


class ImageMemberOfGroup(RbdError):
    """The image is a member of a group. Remove the image from the group first."""


class SnapshotBusy(ObjectBusy):
    """The snapshot is protected, or has clones."""


class NamespaceBusy(ObjectBusy):
    """The namespace is not empty."""


class LockBusy(ObjectBusy):
    """Another client holds the lock."""


class ImageHasSnapshots(RbdError):
    """The image has snapshots. Remove the snapshots first."""


class InvalidArgument(RbdError, ValueError):
    """An argument is out of range or malformed. This package refused the argument before the C call, or Ceph did."""


class ArgumentOutOfRange(InvalidArgument):
    """Ceph cannot represent the value (EDOM, ERANGE)."""


class PastEndOfImage(InvalidArgument):
    """The range does not lie within the image. Nothing was read or written, except with `ImageShrank`."""


class ImageShrank(PastEndOfImage):
    """The image shrank during a read or a write. A write may have written its part within the new size."""


class ConnectionShutdown(RbdError, ConnectionError):
    """The connection is lost for good: the client was blocklisted or shut down. Make a new connection."""


class Timeout(RbdError, TimeoutError):
    """Ceph did not answer in time."""


class CloseTimeout(Timeout):
    """Operations in flight delayed a close beyond its timeout. The close continues in the background."""


class NoSpace(RbdError):
    """The pool or the cluster is full."""


class DiskQuotaExceeded(RbdError):
    """The pool has reached its quota."""


class FunctionNotSupported(RbdError, NotSupportedError):
    """The cluster lacks a function (ENOSYS). If librbd lacks a function, the error is `LibraryTooOldError`."""


class OperationCanceled(RbdError):
    """A progress callback or a cancellation stopped a long operation."""


class InterruptedOrTimeoutError(RbdError, InterruptedError):
    """The call was interrupted."""


class CompareMismatch(RbdError):
    """`compare_and_write` found other data and wrote nothing.

    Attributes:
        offset: The position of the first difference in the image, in bytes.
    """

    def __init__(
        self, errno: int, message: str | None = None, operation: str = "", target: str = "", offset: int = 0
    ) -> None:
        super().__init__(errno, message, operation, target)
        self.offset = offset

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.errno, self.strerror, self.operation, self.target, self.offset)


class OperationNotSupported(RbdError, NotSupportedError):
    """The cluster or the image does not support the operation in the present state (EOPNOTSUPP)."""


_BY_ERRNO: dict[int, type[RbdError]] = {
    _errno.ENOENT: ObjectNotFound,
    _errno.EEXIST: ObjectExists,
    _errno.EBUSY: ObjectBusy,
    _errno.EPERM: PermissionError,
    _errno.EACCES: PermissionError,
    _errno.EINVAL: InvalidArgument,
    _errno.EDOM: ArgumentOutOfRange,
    _errno.ERANGE: ArgumentOutOfRange,
    _errno.ESHUTDOWN: ConnectionShutdown,  # a blocklisted client
    _errno.ENOTCONN: ConnectionShutdown,
    _errno.ETIMEDOUT: Timeout,
    _errno.ENOSPC: NoSpace,
    _errno.EDQUOT: DiskQuotaExceeded,
    _errno.EOPNOTSUPP: OperationNotSupported,
    _errno.ENOSYS: FunctionNotSupported,
    _errno.ECANCELED: OperationCanceled,
    _errno.EINTR: InterruptedOrTimeoutError,
    _errno.EILSEQ: CompareMismatch,
    _errno.EROFS: ReadOnlyImage,
}

_BY_SUBJECT: dict[tuple[int, Subject], type[RbdError]] = {
    (_errno.ENOENT, "image"): ImageNotFound,
    (_errno.ENOENT, "pool"): PoolNotFound,
    (_errno.ENOENT, "keyring"): KeyringNotFound,
    (_errno.ENOENT, "snapshot"): SnapshotNotFound,
    (_errno.ENOENT, "namespace"): NamespaceNotFound,
    (_errno.ENOENT, "lock"): LockNotFound,
    (_errno.ENOENT, "key"): MetadataNotFound,
    (_errno.EEXIST, "image"): ImageExists,
    (_errno.EEXIST, "pool"): PoolExists,
    (_errno.EEXIST, "snapshot"): SnapshotExists,
    (_errno.EEXIST, "namespace"): NamespaceExists,
    (_errno.EEXIST, "lock"): LockExists,
    (_errno.EBUSY, "image"): ImageBusy,
    (_errno.EBUSY, "snapshot"): SnapshotBusy,
    (_errno.EBUSY, "namespace"): NamespaceBusy,
    (_errno.EBUSY, "lock"): LockBusy,
    (_errno.EROFS, "lock"): LockBusy,
    (_errno.ENOTEMPTY, "image"): ImageHasSnapshots,
    (_errno.EMLINK, "image"): ImageMemberOfGroup,
}

#: The classes for functions and errnos where the kind of the target would select a misleading class.
_BY_OPERATION: dict[tuple[str, int], type[RbdError]] = {
    # The target of these functions is an image, but ENOENT means that something else is missing.
    ("rbd_create4", _errno.ENOENT): ObjectNotFound,
    ("rbd_clone3", _errno.ENOENT): ObjectNotFound,
    ("rbd_clone4", _errno.ENOENT): ObjectNotFound,
    ("rbd_copy_with_progress4", _errno.ENOENT): ObjectNotFound,
    ("rbd_deep_copy_with_progress", _errno.ENOENT): ObjectNotFound,
    ("rbd_update_features", _errno.ENOENT): ObjectNotFound,
    ("rbd_lock_acquire", _errno.EROFS): LockBusy,
}

#: Messages that replace misleading texts of the C library.
_MESSAGES = {
    _errno.EILSEQ: "other data found, nothing written",
    _errno.ESHUTDOWN: "the client was blocklisted or its connection shut down: connect again",
    _errno.EROFS: "open for reading only",
}

#: Messages for an errno of one function.
_EXPLAINED = {
    ("rbd_remove_with_progress", _errno.ENOTEMPTY): "the image has snapshots, which must go first",
    ("rbd_trash_remove_with_progress", _errno.ENOTEMPTY): "the image has snapshots, which must go first",
    ("rbd_trash_purge_with_progress", _errno.ENOTEMPTY): "the image has snapshots, which must go first",
    ("rbd_remove_with_progress", _errno.EMLINK): "the image is a member of a group, which it must leave first",
    ("rbd_trash_remove_with_progress", _errno.EMLINK): "the image is a member of a group, which it must leave first",
    ("rbd_trash_purge_with_progress", _errno.EMLINK): "the image is a member of a group, which it must leave first",
    ("rbd_trash_move", _errno.EMLINK): "the image is a member of a group, which it must leave first",
    ("rbd_snap_protect", _errno.EBUSY): "the snapshot is protected already",
    ("rbd_snap_unprotect", _errno.EBUSY): "the snapshot has clones",
    ("rbd_update_features", _errno.ENOENT): "the image lacks an object of a feature that is switched",
    ("rbd_namespace_remove", _errno.EBUSY): "the namespace has images, perhaps in its trash",
    ("rbd_lock_acquire", _errno.EROFS): "another client keeps the lock",
    ("rbd_lock_exclusive", _errno.EEXIST): "this client holds that lock already",
    ("rbd_lock_shared", _errno.EEXIST): "this client holds that lock already",
}


def error_for(code: int, operation: str, target: Target, message: str | None = None) -> RbdError:
    """Return the exception for a negative return value of a C function."""
    number = -code
    cls = (
        (_BY_OPERATION.get((operation, number)) if target.kind != "namespace" else None)
        or _BY_SUBJECT.get((number, target.kind))
        or _BY_ERRNO.get(number, RbdError)
    )
    text = message or _EXPLAINED.get((operation, number)) or _MESSAGES.get(number)
    return cls(number, text, operation, str(target))
