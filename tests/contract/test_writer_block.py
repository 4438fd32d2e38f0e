"""Tasks that wait in a writer while another task leaves its block with an exception."""

import contextlib
from functools import partial
from typing import Any

import anyio
import pytest
from fix_faults import opened
from inside import change

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio


async def test_end_of_the_block_wakes_tasks_that_wait_in_the_writer(osd: DevCluster) -> None:
    """Another task leaves the block with an exception. Nothing completes the dropped writes that these tasks await."""
    ended = []
    async with opened(osd, rbd_cache="false") as image:
        writer = image.writer(max_bytes=4096)

        async def use(call: Any) -> None:
            with pytest.raises(aiorbd.ClosedError):
                await call()
            ended.append(call)

        osd.pause()
        try:
            async with anyio.create_task_group() as tasks:
                with pytest.raises(LookupError):
                    async with writer:
                        await writer.write(b"x" * 4096, 0)
                        tasks.start_soon(use, writer.flush)
                        tasks.start_soon(use, partial(writer.write, b"x" * 4096, 8192))
                        await anyio.sleep(0.1)
                        raise LookupError
                with anyio.fail_after(5):
                    while len(ended) < 2:
                        await anyio.sleep(0.01)
        finally:
            osd.resume()


async def test_refresh_of_the_size_during_the_end_of_the_block_leaves_no_task_behind(image: aiorbd.Image) -> None:
    """A flush waits for the size, and another task leaves the block with an exception."""
    for _ in range(20):
        writer = image.writer()

        async def flush(writer: Any = writer) -> None:
            with contextlib.suppress(aiorbd.ClosedError):
                await writer.flush()

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                with pytest.raises(LookupError):
                    async with writer:
                        change(image)
                        await writer.write(b"x" * 4096, 0)
                        tasks.start_soon(flush)
                        await anyio.lowlevel.checkpoint()
                        raise LookupError
