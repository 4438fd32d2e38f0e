"""Daemons that stand still, die and come back."""

import hashlib
import os
import random
import signal
import time
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from fix_faults import opened
from fix_lag import measured_lag, took
from helpers import descriptors, new_name, threads
from inside import handle_of

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[Any]:
    """Start a cluster with little data: an OSD that restarts writes all of its data to disk."""
    with DevCluster() as cluster:
        yield cluster


@pytest.mark.slow
@pytest.mark.alone
async def test_an_osd_that_stands_still_for_half_a_minute(osd: DevCluster) -> None:
    """With 256 operations in flight, the loop stays responsive and keeps every timeout. All operations end."""
    async with opened(osd, 64 << 20) as image:
        cluster = handle_of(image).ioctx.cluster
        await image.write(os.urandom(2 << 20), 0)
        await image.flush()
        # Make both kinds of call once now, so that one-time threads and descriptors exist before the count.
        with pytest.raises(aiorbd.CompareMismatch):
            await image.compare_and_write(b"?" * 512, b"!" * 512, 0)
        async with anyio.create_task_group() as tasks:
            for number in range(256):
                tasks.start_soon(image.read, number * 4096, 4096)
        before = descriptors(), threads()
        late, done = [], []

        async def operate(number: int) -> None:
            seconds = 1 + 28 * number / 256
            start = time.perf_counter()
            try:
                with anyio.fail_after(seconds):
                    if number % 2:
                        await image.read(number * 4096, 4096)
                    else:
                        await image.compare_and_write(b"?" * 512, b"!" * 512, number * 4096)
            except TimeoutError:
                late.append(time.perf_counter() - start - seconds)
            done.append(number)

        osd.pause()
        start = time.perf_counter()
        async with measured_lag() as lag:
            async with anyio.create_task_group() as tasks:
                for number in range(256):
                    tasks.start_soon(operate, number)
                await anyio.sleep(0.1)
                assert image.in_flight == 256
            await anyio.sleep(30 - (time.perf_counter() - start))
            assert image.in_flight == 256
        figures = cluster.bridge.stats()
        print(f"worst lag {lag.worst * 1e3:.1f} ms, latest timeout {max(late) * 1e3:.1f} ms after its deadline")
        assert len(late) == len(done) == 256
        assert max(late) < 0.2
        assert lag.worst < 0.05
        assert figures.abandoned == 256
        osd.resume()
        await image.drain(timeout=60)
        assert image.in_flight == 0
        assert cluster.bridge.stats().in_flight == 0
        await image.read(0, 1)
        assert (descriptors(), threads()) <= before


async def digest(image: aiorbd.Image) -> Any:
    return hashlib.sha256(await image.read(0, 4 << 20)).hexdigest()


async def written(image: aiorbd.Image, seed: int) -> Any:
    """Write at random offsets, and return the digest of the expected content."""
    chance, content = random.Random(seed), bytearray(4 << 20)
    for _ in range(64):
        offset, length = chance.randrange(3 << 20), chance.randrange(1, 65536)
        data = chance.randbytes(length)
        content[offset : offset + length] = data
        await image.write(data, offset)
    return hashlib.sha256(content).hexdigest()


async def test_an_osd_that_is_restarted(osd: DevCluster) -> None:
    """Operations in flight wait for the restart and complete. No acknowledged write is lost."""
    name = new_name()
    async with aiorbd.connect(osd.conffile, timeout=30) as cluster, cluster.open_ioctx("rbd") as ioctx:
        await ioctx.create_image(name, 4 << 20, order=20)
        async with ioctx.open_image(name) as image:
            wanted = []

            async def write() -> None:
                wanted.append(await written(image, 1))
                await image.flush()

            with anyio.fail_after(100):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(write)
                    await osd.restart("osd.0", signal.SIGTERM)
            assert [await digest(image)] == wanted
    exported = await osd.run("rbd", "export", "--no-progress", name, "-")
    assert [hashlib.sha256(exported).hexdigest()] == wanted


@pytest.mark.slow
async def test_an_osd_that_is_killed() -> None:
    """With a store that survives the kill, flushed data is there afterwards."""
    async with DevCluster(objectstore="bluestore", osd_bytes=1 << 30) as ceph:
        async with aiorbd.connect(ceph.conffile, timeout=30) as cluster, cluster.open_ioctx("rbd") as ioctx:
            await ioctx.create_image("image", 4 << 20, order=20)
            async with ioctx.open_image("image") as image:
                first = await written(image, 1)
                await image.flush()
                await ceph.kill("osd.0", signal.SIGKILL)
                with anyio.move_on_after(0.2) as scope:
                    await image.read(0, 1)
                assert scope.cancelled_caught
                await ceph.restart("osd.0")
                with anyio.fail_after(60):
                    assert await digest(image) == first
                    second = await written(image, 2)
                    await image.flush()
                assert second != first
        exported = await ceph.run("rbd", "export", "--no-progress", "image", "-")
        # The second round overwrote the first one.
        content = bytearray(4 << 20)
        for seed in (1, 2):
            chance = random.Random(seed)
            for _ in range(64):
                offset, length = chance.randrange(3 << 20), chance.randrange(1, 65536)
                content[offset : offset + length] = chance.randbytes(length)
        assert exported == content


async def test_a_monitor_that_is_lost(osd: DevCluster) -> None:
    """Data operations work without the monitor. Calls that need it wait, within a timeout, until it is back."""
    async with opened(osd) as image:
        handle = handle_of(image).ioctx.cluster
        assert handle.state.value == "open"
        osd.pause("mon.a")
        try:
            await image.write(b"without a monitor", 0)
            await image.flush()
            assert await image.read(0, 7) == b"without"
            with took(1), pytest.raises(aiorbd.Timeout, match="did not answer"):
                await aiorbd.connect(osd.conffile, timeout=0.5)
        finally:
            osd.resume("mon.a")
    async with aiorbd.connect(osd.conffile, timeout=30) as cluster:
        osd.pause("mon.a")
        try:
            with took(0.5), pytest.raises(TimeoutError), anyio.fail_after(0.3):
                await cluster.mon_command({"prefix": "status"})
        finally:
            osd.resume("mon.a")
        await cluster.drain(timeout=30)
        assert "rbd" in await cluster.pools()


async def test_a_monitor_that_is_restarted(osd: DevCluster) -> None:
    name = new_name()
    async with aiorbd.connect(osd.conffile, timeout=30) as cluster, cluster.open_ioctx("rbd") as ioctx:
        await ioctx.create_image(name, 1 << 20)
        async with ioctx.open_image(name) as image:
            await osd.kill("mon.a")
            await image.write(b"kept", 0)
            await image.flush()
            await osd.restart("mon.a")
            with anyio.fail_after(60):
                await cluster.mon_command({"prefix": "status"})
            assert await image.read(0, 4) == b"kept"
