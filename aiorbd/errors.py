"""The exceptions of this package.

Three families derive from :class:`Error`. :class:`RbdError` and its subclasses report what Ceph refuses or fails; some
wrong arguments are refused before Ceph would do so. They are also `OSError`s and carry an errno. :class:`UsageError`
and its subclasses report misuse that never reached Ceph. :class:`NotSupportedError` and its subclasses report what this
librbd, or this image, does not support. Outside the families, :class:`LibraryNotFoundError` reports a missing library,
and :class:`DiffFormatError` and :class:`DiffMismatchError` report diffs that are damaged or do not fit.

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
Subject = Literal[
    "image", "pool", "cluster", "keyring", "snapshot", "namespace", "lock", "key", "object", "group", "option", "other"
]


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


class DiffFormatError(Error, ValueError):
    """A stream is no diff and no image in Ceph's formats, or it is damaged.

    Attributes:
        position: The number of bytes that were read before the fault was found.
    """

    def __init__(self, message: str, position: int = 0) -> None:
        super().__init__(message, position)
        self.position = position

    def __str__(self) -> str:
        return f"{self.args[0]}, at byte {self.position}"


class DiffMismatchError(Error, ValueError):
    """A diff does not follow the diff before it. Or a stream has a whole image instead of a diff, or the reverse."""


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


class GroupNotFound(ObjectNotFound):
    """The pool or namespace has no such consistency group."""


class LockNotFound(ObjectNotFound):
    """No client holds such a lock."""


class MetadataNotFound(ObjectNotFound, KeyError):
    """The metadata has no such key."""


class OptionNotFound(ObjectNotFound, KeyError):
    """Ceph, or an image or a pool, has no option with this name."""


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


class GroupExists(ObjectExists):
    """The pool or namespace already has a consistency group with this name."""


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


class WrongPassphrase(PermissionError):
    """The passphrase does not open the encrypted image."""


class ImageNotEncrypted(RbdError):
    """The image has no header of an encryption that librbd knows."""


class ImageTooSmall(RbdError):
    """The image has no room for the header of the encryption."""


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


class ChecksumMismatch(RbdError):
    """`write_with_crc32c` was given a checksum that is not the data's. Nothing was written."""


class OperationNotSupported(RbdError, NotSupportedError):
    """The cluster or the image does not support the operation in the present state (EOPNOTSUPP)."""
