"""The exceptions.

Two families under :class:`Error`: what Ceph answered (:class:`RbdError` and its subclasses, which
are `OSError`s too and carry an errno), and misuse that never reached Ceph (:class:`UsageError`).
"""

import builtins
import errno as _errno
import os
from dataclasses import dataclass
from typing import Any, Literal

#: What a C function was looking for: decides which class an errno becomes.
Subject = Literal[
    "image", "pool", "cluster", "keyring", "snapshot", "namespace", "lock", "key", "object", "parent", "other"
]


@dataclass(frozen=True, slots=True)
class Target:
    """What a call is about: its kind, and how errors name it."""

    kind: Subject
    label: str

    def __str__(self) -> str:
        return self.label


class Error(Exception):
    """The root of everything this package raises on its own account."""


class UsageError(Error, RuntimeError):
    """The library was used in a way that cannot work; nothing reached Ceph."""


class ClosedError(UsageError):
    """The cluster, I/O context or image is closed or closing."""


class WrongLoopError(UsageError):
    """The cluster belongs to another event loop, or no event loop is running."""


class ForkedError(UsageError):
    """The cluster was connected by the parent process; connect again in the child."""


class NotSupportedError(Error, NotImplementedError):
    """The host's librbd or librados is too old for this call; nothing reached Ceph.

    What the cluster cannot do is `FunctionNotSupported` or `OperationNotSupported`.

    Attributes:
        function: The C function that is missing.
        since: The Ceph release that brought it.
        library: The library that lacks it, as it was loaded.
        found: That library's own version.
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
    """A diff with `include_parent=False` of a clone may lack ranges: those that the clone emptied. See `Image.diff`."""


class RbdError(Error, OSError):
    """Ceph refused or failed a call.

    Attributes:
        errno: The positive error number.
        operation: The C function that returned it, or that would have been called.
        target: What it was done to, for example ``image 'rbd/vm-1'``.
    """

    operation: str
    target: str

    def __init__(self, errno: int, message: str | None = None, operation: str = "", target: str = "") -> None:
        super().__init__(errno, message if message is not None else os.strerror(errno))
        self.operation = operation
        self.target = target

    def __str__(self) -> str:
        where = " on ".join(part for part in (self.operation, self.target) if part)
        name = _errno.errorcode.get(self.errno or 0, str(self.errno))
        return f"{self.strerror} [{name}]" + (f" ({where})" if where else "")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.errno}, {self.strerror!r}, {self.operation!r}, {self.target!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.errno, self.strerror, self.operation, self.target)


class ObjectNotFound(RbdError, FileNotFoundError):
    """Something that was named is not there."""


class ImageNotFound(ObjectNotFound):
    """There is no such image."""


class SnapshotNotFound(ObjectNotFound):
    """The image has no such snapshot."""


class PoolNotFound(ObjectNotFound):
    """There is no such pool, or no such namespace in it, or no such pool for data or journal."""


class NamespaceNotFound(ObjectNotFound):
    """The pool has no such namespace."""


class LockNotFound(ObjectNotFound):
    """Nobody holds such a lock."""


class MetadataNotFound(ObjectNotFound, KeyError):
    """There is no such key in the metadata."""


class ConfigFileNotFound(ObjectNotFound):
    """The configuration file is not there."""


class KeyringNotFound(ObjectNotFound):
    """No keyring holds a key for the client, where Ceph looked for one."""


class ObjectExists(RbdError, FileExistsError):
    """Something of that name is there already."""


class ImageExists(ObjectExists):
    """An image of that name is there already."""


class PoolExists(ObjectExists):
    """A pool of that name is there already."""


class SnapshotExists(ObjectExists):
    """The image has a snapshot of that name already."""


class NamespaceExists(ObjectExists):
    """The pool has a namespace of that name already."""


class LockExists(ObjectExists):
    """This client holds that lock already."""


class PermissionError(RbdError, builtins.PermissionError):  # noqa: A001 - the name in Python's `rbd` module
    """The key is wrong, or its capabilities do not allow this."""


class ReadOnlyImage(RbdError):
    """The image was opened read-only, or at a snapshot."""


class ImageBusy(RbdError):
    """The image is in use: watchers, a lock, or another operation on it."""


class ImageMemberOfGroup(RbdError):
    """The image is a member of a group, which it must leave first."""


class SnapshotBusy(RbdError):
    """The snapshot is protected, or has clones."""


class NamespaceBusy(RbdError):
    """The namespace is not empty."""


class LockBusy(RbdError):
    """Somebody else holds the lock."""


class ImageHasSnapshots(RbdError):
    """The image has snapshots, which must go first."""


class InvalidArgument(RbdError, ValueError):
    """An argument is out of range or of the wrong shape; caught before C, or refused by Ceph."""


class ArgumentOutOfRange(InvalidArgument):
    """Ceph cannot represent the value (EDOM, ERANGE)."""


class PastEndOfImage(InvalidArgument):
    """Offset and length do not lie within the image. Nothing was read or written, but see `ImageShrank`."""


class ImageShrank(PastEndOfImage):
    """The image shrank while it was written to: what lies within its new size may have been written."""


class IncompleteReadError(RbdError):
    """The image shrank while it was read."""


class ConnectionShutdown(RbdError, ConnectionError):
    """The connection is gone for good: the client was blocklisted or shut down. Connect anew."""


class Timeout(RbdError, TimeoutError):
    """Ceph did not answer in time."""


class CloseTimeout(Timeout):
    """Operations in flight held up a close; it goes on behind the scenes."""


class NoSpace(RbdError):
    """The pool or the cluster is full."""


class DiskQuotaExceeded(RbdError):
    """The pool's quota is reached."""


