"""Full pools: writes wait or fail, as the caller chose, and earlier writes are safe."""

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import anyio
import pytest
from fix_faults import full
from helpers import new_name
from inside import handle_of

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

QUOTA = 4 << 20
FULL = (aiorbd.DiskQuotaExceeded, aiorbd.NoSpace)


@pytest.fixture
async def pool(managed_cluster: DevCluster) -> AsyncIterator[Any]:
    name = new_name("pool")
    await managed_cluster.run("ceph", "osd", "pool", "create", name, "8")
    await managed_cluster.run("rbd", "pool", "init", name)
    yield name
    await managed_cluster.run("ceph", "osd", "pool", "rm", name, name, "--yes-i-really-really-mean-it")


async def fill(managed_cluster: DevCluster, cluster: aiorbd.Cluster, pool: Any, image: aiorbd.Image) -> None:
    """Write until the quota is reached, and until the monitors have noticed."""
    await managed_cluster.set_quota(pool, QUOTA)
    for number in range(3):
        await image.write(bytes([number + 1]) * (2 << 20), number << 21)
    await image.flush()
    await full(cluster, pool)


async def test_a_quota_with_full_try(managed_cluster: DevCluster, pool: Any) -> None:
    """Writes fail at once with a typed error. Reads and removals work. With more room, writes work again."""
    async with aiorbd.connect(managed_cluster.conffile) as cluster, cluster.open_ioctx(pool, full_try=True) as ioctx:
        await ioctx.create_image("image", 1 << 26)
        async with ioctx.open_image("image") as image:
            await fill(managed_cluster, cluster, pool, image)
            with anyio.fail_after(20):
                with pytest.raises((aiorbd.DiskQuotaExceeded, aiorbd.NoSpace)) as caught:
                    for number in range(16, 24):
                        await image.write(b"x" * (1 << 20), number << 20)
                        await image.flush()
            assert caught.value.operation in ("rbd_aio_write2", "rbd_aio_flush")
            assert await image.read(2 << 20, 3) == b"\2\2\2"
            await managed_cluster.set_quota(pool, 0)
            with anyio.fail_after(60):
                while True:
                    try:
                        await image.write(b"room", 0)
                        await image.flush()
                    except (aiorbd.DiskQuotaExceeded, aiorbd.NoSpace):
                        await anyio.sleep(0.1)
                    else:
                        break
            assert await image.read(0, 4) == b"room"
        with anyio.fail_after(20):
            await ioctx.remove_image("image")


async def test_a_quota_without_it(managed_cluster: DevCluster, pool: Any) -> None:
    """The write waits as long as its caller does. With more room, it completes."""
    async with aiorbd.connect(managed_cluster.conffile) as cluster, cluster.open_ioctx(pool) as ioctx:
        await ioctx.create_image("image", 1 << 26)
        async with ioctx.open_image("image") as image:
            await fill(managed_cluster, cluster, pool, image)
            # Writes may still pass until this client knows that the pool is full.
            waited = False
            with anyio.fail_after(30):
                while not waited:
                    with anyio.move_on_after(0.5) as scope:
                        await image.write(b"late", 1 << 25)
                        await image.flush()
                    waited = scope.cancelled_caught
            assert image.in_flight >= 1
            assert await image.read(2 << 20, 3) == b"\2\2\2"
            await managed_cluster.set_quota(pool, 0)
            await image.drain(timeout=60)
            assert await image.read(1 << 25, 4) == b"late"


async def full_for(image: aiorbd.Image) -> None:
    """Write until this client knows that the pool is full."""
    with anyio.fail_after(20), pytest.raises(FULL):
        while True:
            await image.write(b"x" * (1 << 20), 16 << 20)
            await image.flush()


FAILING: dict[str, Any] = {
    "write": lambda image: image.write(b"x" * 4096, 32 << 20),
    "large write": lambda image: image.write(b"x" * (2 << 20), 32 << 20),
    "writev": lambda image: image.writev([b"x" * 512, b"y" * 512], 32 << 20),
    "write_same": lambda image: image.write_same(b"x" * 512, 32 << 20, 4096),
    "write_zeroes": lambda image: image.write_zeroes(32 << 20, 4096, thick=True),
    "compare_and_write": lambda image: image.compare_and_write(bytes(512), b"x" * 512, 32 << 20),
}


async def test_every_write_in_a_full_pool_raises_with_full_try(managed_cluster: DevCluster, pool: Any) -> None:
    """Also if the error arrives before the next flush begins, after which librbd's own flush would report success."""
    async with aiorbd.connect(managed_cluster.conffile) as cluster, cluster.open_ioctx(pool, full_try=True) as ioctx:
        await ioctx.create_image("image", 1 << 26)
        async with ioctx.open_image("image") as image:
            await fill(managed_cluster, cluster, pool, image)
            await full_for(image)
            for call in FAILING.values():
                with pytest.raises(FULL):
                    await call(image)
            with pytest.raises(FULL):
                async with image.writer() as writer:
                    await writer.write(b"x" * 4096, 32 << 20)
            await image.flush()  # waits for nothing
            assert await image.read(32 << 20, 2 << 20) == bytes(2 << 20)
            await image.discard(0, 1 << 20)
            await managed_cluster.set_quota(pool, 0)


