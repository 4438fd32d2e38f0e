"""Programs that end while operations are in flight. See `common.py`."""

import gc
import sys
import time
import warnings
from typing import Any

import anyio
from common import CONF, opened, opened_within, run

import aiorbd

#: Keeps objects open until the interpreter ends.
kept: list[Any] = []


def exit_with_reads_in_flight() -> None:
    """Leave all blocks while reads and a resize hang."""

    async def main() -> None:
        async with opened_within(1) as image:
            print("ready", flush=True)
            await anyio.sleep(0.5)  # the OSD is paused meanwhile
            for _ in range(64):
                with anyio.move_on_after(0.01):
                    await image.read(0, 4096)
            with anyio.move_on_after(0.1):
                await image.resize(1 << 25)  # a worker thread that hangs
            print("in flight", image.in_flight, flush=True)

    run(main)


def exit_without_closing_anything() -> None:
    """End the loop and the interpreter with an open image and reads in flight."""
    warnings.simplefilter("ignore")

    async def main() -> None:
        kept.extend(await opened())
        print("ready", flush=True)
        await anyio.sleep(0.5)
        for _ in range(8):
            with anyio.move_on_after(0.01):
                await kept[-1].read_into(bytearray(1 << 20), 0)

    run(main)


def read_that_a_signal_interrupts() -> None:
    """Wait for a read that hangs."""

    async def main() -> None:
        async with opened_within(1) as image:
            print("ready", flush=True)
            await anyio.sleep(0.3)
            await image.read(0, 4096)

    run(main)


def loop_ends_with_operations_in_flight() -> None:
    """End the loop, and run another one after the reads have completed."""
    warnings.simplefilter("ignore")

    async def main() -> None:
        _cluster, _ioctx, image = await opened()
        print("ready", flush=True)
        await anyio.sleep(0.5)
        for _ in range(64):
            with anyio.move_on_after(0.001):
                await image.read(0, 1 << 20)

    async def again() -> None:
        async with aiorbd.connect(CONF) as cluster:
            print(await cluster.pools())

    run(main)
    gc.collect()
    print("loop ended", flush=True)
    time.sleep(1.5)  # the OSD goes on meanwhile
    run(again)


def flushed_write() -> None:
    """Write, flush, and wait to be killed."""

    async def main() -> None:
        await opened()
        print("ready", flush=True)
        sys.stdin.readline()

    run(main)


globals()[sys.argv[4]](*sys.argv[5:])
