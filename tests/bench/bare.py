"""Python's part of a read, where librbd is left out: `image.read`, beside the least that a task can do.

    tests/bench/bare.sh                     every loop
    tests/bench/bare.sh --backends asyncio

In librbd's place the bridge's own queue is posted to at once, and drained by the loop like any other completion.
"least" is a future and a dictionary: no cancellation, no checks, no errors, no counts. CPU time of the loop's thread,
the best of all rounds and their median, in microseconds for one read of 4 KiB.
"""

import argparse
import asyncio
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

import aiorbd
from aiorbd import _native
from aiorbd.testing import DevCluster

BLOCK = 4096
#: Of each task, in a round.
READS = 100

Read = Callable[[], Awaitable[object]]


class Posts:
    """The bridge's C functions, but that a read is over as soon as it is submitted."""

    def __init__(self, image: aiorbd.Image) -> None:
        bridge = image._handle.bridge
        post, queue = bridge._lib.aiorbd_bridge_post, bridge.queue
        self.aiorbd_read = lambda _image, token, _offset, length, _data, _flags: post(queue, token, length)


def least() -> Read:
    """Return a read that does nothing but wait, and look its future up."""
    lib, loop = _native.bridge(), asyncio.get_running_loop()
    queue = lib.aiorbd_bridge_new()
    records = _native.bridge_ffi.new("int64_t[]", 1 + 2 * 256)
    view = memoryview(_native.bridge_ffi.buffer(records)).cast("B").cast("q")
    table: dict[int, tuple[asyncio.Future[int], bytes]] = {}
    numbers, post = itertools.count(1), lib.aiorbd_bridge_post

    def drain() -> None:
        taken = lib.aiorbd_bridge_drain(queue, records, 256)
        words = iter(view[1 : 1 + 2 * taken].tolist())
        for token, value in zip(words, words, strict=True):
            table.pop(token)[0].set_result(value)

    async def read() -> bytes:
        token, data, future = next(numbers), bytes(BLOCK), loop.create_future()
        table[token] = future, data
        post(queue, token, BLOCK)
        await future
        return data

    loop.add_reader(lib.aiorbd_bridge_fd(queue), drain)
    return read


async def measure(read: Read, depth: int, rounds: int) -> tuple[float, float]:
    """Return the best and the median."""

    async def task() -> None:
        for _ in range(READS):
            await read()

    times = []
    for _ in range(rounds):
        start = time.thread_time_ns()
        async with anyio.create_task_group() as tasks:
            for _ in range(depth):
                tasks.start_soon(task)
        times.append((time.thread_time_ns() - start) / (depth * READS) / 1000)
    return min(times), statistics.median(times)


async def main(conffile: str, backend: str, rounds: int) -> None:
    """Print one loop's figures."""
    async with aiorbd.connect(conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        await ioctx.create_image(backend, 4 << 20)
        async with ioctx.open_image(backend) as image:
            handle: Any = image._handle
            real, handle.lib = handle.lib, Posts(image)
            ways: dict[str, Read] = {"image.read": lambda: image.read(0, BLOCK)}
            if backend != "trio":
                ways["least"] = least()
            for depth in (1, 16, 64):
                for way, read in ways.items():
                    best, median = await measure(read, depth, rounds)
                    print(f"{backend:10}{depth:4} at once   {way:12}{best:7.2f}   median {median:.2f}", flush=True)
            handle.lib = real


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", default="asyncio,uvloop,trio")
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    with DevCluster() as running:
        for backend in options.backends.split(","):
            if backend == "trio":
                anyio.run(main, running.conffile, backend, options.rounds, backend="trio")
            else:
                uvloop = {"use_uvloop": backend == "uvloop"}
                anyio.run(main, running.conffile, backend, options.rounds, backend="asyncio", backend_options=uvloop)
