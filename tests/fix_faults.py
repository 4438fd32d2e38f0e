"""Clusters that a test may pause, clusters with cephx or a manager, and helpers for failures."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from helpers import new_name

import aiorbd
from aiorbd.testing import DevCluster


@pytest.fixture(scope="session")
def own_cluster() -> Iterator[DevCluster]:
    """Start a second cluster, which a test can pause without effect on the clients of the first one."""
    with DevCluster(osd_bytes=4 << 30) as cluster:
        yield cluster


@pytest.fixture
def osd(own_cluster: DevCluster) -> Iterator[DevCluster]:
    """Return the second cluster. Its OSD runs again after the test."""
    yield own_cluster
    own_cluster.resume()


@pytest.fixture(scope="session")
def cephx_cluster() -> Iterator[DevCluster]:
    """Start a cluster that requires keys from its clients."""
    with DevCluster(cephx=True) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def managed_cluster() -> Iterator[DevCluster]:
    """Start a cluster with a manager that examines its pools every second."""
    often = {"mgr tick period": "1", "mgr stats period": "1", "mon mgr digest period": "1"}
    with DevCluster(mgr=True, options=often) as cluster:
        yield cluster


@asynccontextmanager
async def opened(osd: DevCluster, size: int = 16 << 20, **conf: str) -> AsyncIterator[aiorbd.Image]:
    """Open a new image that begins with 1 MiB of durable "a". The OSD runs again before the image closes."""
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


async def make_client(ceph: Any, name: str, **caps: Any) -> Any:
    """Return the arguments with which `connect` acts as this client. Its key is made with `ceph-authtool`."""
    pairs = [part for daemon, cap in caps.items() for part in (daemon, cap)]
    keyring = str(ceph.directory / f"{name}.keyring")
    await ceph.run("ceph-authtool", "--create-keyring", "--gen-key", keyring, "-n", f"client.{name}")
    await ceph.run("ceph", "auth", "add", f"client.{name}", *pairs, "-i", keyring)
    return {"client_id": name, "conf": {"keyring": keyring}, "timeout": 30}


async def full(cluster: aiorbd.Cluster, pool: Any) -> None:
    """Wait until the monitors have noticed that a pool's quota is reached."""
    with anyio.fail_after(60):
        while True:
            result = await cluster.mon_command({"prefix": "osd pool ls", "detail": "detail", "format": "json"})
            (flags,) = [found["flags_names"] for found in json.loads(result.output) if found["pool_name"] == pool]
            if "full_quota" in flags:
                return
            await anyio.sleep(0.1)


def fail_requests(queue: Any, offsets: Any, code: Any) -> None:
    """Make requests at these offsets fail with `code`, as if librbd had returned the error."""
    ended = queue.ended

    def change_and_go_on(request: Any) -> None:
        if request.offset in offsets:
            request.value = code
        ended(request)

    queue.ended = change_and_go_on
