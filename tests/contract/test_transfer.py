"""Export, import and copy of images. The tests compare SHA-256 digests with the output of ``rbd``."""

import asyncio
import errno
import hashlib
import os
import stat
import threading
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from helpers import MakeImage, new_name

import aiorbd
from aiorbd._pool.transfer import _opened
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio

MIB = 1 << 20
#: The image has three segments. The last segment is not full.
SEGMENT = 16 * MIB
SIZE = 37 * MIB + 12345


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiorbd._pool.transfer.SEGMENT", SEGMENT)


def digest(data: Any) -> Any:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
async def sparse(ioctx: aiorbd.IoCtx, name: str) -> AsyncIterator[Any]:
    """Yield an image of three segments with scattered data and with written zeroes."""
    await ioctx.create_image(name, SIZE)
    async with ioctx.open_image(name) as image:
        async with image.writer() as writer:
            for offset in (0, 5 * MIB + 7, 15 * MIB, 16 * MIB, 31 * MIB + 4000, SIZE - 20_000):
                await writer.write(os.urandom(20_000), offset)
            await writer.write(bytes(8 * MIB), 20 * MIB)
        yield image
        await image.resize(0, allow_shrink=True)  # the data takes much of the OSD's memory


async def exported(cluster: DevCluster, spec: Any) -> Any:
    return digest(await cluster.run("rbd", "export", "--no-progress", spec, "-"))


async def test_export_writes_an_identical_sparse_file(aiorbd_cluster: DevCluster, sparse: Any, tmp_path: Path) -> None:
    path, seen = tmp_path / "image", []
    moved = await aiorbd.export_image(sparse, path, progress=lambda *now: seen.append(now))
    assert digest(path.read_bytes()) == await exported(aiorbd_cluster, sparse.name)
    assert path.stat().st_blocks * 512 < 29 * MIB
    assert 120_000 < moved < 29 * MIB
    assert seen == [(16 * MIB, SIZE), (32 * MIB, SIZE), (SIZE, SIZE)]


async def test_exports_of_a_snapshot_and_of_a_clone_are_identical(
    aiorbd_cluster: DevCluster, ioctx: aiorbd.IoCtx, sparse: Any, tmp_path: Path
) -> None:
    before = await exported(aiorbd_cluster, sparse.name)
    await sparse.create_snapshot("one")
    await sparse.write(b"later" * 1000, 12 * MIB)
    name = new_name()
    await sparse.clone("one", ioctx, name, clone_format=2)
    async with ioctx.open_image(sparse.name, snapshot="one") as snapshot, ioctx.open_image(name) as clone:
        await aiorbd.export_image(snapshot, tmp_path / "snapshot")
        await aiorbd.export_image(clone, tmp_path / "clone")
        await clone.write(b"own" * 1000, 33 * MIB)
        await clone.discard(0, 4 * MIB)
        await clone.flush()
        await aiorbd.export_image(clone, tmp_path / "changed")
    assert digest((tmp_path / "snapshot").read_bytes()) == before
    assert digest((tmp_path / "clone").read_bytes()) == before
    assert digest((tmp_path / "changed").read_bytes()) == await exported(aiorbd_cluster, name) != before


async def test_import_creates_an_identical_image_without_zeroes(
    aiorbd_cluster: DevCluster, ioctx: aiorbd.IoCtx, tmp_path: Path, name: str
) -> None:
    path, seen = tmp_path / "file", []
    with path.open("wb") as file:
        for offset in (0, 4 * MIB - 10, 33 * MIB, SIZE - 5000):
            file.seek(offset)
            file.write(os.urandom(5000))
        file.seek(20 * MIB)
        file.write(bytes(8 * MIB))
    moved = await aiorbd.import_image(ioctx, path, name, order=20, progress=lambda *now: seen.append(now))
    assert await exported(aiorbd_cluster, name) == digest(path.read_bytes())
    assert 20_000 <= moved < 17 * MIB
    assert seen[-1] == (SIZE, SIZE)
    async with ioctx.open_image(name) as image:
        assert (await image.stat()).order == 20
        assert not [extent async for extent in image.diff(20 * MIB, 8 * MIB)]
    with pytest.raises(aiorbd.ImageExists):
        await aiorbd.import_image(ioctx, path, name)


