"""Images as files, with the semantics of Python's files."""

import gc
import hashlib
import io
import os
import random
import shutil
import tempfile
import weakref
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from anyio import to_thread
from fix_witness import Witness
from helpers import MakeImage
from inside import handle_of

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio

MIB = 1 << 20
DATA = random.Random(1).randbytes(3 * MIB + 17)


@pytest.fixture
async def full(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> AsyncIterator[Any]:
    """Yield an image that holds `DATA`."""
    async with ioctx.open_image(await make_image(len(DATA))) as image:
        await image.write(DATA, 0)
        yield image


async def test_the_same_as_a_file_of_python_s(full: Any) -> None:
    """The test makes the same random calls on both files."""
    dice = random.Random(2)
    with tempfile.TemporaryFile(buffering=0) as model:
        model.write(DATA)
        model.seek(0)
        async with full.file() as file:
            for _ in range(150):
                size = dice.choice([0, 1, 17, 4096, 70_000, 1 << 20])
                match dice.choice(["read", "readinto", "write", "seek", "end", "current", "all", "tell"]):
                    case "read":
                        assert await file.read(size) == model.read(size)
                    case "readinto":
                        mine, theirs = bytearray(size), bytearray(size)
                        assert await file.readinto(mine) == model.readinto(theirs)
                        assert mine == theirs
                    case "write":
                        data = dice.randbytes(size)
                        if not size or model.tell() + size <= len(DATA):
                            assert await file.write(data) == model.write(data) == size
                        else:
                            with pytest.raises(aiorbd.PastEndOfImage):
                                await file.write(data)
                    case "seek":
                        offset = dice.randrange(len(DATA) + 100)
                        assert await file.seek(offset) == model.seek(offset)
                    case "end":
                        assert await file.seek(-size, os.SEEK_END) == model.seek(-size, os.SEEK_END)
                    case "current":
                        assert await file.seek(size, os.SEEK_CUR) == model.seek(size, os.SEEK_CUR)
                    case "all":
                        assert await file.read() == model.read()
                    case "tell":
                        assert await file.tell() == model.tell()
            assert await file.seek(0) == model.seek(0)
            assert await file.read(-1) == model.read()
            assert await file.read(None) == b""


async def test_iterating_over_a_file_yields_chunks(full: Any) -> None:
    chunks = [chunk async for chunk in full.file(chunk_size=MIB)]
    assert [len(chunk) for chunk in chunks] == [MIB, MIB, MIB, 17]
    assert b"".join(chunks) == DATA
    with pytest.raises(aiorbd.InvalidArgument, match="chunk_size 0"):
        full.file(chunk_size=0)


async def test_large_reads_and_writes_are_done_in_pieces(
    ioctx: aiorbd.IoCtx, make_image: MakeImage, monkeypatch: pytest.MonkeyPatch, witness: Witness
) -> None:
    monkeypatch.setattr("aiorbd._image.file.PIECE", 100_000)
    async with ioctx.open_image(await make_image(len(DATA))) as image:
        async with image.file() as file:
            assert await file.write(memoryview(DATA)) == len(DATA)
            await file.seek(0)
            assert await file.read() == DATA
            await file.seek(1)
            buffer = bytearray(len(DATA))
            assert await file.readinto(buffer) == len(DATA) - 1
            assert buffer[:-1] == DATA[1:]
            with pytest.raises(aiorbd.PastEndOfImage):  # and no part of the data is written
                await file.seek(2)
                await file.write(bytes(len(DATA)))
        assert hashlib.sha256(await witness.export(image.name)).digest() == hashlib.sha256(DATA).digest()


async def test_truncate_resizes_the_image(full: Any, witness: Witness) -> None:
    async with full.file() as file:
        with pytest.raises(aiorbd.InvalidArgument, match="allow_shrink=True"):
            await file.truncate(MIB)
    async with full.file(allow_shrink=True) as file:
        await file.seek(MIB)
        assert await file.truncate() == MIB
        assert await full.size() == MIB
        assert await file.truncate(2 * MIB) == 2 * MIB
        assert await file.tell() == MIB
        assert await file.read() == bytes(MIB)
    assert (await witness.info(full.name))["size"] == 2 * MIB


async def test_write_at_the_end_raises_past_end_of_image(full: Any) -> None:
    async with full.file() as file:
        await file.seek(0, os.SEEK_END)
        assert await file.write(b"") == 0
        for _ in range(2):
            with pytest.raises(aiorbd.PastEndOfImage):
                await file.write(b"x")
        assert await file.tell() == len(DATA)
        await file.seek(100, os.SEEK_CUR)
        assert await file.read(5) == b""
        assert await file.readinto(bytearray(5)) == 0


async def test_bad_seeks(full: Any) -> None:
    async with full.file() as file:
        for offset, whence in ((-1, os.SEEK_SET), (-1, os.SEEK_CUR), (-len(DATA) - 1, os.SEEK_END)):
            with pytest.raises(ValueError, match="before the beginning"):
                await file.seek(offset, whence)
        with pytest.raises(ValueError, match="invalid whence"):
            await file.seek(0, 9)
        with pytest.raises(aiorbd.InvalidArgument):
            await file.readinto(b"read-only")


async def test_closed_file_refuses_calls_and_leaves_the_image_open(ioctx: aiorbd.IoCtx, full: Any) -> None:
    file = full.file()
    assert not file.closed
    await file.write(b"kept")
    await file.aclose()
    await file.aclose()
    assert file.closed
    for call in (file.read, file.tell, file.flush, file.truncate, lambda: file.seek(0), lambda: file.write(b"x")):
        with pytest.raises(aiorbd.ClosedError, match=r"file of image '.*' is closed"):
            await call()
    assert await full.read(0, 4) == b"kept"  # the image is still open
    async with ioctx.open_image(full.name, read_only=True) as other:
        async with other.file() as reader:
            assert await reader.read(4) == b"kept"
            with pytest.raises(aiorbd.ReadOnlyImage):
                await reader.write(b"x")
    with pytest.raises(aiorbd.ClosedError):
        other.file()


async def test_concurrent_reads_take_turns(full: Any) -> None:
    async with full.file() as file:
        parts = []

        async def read() -> None:
            parts.append(await file.read(1000))

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(read)
        assert sorted(parts) == sorted(DATA[start : start + 1000] for start in range(0, 20_000, 1000))


async def test_cancelled_read_does_not_move_the_position(osd: DevCluster) -> None:
    from fix_faults import opened

    async with opened(osd) as image, image.file() as file:
        await file.seek(10)
        osd.pause()
        with anyio.move_on_after(0.1):
            await file.read(100)
        osd.resume()
        assert await file.tell() == 10
        assert await file.read(3) == b"aaa"


async def test_file_asks_for_the_size_only_after_a_change(full: Any, witness: Witness) -> None:
    async with full.file() as file:
        await file.read(1)
        asked: list[int] = []
        size = handle_of(full).image_size
        original = size._ask_size

        def ask() -> Any:
            asked.append(1)
            return original()

        size._ask_size = ask
        for _ in range(10):
            await file.read(1)
        assert not asked
        await witness.rbd("resize", "--no-progress", full.name, "--size", "8M")
        assert await file.seek(0, os.SEEK_END) == 8 * MIB
        assert asked


async def test_blocking_file_works_like_a_raw_file_of_python(full: Any, witness: Witness) -> None:
    def work() -> Any:
        with raw as file:
            assert (file.readable(), file.writable(), file.seekable()) == (True, True, True)
            assert file.read() == DATA
            assert file.read(1) == b""
            assert file.seek(-17, io.SEEK_END) == len(DATA) - 17
            assert file.tell() == len(DATA) - 17
            buffered = io.BufferedRandom(file, 1 << 16)
            buffered.seek(1000)
            buffered.write(b"buffered")
            buffered.seek(0)
            copy = io.BytesIO()
            shutil.copyfileobj(buffered, copy)
            buffered.flush()
            with pytest.raises(aiorbd.PastEndOfImage):
                file.seek(0, io.SEEK_END)
                file.write(b"x")
            assert file.truncate(MIB) == MIB
            return copy.getvalue()

    raw = full.blocking_file(allow_shrink=True)
    expected = DATA[:1000] + b"buffered" + DATA[1008:]
    assert await to_thread.run_sync(work) == expected
    assert raw.closed
    assert await witness.export(full.name) == expected[:MIB]


async def test_data_written_during_a_flush_is_flushed_by_the_next_flush(full: Any) -> None:
    raw = full.blocking_file()
    flushes = []
    flush = full.flush

    async def slow() -> None:
        flushes.append(1)
        if len(flushes) == 1:
            await to_thread.run_sync(raw.write, b"meanwhile")
        await flush()

    raw._file.flush = slow
    await to_thread.run_sync(raw.write, b"before")
    await to_thread.run_sync(raw.flush)
    await to_thread.run_sync(raw.flush)
    await to_thread.run_sync(raw.flush)
    assert len(flushes) == 2
    with pytest.raises(TypeError):
        await to_thread.run_sync(raw.write, 5)
    await to_thread.run_sync(raw.close)


async def test_blocking_file_on_the_event_loop_raises_usage_error(full: Any) -> None:
    raw = full.blocking_file()
    for call in (raw.read, raw.tell, lambda: raw.seek(0), lambda: raw.write(b"x")):
        with pytest.raises(aiorbd.UsageError, match="would block the event loop"):
            call()
    raw.close()
    with pytest.raises(ValueError, match="closed file"):
        raw.tell()


async def test_blocking_file_of_a_read_only_image_refuses_writes(ioctx: aiorbd.IoCtx, full: Any) -> None:
    async with ioctx.open_image(full.name, read_only=True) as image:
        raw = image.blocking_file()
        assert not raw.writable()
        assert await to_thread.run_sync(raw.read, 5) == DATA[:5]
        with pytest.raises(aiorbd.ReadOnlyImage):
            await to_thread.run_sync(raw.write, b"x")
        await to_thread.run_sync(raw.close)


async def test_forgotten_blocking_file_warns_that_it_was_not_flushed(full: Any) -> None:
    """Any thread may collect the file. The file is not flushed there, and a warning reports this."""
    raw = full.blocking_file()
    await to_thread.run_sync(raw.write, b"x")
    gone = weakref.ref(raw)
    with pytest.warns(ResourceWarning, match="never closed or flushed"):  # noqa: PT031
        del raw
        with anyio.fail_after(30):
            while gone() is not None:  # the writing thread drops its reference a moment after its answer
                await to_thread.run_sync(int)  # without the GIL, the thread drops it only at its next job
                gc.collect()
    unused = full.blocking_file()
    del unused


async def test_blocking_file_works_in_a_thread_of_the_program(full: Any) -> None:
    import threading

    raw = full.blocking_file()
    done = anyio.Event()
    token = anyio.lowlevel.current_token()
    found = []

    def work() -> None:
        found.append(raw.read(10))
        anyio.from_thread.run_sync(done.set, token=token)

    threading.Thread(target=work).start()
    with anyio.fail_after(5):
        await done.wait()
    assert found == [DATA[:10]]
    raw.close()
