"""Export and import diffs, and whole images with their snapshots, in Ceph's formats."""

import errno
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Final, Unpack

from aiorbd._core.gathering import gathered
from aiorbd._core.pool_handle import PoolHandle
from aiorbd._image.handle import ImageHandle
from aiorbd._image.image import Image, open_image
from aiorbd._image.image_snapshots import take_snapshot
from aiorbd._image.presence import confirm_there
from aiorbd._image.snapshots import Snapshot, name_of
from aiorbd._native.image_options import ImageKeywords, ImageOptions, merged
from aiorbd._native.marshal import encode_name, handle_of, invalid
from aiorbd._pool.transfer import require_usual
from aiorbd._stream.encoding import DiffEncoder, pieces_of, write_export_header
from aiorbd._stream.reader import read_diff
from aiorbd._stream.records import LARGEST_DATA, DiffData, DiffFormat, DiffHeader, DiffRecord, DiffZeroes, ExportHeader
from aiorbd._stream.source import StreamSource
from aiorbd._stream.target import ByteTarget, StreamTarget
from aiorbd._stream.zeroes import is_zero
from aiorbd.enums import Feature, ImageOption, SnapshotCreateFlag
from aiorbd.errors import DiffMismatchError, MetadataNotFound, SnapshotExists, SnapshotNotFound

if TYPE_CHECKING:
    from aiorbd._core.progress import Progress
    from aiorbd._pool.ioctx import IoCtx

#: The key in an image's metadata while a diff is imported.
IMPORTING: Final = "aiorbd.import_diff"

#: Features that a new image cannot be given, or that describe its present state.
_NOT_GIVEN: Final = (
    Feature.OPERATIONS | Feature.MIGRATING | Feature.NON_PRIMARY | Feature.DIRTY_CACHE | Feature.DATA_POOL
)


async def export_diff(
    image: Image,
    target: StreamTarget,
    from_snapshot: str | Snapshot | None = None,
    *,
    version: DiffFormat | int = DiffFormat.V1,
    whole_object: bool = False,
    depth: int = 8,
    progress: "Progress | None" = None,
) -> int:
    """Write what changed since a snapshot to a file or a stream. Return the number of bytes of data.

    The diff ends at the state that the image is read at: a snapshot, or the current data. ``rbd import-diff`` and
    `import_diff` read the result. Data of zeroes only becomes a range of zeroes, as with ``rbd export-diff``.

    If the export fails or is cancelled, a target file keeps what it had before, and a stream has a diff without an end.

    Args:
        image: The image. Open it at a snapshot, unless nobody writes to it.
        target: A path, or a `ByteSendStream` of anyio, which stays open. An existing file is replaced, at the end.
        from_snapshot: The snapshot at which the diff begins; None for all data.
        version: The format. ``V2`` also tells whether the end snapshot is protected. ``rbd import-diff`` reads ``V1``.
        whole_object: Whether to compare whole objects, which is faster and gives more data: see `Image.diff`.
        depth: The number of reads in flight. At most three times as many chunks of 4 MiB are in memory.
        progress: Called on the event loop as ``progress(done, total)``, in bytes of the image.

    Raises:
        SnapshotNotFound, ImageNotFound: The image has no such start snapshot, or the snapshot or the image was removed
            meanwhile.
        InvalidArgument: The format does not exist.
        OSError: The file cannot be written.

    Implements: rbd_diff_iterate2, rbd_aio_read2
    """
    handle_of(image, ImageHandle, "image")
    require_usual(depth, progress)
    if version not in list(DiffFormat):
        raise invalid(f"version {version!r} is not 1 or 2", "rbd_diff_iterate2", image._handle.target)
    async with ByteTarget.opened(target) as out:
        return await _export(
            image, out, from_snapshot, DiffFormat(version), whole_object=whole_object, depth=depth, progress=progress
        )


