"""Start programs in their own processes and measure how long they take to end."""

import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import new_name

from aiorbd.testing import DevCluster

PREAMBLE = """
    import asyncio, gc, os, signal, sys, time, warnings
    import anyio, aiorbd

    # A shell that starts the tests in the background has interrupts ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    CONF, NAME, BACKEND = sys.argv[1:4]

    def run(main):
        anyio.run(main, backend=BACKEND)

    def count():
        "How many descriptors and threads there are."
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    def down_to(before, seconds=10):
        "Wait until there are no more than that; librados ends its threads a moment after its shutdown."
        end = time.monotonic() + seconds
        while any(now > then for now, then in zip(count(), before)) and time.monotonic() < end:
            time.sleep(0.01)
        return all(now <= then for now, then in zip(count(), before))

    async def opened(**options):
        "A connection with an image that has been written to."
        cluster = await aiorbd.connect(CONF, **options)
        ioctx = await cluster.open_ioctx("rbd")
        if NAME not in await ioctx.list_images():
            await ioctx.create_image(NAME, 1 << 24)
        image = await ioctx.open_image(NAME)
        await image.write(b"x" * 4096, 0)
        await image.flush()
        return cluster, ioctx, image

    async def paused():
        "Say so, and wait until the OSD stands still."
        print("ready", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.readline)
"""


@pytest.fixture(params=["asyncio", "trio"])
def start(request: pytest.FixtureRequest, osd: DevCluster) -> Iterator[Any]:
    """Return a function that starts a program and waits for its line 'ready'."""
    started = []

    def start(body: Any) -> Any:
        name = new_name()
        program = textwrap.dedent(PREAMBLE) + textwrap.dedent(body)
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program, osd.conffile, name, request.param],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
    osd.resume()


def finish(process: Any, seconds: float) -> Any:
    begin = time.perf_counter()
    output, errors = process.communicate(timeout=seconds + 30)
    assert time.perf_counter() - begin < seconds, errors
    return process.returncode, output, errors
