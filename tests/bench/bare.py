"""Measure Python's share of a read or write, without librbd, and the minimum that a task needs for a read.

    tests/bench/bare.sh                     every loop
    tests/bench/bare.sh --backends asyncio

The bridge calls a fake librbd, which calls back before its submit returns. The loop then drains the record as usual.
"stream" is `image.read_extents` and "writer" is `image.writer`. "least" is a future and a dictionary in Python, without
cancellation, checks, errors or counts. The figures are the CPU time of the loop's thread in microseconds for one read
or write of 4 KiB: the best of all rounds, and their median. With one operation at a time, the operation completes
within the pass that starts it. This happens only in this measurement.
"""

import argparse
import asyncio
import contextlib
import ctypes
import itertools
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio

import aiorbd
from aiorbd._native import loader as _native
from aiorbd.testing import DevCluster

BLOCK = 4096
FAKE = Path(__file__).parents[1] / "bridge" / "fake_librbd.c"
#: Calls of each task in a round.
CALLS = 100

Call = Callable[[], Awaitable[object]]


@contextlib.contextmanager
def fake_librbd() -> Iterator[None]:
    """Replace librbd while the block runs, so that submitted operations complete at once."""
    lib = _native.bridge()
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/fake.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-w", "-o", path, FAKE], check=True)
        assert not lib.aiorbd_load(path.encode(), path.encode())
        ctypes.c_int.in_dll(ctypes.CDLL(path), "fake_early").value = 1
        try:
            yield
        finally:
            assert not lib.aiorbd_load(b"librbd.so.1", b"librados.so.2")


def least(image: Any) -> Call:
    """Return a read that only waits and looks up its future."""
    lib, loop = _native.bridge(), asyncio.get_running_loop()
    queue = lib.aiorbd_bridge_new()
    mine = lib.aiorbd_image_new(queue, image, _native.bridge_ffi.NULL, -1)
    lib.aiorbd_image_set_known(mine, lib.aiorbd_image_generation(mine))
    records = _native.bridge_ffi.new("int64_t[]", 1 + 2 * 256)
    view = memoryview(_native.bridge_ffi.buffer(records)).cast("B").cast("q")
    table: dict[int, tuple[asyncio.Future[int], bytes]] = {}
    numbers, request = itertools.count(1), _native.bridge_ffi.new("aiorbd_request *")
    request.kind, request.length = lib.AIORBD_READ, BLOCK

    def drain() -> None:
        lib.aiorbd_bridge_begin(queue)
        taken = lib.aiorbd_bridge_take(queue, records, 256)
        lib.aiorbd_bridge_end(queue)
        words = iter(view[1 : 1 + 2 * taken].tolist())
        for token, value in zip(words, words, strict=True):
            table.pop(token)[0].set_result(value)

    async def read() -> bytes:
        token, data, future = next(numbers), bytes(BLOCK), loop.create_future()
        table[token] = future, data
        request.buffer = _native.bridge_ffi.from_buffer(data)
        lib.aiorbd_submit(mine, token, request)
        await future
        return data

    loop.add_reader(lib.aiorbd_bridge_fd(queue), drain)
    return read


async def tasks(call: Call, depth: int) -> None:
    """Run `depth` tasks, each of which makes its calls one after the other."""

    async def task() -> None:
        for _ in range(CALLS):
            await call()

    async with anyio.create_task_group() as group:
        for _ in range(depth):
            group.start_soon(task)


async def stream(image: aiorbd.Image, depth: int) -> None:
    """Read chunks through a stream."""
    places = [(number % 1024 * BLOCK, BLOCK) for number in range(depth * CALLS)]
    async for _ in image.read_extents(places, chunk_size=BLOCK, depth=depth, ordered=False):
        pass


async def writer(image: aiorbd.Image, depth: int) -> None:
    """Write through a writer, which waits for room."""
    data = bytes(BLOCK)
    async with image.writer(depth=depth) as writer:
        for number in range(depth * CALLS):
            await writer.write(data, number % 1024 * BLOCK)


async def show(backend: str, depth: int, way: str, work: Call, rounds: int) -> None:
    """Measure one way and print its line."""
    times = []
    for _ in range(rounds):
        start = time.thread_time_ns()
        await work()
        times.append((time.thread_time_ns() - start) / (depth * CALLS) / 1000)
    best, median = min(times), statistics.median(times)
    print(f"{backend:10}{depth:4} at once   {way:12}{best:7.2f}   median {median:.2f}", flush=True)


async def main(conffile: str, backend: str, rounds: int) -> None:
    """Print one loop's figures."""
    async with aiorbd.connect(conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        await ioctx.create_image(backend, 4 << 20)
        async with ioctx.open_image(backend) as image:
            handle: Any = image._handle
            data = bytes(BLOCK)
            ways: dict[str, Call] = {
                "image.read": lambda: image.read(0, BLOCK),
                "image.write": lambda: image.write(data, 0),
            }
            if backend != "trio":
                ways["least"] = least(handle.opened[0])
            with fake_librbd():
                for depth in (1, 16, 64):
                    for way, call in ways.items():
                        await show(backend, depth, way, partial(tasks, call, depth), rounds)
                    if depth > 1:
                        await show(backend, depth, "stream", partial(stream, image, depth), rounds)
                        await show(backend, depth, "writer", partial(writer, image, depth), rounds)


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