async def test_import_reuses_its_buffers(ioctx: aiorbd.IoCtx, tmp_path: Path, name: str) -> None:
    """The import needs two buffers for each write that librbd may have, and one buffer to read into."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(12 * 4 * MIB + 1))
    tracemalloc.start()
    try:
        await aiorbd.import_image(ioctx, path, name, depth=1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < (3 * 4 + 2) * MIB


async def test_empty_file_is_imported_and_exported(ioctx: aiorbd.IoCtx, tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").touch()
    assert await aiorbd.import_image(ioctx, tmp_path / "empty", name) == 0
    async with ioctx.open_image(name) as image:
        assert await image.size() == 0
        assert await aiorbd.export_image(image, tmp_path / "again") == 0
    assert (tmp_path / "again").stat().st_size == 0


async def test_copy(aiorbd_cluster: DevCluster, ioctx: aiorbd.IoCtx, sparse: Any, make_image: MakeImage) -> None:
    """The copy replaces the data of the destination, except the data beyond the size of the source."""
    name = await make_image(SIZE + MIB)
    async with ioctx.open_image(name) as destination:
        async with destination.writer() as writer:
            for offset in (3 * MIB, 5 * MIB, 21 * MIB, 30 * MIB, SIZE - 10_000, SIZE):
                await writer.write(b"old" * 3000, offset)
        await aiorbd.copy_image(sparse, destination)
        found = await aiorbd_cluster.run("rbd", "export", "--no-progress", name, "-")
        assert digest(found[:SIZE]) == await exported(aiorbd_cluster, sparse.name)
        assert found[SIZE : 9000 + SIZE] == b"old" * 3000
        with pytest.raises(aiorbd.PastEndOfImage, match=f"has {SIZE} bytes"):
            await aiorbd.copy_image(destination, sparse)


class Interrupted(Exception):
    """Raised by a progress function to interrupt a transfer."""


@pytest.fixture
def break_off() -> Any:
    """Return a progress function that raises at its second report, and the list of the reported positions."""
    seen = []

    def progress(done: Any, total: int) -> None:
        seen.append(done)
        if len(seen) == 2:
            raise Interrupted

    return progress, seen


async def test_interrupted_export_resumes_with_start(
    aiorbd_cluster: DevCluster, sparse: Any, tmp_path: Path, break_off: Any
) -> None:
    """The file keeps no data that the interrupted export wrote beyond the last report."""
    path = tmp_path / "image"
    progress, seen = break_off
    with pytest.raises(Interrupted):
        await aiorbd.export_image(sparse, path, progress=progress)
    with path.open("r+b") as file:
        file.seek(seen[0] + 10 * MIB)
        file.write(b"left over")
    await aiorbd.export_image(sparse, path, start=seen[0], progress=progress)
    assert seen[2:] == [32 * MIB, SIZE]
    assert digest(path.read_bytes()) == await exported(aiorbd_cluster, sparse.name)
    with pytest.raises(aiorbd.PastEndOfImage, match="start"):
        await aiorbd.export_image(sparse, path, start=SIZE + 1)


async def test_interrupted_import_resumes_with_start(
    aiorbd_cluster: DevCluster,
    ioctx: aiorbd.IoCtx,
    sparse: Any,
    tmp_path: Path,
    name: str,
    break_off: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aiorbd._pool.transfer.SEGMENT", 4 * MIB)  # a segment counts data only, and there is little
    path, other = tmp_path / "image", new_name()
    await aiorbd.export_image(sparse, path)
    progress, seen = break_off
    with pytest.raises(aiorbd.ImageNotFound):
        await aiorbd.import_image(ioctx, path, other, start=5)
    with pytest.raises(Interrupted):
        await aiorbd.import_image(ioctx, path, other, progress=progress)
    assert 4 * MIB <= seen[0] < seen[1] < SIZE
    await aiorbd.import_image(ioctx, path, other, start=seen[1], progress=progress)
    assert seen[-1] == SIZE
    assert seen == sorted(set(seen))
    assert await exported(aiorbd_cluster, other) == digest(path.read_bytes())
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(aiorbd.InvalidArgument, match=f"has {SIZE} bytes, and '.*' has {SIZE + 4}"):
        await aiorbd.import_image(ioctx, path, other, start=seen[1])


async def test_interrupted_copy_resumes_with_start(
    aiorbd_cluster: DevCluster, ioctx: aiorbd.IoCtx, sparse: Any, make_image: MakeImage, break_off: Any
) -> None:
    name = await make_image(SIZE)
    progress, seen = break_off
    async with ioctx.open_image(name) as destination:
        with pytest.raises(Interrupted):
            await aiorbd.copy_image(sparse, destination, progress=progress)
        await aiorbd.copy_image(sparse, destination, start=seen[0], progress=progress)
    assert await exported(aiorbd_cluster, name) == await exported(aiorbd_cluster, sparse.name)


async def test_file_errors_are_raised(ioctx: aiorbd.IoCtx, sparse: Any, tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError):
        await aiorbd.import_image(ioctx, tmp_path / "none", name)
    assert name == sparse.name or name not in await ioctx.list_images()
    with pytest.raises(IsADirectoryError):
        await aiorbd.export_image(sparse, tmp_path)
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the next line checks errno
        await aiorbd.export_image(sparse, "/dev/full")
    assert caught.value.errno in (errno.EINVAL, errno.ENOSPC)
    assert sparse.in_flight == 0


async def test_short_file_raises_eof_error(
    ioctx: aiorbd.IoCtx, sparse: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transfer invents no data for the missing part of the file."""
    path = tmp_path / "image"
    with pytest.raises(FileNotFoundError):
        await aiorbd.export_image(sparse, path, start=16 * MIB)
    path.write_bytes(b"short")
    with pytest.raises(EOFError, match="shorter than start"):
        await aiorbd.export_image(sparse, path, start=16 * MIB)
    assert path.read_bytes() == b"short"
    path.write_bytes(b"data" * (8 * MIB))
    with path.open("r+b") as file:
        file.truncate(SIZE)
    with pytest.raises(EOFError, match="became shorter"):
        await aiorbd.import_image(ioctx, path, new_name(), progress=lambda *_: os.truncate(path, 20 * MIB))


