"""The bytes that an image and its snapshots use."""

import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiorbd._image.diff import Diff
from aiorbd._image.diff_walk import Arguments
from aiorbd._image.handle import ImageHandle
from aiorbd._image.opening import open_handle
from aiorbd._image.snapshot_ids import snapshot_target
from aiorbd._image.snapshots import Snapshot
from aiorbd._native.marshal import encode_name
from aiorbd.errors import RbdError, SnapshotNotFound
from aiorbd.pool_models import DiskUsage, UsageEntry

#: How often to count again, because a snapshot was taken or removed meanwhile.
ATTEMPTS: Final = 3


async def disk_usage(
    handle: ImageHandle, name: str, list_snapshots: Callable[[], Awaitable[list[Snapshot]]], *, exact: bool
) -> DiskUsage:
    """Count the bytes of an image and its snapshots: see `Image.disk_usage`."""
    attempt = 1
    while True:
        try:
            return await _count(handle, name, await list_snapshots(), exact=exact)
        except RbdError as error:
            changed = isinstance(error, SnapshotNotFound) or error.errno == errno.ESTALE
            if attempt == ATTEMPTS or not changed:
                raise
        attempt += 1


async def _count(handle: ImageHandle, name: str, snapshots: list[Snapshot], *, exact: bool) -> DiskUsage:
    at = handle.image_size.snapshot_id
    entries: list[UsageEntry] = []
    since: Snapshot | None = None
    for snapshot in snapshots:
        if at is None or snapshot.id <= at:
            async with _opened(handle, name, snapshot) as walked:
                entries.append(UsageEntry(snapshot.name, snapshot.size, await _used(walked, since, exact=exact)))
            since = snapshot
    if at is None and handle.encrypted:  # the sizes of the snapshots include the header, so this size does too
        await handle.make_durable()
        async with _opened(handle, name, None) as walked:
            entries.append(UsageEntry(None, walked.size, await _used(walked, since, exact=exact)))
    elif at is None:
        await handle.image_size.refresh()
        entries.append(UsageEntry(None, handle.size, await _used(handle, since, exact=exact)))
    return DiskUsage(tuple(entries), exact)


@asynccontextmanager
async def _opened(handle: ImageHandle, name: str, snapshot: Snapshot | None) -> AsyncIterator[ImageHandle]:
    """Open the image once more, for reading only. An image of format 1 has no id."""
    by = (None, handle.image_id) if handle.image_id else (name, None)
    at = (None, None) if snapshot is None else (snapshot.name, snapshot.id)
    walked, _ = await open_handle(handle.ioctx, *by, *at, read_only=True)
    try:
        yield walked
    finally:
        walked.begin_close()


async def _used(handle: ImageHandle, since: Snapshot | None, *, exact: bool) -> int:
    """Count the bytes that exist and changed since a snapshot."""
    name, since_id, on = None, None, handle.target
    if since is not None:
        name = encode_name(since.name, "snapshot name", "rbd_diff_iterate2", may_be_empty=True)
        since_id, on = since.id, snapshot_target(handle, since.name)
    arguments = Arguments(name, since_id, on, 0, None, False, not exact, warn=False)
    async with Diff(handle, arguments) as diff:
        return sum([extent.length async for extent in diff if extent.exists])
