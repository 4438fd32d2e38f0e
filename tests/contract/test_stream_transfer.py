"""Export and import images through streams, and restore data onto existing images."""

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import anyio
import pytest
from diff_bytes import Sink, Stream
from fix_witness import Witness
from helpers import MakeImage, new_name

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio

MIB = 1 << 20
SIZE = 37 * MIB + 12345


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiorbd._pool.transfer.SEGMENT", 16 * MIB)


@pytest.fixture
def content() -> bytes:
    """Return sparse data."""
    data = bytearray(SIZE)
    for offset, length in ((0, 100), (5 * MIB, 3 * MIB), (15 * MIB, 2 * MIB), (SIZE - 7, 7)):
        data[offset : offset + length] = os.urandom(length)
    return bytes(data)


@pytest.mark.parametrize("start", [0, 5 * MIB + 1, SIZE])
@pytest.mark.parametrize("use_object_map", [True, False])
async def test_export_to_a_stream_sends_every_byte(
    ioctx: aiorbd.IoCtx, witness: Witness, name: str, content: bytes, start: int, use_object_map: bool
) -> None:
    await witness.import_(content, name)
    sink, reports = Sink(), []
    async with ioctx.open_image(name, read_only=True) as image:
        await aiorbd.export_image(
            image,
            sink,
            start=start,
            use_object_map=use_object_map,
            progress=lambda done, total: reports.append((done, total)),
        )
    assert sink.data == content[start:]
    assert not sink.closed
    assert [total for _, total in reports] == [SIZE] * len(reports)
    assert not reports or reports[-1] == (SIZE, SIZE)


@pytest.mark.parametrize("size", [None, SIZE])
@pytest.mark.parametrize("most", [65536, 1 << 30])
async def test_import_from_a_stream(
    ioctx: aiorbd.IoCtx, witness: Witness, name: str, content: bytes, size: Any, most: int
) -> None:
    stream = Stream(content, most)
    reports: list[int] = []
    moved = await aiorbd.import_image(ioctx, stream, name, size=size, progress=lambda done, total: reports.append(done))
    assert 5 * MIB < moved < 30 * MIB  # zeroes are not written
    assert reports == sorted(reports)
    assert reports[-1] == SIZE
    assert not stream.closed
    assert await witness.export(name) == content
    async with ioctx.open_image(name) as image:
        usage = await image.disk_usage()
        assert usage.provisioned == SIZE
        assert usage.used <= 24 * MIB


async def test_empty_stream_makes_an_empty_image(ioctx: aiorbd.IoCtx, witness: Witness, name: str) -> None:
    assert await aiorbd.import_image(ioctx, Stream(b""), name) == 0
    assert await witness.export(name) == b""


async def test_stream_of_a_wrong_size_is_refused(ioctx: aiorbd.IoCtx, content: bytes, tmp_path: Path) -> None:
    for size in (SIZE - 1, SIZE + 1):
        with pytest.raises(aiorbd.InvalidArgument, match="wrong number of bytes"):
            await aiorbd.import_image(ioctx, Stream(content), new_name(), size=size)
    with pytest.raises(aiorbd.InvalidArgument, match="cannot be resumed"):
        await aiorbd.import_image(ioctx, Stream(content), new_name(), start=5)
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(aiorbd.InvalidArgument, match="size is for streams"):
        await aiorbd.import_image(ioctx, tmp_path / "file", new_name(), size=1)


