"""Clusters that a test may pause, and an image on one."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from conftest import new_name

import aiorbd
from aiorbd.testing import DevCluster


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[DevCluster]:
    """A cluster of the module's own: nobody else notices when it is paused."""
    cluster = DevCluster()
    cluster.start_blocking()
    yield cluster
    cluster.stop_blocking()


@pytest.fixture
def osd(own_cluster: DevCluster) -> Iterator[DevCluster]:
    """The same; its OSD runs again when the test is over."""
    yield own_cluster
    own_cluster.resume()


@asynccontextmanager
async def opened(osd: DevCluster, size: int = 16 << 20, **conf: str) -> AsyncIterator[aiorbd.Image]:
    """An image that begins with 1 MiB of "a", all written; the OSD runs again before it is closed."""
    async with aiorbd.connect(osd.conffile, conf=conf) as cluster, cluster.open_ioctx("rbd") as ioctx:
        name = new_name()
        await ioctx.create_image(name, size)
        async with ioctx.open_image(name) as image:
            await image.write(b"a" * (1 << 20), 0)
            await image.flush()
            try:
                yield image
            finally:
                osd.resume()


def fail_in_lane(lane, offsets, code):
    """Let those of a lane's requests that are for these offsets end with an error, as if librbd had said so."""
    told = lane._told

    def change_and_tell():
        for number, (request, _) in lane.over.items():
            if request[1] in offsets:
                lane.over[number] = request, code
        told()

    lane._told = change_and_tell
