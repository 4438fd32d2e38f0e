"""pytest fixtures: a real cluster for the session, and an empty namespace of the cluster for each test.

The fixtures exist wherever aiorbd is installed beside pytest. `aiorbd_ioctx` is an async fixture: run its tests with
anyio's plugin (``@pytest.mark.anyio``) or with pytest-asyncio in auto mode.
"""

import uuid
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from aiorbd import IoCtx
    from aiorbd.testing.cluster import DevCluster
    from aiorbd.testing.mirror import MirrorPair


@pytest.fixture(scope="session")
def aiorbd_cluster() -> "Iterator[DevCluster]":
    """A cluster with one memory-backed OSD and the pool ``rbd``, shared by the session."""
    # Imported late: pytest loads this plugin in every session, and loading must cost nothing.
    from aiorbd.testing.cluster import DevCluster  # noqa: PLC0415

    with DevCluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def aiorbd_mirror_pair() -> "Iterator[MirrorPair]":
    """Two clusters that mirror the images of the pool ``rbd``, shared by the session."""
    from aiorbd.testing.mirror import MirrorPair  # noqa: PLC0415

    with MirrorPair() as pair:
        yield pair


@pytest.fixture
async def aiorbd_ioctx(aiorbd_cluster: "DevCluster") -> "AsyncIterator[IoCtx]":
    """An `aiorbd.IoCtx` on a new namespace. No other test uses this namespace."""
    import aiorbd  # noqa: PLC0415

    namespace = f"test-{uuid.uuid4().hex[:12]}"
    await aiorbd_cluster.run("rbd", "namespace", "create", "rbd", "--namespace", namespace)
    async with aiorbd.connect(aiorbd_cluster.conffile) as cluster:
        async with cluster.open_ioctx("rbd", namespace) as ioctx:
            yield ioctx
