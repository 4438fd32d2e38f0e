"""Random reads with the `rbd` module that comes with Ceph, from asyncio. Runs under the system's Python.

Two ways: `aio_read` whose callback calls `call_soon_threadsafe`, and a pool of `depth` threads.
"""

import argparse
import asyncio
import json
import random
import time
from concurrent.futures import ThreadPoolExecutor

import rados
import rbd


async def aio_reader(image, pick, blocks, block, end):
    """One task: one `aio_read` after the other."""
    loop = asyncio.get_running_loop()
    done = 0
    while time.perf_counter() < end:
        future = loop.create_future()

        def completed(completion, data, future=future):
            loop.call_soon_threadsafe(future.set_result, data)

        image.aio_read(pick(blocks) * block, block, completed)
        await future
        done += 1
    return done


async def thread_reader(image, pick, blocks, block, end, pool):
    """One task: one blocking read after the other, each on a thread of the pool."""
    loop = asyncio.get_running_loop()
    done = 0
    while time.perf_counter() < end:
        await loop.run_in_executor(pool, image.read, pick(blocks) * block, block)
        done += 1
    return done


async def measure(image, options):
    """Read for a while; return how many operations in how many seconds."""
    blocks = image.size() // options.block
    start = time.perf_counter()
    end = start + options.seconds
    picks = [random.Random(seed).randrange for seed in range(options.depth)]
    if options.way == "aio":
        tasks = [aio_reader(image, pick, blocks, options.block, end) for pick in picks]
        done = await asyncio.gather(*tasks)
    else:
        with ThreadPoolExecutor(options.depth) as pool:
            tasks = [thread_reader(image, pick, blocks, options.block, end, pool) for pick in picks]
            done = await asyncio.gather(*tasks)
    return {"operations": sum(done), "seconds": time.perf_counter() - start}


def main():
    """Print one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("conffile")
    parser.add_argument("image")
    parser.add_argument("--way", choices=["aio", "threads"], default="aio")
    parser.add_argument("--depth", type=int, default=64)
    parser.add_argument("--block", type=int, default=4096)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--threads", type=int, help="librados_thread_count")
    options = parser.parse_args()
    conf = {"librados_thread_count": str(options.threads)} if options.threads else {}
    with rados.Rados(conffile=options.conffile, conf=conf) as cluster, cluster.open_ioctx("rbd") as ioctx:
        with rbd.Image(ioctx, options.image) as image:
            image.flush()
            print(json.dumps(asyncio.run(measure(image, options))))


if __name__ == "__main__":
    main()