async def test_each_task_gets_the_error_of_a_flush(managed_cluster: DevCluster, pool: Any) -> None:
    """librbd tells one flush of a failed write. Overlapping flushes raise, too, and the one after a cancelled flush."""
    async with aiorbd.connect(managed_cluster.conffile) as cluster, cluster.open_ioctx(pool, full_try=True) as ioctx:
        await ioctx.create_image("image", 1 << 26)
        handle_of(ioctx).full_try = False  # so that librbd's cache completes writes that fail later
        async with ioctx.open_image("image") as image:
            await fill(managed_cluster, cluster, pool, image)
            await full_for(image)
            raised: list[int] = []

            async def flush() -> None:
                with suppress(*FULL):
                    await image.flush()
                    return
                raised[-1] += 1

            for _ in range(20):  # librbd loses the error if it comes before the first flush begins
                raised.append(0)
                await image.write(b"x", 32 << 20)
                async with anyio.create_task_group() as tasks:
                    for _ in range(4):
                        tasks.start_soon(flush)
            assert 4 in raised
            after_cancelled = []
            for _ in range(20):
                await image.write(b"x", 32 << 20)
                with anyio.CancelScope() as scope:
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(image.flush)
                        await anyio.sleep(0)
                        scope.cancel()
                await image.drain()
                try:
                    await image.flush()
                except FULL:
                    after_cancelled.append(True)
                    await image.flush()  # told once
            assert after_cancelled
            await managed_cluster.set_quota(pool, 0)


async def test_shared_objects_with_full_try(managed_cluster: DevCluster, pool: Any) -> None:
    """Tasks share them with other tasks that use `full_try`, and with no others."""
    async with aiorbd.SharedConnection(lambda: aiorbd.connect(managed_cluster.conffile)) as shared:
        async with shared.connect() as cluster, shared.open_ioctx(pool) as ioctx:
            async with shared.open_ioctx(pool, full_try=True) as eager:
                assert eager is not ioctx
            for name in ("patient", "eager"):
                await ioctx.create_image(name, 1 << 26)
            async with shared.open_image(pool, "patient") as image:
                await fill(managed_cluster, cluster, pool, image)
            async with shared.open_image(pool, "eager", full_try=True) as image:
                await full_for(image)
            await managed_cluster.set_quota(pool, 0)


async def test_failed_flush_of_a_shared_image_reaches_each_task(managed_cluster: DevCluster, pool: Any) -> None:
    async with aiorbd.SharedConnection(lambda: aiorbd.connect(managed_cluster.conffile)) as shared:
        async with shared.connect() as cluster, shared.open_ioctx(pool, full_try=True) as ioctx:
            handle_of(ioctx).full_try = False  # so that librbd's cache completes writes that fail later
            await ioctx.create_image("image", 1 << 26)
            with pytest.raises(FULL):
                async with shared.open_image(pool, "image", full_try=True) as mine:
                    await fill(managed_cluster, cluster, pool, mine)
                    with pytest.raises(FULL):
                        async with shared.open_image(pool, "image", full_try=True) as theirs:
                            assert theirs is mine
                            await full_for(theirs)
                    await managed_cluster.set_quota(pool, 0)
                    for _ in range(2):
                        with pytest.raises(FULL):
                            await mine.flush()
                    async with shared.open_image(pool, "image", full_try=True) as new:
                        assert new is not mine


async def test_image_creation_in_a_full_pool_fails_at_once_with_full_try(
    managed_cluster: DevCluster, pool: Any
) -> None:
    """Without `full_try` the call waits for room, as long as its caller does."""
    async with (
        aiorbd.connect(managed_cluster.conffile) as cluster,
        cluster.open_ioctx(pool, full_try=True) as eager,
        cluster.open_ioctx(pool) as patient,
    ):
        await eager.create_image("image", 1 << 26)
        async with eager.open_image("image") as image:
            await fill(managed_cluster, cluster, pool, image)
            with anyio.fail_after(20), pytest.raises((aiorbd.DiskQuotaExceeded, aiorbd.NoSpace)):
                while True:  # images may still be created until this client knows that the pool is full
                    await eager.create_image(new_name(), 1 << 20)
            with anyio.move_on_after(1) as scope:
                await patient.create_image("late", 1 << 20)
            assert scope.cancelled_caught
            await managed_cluster.set_quota(pool, 0)
            await patient.drain(timeout=60)
            assert "late" in await patient.list_images()
