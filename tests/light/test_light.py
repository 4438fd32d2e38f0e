"""Memory, descriptors and threads do not grow."""

import gc
import json
import subprocess
import sys
from typing import Any

import anyio
import pytest
from fix_programs import PROGRAMS
from helpers import MakeImage, descriptors, descriptors_fall_to, new_name, resident_bytes, threads

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(1200)]

MIB = 1 << 20


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Skip uvloop: it shares asyncio's code in this library, so growth there would show here."""
    return request.param


async def test_million_operations_leave_memory_descriptors_and_threads_as_they_were(
    ioctx: aiorbd.IoCtx, make_image: MakeImage, anyio_backend_name: str
) -> None:
    """On asyncio, a leak of eight bytes in each operation would show. trio runs a quarter, for what is its own."""
    async with ioctx.open_image(await make_image(16 * MIB)) as image:
        await image.write(b"x" * 16 * MIB, 0)
        await image.flush()
        data = b"y" * 512
        buffer = bytearray(512)

        async def work(first: Any, count: int) -> None:
            for number in range(first, first + count):
                offset = number * 4096 % (16 * MIB)
                kind = number % 10
                if kind == 0:
                    await image.write(data, offset)
                elif kind == 1:
                    await image.read_into(buffer, offset)
                elif kind == 2 and number % 7 == 0:
                    with anyio.move_on_after(0):
                        await image.read(offset, 512)
                else:
                    await image.read(offset, 512)

        async def run(total: int) -> Any:
            async with anyio.create_task_group() as tasks:
                for worker in range(64):
                    tasks.start_soon(work, worker * 1000, total // 64)
            await image.drain(timeout=30)
            gc.collect()
            return resident_bytes(), descriptors(), threads()

        memory, files, running = await run(100_000)  # librbd's caches and pools fill up first
        after = await run(1_000_000 if anyio_backend_name == "asyncio" else 250_000)
    assert after[1] == files
    assert after[2] <= running
    assert after[0] - memory < 6 * MIB


async def test_thousand_opens_leave_memory_descriptors_and_threads_as_they_were(
    ioctx: aiorbd.IoCtx, make_image: MakeImage
) -> None:
    name = await make_image(1 * MIB, features=aiorbd.Feature.LAYERING | aiorbd.Feature.EXCLUSIVE_LOCK)

    async def cycle(count: int) -> Any:
        for _ in range(count):
            async with ioctx.open_image(name) as image:
                await image.read(0, 512)
        gc.collect()
        return resident_bytes(), descriptors(), threads()

    memory, files, running = await cycle(200)
    after = await cycle(1000)
    assert after[1] == files
    # The pool starts another worker thread when no thread is idle yet at the next job.
    assert after[2] <= running + 2
    # A leak of 1 KiB in each open would show.
    assert after[0] - memory < MIB


async def test_connections_leave_no_descriptors_and_few_threads(aiorbd_cluster: DevCluster) -> None:
    async def cycle(count: int) -> None:
        for _ in range(count):
            async with aiorbd.connect(aiorbd_cluster.conffile) as cluster, cluster.open_ioctx("rbd"):
                pass
        gc.collect()

    await cycle(5)
    before = descriptors()
    await cycle(50)
    await descriptors_fall_to(before)
    # A worker thread lives on for a while after its cluster.
    with anyio.fail_after(15):
        while threads() > 40:
            await anyio.sleep(0.2)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_reads_start_no_threads(aiorbd_cluster: DevCluster, backend: str) -> None:
    """In a process with an open image, no thread begins during a thousand reads."""
    done = subprocess.run(
        [sys.executable, PROGRAMS / "count_threads.py", aiorbd_cluster.conffile, new_name(), backend],
        capture_output=True,
        text=True,
        check=True,
    )
    begun, count = json.loads(done.stdout)
    assert begun == []
    assert count > 5  # librados's and librbd's
