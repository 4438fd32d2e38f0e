"""The client for Ceph's `rbd` module under asyncio. Runs under the system's Python.

There are three ways: `aio_read` and `aio_write` with a callback that calls `call_soon_threadsafe`, a pool of `depth`
threads, and blocking calls one after the other.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import rados  # type: ignore[import-not-found]
import rbd  # type: ignore[import-not-found]
from client_common import Load, parser


async def aio(image: Any, load: Any) -> None:
    """Await one `aio_read` or `aio_write` after the other."""
    loop, began = asyncio.get_running_loop(), time.perf_counter()
    while began < load.end:
        future = loop.create_future()
        if next(load.reads):
            image.aio_read(
                next(load.places),
                load.block,
                lambda _, data, future=future: loop.call_soon_threadsafe(future.set_result, data),
            )
        else:
            image.aio_write(
                load.data,
                next(load.places),
                lambda _, future=future: loop.call_soon_threadsafe(future.set_result, None),
            )
        await future
        now = time.perf_counter()
        load.latencies.append(now - began)
        began = now


async def threads(image: Any, load: Any, pool: Any) -> None:
    """Make one blocking call after the other, each on a thread of the pool."""
    loop, began = asyncio.get_running_loop(), time.perf_counter()
    while began < load.end:
        if next(load.reads):
            await loop.run_in_executor(pool, image.read, next(load.places), load.block)
        else:
            await loop.run_in_executor(pool, image.write, load.data, next(load.places))
        now = time.perf_counter()
        load.latencies.append(now - began)
        began = now


def blocking(image: Any, load: Any) -> None:
    """Make one blocking call after the other, without a loop."""
    began = time.perf_counter()
    while began < load.end:
        if next(load.reads):
            image.read(next(load.places), load.block)
        else:
            image.write(load.data, next(load.places))
        now = time.perf_counter()
        load.latencies.append(now - began)
        began = now


async def with_loop(image: Any, load: Any, options: Any) -> None:
    """Run `depth` tasks and measure the loop's lag."""

    async def watch() -> None:
        while True:
            start = time.perf_counter()
            await asyncio.sleep(0.02)
            load.lags.append(time.perf_counter() - start - 0.02)

    watching = asyncio.create_task(watch())
    if options.way == "aio":
        await asyncio.gather(*(aio(image, load) for _ in range(options.depth)))
    else:
        with ThreadPoolExecutor(options.depth) as pool:
            await asyncio.gather(*(threads(image, load, pool) for _ in range(options.depth)))
    watching.cancel()


def main() -> None:
    """Run the load and print its report."""
    arguments = parser()
    arguments.add_argument("--way", choices=["aio", "threads", "blocking"], default="aio")
    options = arguments.parse_args()
    with rados.Rados(conffile=options.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        with rbd.Image(ioctx, options.image) as image:
            image.flush()
            load = Load(image.size(), options)
            if options.way == "blocking":
                blocking(image, load)
            else:
                asyncio.run(with_loop(image, load, options))
            load.report()


if __name__ == "__main__":
    main()
