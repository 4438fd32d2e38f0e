"""The backends that every test of the public face runs on, and what most tests need."""

import asyncio
import gc
import os
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest
import uvloop

import aiorbd
from aiorbd.testing import DevCluster

pytest_plugins = (
    "fix_witness",
    "fix_content",
    "fix_faults",
    "fix_samples",
    "fix_programs",
    "fix_bridge",
    "fix_table",
    "fix_cancel",
)


def _eager_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]  # 3.12
    return loop


BACKENDS: list[Any] = [
    pytest.param(("asyncio", {}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    pytest.param(("trio", {}), id="trio"),
]
if sys.version_info >= (3, 12):  # eager tasks are new there; the suite runs with such a Python too
    BACKENDS.append(pytest.param(("asyncio", {"loop_factory": _eager_loop}), id="eager"))


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Any]:
    """Run what is native to asyncio on each of its loops."""
    loops: dict[str, Any] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return loops | ({"eager": _eager_loop} if sys.version_info >= (3, 12) else {})


def pytest_collection_finish() -> None:
    """Let no collection of garbage go through what pytest made of thousands of tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Run an async test once on each backend."""
    return request.param


def new_name(prefix: str = "image") -> str:
    """Return a name nobody used: a client that died keeps its lock on an image for 30 s."""
    return f"{prefix}-{uuid.uuid4().hex[:10]}"


@pytest.fixture
def name() -> str:
    """A fresh image name."""
    return new_name()


@pytest.fixture(scope="session")
def aiorbd_cluster() -> Iterator[DevCluster]:
    """The plugin's cluster, with room for what thousands of tests leave behind."""
    with DevCluster(osd_bytes=8 << 30) as cluster:
        yield cluster


@pytest.fixture
async def cluster(aiorbd_cluster: DevCluster) -> AsyncIterator[aiorbd.Cluster]:
    """A connection of the test's own."""
    async with aiorbd.connect(aiorbd_cluster.conffile, timeout=30) as cluster:
        yield cluster


@pytest.fixture
async def ioctx(cluster: aiorbd.Cluster) -> AsyncIterator[aiorbd.IoCtx]:
    """The pool ``rbd``."""
    async with cluster.open_ioctx("rbd") as ioctx:
        yield ioctx


MakeImage = Callable[..., Awaitable[str]]


@pytest.fixture
def make_image(ioctx: aiorbd.IoCtx) -> MakeImage:
    """A function that creates an image, 16 MiB unless told otherwise, and returns its name."""

    async def make(size: int = 16 << 20, **options: Any) -> str:
        name = new_name()
        await ioctx.create_image(name, size, **options)
        return name

    return make


async def slow_down(ioctx: aiorbd.IoCtx, name: str) -> None:
    """Make librbd handle one object at a time, so that a long call on the image can be stopped half way."""
    async with ioctx.open_image(name) as image:
        await image.metadata.set("conf_rbd_concurrent_management_ops", "1")


@pytest.fixture
async def image(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> AsyncIterator[aiorbd.Image]:
    """An empty image of 16 MiB, open for writing."""
    async with ioctx.open_image(await make_image()) as image:
        yield image


def descriptors() -> int:
    """How many file descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


async def descriptors_fall_to(number: int) -> None:
    """Wait until no more are open: who lets go last closes, and that may be a thread of librbd's, a moment later."""
    with anyio.move_on_after(5):
        while descriptors() > number:
            await anyio.sleep(0.01)
    assert descriptors() <= number


def threads() -> int:
    """How many threads this process has, librbd's included."""
    return len(os.listdir("/proc/self/task"))


def resident_bytes() -> int:
    """How much memory this process holds."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