class FunctionNotSupported(RbdError):
    """The cluster does not have this (ENOSYS). For a function that librbd lacks see `NotSupportedError`."""


class OperationCanceled(RbdError):
    """A long operation was stopped by its progress callback or by a cancellation."""


class InterruptedOrTimeoutError(RbdError, InterruptedError):
    """The call was interrupted."""


class CompareMismatch(RbdError):
    """`compare_and_write` found other data; nothing was written.

    Attributes:
        offset: Where in the image the first difference is, in bytes.
    """

    def __init__(
        self, errno: int, message: str | None = None, operation: str = "", target: str = "", offset: int = 0
    ) -> None:
        super().__init__(errno, message, operation, target)
        self.offset = offset

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.errno, self.strerror, self.operation, self.target, self.offset)


class OperationNotSupported(RbdError):
    """The cluster or the image cannot do this as it is (EOPNOTSUPP)."""


_BY_ERRNO: dict[int, type[RbdError]] = {
    _errno.ENOENT: ObjectNotFound,
    _errno.EEXIST: ObjectExists,
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

#: Where the kind of the target would mislead.
_BY_OPERATION: dict[tuple[str, int], type[RbdError]] = {
    # Of these, what is missing is not the image that they are about.
    ("rbd_create4", _errno.ENOENT): ObjectNotFound,
    ("rbd_clone3", _errno.ENOENT): ObjectNotFound,
    ("rbd_clone4", _errno.ENOENT): ObjectNotFound,
    ("rbd_copy_with_progress4", _errno.ENOENT): ObjectNotFound,
    ("rbd_deep_copy_with_progress", _errno.ENOENT): ObjectNotFound,
    ("rbd_update_features", _errno.ENOENT): ObjectNotFound,
    ("rbd_lock_acquire", _errno.EROFS): LockBusy,
}

#: Where the C library's own text would mislead.
_MESSAGES = {
    _errno.EILSEQ: "other data found, nothing written",
    _errno.ESHUTDOWN: "the client was blocklisted or its connection shut down: connect anew",
    _errno.EROFS: "open for reading only",
}

#: What an errno means when it comes from one function.
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
    """Make the exception for a negative return value of a C function."""
    number = -code
    cls = (
        (_BY_OPERATION.get((operation, number)) if target.kind != "namespace" else None)
        or _BY_SUBJECT.get((number, target.kind))
        or _BY_ERRNO.get(number, RbdError)
    )
    text = message or _EXPLAINED.get((operation, number)) or _MESSAGES.get(number)
    return cls(number, text, operation, str(target))
