"""What calls return when it is more than one value."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """An image's id, which stays, and its name, which can be changed."""

    id: str
    name: str


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
class CommandResult:
    """What a Ceph command answered.

    Attributes:
        output: The data, often JSON.
        status: One line for people; often empty.
    """

    output: bytes
    status: str
