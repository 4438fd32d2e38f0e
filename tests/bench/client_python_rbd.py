"""The same with the `rbd` module that comes with Ceph, from asyncio. Runs under the system's Python.

Three ways: `aio_read` and `aio_write` whose callback calls `call_soon_threadsafe`, a pool of `depth` threads, and
blocking calls one after the other.
"""

import argparse
import asyncio
import json
import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import rados
import rbd

READS = {"randread": 1.0, "randrw": 0.7, "randwrite": 0.0}


class Load:
    """Random operations on an image until the time is up, and how long they took."""

    def __init__(self, image, options):
        self.image, self.block, self.blocks = image, options.block, image.size() // options.block
        self.reads = READS[options.pattern]
        self.data = random.Random(1).randbytes(options.block)
        self.latencies = []
        self.end = time.perf_counter() + options.seconds

    def choose(self, dice):
        """Return where, and whether to read."""
        return dice.randrange(self.blocks) * self.block, self.reads == 1 or dice.random() < self.reads

    async def aio(self, seed):
        """One `aio_read` or `aio_write` after the other."""
        loop, dice, began = asyncio.get_running_loop(), random.Random(seed), time.perf_counter()
        while began < self.end:
            offset, read = self.choose(dice)
            future = loop.create_future()
            if read:
                self.image.aio_read(
                    offset,
                    self.block,
                    lambda _, data, future=future: loop.call_soon_threadsafe(future.set_result, data),
                )
            else:
                self.image.aio_write(
                    self.data, offset, lambda _, future=future: loop.call_soon_threadsafe(future.set_result, None)
                )
            await future
            now = time.perf_counter()
            self.latencies.append(now - began)
            began = now

    async def threads(self, seed, pool):
        """One blocking call after the other, each on a thread of the pool."""
        loop, dice, began = asyncio.get_running_loop(), random.Random(seed), time.perf_counter()
        while began < self.end:
            offset, read = self.choose(dice)
            call = (self.image.read, offset, self.block) if read else (self.image.write, self.data, offset)
            await loop.run_in_executor(pool, *call)
            now = time.perf_counter()
            self.latencies.append(now - began)
            began = now

    def blocking(self):
        """One blocking call after the other, without a loop."""
        dice, began = random.Random(1), time.perf_counter()
        while began < self.end:
            offset, read = self.choose(dice)
            if read:
                self.image.read(offset, self.block)
            else:
                self.image.write(self.data, offset)
            now = time.perf_counter()
            self.latencies.append(now - began)
            began = now


async def with_loop(load, options):
    """Run `depth` tasks."""
    if options.way == "aio":
        await asyncio.gather(*(load.aio(seed) for seed in range(options.depth)))
    else:
        with ThreadPoolExecutor(options.depth) as pool:
            await asyncio.gather(*(load.threads(seed, pool) for seed in range(options.depth)))


def measure(image, options):
    """Work for a while; return how much, and how fast."""
    load = Load(image, options)
    start = time.perf_counter()
    if options.way == "blocking":
        load.blocking()
    else:
        asyncio.run(with_loop(load, options))
    seconds = time.perf_counter() - start
    latency = None
    if len(load.latencies) > 1:
        cuts = statistics.quantiles(load.latencies, n=1000, method="inclusive")
        latency = [cuts[at] * 1e6 for at in (499, 989, 998)]
    return {"operations": len(load.latencies), "seconds": seconds, "latency_us": latency, "lag_ms": None}


def main():
    """Print one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("conffile")
    parser.add_argument("image")
    parser.add_argument("--way", choices=["aio", "threads", "blocking"], default="aio")
    parser.add_argument("--pattern", choices=list(READS), default="randread")
    parser.add_argument("--depth", type=int, default=64)
    parser.add_argument("--block", type=int, default=4096)
    parser.add_argument("--seconds", type=float, default=3)
    options = parser.parse_args()
    with rados.Rados(conffile=options.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        with rbd.Image(ioctx, options.image) as image:
            image.flush()
            print(json.dumps(measure(image, options)))


if __name__ == "__main__":
    main()
