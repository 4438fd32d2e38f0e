"""A dead part of a cluster holds up only its own calls."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import anyio
import pytest
from helpers import new_name

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio

#: More calls than a group of calls has threads.
MANY = 20


@pytest.fixture(scope="module")
def halves() -> Iterator[Any]:
    """Start a cluster with two OSDs, and the pools ``left`` and ``right`` on one OSD each."""
    with DevCluster(osds=2, osd_bytes=1 << 30, pool="") as cluster:
        for number, pool in enumerate(("left", "right")):
            cluster.run_blocking("ceph", "osd", "crush", "rm-device-class", f"osd.{number}")
            cluster.run_blocking("ceph", "osd", "crush", "set-device-class", pool, f"osd.{number}")
            cluster.run_blocking("ceph", "osd", "crush", "rule", "create-replicated", pool, "default", "osd", pool)
            cluster.run_blocking("ceph", "osd", "pool", "create", pool, "8", "8", "replicated", pool)
            cluster.run_blocking("rbd", "pool", "init", pool)
        yield cluster


@pytest.fixture
def left_can_die(halves: Any) -> Iterator[Any]:
    yield halves
    halves.resume("osd.0")


async def abandon(call: Any, times: Any = MANY) -> None:
    """Make a call many times at once, and cancel each after 0.2 s."""

    async def once() -> None:
        with anyio.move_on_after(0.2):
            await call()

    async with anyio.create_task_group() as tasks:
        for _ in range(times):
            tasks.start_soon(once)


@pytest.fixture
async def both(left_can_die: Any) -> AsyncIterator[Any]:
    """Open a connection and both pools, with an image in each."""
    async with aiorbd.connect(left_can_die.conffile, close_timeout=1) as cluster:
        async with cluster.open_ioctx("left") as left, cluster.open_ioctx("right") as right:
            name = new_name()
            for ioctx in (left, right):
                await ioctx.create_image(name, 1 << 22)
            yield cluster, left, right, name
            left_can_die.resume("osd.0")


HUNG = {
    "listings": lambda left, name: left.list_images(),
    "creations": lambda left, name: left.create_image(new_name(), 1 << 20),
    "opens": lambda left, name: left.open_image(name),
    "statistics": lambda left, name: left.pool_stats(),
    "removals": lambda left, name: left.remove_image(name),
}


@pytest.mark.parametrize("hung", HUNG.values(), ids=HUNG)
async def test_hung_calls_of_one_pool_hold_up_no_other_pool_and_no_monitor(
    left_can_die: Any, both: Any, hung: Any
) -> None:
    cluster, left, right, name = both
    left_can_die.pause("osd.0")
    await abandon(lambda: hung(left, name))
    with anyio.fail_after(10):
        assert name in await right.list_images()
        await cluster.mon_command({"prefix": "mon stat"})
        async with cluster.open_ioctx("right") as again, again.open_image(name) as image:
            await image.write(b"alive", 0)
            await image.create_snapshot("one")
            assert [extent.exists async for extent in image.diff()] == [True]
            assert await image.read(0, 5) == b"alive"
    left_can_die.resume("osd.0")
    await left.drain(timeout=30)


async def test_hung_calls_of_a_pool_hold_up_no_open_and_no_close_there(left_can_die: Any, both: Any) -> None:
    """Once the OSD has resumed, an open and its close take less than 20 s."""
    _cluster, left, _right, name = both
    async with left.open_image(name) as image:
        await image.write(bytes(4096), 0)
        left_can_die.pause("osd.0")
        await abandon(left.list_images)
        left_can_die.resume("osd.0")
        with anyio.fail_after(20):
            async with left.open_image(name, read_only=True) as again:
                assert await again.size() == 1 << 22


async def test_copies_into_a_dead_pool_hold_up_no_call_of_the_source_pool(left_can_die: Any, both: Any) -> None:
    _cluster, left, right, name = both
    async with right.open_image(name) as image:
        await image.write(b"x" * 4096, 0)
        left_can_die.pause("osd.0")
        await abandon(lambda: image.copy(left, new_name()))
        with anyio.fail_after(10):
            assert name in await right.list_images()
            await image.create_snapshot("one")
        left_can_die.resume("osd.0")
        await image.drain(timeout=30)


async def test_commands_that_wait_for_a_manager_hold_up_no_command_to_the_monitors(halves: Any) -> None:
    """Without a manager, commands for a manager wait for ever."""
    cluster = await aiorbd.connect(halves.conffile)
    await abandon(lambda: cluster.mgr_command({"prefix": "status"}))
    with anyio.fail_after(10):
        await cluster.mon_command({"prefix": "mon stat"})
        assert "right" in await cluster.pools()
    with pytest.raises(aiorbd.CloseTimeout):
        await cluster.close(timeout=0.1)


async def test_threads_of_a_dead_pool_are_bounded(left_can_die: Any, both: Any) -> None:
    cluster, left, _right, name = both
    left_can_die.pause("osd.0")
    before = cluster.stats.threads
    await abandon(left.list_images, 40)
    assert cluster.stats.threads - before <= 16
    await abandon(lambda: left.remove_image(name), 40)  # removals may take hours, so they have their own threads
    assert cluster.stats.threads - before <= 32
    left_can_die.resume("osd.0")
    await left.drain(timeout=30)


# -- endings ---------------------------------------------------------------------------------------


async def leave(left_can_die: Any, enter: Any) -> Any:
    """Return the seconds that leaving blocks takes on a dead cluster, with a read of each image in flight."""
    async with AsyncExitStack() as stack:
        images = await enter(stack)
        left_can_die.pause("osd.0")
        for image in images:
            with anyio.move_on_after(0.05):
                await image.read(0, 512)
        begin = time.monotonic()
        with suppress(aiorbd.CloseTimeout):
            await stack.aclose()
        seconds = time.monotonic() - begin
    left_can_die.resume("osd.0")
    return seconds


async def test_blocks_that_are_left_one_after_the_other_share_one_bound(left_can_die: Any, both: Any) -> None:
    _, left, _, _name = both

    async def enter(stack: Any) -> Any:
        cluster = await stack.enter_async_context(aiorbd.connect(left_can_die.conffile, close_timeout=2))
        ioctx = await stack.enter_async_context(cluster.open_ioctx("left"))
        names = [new_name() for _ in range(4)]
        for one in names:
            await left.create_image(one, 1 << 20)
        return [await stack.enter_async_context(ioctx.open_image(one)) for one in names]

    # Closed one by one, four images, their I/O context and their connection would take twelve seconds.
    assert 1.9 <= await leave(left_can_die, enter) < 4


async def test_leaving_a_connection_pool_takes_one_close_timeout(left_can_die: Any, both: Any) -> None:
    _, left, _, _ = both
    names = [new_name() for _ in range(8)]
    for one in names:
        await left.create_image(one, 1 << 20)
    connect = lambda: aiorbd.connect(left_can_die.conffile, close_timeout=2)  # noqa: E731

    async def enter(stack: Any) -> Any:
        pool = await stack.enter_async_context(aiorbd.SharedConnection(connect))
        images = []
        for one in names:
            async with pool.open_image("left", one) as image:
                images.append(image)
        return images

    assert 1.9 <= await leave(left_can_die, enter) < 4


async def test_healthy_block_is_closed_after_an_overdue_one(left_can_die: Any, both: Any) -> None:
    """Its writes are durable: an overdue sibling leaves enough time for the flush."""
    _cluster, left, right, name = both
    with pytest.raises(aiorbd.CloseTimeout):
        async with right.open_image(name) as healthy:
            await healthy.write(b"durable", 0)
            async with left.open_image(name) as dead:
                left_can_die.pause("osd.0")
                with anyio.move_on_after(0.05):
                    await dead.read(0, 512)
    assert healthy.closed
    assert healthy.in_flight == 0
    left_can_die.resume("osd.0")
    await dead.close(timeout=20)
    async with right.open_image(name, read_only=True) as image:
        assert await image.read(0, 7) == b"durable"


async def test_overdue_close_that_ended_costs_later_ones_nothing(left_can_die: Any, both: Any) -> None:
    _cluster, left, _right, name = both
    for _ in range(2):
        begin = time.monotonic()
        with pytest.raises(aiorbd.CloseTimeout):
            async with left.open_image(name, read_only=True) as image:
                left_can_die.pause("osd.0")
                with anyio.move_on_after(0.05):
                    await image.read(0, 512)
        assert 0.9 <= time.monotonic() - begin < 1.9  # a second bound would take another second
        left_can_die.resume("osd.0")
        await image.close(timeout=20)


async def test_block_with_an_overdue_flush_raises_close_timeout(left_can_die: Any, both: Any) -> None:
    _, left, _, name = both
    with pytest.raises(
        aiorbd.CloseTimeout, match="not flushed after 1 s: it is unknown whether the last writes are durable"
    ):
        async with left.open_image(name) as image:
            left_can_die.pause("osd.0")
            with anyio.move_on_after(0.05):
                await image.write(b"x" * 512, 0)
    left_can_die.resume("osd.0")
    await image.close(timeout=20)