def is_open(path: Any) -> Any:
    """Return whether this process has a file open."""
    return any(os.path.realpath(f"/proc/self/fd/{number}") == str(path) for number in os.listdir("/proc/self/fd"))


def test_cancelled_task_closes_its_file_after_the_thread_is_done(tmp_path: Path) -> None:
    """asyncio's own cancellation leaves the thread running.

    The descriptor stays open while the thread uses the file, and does not leak.
    """
    (tmp_path / "file").touch()
    begun, go_on, seen = threading.Event(), threading.Event(), []

    def look(file: Any) -> None:
        begun.set()
        assert go_on.wait(10)
        seen.append(os.fstat(file).st_size)

    async def main() -> None:
        async with _opened(tmp_path / "file", os.O_RDONLY, (stat.S_ISREG,)) as file:
            await file.call(look)

    async def cancelled() -> None:
        task = asyncio.ensure_future(main())
        while not begun.is_set():
            assert not task.done()
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        while not seen:
            await asyncio.sleep(0.01)

    asyncio.run(cancelled())
    assert seen == [0]
    assert not is_open(tmp_path / "file")


async def test_cancelled_export_closes_its_file(sparse: Any, tmp_path: Path) -> None:
    """The cancellation takes effect at once. The descriptor is closed when the thread is done with the file."""
    with anyio.move_on_after(0.01):
        await aiorbd.export_image(sparse, tmp_path / "image")
    await sparse.drain(timeout=30)
    assert not is_open(tmp_path / "image")


async def test_wrong_object_map_is_ignored_with_use_object_map_false(
    aiorbd_cluster: DevCluster, ioctx: aiorbd.IoCtx, tmp_path: Path, make_image: MakeImage
) -> None:
    """An export lacks the data that the object map omits, unless ``use_object_map`` is false."""
    name = await make_image(SIZE)
    async with ioctx.open_image(name) as image, ioctx.open_image(await make_image(SIZE)) as empty:
        for offset in range(0, SIZE, 8 * MIB):
            await image.write(b"x" * 4096, offset)
        nothing = await ioctx.objects.read(f"rbd_object_map.{empty.id}", 1 << 20)
    before = await exported(aiorbd_cluster, name)
    await ioctx.objects.write_full(f"rbd_object_map.{image.id}", nothing)
    async with ioctx.open_image(name, read_only=True) as image:
        await aiorbd.export_image(image, tmp_path / "trusting")
        await aiorbd.export_image(image, tmp_path / "reading", use_object_map=False)
        async with ioctx.open_image(await make_image(SIZE)) as copy:
            await aiorbd.copy_image(image, copy, use_object_map=False)
            copied = copy.name
    assert digest((tmp_path / "trusting").read_bytes()) != before
    assert digest((tmp_path / "reading").read_bytes()) == before
    assert await exported(aiorbd_cluster, copied) == before
    assert (tmp_path / "reading").stat().st_blocks * 512 < SIZE


async def test_pipes_character_devices_and_directories_are_refused(
    ioctx: aiorbd.IoCtx, image: aiorbd.Image, name: str, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader, writer = os.pipe()
    for path in (pipe, "/dev/zero", "/dev/null", f"/dev/fd/{reader}"):
        with pytest.raises(aiorbd.InvalidArgument, match="is no regular file and no block device"):
            await aiorbd.import_image(ioctx, path, name)
    for path in (pipe, "/dev/full", "/dev/null", f"/dev/fd/{writer}"):
        with pytest.raises(aiorbd.InvalidArgument, match="is no regular file"):
            await aiorbd.export_image(image, path)
    for call in (aiorbd.import_image(ioctx, tmp_path, name), aiorbd.export_image(image, tmp_path)):
        with pytest.raises(IsADirectoryError):
            await call
    os.close(reader)
    os.close(writer)
    assert name not in await ioctx.list_images()
