"""Abandon reads and writes while the OSD stands still, collect garbage, and let librbd finish.

    python abandoned_buffers.py CONF IMAGE BACKEND whole|broken

With `broken`, the operation table lets go of the buffers too early, which the sanitizer must see.
"""

import gc
import os
import sys
from typing import Any

import anyio

import aiorbd
from aiorbd._core import operation

CONF, NAME, BACKEND, HOW = sys.argv[1:]
if HOW == "broken":
    abandon = operation.Operation.abandon

    def forget(self: Any) -> None:
        abandon(self)
        self.keep = None

    operation.Operation.abandon = forget  # type: ignore[method-assign]


async def abandoned(function: Any, *arguments: Any) -> None:
    with anyio.move_on_after(0.05):
        await function(*arguments)


async def main() -> None:
    async with aiorbd.connect(CONF) as cluster, cluster.open_ioctx("rbd") as ioctx:
        await ioctx.create_image(NAME, 1 << 24)
        async with ioctx.open_image(NAME) as image:
            await image.write(b"a" * (1 << 20), 0)
            await image.flush()
            print("written", flush=True)
            sys.stdin.readline()  # the OSD is paused now
            async with anyio.create_task_group() as tasks:
                for number in range(16):
                    tasks.start_soon(abandoned, image.read, number * 4096, 8192)
                    tasks.start_soon(abandoned, image.read_into, bytearray(65536), number * 4096)
                    tasks.start_soon(abandoned, image.readv, [bytearray(5000), bytearray(70000)], number)
                    tasks.start_soon(abandoned, image.write, bytes(6000), 1 << 21)
                    tasks.start_soon(abandoned, image.compare_and_write, bytes(512), bytes(512), 1 << 22)
            del tasks
            gc.collect()
            print("abandoned", image.in_flight, flush=True)
            sys.stdin.readline()  # and goes on
            await image.drain(timeout=30)
    print("closed", flush=True)


anyio.run(main, backend=BACKEND)
os._exit(0)  # what the sanitizer thinks of the interpreter's end is not the matter here
