"""The parts of Ceph's formats for diffs and for whole images."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, TypeAlias


class DiffFormat(IntEnum):
    """Ceph's formats of a diff. The ``rbd`` tool writes ``V1`` for ``export-diff``."""

    V1 = 1
    #: Also tells whether the end snapshot is protected. Part of the format for whole images.
    V2 = 2


@dataclass(frozen=True, slots=True)
class DiffHeader:
    """The start of a diff.

    Attributes:
        format: The format of the diff.
        from_snapshot: The snapshot at which the diff begins; None for a diff since the creation of the image.
        to_snapshot: The snapshot at which the diff ends; None for the current data of the image.
        size: The size of the image at the end of the diff, in bytes.
        protected: Whether the end snapshot is protected. Diffs in the format ``V1`` do not tell.
    """

    format: DiffFormat
    from_snapshot: str | None
    to_snapshot: str | None
    size: int
    protected: bool = False


@dataclass(frozen=True, slots=True)
class DiffData:
    """Data that changed.

    Attributes:
        offset: The offset in the image, in bytes.
        data: The new data, at most 4 MiB.
    """

    offset: int
    data: bytes = field(repr=False)

    @property
    def length(self) -> int:
        """The number of bytes."""
        return len(self.data)


@dataclass(frozen=True, slots=True)
class DiffZeroes:
    """A range that reads as zeroes now.

    Attributes:
        offset: The offset in the image, in bytes.
        length: The length of the range in bytes.
    """

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class ExportHeader:
    """The start of a whole image with its snapshots, as ``rbd export --export-format 2`` writes it.

    Attributes:
        diffs: The number of diffs that follow: one for each snapshot, and one for the current data.
        order: The base-2 logarithm of the object size; None if the stream does not tell.
        features: The features of the image; None if the stream does not tell.
        stripe_unit: The stripe unit in bytes; None if the stream does not tell.
        stripe_count: The stripe count; None if the stream does not tell.
        metadata: The metadata of the image.
    """

    diffs: int
    order: int | None = None
    features: int | None = None
    stripe_unit: int | None = None
    stripe_count: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


#: A part of a stream, from `read_diff`.
DiffRecord: TypeAlias = ExportHeader | DiffHeader | DiffData | DiffZeroes

#: The largest range of zeroes that is written at once, in bytes.
LARGEST_ZEROES: Final = 256 << 20

#: The largest size of the data in one record of `read_diff`, in bytes.
LARGEST_DATA: Final = 4 << 20
