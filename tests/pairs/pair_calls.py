"""The calls that `run.py` runs in pairs on one image. Each runs once and leaves the image usable for the next."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count

import aiorbd
from aiorbd import Feature

SIZE = 16 << 20
OBJECT = 1 << 20

#: Features that depend on each other, so one call switches both.
SWITCHED = Feature.OBJECT_MAP | Feature.FAST_DIFF


class Subject:
    """An image with a snapshot, on its own connection. `elsewhere` is the image on another connection, or None."""

    def __init__(
        self,
        ioctx: aiorbd.IoCtx,
        image: aiorbd.Image,
        base: aiorbd.Snapshot,
        target: aiorbd.Image,
        elsewhere: aiorbd.Image | None = None,
    ) -> None:
        self.ioctx, self.image, self.base, self.target, self.elsewhere = ioctx, image, base, target, elsewhere
        self._numbers = count()

    def new_name(self, prefix: str) -> str:
        """Return a name that is not used in the pool."""
        return f"{self.image.name}-{prefix}{next(self._numbers)}"

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[aiorbd.Snapshot]:
        """Create a snapshot and remove it."""
        snapshot = await self.image.create_snapshot(self.new_name("s"))
        try:
            yield snapshot
        finally:
            await snapshot.remove()

    async def removed(self, name: str) -> None:
        """Remove an image that a call created."""
        with contextlib.suppress(aiorbd.ImageNotFound):
            await self.ioctx.remove_image(name)


Call = Callable[[Subject], Awaitable[object]]
CALLS: dict[str, Call] = {}

#: The calls of another client. They are in no pair unless they are asked for: two clients that hand the exclusive lock
#: over can wait for each other for ever inside librbd.
ELSEWHERE: dict[str, Call] = {}


def call(function: Call) -> Call:
    """Add a call under the name of its function."""
    CALLS[function.__name__] = function
    return function


# -- data ------------------------------------------------------------------------------------------


@call
async def read(s: Subject) -> None:
    await s.image.read(0, 4096)


@call
async def readv(s: Subject) -> None:
    await s.image.readv([bytearray(4096), bytearray(4096)], OBJECT - 4096)


@call
async def read_extents(s: Subject) -> None:
    async for _ in s.image.read_extents(chunk_size=OBJECT, depth=4):
        pass


@call
async def write(s: Subject) -> None:
    await s.image.write(b"w" * 4096, 2 * OBJECT)


@call
async def writev(s: Subject) -> None:
    await s.image.writev([b"v" * 4096, b"v" * 4096], 3 * OBJECT - 4096)


@call
async def write_same(s: Subject) -> None:
    await s.image.write_same(b"s" * 512, 4 * OBJECT, 8192)


@call
async def write_zeroes(s: Subject) -> None:
    await s.image.write_zeroes(5 * OBJECT, OBJECT)


@call
async def discard(s: Subject) -> None:
    await s.image.discard(6 * OBJECT, 2 * OBJECT)


@call
async def compare_and_write(s: Subject) -> None:
    await s.image.compare_and_write(bytes(512), bytes(512), 8 * OBJECT)


@call
async def flush(s: Subject) -> None:
    await s.image.write(b"f" * 512, 9 * OBJECT)
    await s.image.flush()


@call
async def writer(s: Subject) -> None:
    async with s.image.writer(depth=4) as writer:
        for number in range(16):
            await writer.write(b"W" * 4096, 10 * OBJECT + number * 4096)


@call
async def diff(s: Subject) -> None:
    async for _ in s.image.diff():
        pass


@call
async def diff_since(s: Subject) -> None:
    async for _ in s.image.diff(from_snapshot=s.base, whole_object=True):
        pass


# -- facts -----------------------------------------------------------------------------------------


@call
async def size(s: Subject) -> None:
    await s.image.size()


@call
async def stat(s: Subject) -> None:
    await s.image.stat()


@call
async def features(s: Subject) -> None:
    await s.image.features()
    await s.image.op_features()
    await s.image.flags()


@call
async def timestamps(s: Subject) -> None:
    assert s.image.create_timestamp.year > 2000
    await s.image.access_timestamp()
    await s.image.modify_timestamp()


@call
async def watchers(s: Subject) -> None:
    async for _ in s.image.watchers():
        pass


@call
async def parent(s: Subject) -> None:
    await s.image.parent()
    await s.image.overlap()


@call
async def children(s: Subject) -> None:
    async for _ in s.image.children():
        pass
    async for _ in s.image.descendants():
        pass


# -- snapshots -------------------------------------------------------------------------------------


@call
async def set_snapshot(s: Subject) -> None:
    try:
        await s.base.set()
    finally:
        await s.image.set_snapshot(None)


@call
async def create_snapshot(s: Subject) -> None:
    async with s.snapshot():
        pass


@call
async def protect(s: Subject) -> None:
    async with s.snapshot() as snapshot:
        await snapshot.protect()
        await snapshot.is_protected()
        await snapshot.unprotect()


@call
async def rename_snapshot(s: Subject) -> None:
    async with s.snapshot() as snapshot:
        await snapshot.rename(s.new_name("r"))


@call
async def remove_by_id(s: Subject) -> None:
    snapshot = await s.image.create_snapshot(s.new_name("s"))
    await snapshot.remove_by_id()


@call
async def snapshot_facts(s: Subject) -> None:
    async for snapshot in s.image.snapshots():
        for ask in (
            snapshot.timestamp,
            snapshot.is_protected,
            snapshot.trash_namespace,
        ):
            with contextlib.suppress(aiorbd.Error):
                await ask()
        with contextlib.suppress(aiorbd.Error):
            await s.image.get_snapshot(snapshot.name)


@call
async def snapshot_limit(s: Subject) -> None:
    await s.image.set_snapshot_limit(1000)
    await s.image.snapshot_limit()


@call
async def rollback(s: Subject) -> None:
    await s.base.rollback()


@call
async def open_at_snapshot(s: Subject) -> None:
    async for snapshot in s.image.snapshots():
        with contextlib.suppress(aiorbd.Error):
            async with s.ioctx.open_image(s.image.name, snapshot=snapshot) as other:
                await other.read(0, 512)


@call
async def open_again(s: Subject) -> None:
    async with s.ioctx.open_image(s.image.name, read_only=True) as other:
        await other.read(0, 512)


@call
async def write_through_another(s: Subject) -> None:
    async with s.ioctx.open_image(s.image.name) as other:
        await other.write(b"a" * 512, 11 * OBJECT)


# -- the whole image -------------------------------------------------------------------------------


@call
async def resize(s: Subject) -> None:
    await s.image.resize(SIZE + OBJECT)
    await s.image.resize(SIZE, allow_shrink=True)


@call
async def update_features(s: Subject) -> None:
    try:
        await s.image.update_features(SWITCHED, enabled=False)
    finally:
        await s.image.update_features(SWITCHED, enabled=True)


@call
async def update_lock_feature(s: Subject) -> None:
    features = SWITCHED | Feature.EXCLUSIVE_LOCK
    try:
        await s.image.update_features(features, enabled=False)
    finally:
        await s.image.update_features(features, enabled=True)


@call
async def sparsify(s: Subject) -> None:
    await s.image.sparsify(4096)


@call
async def rebuild_object_map(s: Subject) -> None:
    await s.image.rebuild_object_map()


@call
async def flatten(s: Subject) -> None:
    await s.image.flatten()


@call
async def copy(s: Subject) -> None:
    name = s.new_name("copy")
    try:
        await s.image.copy(s.ioctx, name)
    finally:
        await s.removed(name)


@call
async def deep_copy(s: Subject) -> None:
    name = s.new_name("copy")
    try:
        await s.image.deep_copy(s.ioctx, name)
    finally:
        async with s.ioctx.open_image(name) as made:
            async for snapshot in made.snapshots():
                await snapshot.remove()
        await s.removed(name)


@call
async def copy_to(s: Subject) -> None:
    await s.image.copy_to(s.target)


@call
async def copy_from(s: Subject) -> None:
    await s.target.copy_to(s.image)


@call
async def clone(s: Subject) -> None:
    name = s.new_name("clone")
    await s.image.clone(s.base, s.ioctx, name, clone_format=2)
    await s.removed(name)


# -- locks, metadata, changes ----------------------------------------------------------------------


@call
async def advisory_lock(s: Subject) -> None:
    await s.image.advisory_locks.lock_shared("cookie", "tag")
    try:
        await s.image.advisory_locks.lockers()
    finally:
        await s.image.advisory_locks.unlock("cookie")


@call
async def managed_lock(s: Subject) -> None:
    await s.image.exclusive_lock.acquire()
    try:
        await s.image.exclusive_lock.is_owner()
        await s.image.exclusive_lock.owners()
    finally:
        await s.image.exclusive_lock.release()


@call
async def metadata(s: Subject) -> None:
    key = s.new_name("key")
    await s.image.metadata.set(key, "value")
    await s.image.metadata.get(key)
    async for _ in s.image.metadata.items():
        pass
    await s.image.metadata.remove(key)


@call
async def watch(s: Subject) -> None:
    async with s.image.watch():
        await s.image.read(0, 512)


# -- another client --------------------------------------------------------------------------------


async def resize_elsewhere(s: Subject) -> None:
    """Another client makes the image larger and smaller."""
    assert s.elsewhere is not None
    await s.elsewhere.resize(SIZE + OBJECT)
    await s.elsewhere.resize(SIZE, allow_shrink=True)


ELSEWHERE["resize_elsewhere"] = resize_elsewhere
