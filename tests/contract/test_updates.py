"""Updates: notices that an image changed."""

import anyio
import pytest
from fix_witness import Witness
from helpers import MakeImage
from inside import handle_of

import aiorbd

pytestmark = pytest.mark.anyio

MIB = 1 << 20


async def test_a_change_by_another_client(image: aiorbd.Image, witness: Witness) -> None:
    async with image.watch() as updates:
        with anyio.move_on_after(0.1) as scope:
            await updates.wait()
        assert scope.cancelled_caught, "nothing changed"
        await witness.rbd("resize", "--no-progress", image.name, "--size", "20M")
        with anyio.fail_after(5):
            await updates.wait()
        assert await image.size() == 20 * MIB


async def test_every_change_is_visible_after_the_last_update(image: aiorbd.Image, witness: Witness) -> None:
    """One update may report several changes. After the last update, all changes are visible."""
    seen = set()
    async with image.watch() as updates:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(make_snapshots, witness, image.name)
            async for _ in updates:
                seen |= {snapshot.name async for snapshot in image.snapshots()}
                if len(seen) == 5:
                    break
    assert seen == {f"snapshot-{number}" for number in range(5)}


async def make_snapshots(witness: Witness, name: str) -> None:
    for number in range(5):
        await witness.rbd("snap", "create", "--no-progress", f"{name}@snapshot-{number}")


async def test_a_burst_is_one_wake_up(image: aiorbd.Image) -> None:
    woken = 0

    async def count() -> None:
        nonlocal woken
        async for _ in updates:
            woken += 1

    async with image.watch() as updates:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(count)
            await anyio.wait_all_tasks_blocked()
            for _ in range(1000):
                handle_of(image)._updated()
            await anyio.wait_all_tasks_blocked()
            assert woken == 1
            handle_of(image)._updated()
            await anyio.wait_all_tasks_blocked()
            assert woken == 2
            tasks.cancel_scope.cancel()


async def test_wait_returns_for_a_change_before_the_wait(image: aiorbd.Image, witness: Witness) -> None:
    updates = image.watch()
    await image.create_snapshot("one")
    with anyio.fail_after(5):
        await updates.wait()
    await updates.aclose()


async def test_every_listener_gets_the_change(image: aiorbd.Image) -> None:
    async with image.watch() as first, image.watch() as second:
        await image.create_snapshot("one")
        with anyio.fail_after(5):
            await first.wait()
            await second.wait()


async def test_the_end(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> None:
    image = await ioctx.open_image(await make_image())
    ended = []

    async def listen() -> None:
        async for _ in image.watch():
            pass
        ended.append("loop")

    async def wait() -> None:
        updates = image.watch()
        with pytest.raises(aiorbd.ClosedError, match="have ended"):
            await updates.wait()
        with pytest.raises(StopAsyncIteration):
            await anext(updates)
        ended.append("wait")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(5):
            await image.close()
    assert sorted(ended) == ["loop", "wait"]
    with pytest.raises(aiorbd.ClosedError):
        image.watch()


async def test_a_listener_that_is_closed(image: aiorbd.Image) -> None:
    updates = image.watch()
    async with updates:
        pass
    with pytest.raises(aiorbd.ClosedError):
        await updates.wait()
    assert not [source for source in handle_of(image).watchers if not source.ended]


async def test_watching_a_read_only_image_raises_operation_not_supported(
    ioctx: aiorbd.IoCtx, image: aiorbd.Image, witness: Witness
) -> None:
    """librbd registers no watch for such an image, as the list of watchers shows.

    Without the error, a task would wait in vain.
    """
    async with ioctx.open_image(image.name, read_only=True) as other:
        with pytest.raises(aiorbd.OperationNotSupported, match="Ceph reports no changes to an image"):
            other.watch()
        assert len([watcher async for watcher in other.watchers()]) == 1


async def test_wait_gets_a_change_after_cancelled_waits(image: aiorbd.Image) -> None:
    updates = image.watch()
    for _ in range(100):
        with anyio.move_on_after(0):
            await updates.wait()
    await image.create_snapshot("one")
    with anyio.fail_after(5):
        await updates.wait()
