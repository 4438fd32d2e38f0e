"""Watches on RADOS objects, and notifications."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from helpers import new_name
from inside import children_of

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio


@pytest.fixture
async def key(ioctx: aiorbd.IoCtx) -> Any:
    """Create an empty object and return its name."""
    name = new_name("object")
    await ioctx.objects.write_full(name, b"")
    return name


@pytest.fixture
async def other(aiorbd_cluster: DevCluster) -> AsyncIterator[Any]:
    """Yield an I/O context of another client."""
    async with aiorbd.connect(aiorbd_cluster.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        yield ioctx


async def test_notify_returns_the_reply_of_the_watcher(
    cluster: aiorbd.Cluster, ioctx: aiorbd.IoCtx, other: Any, key: Any, aiorbd_cluster: DevCluster
) -> None:
    async def answer(watch: Any) -> None:
        async for notification in watch:
            seen.append((notification.data, notification.notifier_id))
            await notification.ack(b"re: " + notification.data)

    seen: list[Any] = []
    async with ioctx.objects.watch(key) as watch:
        listed = await aiorbd_cluster.run("rados", "--pool", "rbd", "listwatchers", key)
        assert f"client.{cluster.instance_id}".encode() in listed
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer, watch)
            result = await other.objects.notify(key, b"hello\0there")
            (reply,) = result.replies
            assert reply.data == b"re: hello\0there"
            assert reply.notifier_id == cluster.instance_id
            assert result.timeouts == ()
            empty = await other.objects.notify(key)
            assert empty.replies[0].data == b"re: "
            tasks.cancel_scope.cancel()
    assert [data for data, _ in seen] == [b"hello\0there", b""]
    assert await aiorbd_cluster.run("rados", "--pool", "rbd", "listwatchers", key) == b""


async def test_notify_without_watchers_returns_no_replies(ioctx: aiorbd.IoCtx, key: Any) -> None:
    assert await ioctx.objects.notify(key, b"hello") == aiorbd.NotifyResult((), ())


async def test_notify_reports_a_watcher_that_does_not_answer_in_time(
    cluster: aiorbd.Cluster, ioctx: aiorbd.IoCtx, other: Any, key: Any
) -> None:
    async with ioctx.objects.watch(key) as silent, other.objects.watch(key) as polite:

        async def answer() -> None:
            async for notification in polite:
                await notification.ack(b"here")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer)
            result = await other.objects.notify(key, b"anybody?", timeout=1)
            tasks.cancel_scope.cancel()
        assert [reply.data for reply in result.replies] == [b"here"]
        assert [client for client, _ in result.timeouts] == [cluster.instance_id]
        assert (await anext(silent)).data == b"anybody?"


async def test_leaving_the_loop_loses_no_notification(ioctx: aiorbd.IoCtx, other: Any, key: Any) -> None:
    async with ioctx.objects.watch(key) as watch:
        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(other.objects.notify, key, b"%d" % number)
            seen = set()
            for _ in range(5):
                async for notification in watch:
                    seen.add(notification.data)
                    await notification.ack()
                    break
        assert seen == {b"%d" % number for number in range(5)}
        assert "Notification" in repr(notification)
        assert watch.lost == 0


async def test_check_returns_seconds_and_raises_closed_error_after_the_end(ioctx: aiorbd.IoCtx, key: Any) -> None:
    async with ioctx.objects.watch(key, silence=10) as watch:
        assert 0 <= await watch.check() < 10
    with pytest.raises(aiorbd.ClosedError):
        await watch.check()
    for silence in (0, -1, 1 << 32):
        with pytest.raises(aiorbd.InvalidArgument, match=f"silence {silence} is"):
            await ioctx.objects.watch(key, silence=silence)


async def test_removing_the_object_breaks_its_watch(ioctx: aiorbd.IoCtx, other: Any, key: Any) -> None:
    """The next wait for a notification raises the error."""
    async with ioctx.objects.watch(key) as watch:
        await other.objects.remove(key)
        with anyio.fail_after(20):
            with pytest.raises(aiorbd.ConnectionShutdown, match="the watch has failed: start a new watch") as caught:
                await anext(watch)
        assert key in str(caught.value)
        with pytest.raises(aiorbd.RbdError):
            await watch.check()


async def test_the_end(ioctx: aiorbd.IoCtx, key: Any) -> None:
    watch = await ioctx.objects.watch(key)
    ended = []

    async def listen() -> None:
        async for _ in watch:
            pass
        ended.append(True)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(5):
            await watch.close()
    assert ended == [True]


async def test_closing_the_ioctx_closes_its_watches(
    cluster: aiorbd.Cluster, key: Any, aiorbd_cluster: DevCluster
) -> None:
    ioctx = await cluster.open_ioctx("rbd")
    watch = await ioctx.objects.watch(key)
    await ioctx.close(timeout=5)
    assert "closed" in repr(watch)
    assert await aiorbd_cluster.run("rados", "--pool", "rbd", "listwatchers", key) == b""


async def test_watch_that_is_cancelled_during_registration_is_unwatched_later(osd: DevCluster) -> None:
    async with aiorbd.connect(osd.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        key = new_name("object")
        await ioctx.objects.write_full(key, b"")
        osd.pause()
        with anyio.move_on_after(0.1) as scope:
            await ioctx.objects.watch(key)
        assert scope.cancelled_caught
        osd.resume()
        with anyio.fail_after(10):
            while children_of(ioctx):
                await anyio.sleep(0.01)
        assert await osd.run("rados", "--pool", "rbd", "listwatchers", key) == b""


async def test_drain_waits_for_a_cancelled_notify(osd: DevCluster) -> None:
    async with aiorbd.connect(osd.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        key = new_name("object")
        await ioctx.objects.write_full(key, b"")
        async with ioctx.objects.watch(key):
            with anyio.move_on_after(0.2):
                await ioctx.objects.notify(key, b"hello", timeout=1)
            await ioctx.drain(timeout=10)
