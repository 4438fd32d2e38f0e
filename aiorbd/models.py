"""The results of calls that return more than one value."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from aiorbd.enums import LockMode, SnapshotNamespaceType, TrashImageSource


class Version(NamedTuple):
    """A library's version. librbd has a count of its own: 1.16.0 for Ceph 16.2."""

    major: int
    minor: int
    extra: int


class Layout(NamedTuple):
    """The properties of an image that never change. Sizes are in bytes."""

    object_size: int
    stripe_unit: int
    stripe_count: int
    block_name_prefix: str
    data_pool_id: int
    create_timestamp: datetime


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """An image in a list.

    Attributes:
        id: The id, which never changes. Images of format 1 have an empty id.
        name: The name, which can change.
        removing: Whether a removal of the image has begun and has not finished. The removal still runs, or was
            interrupted. Another image may have the name by now.
    """

    id: str
    name: str
    removing: bool = False


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """The result of `Image.stat`.

    Attributes:
        size: The image size in bytes.
        object_size: The size of each RADOS object in bytes.
        object_count: The number of objects that the image size spans. Objects that do not exist count too.
        order: The object size is ``1 << order`` bytes.
        block_name_prefix: The prefix of the names of all objects.
    """

    size: int
    object_size: int
    object_count: int
    order: int
    block_name_prefix: str


@dataclass(frozen=True, slots=True)
class LinkedImage:
    """The parent of an image, or a clone of an image.

    Attributes:
        pool_id: The id of the image's pool.
        pool_name: The name of the image's pool.
        pool_namespace: The image's namespace in the pool; empty for the default namespace.
        image_id: The id of the image.
        image_name: The name of the image.
        trash: Whether the image is in the trash.
    """

    pool_id: int
    pool_name: str
    pool_namespace: str
    image_id: str
    image_name: str
    trash: bool


@dataclass(frozen=True, slots=True)
class Parent:
    """The image and the snapshot that an image was cloned from.

    Attributes:
        image: The parent image.
        snapshot_id: The id of the parent's snapshot.
        snapshot_name: The name of the parent's snapshot.
        snapshot_namespace_type: The kind of the parent's snapshot.
    """

    image: LinkedImage
    snapshot_id: int
    snapshot_name: str
    snapshot_namespace_type: SnapshotNamespaceType


@dataclass(frozen=True, slots=True)
class Extent:
    """A range that differs between two states of an image.

    Attributes:
        offset: The start of the range in the image, in bytes.
        length: The length of the range in bytes.
        exists: Whether the range has data now. A range without data reads as zeroes.
    """

    offset: int
    length: int
    exists: bool


@dataclass(frozen=True, slots=True)
class Watcher:
    """A client that has an image open for writing.

    Attributes:
        address: The network address of the client.
        id: The number of the client in the cluster, as `Cluster.instance_id` returns it.
        cookie: The number of the client's watch.
    """

    address: str
    id: int
    cookie: int


@dataclass(frozen=True, slots=True)
class Locker:
    """A client that holds an advisory lock.

    Attributes:
        client: The name of the client, like ``client.4123``.
        cookie: The cookie with which the client took the lock.
        address: The network address of the client.
        exclusive: Whether only one client may hold the lock.
        tag: The tag of a shared lock. All holders use the same tag.
    """

    client: str
    cookie: str
    address: str
    exclusive: bool
    tag: str


@dataclass(frozen=True, slots=True)
class LockOwner:
    """A client that holds the exclusive lock of an image.

    Attributes:
        address: The network address of the client.
        mode: The mode in which the client holds the lock.
    """

    address: str
    mode: LockMode


@dataclass(frozen=True, slots=True)
class TrashEntry:
    """An image in the trash.

    Attributes:
        id: The id of the image. `Trash.restore` and `Trash.remove` take this id.
        name: The name that the image had before.
        source: The origin of the move to the trash.
        deletion_time: The time of the move to the trash.
        deferment_end_time: The time until which a removal needs `force`.
    """

    id: str
    name: str
    source: TrashImageSource
    deletion_time: datetime
    deferment_end_time: datetime


@dataclass(frozen=True, slots=True)
class PoolStats:
    """Aggregate statistics of a pool's images.

    Attributes:
        image_count: The number of images.
        image_provisioned_bytes: The sum of the image sizes.
        image_max_provisioned_bytes: The sum of each image's largest size, among the image and its snapshots.
        image_snap_count: The number of snapshots of all images.
        trash_count: The number of images in the trash.
        trash_provisioned_bytes: The sum of the sizes of images in the trash.
        trash_max_provisioned_bytes: Like `image_max_provisioned_bytes`, for images in the trash.
        trash_snap_count: The number of snapshots of images in the trash.
    """

    image_count: int
    image_provisioned_bytes: int
    image_max_provisioned_bytes: int
    image_snap_count: int
    trash_count: int
    trash_provisioned_bytes: int
    trash_max_provisioned_bytes: int
    trash_snap_count: int


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """The size of a RADOS object, and the time of its last write.

    Attributes:
        size: The size of the object in bytes.
        modified: The time of the last write, to the second.
    """

    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class NotifyReply:
    """The reply of one watcher to a notification.

    Attributes:
        notifier_id: The number of the watcher's client.
        cookie: The number of the watch.
        data: The data of the reply.
    """

    notifier_id: int
    cookie: int
    data: bytes


@dataclass(frozen=True, slots=True)
class NotifyResult:
    """The result of a notification.

    Attributes:
        replies: The replies of the watchers that acknowledged the notification.
        timeouts: The (client's number, cookie) of each watcher that did not acknowledge the notification in time.
    """

    replies: tuple[NotifyReply, ...]
    timeouts: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A line of the cluster log.

    Attributes:
        time: The time of the message.
        channel: ``cluster`` or ``audit``.
        who: The address and name of the daemon, as the log shows them.
        name: The name of the daemon, like ``mon.a``.
        sequence: The number of the message. Each daemon counts its own messages.
        level: ``[DBG]``, ``[INF]``, ``[WRN]``, ``[ERR]`` or ``[SEC]``.
        message: The text of the message.
    """

    time: datetime
    channel: str
    who: str
    name: str
    sequence: int
    level: str
    message: str


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The result of a Ceph command.

    Attributes:
        output: The data, often JSON.
        status: One line of text for people, often empty.
    """

    output: bytes
    status: str
