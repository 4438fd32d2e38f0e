"""Functions that tests of all kinds call."""

import asyncio
import os
import sys
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

import aiorbd


def eager_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]  # 3.12
    return loop


BACKENDS: list[Any] = [
    pytest.param(("asyncio", {}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    pytest.param(("trio", {}), id="trio"),
]
if sys.version_info >= (3, 12):  # eager tasks are new in Python 3.12, with which the suite also runs
    BACKENDS.append(pytest.param(("asyncio", {"loop_factory": eager_loop}), id="eager"))

#: A mark for tests that cost much and whose subject depends little on the event loop.
TWO_LOOPS = pytest.mark.parametrize("anyio_backend", [BACKENDS[0], BACKENDS[2]])

#: A mark for tests that cost much and whose subject does not depend on the event loop at all.
ONE_LOOP = pytest.mark.parametrize("anyio_backend", [BACKENDS[0]])

MakeImage = Callable[..., Awaitable[str]]


def new_name(prefix: str = "image") -> str:
    """Return a name that no test has used.

    A client that died keeps its lock on an image for 30 s.
    """
    return f"{prefix}-{uuid.uuid4().hex[:10]}"


async def slow_down(ioctx: aiorbd.IoCtx, name: str) -> None:
    """Make librbd handle one object at a time, so that a test can stop a long call half way."""
    async with ioctx.open_image(name) as image:
        await image.metadata.set("conf_rbd_concurrent_management_ops", "1")


def descriptors() -> int:
    """Return the number of file descriptors that this process has open."""
    return len(os.listdir("/proc/self/fd"))


async def descriptors_fall_to(number: int) -> None:
    """Wait until at most `number` file descriptors are open.

    The thread that drops the last reference closes a descriptor. A thread of librbd may do so a moment later.
    """
    with anyio.move_on_after(5):
        while descriptors() > number:
            await anyio.sleep(0.01)
    assert descriptors() <= number


def threads() -> int:
    """Return the number of threads of this process, including librbd's."""
    return len(os.listdir("/proc/self/task"))


def resident_bytes() -> int:
    """Return the resident memory of this process in bytes."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
