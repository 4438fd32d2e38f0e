"""Programs that end on a dead cluster. See `common.py`."""

import contextlib
import gc
import json
import os
import signal
import sys
import time
import warnings

import anyio
from common import NAME, count, down_to, opened, opened_within, paused, run

import aiorbd


def close_with_a_timeout(what: str) -> None:
    """Close the image or the cluster with 33 operations in flight."""

    async def main() -> None:
        before = count()
        cluster, _ioctx, image = await opened()
        await paused()
        for _ in range(32):
            with anyio.move_on_after(0.001):
                await image.read(0, 4096)
        with anyio.move_on_after(0.05):
            await image.metadata.set("key", "value")
        seconds, begin = 0.0, time.perf_counter()
        try:
            closes: aiorbd.Image | aiorbd.Cluster = image if what == "image" else cluster
            await closes.close(timeout=0.5)
        except aiorbd.CloseTimeout as error:
            seconds = time.perf_counter() - begin
            assert "33 operations in flight" in str(error) or what == "cluster", error
        print("waiting", flush=True)
        await cluster.close(timeout=20)
        # asyncio keeps the thread that it looked up names with, anyio the one that read the line.
        clean = down_to([number + 1 for number in before])
        print(json.dumps([seconds, clean, count(), before]), flush=True)

    run(main)


def hundred_connections() -> None:
    """Connect a hundred times, and count what is left."""

    async def once() -> None:
        cluster, _, _ = await opened()
        await cluster.close()

    async def main() -> None:
        print("ready", flush=True)
        for _ in range(5):
            await once()
        await anyio.sleep(0.5)
        before = count()
        begin = time.perf_counter()
        for _ in range(100):
            await once()
        seconds = time.perf_counter() - begin
        print(json.dumps([seconds, down_to(before), count(), before]), flush=True)

    run(main)


def sigterm_that_is_handled() -> None:
    """Serve until the signal cancels the work."""

    async def serve() -> None:
        async with opened_within(0.5) as image:
            await paused()
            async with anyio.create_task_group() as work:
                for number in range(64):
                    work.start_soon(image.read, number * 4096, 4096)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            with anyio.open_signal_receiver(signal.SIGTERM) as signals:
                async for _ in signals:
                    print("stopping", flush=True)
                    tasks.cancel_scope.cancel()
                    break
        print("stopped", flush=True)

    run(main)


def forgotten_objects() -> None:
    """Collect open images, and count the warnings."""

    async def main() -> None:
        cluster, ioctx, image = await opened(close_timeout=0.2)
        others = [await ioctx.open_image(NAME, read_only=True) for _ in range(20)]
        await paused()
        with anyio.move_on_after(0.01):
            await image.read(0, 4096)
        begin = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del others, image, ioctx
            gc.collect()
        seconds = time.perf_counter() - begin
        with contextlib.suppress(aiorbd.CloseTimeout):
            await cluster.close()
        print(json.dumps([seconds, len(caught)]), flush=True)

    run(main)


def fork_in_a_connected_process() -> None:
    """Fork: the child is refused at once and ends at once, and the parent continues."""

    async def main() -> None:
        cluster, _ioctx, image = await opened()
        await paused()
        with anyio.move_on_after(0.01):
            await image.read(0, 4096)
        pid = os.fork()
        if not pid:
            try:
                image.read(0, 1).send(None)
            except aiorbd.ForkedError:
                os._exit(0)
            os._exit(9)
        begin = time.perf_counter()
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                break
            assert time.perf_counter() - begin < 3
            time.sleep(0.01)
        print("child", os.waitstatus_to_exitcode(status), flush=True)
        await image.drain(timeout=20)
        assert await image.read(0, 1) == b"x"
        await cluster.close(timeout=10)
        print("parent fine", flush=True)

    run(main)


globals()[sys.argv[4]](*sys.argv[5:])