async def _export(
    image: Image,
    out: ByteTarget,
    from_snapshot: str | Snapshot | None,
    version: DiffFormat,
    *,
    whole_object: bool,
    depth: int,
    progress: "Progress | None",
) -> int:
    size, end, moved, done = await image.size(), image.snapshot, 0, 0
    protected = version is DiffFormat.V2 and end is not None and await (await image.get_snapshot(end)).is_protected()
    encoder = DiffEncoder(out, version)
    begin = None if from_snapshot is None else name_of(from_snapshot)
    if begin is not None:
        encode_name(begin, "snapshot name", "rbd_diff_iterate2", may_be_empty=True)
    await encoder.begin(DiffHeader(version, begin, end, size, protected))
    extents = image.diff(0, size, from_snapshot=from_snapshot, whole_object=whole_object)
    async with image.read_extents(extents, chunk_size=LARGEST_DATA, depth=depth) as chunks:
        async for offset, length, data in chunks:
            if data is None or is_zero(data):
                await encoder.write(DiffZeroes(offset, length))
            else:
                await encoder.write(DiffData(offset, data))
                moved += length
            done = max(done, offset + length)
            if progress is not None:
                progress(done, size)
    await confirm_there(image._handle, "rbd_aio_read2")
    await encoder.end()
    return moved


async def import_diff(
    image: Image, source: StreamSource, *, depth: int = 16, progress: "Progress | None" = None
) -> DiffHeader:
    """Apply a diff to an image, and create its end snapshot. Return the header of the diff.

    The image must have the data of the start snapshot, and nobody else may write to it. A diff without a start snapshot
    needs an empty image. The image gets the size of the end snapshot, and may become smaller.

    The end snapshot is created when all data is durable. Before and until then, the image's metadata has the key
    ``aiorbd.import_diff``, also after a failure or a cancellation. The image then has a part of the changes. Import the
    same diff again. Or roll back to the start snapshot, if there is one, and remove the key.

    An image that is too small grows while it gets the key. Clients that watch for quiesce requests get none.

    Args:
        image: The image.
        source: A path, or a `ByteReceiveStream` of anyio, which stays open.
        depth: The number of writes in flight, and the number of chunks of 4 MiB in memory.
        progress: Called on the event loop as ``progress(done, total)``, in bytes of the image.

    Raises:
        DiffFormatError: The source is no diff, is damaged, or ends too early.
        DiffMismatchError: The source is a whole image: see `import_history`. Or an import of another diff was
            interrupted. Nothing was changed.
        SnapshotNotFound: The image has no snapshot with the name of the start snapshot. Nothing was changed.
        SnapshotExists: The image has a snapshot with the name of the end snapshot. Nothing was changed.
        ReadOnlyImage: The image is open for reading only.
        OSError: The file cannot be read.

    Implements: rbd_aio_write2, rbd_aio_write_zeroes, rbd_aio_flush, rbd_resize2, rbd_snap_create2, rbd_snap_protect
    """
    handle_of(image, ImageHandle, "image")
    require_usual(depth, progress)
    async with read_diff(source) as records:
        interrupted = await _interrupted(image)  # the source may still be preparing its first bytes
        header = await anext(records)
        if not isinstance(header, DiffHeader):
            raise DiffMismatchError("the stream is a whole image, and no diff: import_history reads it")
        marker = json.dumps({"from_snapshot": header.from_snapshot, "to_snapshot": header.to_snapshot})
        if await _require_fit(image, header, marker, interrupted):
            await _protect(image, header)
            await image.metadata.remove(IMPORTING)
            return header
        size = await image.size()  # after the next calls, librbd would first read the whole header
        mark = partial(image.metadata.set, IMPORTING, marker)
        if size < header.size:  # a larger image has all that it had
            await gathered([mark, partial(image.resize, header.size)])
            size = header.size
        else:
            await mark()
        following = await _import(image, size, header, records, depth, progress)
        assert following is None
        await _finish(image, header)
        await image.metadata.remove(IMPORTING)
    return header


async def _interrupted(image: Image) -> str | None:
    """Return the mark of an interrupted import; None without one."""
    try:
        return await image.metadata.get(IMPORTING)
    except MetadataNotFound:
        return None


