"""What the programs of `endings.py` and `processes.py` share.

    python endings.py CONF IMAGE BACKEND FUNCTION [ARGUMENT]

The program prints `ready` when the test may pause the OSD.
"""

import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

import aiorbd

# A shell that starts the tests in the background has interrupts ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

CONF, NAME, BACKEND = sys.argv[1:4]


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run an async function on the backend of the command line."""
    anyio.run(main, backend=BACKEND)


def count() -> tuple[int, int]:
    """Return the number of descriptors and of threads."""
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


def down_to(before: Any, seconds: float = 10) -> bool:
    """Wait until there are no more than before. librados ends its threads a moment after its shutdown."""
    end = time.monotonic() + seconds
    while any(now > then for now, then in zip(count(), before, strict=True)) and time.monotonic() < end:
        time.sleep(0.01)
    return all(now <= then for now, then in zip(count(), before, strict=True))


async def opened(**options: Any) -> tuple[aiorbd.Cluster, aiorbd.IoCtx, aiorbd.Image]:
    """Return a connection, a pool, and an image with durable data."""
    cluster = await aiorbd.connect(CONF, **options)
    ioctx = await cluster.open_ioctx("rbd")
    if NAME not in await ioctx.list_images():
        await ioctx.create_image(NAME, 1 << 24)
    image = await ioctx.open_image(NAME)
    await image.write(b"x" * 4096, 0)
    await image.flush()
    return cluster, ioctx, image


@asynccontextmanager
async def opened_within(close_timeout: float) -> AsyncIterator[aiorbd.Image]:
    """Open a new image with durable data, and close all within the time limit."""
    async with aiorbd.connect(CONF, close_timeout=close_timeout) as cluster, cluster.open_ioctx("rbd") as ioctx:
        await ioctx.create_image(NAME, 1 << 24)
        async with ioctx.open_image(NAME) as image:
            await image.write(b"x" * 4096, 0)
            await image.flush()
            yield image


async def paused() -> None:
    """Print `ready`, and wait until the OSD stands still."""
    print("ready", flush=True)
    await anyio.to_thread.run_sync(sys.stdin.readline)
