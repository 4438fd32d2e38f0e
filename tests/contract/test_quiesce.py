"""Requests to quiesce before a snapshot, with the ``rbd`` tool as the other client."""

import contextlib
import errno
import gc
import os
import subprocess
import threading
import time
from typing import Any

import anyio
import pytest
from fix_witness import Witness
from helpers import TWO_LOOPS

import aiorbd
from aiorbd._image import quiesce
from aiorbd._native import loader
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio


async def test_another_client_waits_for_the_answer(image: aiorbd.Image, witness: Witness) -> None:
    order: list[str] = []

    async def take() -> None:
        await witness.rbd("snap", "create", "--no-progress", f"{image.name}@one")
        order.append("taken")

    await image.write(b"before the snapshot", 0)
    async with image.quiesce_watch() as requests, anyio.create_task_group() as tasks:
        tasks.start_soon(take)
        request = await anext(requests)
        assert "open" in repr(request)
        assert not request.answered
        await image.flush()
        await anyio.sleep(0.5)
        assert order == []
        order.append("answered")
        await request.complete()
        assert request.answered
        with pytest.raises(aiorbd.UsageError, match="has its answer already"):
            await request.complete()
        with anyio.fail_after(30):
            await request.released()
        await image.write(b"after", 0)
    assert order == ["answered", "taken"]
    assert (await witness.export(f"{image.name}@one"))[:19] == b"before the snapshot"


async def test_request_that_arrives_while_the_watch_begins_is_answered(
    image: aiorbd.Image, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(loader.rbd(), name)

        def rbd_quiesce_watch(self, *arguments: Any) -> Any:
            code = loader.rbd().rbd_quiesce_watch(*arguments)
            begun.set()
            time.sleep(1.5)
            return code

    async def take() -> None:
        while not begun.is_set():
            await anyio.sleep(0.01)
        await witness.rbd("snap", "create", "--no-progress", f"{image.name}@one")

    monkeypatch.setattr(quiesce, "rbd", Slow)
    with anyio.fail_after(25):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take)
            async with image.quiesce_watch() as requests:
                request = await anext(requests)
                await request.complete()
                await request.released()
    assert [snapshot.name for snapshot in await image.snapshots()] == ["one"]


@pytest.mark.parametrize("owner", ["this client", "nobody"])
async def test_snapshot_contains_all_writes_that_returned_without_a_flush(
    image: aiorbd.Image, witness: Witness, owner: str
) -> None:
    """Without an owner of the lock, the other client takes the lock before it asks. A flush would then wait."""
    data = os.urandom(4096)
    await image.write(data, 1 << 20)
    if owner == "nobody":
        await witness.rbd("bench", "--io-type", "write", "--io-size", "4096", "--io-total", "4096", image.name)
    async with image.quiesce_watch() as requests, anyio.create_task_group() as tasks:
        assert await image.exclusive_lock.is_owner() == (owner == "this client")
        tasks.start_soon(witness.rbd, "snap", "create", "--no-progress", f"{image.name}@one")
        request = await anext(requests)
        await request.complete()
        with anyio.fail_after(10):
            await request.released()
    exported = await witness.export(f"{image.name}@one")
    assert exported[1 << 20 : (1 << 20) + len(data)] == data


async def test_error_prevents_the_snapshot(image: aiorbd.Image, witness: Witness) -> None:
    async with image.quiesce_watch() as requests, anyio.create_task_group() as tasks:

        async def refuse() -> None:
            async for request in requests:
                await request.fail(errno.EBUSY)

        tasks.start_soon(refuse)
        with pytest.raises(RuntimeError, match="failed"):
            await witness.rbd("snap", "create", "--no-progress", f"{image.name}@one")
        assert not await image.snapshot_exists("one")
        await witness.rbd("snap", "create", "--no-progress", "--ignore-quiesce-error", f"{image.name}@two")
        await witness.rbd("snap", "create", "--no-progress", "--skip-quiesce", f"{image.name}@three")
        tasks.cancel_scope.cancel()
    assert [snapshot.name for snapshot in await image.snapshots()] == ["two", "three"]


async def test_request_without_an_answer_fails_at_its_deadline(image: aiorbd.Image, witness: Witness) -> None:
    async with image.quiesce_watch(timeout=0.5) as requests:
        began = time.monotonic()
        with pytest.raises(RuntimeError, match="failed"):
            await witness.rbd("snap", "create", "--no-progress", f"{image.name}@one")
        assert 0.4 < time.monotonic() - began < 20
        request = await anext(requests)
        assert request.answered
        with pytest.raises(aiorbd.UsageError, match="has its answer already"):
            await request.complete()


@pytest.mark.slow
@TWO_LOOPS
async def test_dead_loop_holds_up_the_other_client_as_long_as_its_librbd_allows(
    image: aiorbd.Image, aiorbd_cluster: DevCluster
) -> None:
    """librbd makes ten attempts of five seconds by default. Here it makes two."""
    command = ["rbd", "-c", aiorbd_cluster.conffile, "--rbd-quiesce-notification-attempts", "2"]
    command += ["snap", "create", "--no-progress", f"rbd/{image.name}@one"]
    async with image.quiesce_watch(timeout=0.5):
        began = time.monotonic()
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as tool:
            assert tool.wait(timeout=100) != 0  # which blocks this event loop
        assert 9 < time.monotonic() - began < 20