async def _require_fit(image: Image, header: DiffHeader, marker: str, interrupted: str | None) -> bool:
    """Raise if the diff does not fit the image.

    Return True if an import of the same diff was interrupted after its end snapshot, so that all data is there.
    """
    if interrupted not in (None, marker):
        message = f"the import of another diff was interrupted: {interrupted}"
        raise DiffMismatchError(
            f"{message}; repeat it, or roll back and remove the key {IMPORTING!r} from the metadata"
        )
    target = str(image._handle.target)
    if header.from_snapshot is not None and not await image.snapshot_exists(header.from_snapshot):
        message = f"the image lacks the start snapshot {header.from_snapshot!r} of the diff"
        raise SnapshotNotFound(errno.ENOENT, message, "rbd_snap_exists", target)
    if header.to_snapshot is not None and await image.snapshot_exists(header.to_snapshot):
        if interrupted is not None:
            return True
        message = f"the image has the end snapshot {header.to_snapshot!r} of the diff already"
        raise SnapshotExists(errno.EEXIST, message, "rbd_snap_exists", target)
    return False


async def _import(
    image: Image,
    size: int,
    header: DiffHeader,
    records: AsyncIterator[DiffRecord],
    depth: int,
    progress: "Progress | None",
) -> DiffRecord | None:
    """Write the data of one diff. Return the header of the next diff in the stream; None at the end."""
    if size != header.size:
        await image.resize(header.size, allow_shrink=True)
    end, following = 0, None
    async with image.writer(depth=depth, max_bytes=depth * LARGEST_DATA) as writer:
        async for record in records:
            if isinstance(record, DiffHeader | ExportHeader):
                following = record
                break
            if record.offset < end:  # in diffs of striped images; overlapping writes have no order
                await writer.flush()
            end = max(end, record.offset + record.length)
            if isinstance(record, DiffData):
                await writer.write(record.data, record.offset)
            else:
                for part in pieces_of(record):
                    await writer.write_zeroes(part.offset, part.length)
            if progress is not None:
                progress(end, header.size)
    return following


async def _finish(image: Image, header: DiffHeader) -> None:
    """Create the end snapshot of a diff. Nobody writes to the image, so no client has to quiesce."""
    if header.to_snapshot is not None:
        await take_snapshot(image._handle, header.to_snapshot, SnapshotCreateFlag.SKIP_QUIESCE)
        await _protect(image, header)


async def _protect(image: Image, header: DiffHeader) -> None:
    if header.to_snapshot is not None and header.protected:
        snapshot = await image.get_snapshot(header.to_snapshot)
        if not await snapshot.is_protected():
            await snapshot.protect()


async def export_history(
    image: Image, target: StreamTarget, *, depth: int = 8, progress: "Progress | None" = None
) -> int:
    """Write a whole image with its snapshots to a file or a stream. Return the number of bytes of data.

    The format is that of ``rbd export --export-format 2``. The image must be opened at its current data. Snapshots that
    belong to groups, mirroring or the trash are left out. The data of a clone's parent is included.

    If the export fails or is cancelled, a target file keeps what it had before, and a stream has a part of the result.

    Args:
        image: The image. Nobody may write to it.
        target: A path, or a `ByteSendStream` of anyio, which stays open. An existing file is replaced, at the end.
        depth: The number of reads in flight. At most three times as many chunks of 4 MiB are in memory.
        progress: Called on the event loop as ``progress(done, total)``, in bytes of one snapshot after the other.

    Raises:
        InvalidArgument: The image is opened at a snapshot.
        SnapshotNotFound: A snapshot was removed meanwhile.
        OSError: The file cannot be written.

    Implements: rbd_snap_list, rbd_diff_iterate2, rbd_aio_read2
    """
    handle = handle_of(image, ImageHandle, "image")
    require_usual(depth, progress)
    if image.snapshot is not None:
        raise invalid("the image is opened at a snapshot", "rbd_snap_list", handle.target)
    snapshots = await image.snapshots()
    sizes = [snapshot.size for snapshot in snapshots] + [await image.size()]
    header = ExportHeader(
        len(sizes),
        (await image.stat()).order,
        int(await image.features()),
        image.stripe_unit,
        image.stripe_count,
        {key: value async for key, value in image.metadata.items() if key != IMPORTING},
    )
    moved, done, total = 0, 0, sum(sizes)
    async with ByteTarget.opened(target) as out:
        await write_export_header(out, header)
        before: Snapshot | None = None
        for snapshot, size in zip([*snapshots, None], sizes, strict=True):
            follow = None if progress is None else partial(_report, progress, done, total)
            export = partial(_export, whole_object=False, depth=depth, progress=follow)
            if snapshot is None:
                moved += await export(image, out, before, DiffFormat.V2)
            else:
                name, image_id = (None, handle.image_id) if handle.image_id else (image.name, None)
                then = await open_image(handle.ioctx, image._close_timeout, name, image_id, snapshot, read_only=True)
                async with then:
                    moved += await export(then, out, before, DiffFormat.V2)
            before, done = snapshot, done + size
    return moved


