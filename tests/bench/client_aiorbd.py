"""The aiorbd client: `depth` tasks that await one operation after the other, or one stream."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
from client_common import EQUAL, Load, parser

import aiorbd


async def task(image: aiorbd.Image, load: Load) -> None:
    """Await one operation after the other."""
    clock, block, data, places, reads = time.perf_counter, load.block, load.data, load.places, load.reads
    record, end = load.latencies.append, load.end
    began = clock()
    while began < end:
        if next(reads):
            await image.read(next(places), block)
        else:
            await image.write(data, next(places))
        now = clock()
        record(now - began)
        began = now


async def stream(image: aiorbd.Image, load: Load, depth: int) -> int:
    """Read a stream, or write through a writer, which waits for room."""
    done, clock, end = 0, time.perf_counter, load.end
    if load.share:
        extents = zip(load.places, itertools.repeat(load.block), strict=False)
        async for _ in image.read_extents(extents, chunk_size=load.block, depth=depth, ordered=False):
            done += 1
            if clock() >= end:
                break
    else:
        async with image.writer(depth=depth) as writer:
            for offset in load.places:
                await writer.write(load.data, offset)
                done += 1
                if clock() >= end:
                    break
    return done


async def watch_the_loop(lags: list[float]) -> None:
    """Measure how late a task wakes up that sleeps for 20 ms.

    Shorter sleeps would slow down a client that reads one block at a time.
    """
    while True:
        start = time.perf_counter()
        await anyio.sleep(0.02)
        lags.append(time.perf_counter() - start - 0.02)


async def at_once(tasks: list[Callable[[], Awaitable[None]]], backend: str) -> None:
    """Run the tasks in the loop's own task group, which costs less than anyio's."""
    if backend == "trio":
        async with anyio.create_task_group() as group:
            for one in tasks:
                group.start_soon(one)  # type: ignore[arg-type]
    else:
        async with asyncio.TaskGroup() as native:
            for one in tasks:
                native.create_task(one())  # type: ignore[arg-type]


async def main(options: Any) -> None:
    """Run the load and print its report."""
    conf = {} if options.own_settings else EQUAL
    async with aiorbd.connect(options.conffile, conf=conf) as cluster, cluster.open_ioctx("rbd") as ioctx:
        async with ioctx.open_image(options.image) as image:
            await image.flush()
            load = Load(await image.size(), options)
            done = None
            async with anyio.create_task_group() as watching:
                watching.start_soon(watch_the_loop, load.lags)
                if options.stream:
                    done = await stream(image, load, options.depth)
                else:
                    await at_once([partial(task, image, load)] * options.depth, options.backend)
                watching.cancel_scope.cancel()
            load.report(done)


if __name__ == "__main__":
    arguments = parser()
    arguments.add_argument("--backend", choices=["asyncio", "uvloop", "trio"], default="asyncio")
    arguments.add_argument("--stream", action="store_true")
    arguments.add_argument("--own-settings", action="store_true", help="those that aiorbd chooses, not librbd's")
    options = arguments.parse_args()
    if options.backend == "trio":
        anyio.run(main, options, backend="trio")
    else:
        anyio.run(main, options, backend="asyncio", backend_options={"use_uvloop": options.backend == "uvloop"})
