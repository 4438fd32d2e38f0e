"""Define the backends of the async tests, and the fixtures that most tests use."""

import asyncio
import gc
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import uvloop
from helpers import BACKENDS, MakeImage, eager_loop, new_name

import aiorbd
from aiorbd.testing import DevCluster

pytest_plugins = (
    "fix_witness",
    "fix_content",
    "fix_faults",
    "fix_samples",
    "fix_programs",
    "fix_cancel",
    "fix_blocking",
    "guarded",
)


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Any]:
    """Run the asyncio-only tests on each of asyncio's loops."""
    loops: dict[str, Any] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return loops | ({"eager": eager_loop} if sys.version_info >= (3, 12) else {})


def pytest_report_header() -> str:
    """Name the versions that this run tests."""
    daemon = subprocess.run(["ceph-osd", "--version"], capture_output=True, text=True, check=False).stdout.split()
    loops = ", ".join(str(parameter.id) for parameter in BACKENDS)
    return (
        f"librbd: {'.'.join(map(str, aiorbd.version()))}, librados: {'.'.join(map(str, aiorbd.rados_version()))}, "
        f"Ceph daemons: {daemon[2] if len(daemon) > 2 else 'none'}, event loops: {loops}"
    )


def pytest_collection_finish() -> None:
    """Freeze the heap, so that garbage collection skips the objects that pytest made while it collected the tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Run an async test once on each backend."""
    return request.param


@pytest.fixture
def name() -> str:
    """Return a fresh image name."""
    return new_name()


#: The plugin's cluster, once a test has started it.
_cluster: list[DevCluster] = []


@pytest.fixture(scope="session")
def aiorbd_cluster() -> Iterator[DevCluster]:
    """Start the plugin's cluster with an OSD of 8 GiB: the tests leave data behind."""
    with DevCluster(osd_bytes=8 << 30) as cluster:
        _cluster.append(cluster)
        yield cluster
        _cluster.clear()


@pytest.fixture(scope="module", autouse=True)
def _data_removed() -> Iterator[None]:
    """Make the pool ``rbd`` anew if the OSD has more than 1 GiB after a module. Otherwise the OSD would become full."""
    yield
    for cluster in _cluster:
        counters = json.loads(cluster.run_blocking("ceph", "tell", "osd.0", "perf", "dump", "osd"))
        if counters["osd"]["stat_bytes_used"] > 1 << 30:
            cluster.run_blocking("ceph", "osd", "pool", "rm", "rbd", "rbd", "--yes-i-really-really-mean-it")
            cluster.run_blocking("ceph", "osd", "pool", "create", "rbd")
            cluster.run_blocking("rbd", "pool", "init", "rbd")


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


@pytest.fixture
def make_image(ioctx: aiorbd.IoCtx) -> MakeImage:
    """Return a function that creates an image and returns its name. The default size is 16 MiB."""

    async def make(size: int = 16 << 20, **options: Any) -> str:
        name = new_name()
        await ioctx.create_image(name, size, **options)
        return name

    return make


@pytest.fixture
async def image(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> AsyncIterator[aiorbd.Image]:
    """Create an empty image of 16 MiB and open it for writing."""
    async with ioctx.open_image(await make_image()) as image:
        yield image