async def test_close_answers_the_waiting_request(image: aiorbd.Image, witness: Witness) -> None:
    async with anyio.create_task_group() as tasks:
        failed: list[str] = []

        async def take() -> None:
            try:
                await witness.rbd("snap", "create", "--no-progress", f"{image.name}@one")
            except RuntimeError as error:
                failed.append(str(error))

        requests = await image.quiesce_watch(timeout=60)
        tasks.start_soon(take)
        with anyio.fail_after(30):
            request = await anext(requests)
            await requests.close()
            assert request.answered
            assert [one async for one in requests] == []
    assert len(failed) == 1
    await witness.rbd("snap", "create", "--no-progress", f"{image.name}@two")  # no watch, no wait


async def test_errors_that_would_mislead_the_other_client_are_refused(image: aiorbd.Image, witness: Witness) -> None:
    async with image.quiesce_watch() as requests, anyio.create_task_group() as tasks:
        tasks.start_soon(image.create_snapshot, "one")
        request = await anext(requests)
        for bad in (0, -1, errno.ESHUTDOWN, 1 << 12):
            with pytest.raises(aiorbd.InvalidArgument):
                await request.fail(bad)
        await request.complete()
    assert await image.snapshot_exists("one")


async def test_close_during_an_own_snapshot_leaves_the_connection_usable(image: aiorbd.Image) -> None:
    """The snapshot fails with another error than that of a blocklisted client."""
    async with anyio.create_task_group() as tasks:
        requests = await image.quiesce_watch(timeout=60)

        async def take() -> None:
            with pytest.raises(aiorbd.OperationCanceled):
                await image.create_snapshot("one")

        tasks.start_soon(take)
        await anext(requests)
        await requests.close()
    assert not image.blocklisted
    await image.write(b"x", 0)


async def test_closed_image_ends_the_watch(ioctx: aiorbd.IoCtx, make_image: Any) -> None:
    image = await ioctx.open_image(await make_image())
    requests = await image.quiesce_watch()
    await image.close()
    assert [one async for one in requests] == []
    with pytest.raises(aiorbd.ClosedError):
        await image.quiesce_watch()


async def test_own_snapshots_ask_too(image: aiorbd.Image) -> None:
    async with image.quiesce_watch() as requests, anyio.create_task_group() as tasks:

        async def answer() -> None:
            async for request in requests:
                await request.complete()

        tasks.start_soon(answer)
        with anyio.fail_after(30):
            await image.create_snapshot("one")
        await image.create_snapshot("two", aiorbd.SnapshotCreateFlag.SKIP_QUIESCE)
        tasks.cancel_scope.cancel()
    assert len(await image.snapshots()) == 2


async def test_bad_arguments(ioctx: aiorbd.IoCtx, image: aiorbd.Image) -> None:
    async with ioctx.open_image(image.name, read_only=True) as other:
        with pytest.raises(aiorbd.OperationNotSupported, match="reading only"):
            await other.quiesce_watch()
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(aiorbd.InvalidArgument):
            await image.quiesce_watch(timeout=bad)


async def test_request_fails_if_no_thread_can_start(
    image: aiorbd.Image, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    async with image.quiesce_watch(timeout=60) as requests:
        monkeypatch.setattr("aiorbd._image.quiesce.BackgroundJob", refuse)
        with anyio.fail_after(20), pytest.raises(RuntimeError, match="Resource temporarily unavailable"):
            await witness.rbd("snap", "create", "--no-progress", f"{image.name}@one")
        assert (await anext(requests)).answered


async def test_one_watch_at_a_time(image: aiorbd.Image) -> None:
    watch = await image.quiesce_watch()
    assert "open" in repr(watch)
    with pytest.raises(aiorbd.UsageError, match="has a quiesce watch already"):
        await image.quiesce_watch()
    await watch.close()
    await watch.close()
    assert "closed" in repr(watch)
    async with image.quiesce_watch():
        pass


async def test_requests_without_a_watch_succeed_at_once(image: aiorbd.Image, witness: Witness) -> None:
    """Also if the program forgot to close its watch."""
    watch = await image.quiesce_watch(timeout=60)
    del watch
    gc.collect()
    with anyio.fail_after(10):
        await witness.rbd("snap", "create", "--no-progress", f"{image.name}@one")
    async with image.quiesce_watch(timeout=60):
        pass
    with anyio.fail_after(10):
        await witness.rbd("snap", "create", "--no-progress", f"{image.name}@two")


async def test_watches_that_end_while_others_take_snapshots(
    aiorbd_cluster: DevCluster, ioctx: aiorbd.IoCtx, image: aiorbd.Image
) -> None:
    """No snapshot and no close hangs, and the process survives."""

    async def take() -> None:
        async with aiorbd.connect(aiorbd_cluster.conffile) as client, client.open_ioctx("rbd") as pool:
            async with pool.open_image(image.name) as other:
                for number in range(40):
                    with contextlib.suppress(aiorbd.RbdError):
                        await other.create_snapshot(f"s{number}")

    async with image.quiesce_watch():  # before the snapshots
        pass
    with anyio.fail_after(100):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take)
            for number in range(200):
                async with image.quiesce_watch(timeout=0.2) as requests:
                    with anyio.move_on_after(number % 5 / 100):
                        await (await anext(requests)).complete()
    await image.write(b"x", 0)
