"""Measure one size of one part of ``scale.py`` in a separate process, and print one line of JSON."""

import asyncio
import gc
import json
import os
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio

import aiorbd
from aiorbd._native import loader as _native
from aiorbd.testing import DevCluster  # noqa: F401 - the other programs import it, too

sys.path.insert(0, str(Path(__file__).parent.parent))
from fix_lag import measured_lag
from fix_snapshots import add_snapshots

READ = 4096


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def state() -> dict[str, int]:
    """Return the number of threads and of descriptors."""
    return {"threads": len(os.listdir("/proc/self/task")), "descriptors": len(os.listdir("/proc/self/fd"))}


def ask(what: str) -> None:
    """Ask the parent process to do something with the cluster, and wait until it has."""
    print(what, flush=True)
    sys.stdin.readline()


@asynccontextmanager
async def connected(conffile: str) -> AsyncIterator[tuple[aiorbd.Cluster, aiorbd.IoCtx]]:
    """Connect and open the pool."""
    async with aiorbd.connect(conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        yield cluster, ioctx


async def at_once(functions: list[Callable[[], Any]], limit: int = 64) -> None:
    """Call the functions, at most `limit` at a time."""
    bound = anyio.CapacityLimiter(limit)

    async def one(function: Callable[[], Any]) -> None:
        async with bound:
            await function()

    async with anyio.create_task_group() as tasks:
        for function in functions:
            tasks.start_soon(one, function)


async def make_images(ioctx: aiorbd.IoCtx, size: int) -> list[str]:
    """Create `size` images and return their names."""
    names = [f"scale-{number}" for number in range(size)]
    there = set(await ioctx.list_images())
    await at_once([partial(ioctx.create_image, name, 1 << 20) for name in names if name not in there])
    async with ioctx.open_image(names[0]) as image:  # allocate one-time memory
        await image.read(0, READ)
    return names


async def images(size: int, conffile: str) -> dict[str, Any]:
    """Open `size` images, all at once."""
    async with connected(conffile) as (_, ioctx), AsyncExitStack() as stack:
        names = await make_images(ioctx, size)
        before = resident()

        async def open_one(name: str) -> None:
            await stack.enter_async_context(ioctx.open_image(name))

        start = time.perf_counter()
        async with measured_lag(witnessed=False) as lag:
            await at_once([partial(open_one, name) for name in names])
        seconds = time.perf_counter() - start
        grown = resident() - before
        return {"KiB each": grown / size / 1024, "lag ms": lag.worst_by_the_clock * 1e3, "seconds": seconds} | state()


async def images_of_librbd(size: int, conffile: str) -> dict[str, Any]:
    """Open the images without this library's code around an image. It uses threads, because librbd blocks."""
    async with connected(conffile) as (_, ioctx):
        names = await make_images(ioctx, size)
        before = resident()
        rbd, ffi = _native.rbd(), _native.ffi
        opened = [ffi.new("rbd_image_t *") for _ in names]

        def open_one(name: str, image: Any) -> None:
            assert not rbd.rbd_open(ioctx._handle.pointer, name.encode(), image, ffi.NULL)

        await at_once(
            [partial(anyio.to_thread.run_sync, open_one, *both) for both in zip(names, opened, strict=True)], 16
        )
        grown = resident() - before
        for image in opened:
            rbd.rbd_close(image[0])
        return {"KiB each": grown / size / 1024}


async def operations(size: int, conffile: str) -> dict[str, Any]:
    """Keep `size` reads in flight that the OSD does not answer, then let it answer."""
    async with connected(conffile) as (_, ioctx):
        (name,) = await make_images(ioctx, 1)
        async with ioctx.open_image(name) as image:
            await image.write(bytes(READ), 0)
            await image.flush()
            buffer = sys.getsizeof(bytes(READ))

            async def read() -> None:
                await image.read(0, READ)

            waiting: list[asyncio.Future[None]] = []

            async def wait() -> None:
                waiting.append(asyncio.get_running_loop().create_future())
                await waiting[-1]

            bare = await memory_of(wait, size, lambda: [future.set_result(None) for future in waiting])  # type: ignore[func-returns-value]
            ask("pause")
            reading = await memory_of(read, size, partial(ask, "resume"))
            ask("pause")
            gc.collect()
            tracemalloc.start()
            async with image.read_extents([(0, READ)] * size, depth=size) as stream:
                while image.in_flight < size:
                    with anyio.move_on_after(0.01):
                        await anext(stream)
                streamed = tracemalloc.get_traced_memory()[0]
                tracemalloc.stop()
                ask("resume")
            await image.drain()
            ask("pause")
            start = time.perf_counter()
            async with measured_lag(witnessed=False) as lag, anyio.create_task_group() as tasks:
                for number in range(size):
                    tasks.start_soon(read)
                    if number % 32 == 31:  # starting all of them in one pass of the loop would cause the lag
                        await anyio.sleep(0)
                counts = state()
                await anyio.to_thread.run_sync(ask, "resume")
            return {
                "bytes each": reading / size - buffer,
                "bare task": bare / size,
                "in a stream": streamed / size - buffer,
                "lag ms": lag.worst_by_the_clock * 1e3,
                "seconds": time.perf_counter() - start,
            } | counts


async def memory_of(function: Callable[[], Any], size: int, end: Callable[[], object]) -> int:
    """Return the bytes of Python's objects that `size` tasks hold while they wait."""
    gc.collect()
    tracemalloc.start()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(size):
            tasks.create_task(function())
        await anyio.sleep(0.5)
        used = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        end()
    return used


async def clusters(size: int, conffile: str) -> dict[str, Any]:
    """Connect `size` times, all at once, and read with each connection."""
    async with connected(conffile) as (_, ioctx):
        (name,) = await make_images(ioctx, 1)
    before = resident()
    start = time.perf_counter()
    async with measured_lag(witnessed=False) as lag, AsyncExitStack() as stack:

        async def connect() -> None:
            _, ioctx = await stack.enter_async_context(connected(conffile))
            image = await stack.enter_async_context(ioctx.open_image(name, read_only=True))
            assert len(await image.read(0, READ)) == READ

        await at_once([connect] * size)
        seconds = time.perf_counter() - start
        grown = resident() - before
        counts = state()
    return {"KiB each": grown / size / 1024, "lag ms": lag.worst_by_the_clock * 1e3, "seconds": seconds} | counts


async def snapshots(size: int, conffile: str) -> dict[str, Any]:
    """List `size` snapshots of an image, and the changes since the first."""
    name = f"snapshots-{size}"
    async with connected(conffile) as (_, ioctx):
        await ioctx.create_image(name, 64 << 20, order=12, features=aiorbd.Feature.LAYERING)
        await add_snapshots(ioctx, name, size)
    async with connected(conffile) as (_, ioctx):
        before = resident()
        async with ioctx.open_image(name) as image:
            await at_once([partial(image.write, b"x" * 512, number * 8192) for number in range(1000)])
            async with measured_lag(witnessed=False) as lag:
                start = time.perf_counter()
                count = 0
                async for _ in image.snapshots():
                    count += 1
                assert count == size
                listed = time.perf_counter()
                extents = 0
                async for _ in image.diff(from_snapshot="snapshot-000000"):
                    extents += 1
                ended = time.perf_counter()
            grown = (resident() - before) / (1 << 20)
            return {
                "MiB": grown,
                "lag ms": lag.worst_by_the_clock * 1e3,
                "list s": listed - start,
                "diff s": ended - listed,
                "extents": extents,
            } | state()


if __name__ == "__main__":
    part, size, conffile = sys.argv[1:]
    print(json.dumps(anyio.run(globals()[part], int(size), conffile)))
