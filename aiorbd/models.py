"""What calls return when it is more than one value."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from aiorbd.enums import SnapshotNamespaceType, TrashImageSource


class Version(NamedTuple):
    """A library's version. librbd's own count is 1.16.0 for Ceph 16.2."""

    major: int
    minor: int
    extra: int


class Layout(NamedTuple):
    """What never changes of an image, in bytes."""

    object_size: int
    stripe_unit: int
    stripe_count: int
    block_name_prefix: str
    data_pool_id: int


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """An image in a list.

    Attributes:
        id: Its id, which stays; empty for images of format 1.
        name: Its name, which can be changed.
        removing: Its removal was begun and is not over, or was broken off. The name may be another image's by now.
    """

    id: str
    name: str
    removing: bool = False


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What `Image.stat` returns.

    Attributes:
        size: Bytes.
        object_size: Bytes of each RADOS object.
        object_count: How many objects the size spans, whether they exist or not.
        order: The object size is ``1 << order``.
        block_name_prefix: What the names of the objects begin with.
    """

    size: int
    object_size: int
    object_count: int
    order: int
    block_name_prefix: str


@dataclass(frozen=True, slots=True)
class LinkedImage:
    """An image that another one is cloned from, or a clone of it.

    Attributes:
        pool_id: Its pool's id.
        pool_name: Its pool.
        pool_namespace: Its namespace in the pool; empty for the default one.
        image_id: Its id.
        image_name: Its name.
        trash: Whether it is in the trash.
    """

    pool_id: int
    pool_name: str
    pool_namespace: str
    image_id: str
    image_name: str
    trash: bool


@dataclass(frozen=True, slots=True)
class Parent:
    """What an image was cloned from.

    Attributes:
        image: The parent image.
        snapshot_id: The id of its snapshot.
        snapshot_name: The name of its snapshot.
        snapshot_namespace_type: Whose snapshot it is.
    """

    image: LinkedImage
    snapshot_id: int
    snapshot_name: str
    snapshot_namespace_type: SnapshotNamespaceType


@dataclass(frozen=True, slots=True)
class Extent:
    """A range that differs between two states of an image.

    Attributes:
        offset: Where it begins, in bytes.
        length: Bytes.
        exists: Whether there is data now; what does not exist reads as zeroes.
    """

    offset: int
    length: int
    exists: bool


@dataclass(frozen=True, slots=True)
class Watcher:
    """A client that has an image open for writing.

    Attributes:
        address: Its network address.
        id: Its number in the cluster, as `Cluster.get_instance_id` returns it.
        cookie: The number of its watch.
    """

    address: str
    id: int
    cookie: int


@dataclass(frozen=True, slots=True)
class Locker:
    """A client that holds an advisory lock.

    Attributes:
        client: Its name, like ``client.4123``.
        cookie: What it called the lock.
        address: Its network address.
    """

    client: str
    cookie: str
    address: str


@dataclass(frozen=True, slots=True)
class Lockers:
    """Who holds the advisory lock of an image.

    Attributes:
        exclusive: Whether only one client may.
        tag: What those who share it have to agree about.
        lockers: The clients.
    """

    exclusive: bool
    tag: str
    lockers: tuple[Locker, ...]


@dataclass(frozen=True, slots=True)
class TrashEntry:
    """An image in the trash.

    Attributes:
        id: Its id, by which it is restored or removed.
        name: The name it had.
        source: Who moved it there.
        deletion_time: When.
        deferment_end_time: Until when it cannot be removed without force.
    """

    id: str
    name: str
    source: TrashImageSource
    deletion_time: datetime
    deferment_end_time: datetime


@dataclass(frozen=True, slots=True)
class PoolStats:
    """What the images of a pool come to.

    Attributes:
        image_count: Images.
        image_provisioned_bytes: The sum of their sizes.
        image_max_provisioned_bytes: The sum of their sizes, of each the largest among itself and its snapshots.
        image_snap_count: Their snapshots.
        trash_count: Images in the trash.
        trash_provisioned_bytes: The sum of their sizes.
        trash_max_provisioned_bytes: The sum of their largest sizes.
        trash_snap_count: Their snapshots.
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
    """A RADOS object.

    Attributes:
        size: Bytes.
        modified: When it was last written, to the second.
    """

    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class NotifyReply:
    """What one watcher answered to a notification."""

    notifier_id: int
    cookie: int
    data: bytes


@dataclass(frozen=True, slots=True)
class NotifyResult:
    """What came of a notification.

    Attributes:
        replies: Who acknowledged it, and with what.
        timeouts: The (client's number, cookie) of watchers that did not in time.
    """

    replies: tuple[NotifyReply, ...]
    timeouts: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A line of the cluster's log.

    Attributes:
        time: When.
        channel: ``cluster`` or ``audit``.
        who: The daemon's address and name, as the log has it.
        name: The daemon, like ``mon.a``.
        sequence: The daemon's count of its messages.
        level: ``[DBG]``, ``[INF]``, ``[WRN]``, ``[ERR]`` or ``[SEC]``.
        message: The text.
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
    """What a Ceph command answered.

    Attributes:
        output: The data, often JSON.
        status: One line for people; often empty.
    """

    output: bytes
    status: str
