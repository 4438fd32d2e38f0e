"""The calls that `run.py` runs in pairs on one image. Each runs once and leaves the image usable for the next."""

import pair_changes
from pair_subject import CALLS, ELSEWHERE, OBJECT, SIZE, Subject, call

__all__ = ["CALLS", "ELSEWHERE", "OBJECT", "SIZE", "Subject", "call", "pair_changes"]


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
async def invalidate_cache(s: Subject) -> None:
    await s.image.invalidate_cache()


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