def _report(progress: "Progress", before: int, total: int, done: int, _size: int) -> None:
    progress(before + done, total)


async def import_history(
    ioctx: "IoCtx",
    source: StreamSource,
    name: str,
    options: ImageOptions | None = None,
    *,
    depth: int = 16,
    progress: "Progress | None" = None,
    **keywords: Unpack[ImageKeywords],
) -> ExportHeader:
    """Create an image with its snapshots from a file or a stream. Return the header of the stream.

    The source is what `export_history` or ``rbd export --export-format 2`` wrote. The image gets the order, the
    features, the striping and the metadata of the source.

    Until all data is durable, the image's metadata has the key ``aiorbd.import_diff``, also after a failure or a
    cancellation. Remove such an image.

    Args:
        ioctx: The pool or namespace in which to create the image.
        source: A path, or a `ByteReceiveStream` of anyio, which stays open.
        name: The name of the image.
        options: Options of the image, which override those of the source: see `IoCtx.create_image`.
        depth: The number of writes in flight, and the number of chunks of 4 MiB in memory.
        progress: Called on the event loop as ``progress(done, total)``, in bytes of one snapshot after the other. The
            total grows with each snapshot.
        **keywords: More options: see `ImageKeywords`.

    Raises:
        DiffFormatError: The source is no image, is damaged, or ends too early.
        DiffMismatchError: The source is a diff: see `import_diff`.
        ImageExists: An image with this name already exists.
        OSError: The file cannot be read.

    Implements: rbd_create4, rbd_aio_write2, rbd_aio_write_zeroes, rbd_aio_flush, rbd_resize2, rbd_snap_create2,
    rbd_snap_protect, rbd_metadata_set
    """
    handle_of(ioctx, PoolHandle, "ioctx")
    require_usual(depth, progress)
    async with read_diff(source) as records:
        header = await anext(records)
        if not isinstance(header, ExportHeader):
            raise DiffMismatchError("the stream is a diff, and no whole image: import_diff reads it")
        following: DiffRecord | None = await anext(records, None)
        if not isinstance(following, DiffHeader):
            raise DiffMismatchError("the stream has no data of the image")
        wanted = merged(options, keywords, "import_history")
        for option, number in _options_of(header).items():
            wanted.setdefault(option, number)
        await ioctx.create_image(name, following.size, wanted)
        async with ioctx.open_image(name) as image:
            await image.metadata.set(IMPORTING, "{}")
            done, before = 0, None
            while following is not None:
                if not isinstance(following, DiffHeader) or following.from_snapshot != before:
                    raise DiffMismatchError(f"a diff of the stream does not begin at the snapshot {before!r}")
                before = following.to_snapshot
                size = following.size
                follow = None if progress is None else partial(_report, progress, done, done + size)
                present = following
                following = await _import(image, await image.size(), present, records, depth, follow)
                await _finish(image, present)
                done += size
            for key, value in header.metadata.items():
                await image.metadata.set(key, value)
            await image.metadata.remove(IMPORTING)
    return header


def _options_of(header: ExportHeader) -> dict[ImageOption, int]:
    """Return the options with which to create an image like the source."""
    found: dict[ImageOption, int] = {}
    if header.order is not None:
        found[ImageOption.ORDER] = header.order
    if header.features is not None:
        found[ImageOption.FEATURES] = header.features & ~_NOT_GIVEN
    if header.stripe_unit and header.stripe_count and header.stripe_count > 1:
        found |= {ImageOption.STRIPE_UNIT: header.stripe_unit, ImageOption.STRIPE_COUNT: header.stripe_count}
    return found
