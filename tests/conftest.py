"""Define the backends of the async tests, and the fixtures that most tests use."""

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
if sys.version_info >= (3, 12):  # eager tasks are new in Python 3.12, with which the suite also runs
    BACKENDS.append(pytest.param(("asyncio", {"loop_factory": _eager_loop}), id="eager"))


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Any]:
    """Run the asyncio-only tests on each of asyncio's loops."""
    loops: dict[str, Any] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return loops | ({"eager": _eager_loop} if sys.version_info >= (3, 12) else {})


def pytest_collection_finish() -> None:
    """Freeze the heap, so that garbage collection skips the objects that pytest made while it collected the tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Run an async test once on each backend."""
    return request.param


def new_name(prefix: str = "image") -> str:
    """Return a name that no test has used.

    A client that died keeps its lock on an image for 30 s.
    """
    return f"{prefix}-{uuid.uuid4().hex[:10]}"


@pytest.fixture
def name() -> str:
    """Return a fresh image name."""
    return new_name()


@pytest.fixture(scope="session")
def aiorbd_cluster() -> Iterator[DevCluster]:
    """Start the plugin's cluster with an OSD of 8 GiB: thousands of tests leave data behind."""
    with DevCluster(osd_bytes=8 << 30) as cluster:
        yield cluster


@pytest.fixture
async def cluster(aiorbd_cluster: DevCluster) -> AsyncIterator[aiorbd.Cluster]:
    """Open a connection for this test alone."""
    async with aiorbd.connect(aiorbd_cluster.conffile, timeout=30) as cluster:
        yield cluster


@pytest.fixture
async def ioctx(cluster: aiorbd.Cluster) -> AsyncIterator[aiorbd.IoCtx]:
    """Open the pool ``rbd``."""
    async with cluster.open_ioctx("rbd") as ioctx:
        yield ioctx


MakeImage = Callable[..., Awaitable[str]]


@pytest.fixture
def make_image(ioctx: aiorbd.IoCtx) -> MakeImage:
    """Return a function that creates an image and returns its name. The default size is 16 MiB."""

    async def make(size: int = 16 << 20, **options: Any) -> str:
        name = new_name()
        await ioctx.create_image(name, size, **options)
        return name

    return make


async def slow_down(ioctx: aiorbd.IoCtx, name: str) -> None:
    """Make librbd handle one object at a time, so that a test can stop a long call half way."""
    async with ioctx.open_image(name) as image:
        await image.metadata.set("conf_rbd_concurrent_management_ops", "1")


@pytest.fixture
async def image(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> AsyncIterator[aiorbd.Image]:
    """Create an empty image of 16 MiB and open it for writing."""
    async with ioctx.open_image(await make_image()) as image:
        yield image


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
