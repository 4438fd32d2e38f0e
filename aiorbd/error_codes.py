"""The class and the message of the exception for each negative result of a C function."""

import errno

from aiorbd import errors
from aiorbd.errors import RbdError, Subject, Target

_BY_ERRNO: dict[int, type[RbdError]] = {
    errno.ENOENT: errors.ObjectNotFound,
    errno.EEXIST: errors.ObjectExists,
    errno.EBUSY: errors.ObjectBusy,
    errno.EPERM: errors.PermissionError,
    errno.EACCES: errors.PermissionError,
    errno.EINVAL: errors.InvalidArgument,
    errno.EDOM: errors.ArgumentOutOfRange,
    errno.ERANGE: errors.ArgumentOutOfRange,
    errno.ESHUTDOWN: errors.ConnectionShutdown,  # a blocklisted client
    errno.ENOTCONN: errors.ConnectionShutdown,
    errno.ETIMEDOUT: errors.Timeout,
    errno.ENOSPC: errors.NoSpace,
    errno.EDQUOT: errors.DiskQuotaExceeded,
    errno.EOPNOTSUPP: errors.OperationNotSupported,
    errno.ENOSYS: errors.FunctionNotSupported,
    errno.ECANCELED: errors.OperationCanceled,
    errno.EINTR: errors.InterruptedOrTimeoutError,
    errno.EILSEQ: errors.CompareMismatch,
    errno.EROFS: errors.ReadOnlyImage,
}

_BY_SUBJECT: dict[tuple[int, Subject], type[RbdError]] = {
    (errno.ENOENT, "image"): errors.ImageNotFound,
    (errno.ENOENT, "pool"): errors.PoolNotFound,
    (errno.ENOENT, "keyring"): errors.KeyringNotFound,
    (errno.ENOENT, "snapshot"): errors.SnapshotNotFound,
    (errno.ENOENT, "namespace"): errors.NamespaceNotFound,
    (errno.ENOENT, "lock"): errors.LockNotFound,
    (errno.ENOENT, "group"): errors.GroupNotFound,
    (errno.ENOENT, "option"): errors.OptionNotFound,
    (errno.ENOENT, "key"): errors.MetadataNotFound,
    (errno.EEXIST, "image"): errors.ImageExists,
    (errno.EEXIST, "pool"): errors.PoolExists,
    (errno.EEXIST, "snapshot"): errors.SnapshotExists,
    (errno.EEXIST, "namespace"): errors.NamespaceExists,
    (errno.EEXIST, "lock"): errors.LockExists,
    (errno.EEXIST, "group"): errors.GroupExists,
    (errno.EBUSY, "image"): errors.ImageBusy,
    (errno.EBUSY, "snapshot"): errors.SnapshotBusy,
    (errno.EBUSY, "namespace"): errors.NamespaceBusy,
    (errno.EBUSY, "lock"): errors.LockBusy,
    (errno.EROFS, "lock"): errors.LockBusy,
    (errno.ENOTEMPTY, "image"): errors.ImageHasSnapshots,
    (errno.EMLINK, "image"): errors.ImageMemberOfGroup,
}

#: The functions that change the member images of a group.
_OF_MEMBERS = (
    "rbd_group_remove",
    "rbd_group_snap_create2",
    "rbd_group_snap_remove",
    "rbd_group_snap_rollback_with_progress",
)

#: The classes for functions and errnos where the kind of the target would select a misleading class.
_BY_OPERATION: dict[tuple[str, int], type[RbdError]] = {
    # The target of these functions is an image, but ENOENT means that something else is missing.
    ("rbd_create4", errno.ENOENT): errors.ObjectNotFound,
    ("rbd_clone3", errno.ENOENT): errors.ObjectNotFound,
    ("rbd_clone4", errno.ENOENT): errors.ObjectNotFound,
    ("rbd_copy_with_progress4", errno.ENOENT): errors.ObjectNotFound,
    ("rbd_deep_copy_with_progress", errno.ENOENT): errors.ObjectNotFound,
    ("rbd_update_features", errno.ENOENT): errors.ObjectNotFound,
    ("rbd_lock_acquire", errno.EROFS): errors.LockBusy,
    # The members of a group: librbd opens them for writing, so another lock is the reason.
    **{(function, errno.EROFS): errors.LockBusy for function in _OF_MEMBERS},
    ("rbd_aio_write_with_crc32c", errno.EBADMSG): errors.ChecksumMismatch,
    # The options of a connection: some cannot change while it is open.
    ("rados_conf_set", errno.EPERM): errors.OperationNotSupported,
    ("rados_conf_set", errno.ENOSYS): errors.OperationNotSupported,
}

#: Messages that replace misleading texts of the C library.
_MESSAGES = {
    errno.EMLINK: "the image is a member of a group, which it must leave first",
    errno.EILSEQ: "other data found, nothing written",
    errno.ESHUTDOWN: "the client was blocklisted or its connection shut down: connect again",
    errno.EROFS: "open for reading only",
}

#: Messages for an errno of one function.
_EXPLAINED = {
    **{
        (f"rbd_{removal}_with_progress", errno.ENOTEMPTY): "the image has snapshots, which must go first"
        for removal in ("remove", "trash_remove", "trash_purge")
    },
    **{
        (f"rbd_migration_{step}", errno.EINVAL): "the image is not in a migration that allows this step"
        for step in ("execute_with_progress", "commit_with_progress", "abort_with_progress", "status")
    },
    ("rbd_migration_prepare", errno.EBUSY): "the image is open somewhere, or in a migration already",
    ("rbd_snap_protect", errno.EBUSY): "the snapshot is protected already",
    ("rbd_snap_unprotect", errno.EBUSY): "the snapshot has clones",
    ("rbd_update_features", errno.ENOENT): "the image lacks an object of a feature that is switched",
    ("rbd_namespace_remove", errno.EBUSY): "the namespace has images, perhaps in its trash",
    ("rbd_lock_acquire", errno.EROFS): "another client keeps the lock",
    ("rbd_lock_exclusive", errno.EEXIST): "this client holds that lock already",
    ("rbd_lock_shared", errno.EEXIST): "this client holds that lock already",
    **{(function, errno.EROFS): "a member has another lock, or is not primary" for function in _OF_MEMBERS},
    ("rbd_aio_write_with_crc32c", errno.EBADMSG): "the data has another checksum, nothing written",
    ("rados_conf_get", errno.ENOENT): "no such option",
    ("rados_conf_set", errno.ENOENT): "no such option",
    ("rados_conf_set", errno.EPERM): "the option cannot change while the connection is open",
    ("rados_conf_set", errno.ENOSYS): "the option cannot change while the connection is open",
    ("rados_conf_set", errno.EINVAL): "the option does not take this value",
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