@pytest.mark.parametrize("kind", ["file", "stream"])
@pytest.mark.parametrize("before", [SIZE, 64 * MIB, 8 * MIB])
async def test_restore_onto_an_image_keeps_its_snapshots_and_holes(
    ioctx: aiorbd.IoCtx,
    make_image: MakeImage,
    witness: Witness,
    tmp_path: Path,
    content: bytes,
    kind: str,
    before: int,
) -> None:
    name = await make_image(before)
    (tmp_path / "file").write_bytes(content)
    async with ioctx.open_image(name) as image:
        await image.write(b"old" * MIB, 2 * MIB)
        await image.create_snapshot("one")

        def source() -> Any:
            return tmp_path / "file" if kind == "file" else Stream(content, 100_000)

        if before > SIZE:
            with pytest.raises(aiorbd.InvalidArgument, match="allow_shrink=True makes the image smaller"):
                await aiorbd.import_into(image, source())
            assert await image.size() == before
            if kind == "file":  # its size is known before
                assert await image.read(2 * MIB, 3 * MIB) == b"old" * MIB
        await aiorbd.import_into(image, source(), allow_shrink=before > SIZE)
        assert await image.size() == SIZE
        assert (await image.disk_usage()).entries[-1].used <= 24 * MIB
    assert await witness.export(name) == content
    old = await witness.export(f"{name}@one")
    assert len(old) == before
    assert old[2 * MIB : 5 * MIB] == b"old" * MIB


async def test_images_move_through_processes(
    aiorbd_cluster: DevCluster, ioctx: aiorbd.IoCtx, witness: Witness, name: str, content: bytes
) -> None:
    """``rbd export - | gzip``, and back, with the library at both ends."""
    await witness.import_(content, name)
    hashed = hashlib.sha256(content).hexdigest()
    async with await anyio.open_process(["sha256sum"]) as tool, ioctx.open_image(name, read_only=True) as image:
        assert tool.stdin is not None
        assert tool.stdout is not None
        await aiorbd.export_image(image, tool.stdin)
        await tool.stdin.aclose()
        assert (await tool.stdout.receive()).decode().startswith(hashed)
    copy = new_name()
    command = ["rbd", "-c", aiorbd_cluster.conffile, "export", "--no-progress", name, "-"]
    async with await anyio.open_process(command, stdin=subprocess.DEVNULL) as tool:
        assert tool.stdout is not None
        await aiorbd.import_image(ioctx, tool.stdout, copy)
    assert await witness.export(copy) == content


async def test_cancelled_import_can_be_repeated(ioctx: aiorbd.IoCtx, make_image: MakeImage, content: bytes) -> None:
    class Stalling(Stream):
        async def receive(self, max_bytes: int = 65536) -> bytes:
            if len(self.data) < 20 * MIB:
                await anyio.sleep_forever()
            return await super().receive(max_bytes)

    async with ioctx.open_image(await make_image(SIZE)) as image:
        with anyio.move_on_after(2) as scope:
            await aiorbd.import_into(image, Stalling(content, 1 << 16))
        assert scope.cancelled_caught
        await image.drain(30)
        await aiorbd.import_into(image, Stream(content))
        assert await image.read(0, SIZE) == content


async def test_chunks_of_zeroes_come_without_data(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> None:
    async with ioctx.open_image(await make_image(16 * MIB)) as image:
        await image.write(bytes(8 * MIB), 0)
        await image.write(b"x", 9 * MIB)
        for ordered in (True, False):
            chunks = image.read_extents(chunk_size=MIB, skip_zeroes=True, ordered=ordered)
            found = sorted([(chunk.offset, chunk.length, chunk.data is None) async for chunk in chunks])
            assert found == [(number * MIB, MIB, number != 9) for number in range(16)]
        chunks = image.read_extents(chunk_size=MIB)
        assert None not in [chunk.data async for chunk in chunks]


async def test_image_tells_its_pool_and_namespace(cluster: aiorbd.Cluster, ioctx: aiorbd.IoCtx, name: str) -> None:
    namespace = new_name()
    await ioctx.namespaces.create(namespace)
    async with cluster.open_ioctx("rbd", namespace) as inner:
        await inner.create_image(name, MIB)
        async with inner.open_image(name) as image:
            assert (image.pool, image.namespace, image.name) == ("rbd", namespace, name)
        await inner.remove_image(name)
    await ioctx.namespaces.remove(namespace)
