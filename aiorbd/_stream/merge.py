"""Make one diff of two that follow each other."""

from collections.abc import Callable

from aiorbd._stream.encoding import DiffEncoder
from aiorbd._stream.reader import DiffReader, read_diff
from aiorbd._stream.records import DiffData, DiffFormat, DiffHeader, DiffZeroes
from aiorbd._stream.source import StreamSource
from aiorbd._stream.target import ByteTarget, StreamTarget
from aiorbd.errors import DiffMismatchError


async def merge_diff(
    first: StreamSource,
    second: StreamSource,
    target: StreamTarget,
    *,
    progress: Callable[[int, int], object] | None = None,
) -> None:
    """Write one diff that does what two diffs do, one after the other. Librbd and a cluster are not needed.

    The result begins where `first` begins, and ends where `second` ends. Memory holds a few parts of 4 MiB.

    If the call fails or is cancelled, a target file keeps what it had before, and a stream has a part of the result.

    Args:
        first: The earlier diff: a path, or a `ByteReceiveStream` of anyio.
        second: The later diff. It begins at the snapshot at which `first` ends.
        target: A path, or a `ByteSendStream` of anyio. An existing file is replaced, at the end.
        progress: Called on the event loop as ``progress(done, total)``, in bytes of the image.

    Raises:
        DiffMismatchError: The diffs do not follow each other, or one of them is a whole image.
        DiffFormatError: A source is no diff, is damaged, or its parts are not in the order of their offsets. The parts
            of a striped image are not.
        OSError: A file cannot be read or written.
    """
    if progress is not None and not callable(progress):
        raise TypeError(f"progress must be a function, not {type(progress).__name__}")
    async with read_diff(first) as early, read_diff(second) as late, ByteTarget.opened(target) as out:
        older, newer = _Ranges(early), _Ranges(late)
        one, two = await older.header(), await newer.header()
        if one.to_snapshot is None or one.to_snapshot != two.from_snapshot:
            message = f"the first diff ends at {one.to_snapshot!r}, and the second begins at {two.from_snapshot!r}"
            raise DiffMismatchError(message)
        version = DiffFormat(max(one.format, two.format))
        encoder = DiffEncoder(out, version)
        await encoder.begin(DiffHeader(version, one.from_snapshot, two.to_snapshot, two.size, two.protected))
        # Where the first diff shrank the image and the second grew it, the image has only zeroes. Without a start
        # snapshot, the image is empty anyway.
        if one.size < two.size and one.from_snapshot is not None:
            older.then = DiffZeroes(one.size, two.size - one.size)
        await _merge(older, newer, two.size, encoder, progress or (lambda _done, _total: None))
        await encoder.end()


class _Ranges:
    """The ranges of one diff, in order. A range can be used in part."""

    def __init__(self, reader: DiffReader) -> None:
        self._reader = reader
        self._end = 0
        #: A range that follows after the diff.
        self.then: DiffZeroes | None = None

    async def header(self) -> DiffHeader:
        header = await anext(self._reader)
        if not isinstance(header, DiffHeader):
            raise DiffMismatchError("the stream is a whole image, and no diff")
        return header

    async def next(self) -> DiffData | DiffZeroes | None:
        """Return the next range; None at the end."""
        record = await anext(self._reader, None)
        if record is None:
            record, self.then = self.then, None
            return record
        assert isinstance(record, DiffData | DiffZeroes)
        if record.offset < self._end:
            raise self._reader._source.malformed("the parts are not in the order of their offsets")
        self._end = record.offset + record.length
        return record


def _part(record: DiffData | DiffZeroes, begin: int, end: int) -> DiffData | DiffZeroes:
    """Return the part of a range between two offsets."""
    if isinstance(record, DiffZeroes):
        return DiffZeroes(begin, end - begin)
    if begin == record.offset and end == record.offset + record.length:
        return record
    return DiffData(begin, record.data[begin - record.offset : end - record.offset])


async def _merge(
    older: _Ranges, newer: _Ranges, size: int, encoder: DiffEncoder, progress: Callable[[int, int], object]
) -> None:
    """Write the ranges of both diffs. Where both have data, the newer data counts."""
    old, new = await older.next(), await newer.next()
    while old is not None or new is not None:
        if old is not None and old.offset >= size:  # the second diff made the image smaller
            old = await older.next()
        elif old is not None and (new is None or old.offset < new.offset):
            end = old.offset + old.length
            stop = min(end, size if new is None else new.offset)
            await encoder.write(_part(old, old.offset, stop))
            progress(stop, size)
            old = _part(old, stop, end) if stop < end else await older.next()
        elif new is not None:
            await encoder.write(new)
            covered = new.offset + new.length
            progress(covered, size)
            while old is not None and old.offset < covered:  # the new range hides this part
                end = old.offset + old.length
                old = _part(old, covered, end) if covered < end else await older.next()
            new = await newer.next()
