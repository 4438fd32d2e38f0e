"""What aiorbd does in a while: `depth` tasks that await one operation after the other, or one stream."""

import argparse
import asyncio
import json
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import anyio

import aiorbd


class Load:
    """Random operations on an image until the time is up, and how long they took."""

    def __init__(self, image: aiorbd.Image, options: argparse.Namespace, blocks: int) -> None:
        self.image, self.block, self.blocks = image, options.block, blocks
        self.reads = {"randread": 1.0, "randrw": 0.7, "randwrite": 0.0}[options.pattern]
        self.data = random.Random(1).randbytes(options.block)
        self.latencies: list[float] = []
        self.lags: list[float] = []
        self.done = 0
        self.end = time.perf_counter() + options.seconds

    async def task(self, seed: int) -> None:
        """One operation after the other."""
        dice = random.Random(seed)
        pick, roll, clock, image, block = dice.randrange, dice.random, time.perf_counter, self.image, self.block
        record = self.latencies.append
        began = clock()
        while began < self.end:
            offset = pick(self.blocks) * block
            if self.reads == 1 or roll() < self.reads:
                await image.read(offset, block)
            else:
                await image.write(self.data, offset)
            now = clock()
            record(now - began)
            began = now
            self.done += 1

    async def stream(self, depth: int) -> None:
        """Reads as they come, or writes as there is room."""
        if self.reads:
            async for _ in self.image.read_extents(self._places(), depth=depth, ordered=False):
                self.done += 1
        else:
            async with self.image.writer(depth=depth) as writer:
                for offset, _ in self._places():
                    await writer.write(self.data, offset)
                    self.done += 1

    def _places(self) -> Iterator[tuple[int, int]]:
        pick, block = random.Random(1).randrange, self.block
        while time.perf_counter() < self.end:
            yield pick(self.blocks) * block, block

    async def watch_the_loop(self) -> None:
        """How late a task wakes up that sleeps for 5 ms."""
        while True:
            start = time.perf_counter()
            await anyio.sleep(0.005)
            self.lags.append(time.perf_counter() - start - 0.005)


async def measure(options: argparse.Namespace) -> dict[str, object]:
    """Work for a while; return how much, and how fast."""
    async with aiorbd.connect(options.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        async with ioctx.open_image(options.image) as image:
            await image.flush()
            load = Load(image, options, await image.size() // options.block)
            start = time.perf_counter()
            async with anyio.create_task_group() as watching:
                if options.lag:
                    watching.start_soon(load.watch_the_loop)
                if options.stream:
                    await load.stream(options.depth)
                else:
                    await at_once([partial(load.task, seed) for seed in range(options.depth)], options.backend)
                watching.cancel_scope.cancel()
            seconds = time.perf_counter() - start
    return {
        "operations": load.done,
        "seconds": seconds,
        "latency_us": percentiles(load.latencies, 1e6),
        "lag_ms": percentiles(load.lags, 1e3),
    }


async def at_once(tasks: list[Callable[[], Awaitable[None]]], backend: str) -> None:
    """Run them in the loop's own task group: anyio's is another one, and costs more."""
    if backend == "trio":
        async with anyio.create_task_group() as group:
            for task in tasks:
                group.start_soon(task)
    else:
        async with asyncio.TaskGroup() as native:
            for task in tasks:
                native.create_task(task())  # type: ignore[arg-type]


def percentiles(values: list[float], unit: float) -> list[float] | None:
    """Return p50, p99 and p99.9; None of too few."""
    if len(values) < 2:
        return None
    cuts = statistics.quantiles(values, n=1000, method="inclusive")
    return [cuts[at] * unit for at in (499, 989, 998)]


def main() -> None:
    """Print one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("conffile")
    parser.add_argument("image")
    parser.add_argument("--backend", choices=["asyncio", "uvloop", "trio"], default="asyncio")
    parser.add_argument("--pattern", choices=["randread", "randwrite", "randrw"], default="randread")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--lag", action="store_true", help="watch the loop as well")
    parser.add_argument("--depth", type=int, default=64)
    parser.add_argument("--block", type=int, default=4096)
    parser.add_argument("--seconds", type=float, default=3)
    options = parser.parse_args()
    if options.backend == "trio":
        result = anyio.run(measure, options, backend="trio")
    else:
        uvloop = options.backend == "uvloop"
        result = anyio.run(measure, options, backend="asyncio", backend_options={"use_uvloop": uvloop})
    print(json.dumps(result))


if __name__ == "__main__":
    main()
