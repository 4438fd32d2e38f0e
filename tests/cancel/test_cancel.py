"""Cancellation on every backend with a paused OSD: waits end at once, use no CPU and leak no memory."""

import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

import anyio
import pytest
from fix_faults import opened
from fix_lag import measured_lag, patience, took
from helpers import new_name

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio


@pytest.fixture
async def image(osd: DevCluster) -> AsyncIterator[Any]:
    async with opened(osd, 64 << 20) as image:
        yield image


async def write_and_flush(image: aiorbd.Image) -> None:
    await image.write(b"b" * 4096, 8192)
    await image.flush()


OPERATIONS = {
    "read": lambda image: image.read(0, 4096),
    "read_into": lambda image: image.read_into(bytearray(4096), 0),
    "readv": lambda image: image.readv([bytearray(4096)], 0),
    # The default cache accepts small writes at once. A flush after the write does not return while the OSD is paused.
    "flush": write_and_flush,
    "compare_and_write": lambda image: image.compare_and_write(b"a" * 512, b"b" * 512, 0),
    "resize": lambda image: image.resize(128 << 20),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
async def test_deadline_ends_the_wait_and_the_operation_stays_in_flight(
    osd: DevCluster, image: aiorbd.Image, operation: Any
) -> None:
    osd.pause()
    with took(0.5, at_least=0.3, cpu=0.15), pytest.raises(TimeoutError), anyio.fail_after(0.3):
        await operation(image)
    assert image.in_flight >= 1
    with pytest.raises(TimeoutError, match="still in flight"):
        await image.drain(timeout=0.05)
    osd.resume()
    await image.drain(timeout=20)
    assert image.in_flight == 0
    assert await image.read(4096, 4) == b"aaaa"


CHANGES = {
    "write": lambda image: image.write(b"zzzz", 0),
    "discard": lambda image: image.discard(0, 1 << 20),
    "resize": lambda image: image.resize(4096, allow_shrink=True),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_change_in_a_cancelled_scope_is_not_started(image: aiorbd.Image, change: Any) -> None:
    """A change in an already cancelled scope does not start."""
    for _ in range(20):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await change(image)
        assert scope.cancelled_caught
        assert image.in_flight == 0
    assert await image.size() == 64 << 20
    assert await image.read(0, 4) == b"aaaa"


async def test_cancellation_that_meets_the_completion_mixes_up_no_results(image: aiorbd.Image) -> None:
    """Cancel while the result arrives.

    With or without a result, no operation stays in flight, and each read returns its own data.
    """
    for delay in range(60):
        with anyio.move_on_after(delay * 0.00002):
            assert await image.read(0, 4) == b"aaaa"
    await image.drain(timeout=10)
    results = []

    async def read(offset: int, deadline: Any) -> None:
        with anyio.move_on_after(deadline):
            results.append((offset, await image.read(offset, 512)))

    for number in range(16):
        await image.write(bytes([number]) * 512, number * 512)
    for turn in range(20):
        async with anyio.create_task_group() as tasks:
            for number in range(16):
                tasks.start_soon(read, number * 512, number * turn * 0.0001)
    await image.drain(timeout=10)
    assert results
    assert all(data == bytes([offset // 512]) * 512 for offset, data in results)


async def test_buffers_live_until_librbd_is_done(osd: DevCluster, image: aiorbd.Image) -> None:
    buffer = bytearray(b"?" * 4096)
    osd.pause()
    with anyio.move_on_after(0.1):
        await image.read_into(buffer, 0)
    with pytest.raises(BufferError):  # still exported
        buffer.append(0)
    assert buffer == b"?" * 4096
    osd.resume()
    await image.drain(timeout=20)
    assert buffer == b"a" * 4096
    buffer.append(0)


async def test_buffer_of_an_abandoned_read_is_freed_after_its_completion(osd: DevCluster, image: aiorbd.Image) -> None:
    class Buffer(bytearray):
        pass

    buffer = Buffer(4096)
    gone = weakref.ref(buffer)
    osd.pause()
    with anyio.move_on_after(0.1):
        await image.read_into(buffer, 0)
    del buffer
    gc.collect()
    assert gone() is not None
    osd.resume()
    await image.drain(timeout=20)
    gc.collect()
    assert gone() is None


async def test_timeouts_of_many_reads_on_a_dead_cluster_are_kept(osd: DevCluster, image: aiorbd.Image) -> None:
    """Start 64 reads with a timeout of one second on a dead cluster: all return, and the loop stays responsive."""
    osd.pause()
    timed_out = []

    async def read(number: int) -> None:
        try:
            with anyio.fail_after(1):
                await image.read(number * 4096, 4096)
        except TimeoutError:
            timed_out.append(number)

    async with measured_lag() as lag:  # outside of `took`: its processes need time to start
        with took(1.5, at_least=1, cpu=0.5):
            async with anyio.create_task_group() as tasks:
                for number in range(64):
                    tasks.start_soon(read, number)
    assert len(timed_out) == 64
    assert lag.worst < patience(0.1)
    assert image.in_flight == 64
    osd.resume()
    await image.drain(timeout=20)


async def test_cancelled_open_is_closed(osd: DevCluster, own_cluster: DevCluster) -> None:
    name = new_name()
    async with aiorbd.connect(osd.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        await ioctx.create_image(name, 1 << 20)
        osd.pause()
        with anyio.move_on_after(0.2) as scope:
            await ioctx.open_image(name)
        assert scope.cancelled_caught
        osd.resume()
        # Leaving the block closes the image, if the open succeeded.
    status = await own_cluster.run("rbd", "status", name)
    assert b"watcher=" not in status


async def test_opens_cancelled_at_every_moment_leave_no_watcher(image: aiorbd.Image, own_cluster: DevCluster) -> None:
    name = image.name
    async with aiorbd.connect(own_cluster.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        for delay in range(40):
            with anyio.move_on_after(delay * 0.0003):
                async with ioctx.open_image(name, read_only=True):
                    pass
    status = await own_cluster.run("rbd", "status", name)
    assert status.count(b"watcher=") == 1  # `image`


async def test_cancelled_connect_returns_at_once() -> None:
    with took(0.5), anyio.move_on_after(0.2):
        await aiorbd.connect(None, conf={"mon_host": "v2:127.0.0.1:1"}, timeout=3)


async def test_close_with_a_timeout_raises_close_timeout_and_goes_on(osd: DevCluster, own_cluster: DevCluster) -> None:
    name = new_name()
    cluster = await aiorbd.connect(own_cluster.conffile)
    ioctx = await cluster.open_ioctx("rbd")
    await ioctx.create_image(name, 1 << 20)
    image = await ioctx.open_image(name)
    await image.write(bytes(4096), 0)
    await image.flush()
    osd.pause()
    with anyio.move_on_after(0.1):
        await image.read(0, 4096)
    with took(0.8, at_least=0.5):
        with pytest.raises(aiorbd.CloseTimeout, match=r"not closed after 0\.5 s: 1 operations in flight") as caught:
            await image.close(timeout=0.5)
    assert name in str(caught.value)
    with pytest.raises(aiorbd.ClosedError, match="is closing"):
        await image.read(0, 1)
    with pytest.raises(aiorbd.CloseTimeout, match="1 handles still open"):
        await cluster.close(timeout=0.2)
    osd.resume()
    await cluster.close(timeout=20)
    assert b"watcher=" not in await own_cluster.run("rbd", "status", name)


async def test_leaving_a_block_on_a_dead_cluster_takes_one_close_timeout(
    osd: DevCluster, own_cluster: DevCluster
) -> None:
    name = new_name()
    # One close timeout for the image: the enclosing blocks do not wait again.
    with ExitStack() as end, pytest.raises(TimeoutError) as caught:
        async with aiorbd.connect(own_cluster.conffile, close_timeout=0.4) as cluster:
            async with cluster.open_ioctx("rbd") as ioctx:
                await ioctx.create_image(name, 1 << 20)
                async with ioctx.open_image(name) as image:
                    await image.write(bytes(4096), 0)
                    await image.flush()
                    osd.pause()
                    end.enter_context(took(1.0, at_least=0.6))
                    with anyio.fail_after(0.2):
                        await image.read(0, 4096)
    assert any("closing failed" in note for note in caught.value.__notes__)
    osd.resume()
    await cluster.close(timeout=20)


async def test_cancelled_close_goes_on(osd: DevCluster, own_cluster: DevCluster) -> None:
    name = new_name()
    async with aiorbd.connect(own_cluster.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        await ioctx.create_image(name, 1 << 20)
        image = await ioctx.open_image(name)
        await image.write(bytes(4096), 0)
        osd.pause()
        with anyio.move_on_after(0.2) as scope:
            await image.close()
        assert scope.cancelled_caught
        osd.resume()
        await image.close(timeout=20)
        assert b"watcher=" not in await own_cluster.run("rbd", "status", name)


async def test_hung_cluster_holds_up_no_other_cluster(
    osd: DevCluster, image: aiorbd.Image, aiorbd_cluster: DevCluster
) -> None:
    """Each cluster has its own worker threads, so hung ones hold up no other cluster."""
    osd.pause()
    async with aiorbd.connect(aiorbd_cluster.conffile) as other, other.open_ioctx("rbd") as ioctx:
        async with anyio.create_task_group() as tasks:
            for _ in range(40):  # more calls than threads
                tasks.start_soon(image.resize, 128 << 20)
            await anyio.sleep(0.2)
            with anyio.fail_after(5):
                name = new_name()
                await ioctx.create_image(name, 1 << 20)
                async with ioctx.open_image(name) as healthy:
                    assert await healthy.read(0, 1) == b"\0"
            tasks.cancel_scope.cancel()
    osd.resume()
    await image.drain(timeout=30)
