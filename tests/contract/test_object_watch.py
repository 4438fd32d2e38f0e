"""Watching objects, and notifying."""

import anyio
import pytest
from helpers import new_name

import aiorbd

pytestmark = pytest.mark.anyio


@pytest.fixture
async def key(ioctx):
    """An object that is there."""
    name = new_name("object")
    await ioctx.objects.write_full(name, b"")
    return name


@pytest.fixture
async def other(aiorbd_cluster):
    """Another client's I/O context."""
    async with aiorbd.connect(aiorbd_cluster.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        yield ioctx


async def test_notify_and_acknowledge(cluster, ioctx, other, key, aiorbd_cluster):
    async def answer(watch):
        async for notification in watch:
            seen.append((notification.data, notification.notifier_id))
            await notification.ack(b"re: " + notification.data)

    seen = []
    async with ioctx.objects.watch(key) as watch:
        listed = await aiorbd_cluster.run("rados", "--pool", "rbd", "listwatchers", key)
        assert f"client.{cluster.get_instance_id()}".encode() in listed
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer, watch)
            result = await other.objects.notify(key, b"hello\0there")
            (reply,) = result.replies
            assert reply.data == b"re: hello\0there"
            assert reply.notifier_id == cluster.get_instance_id()
            assert result.timeouts == ()
            empty = await other.objects.notify(key)
            assert empty.replies[0].data == b"re: "
            tasks.cancel_scope.cancel()
    assert [data for data, _ in seen] == [b"hello\0there", b""]
    assert await aiorbd_cluster.run("rados", "--pool", "rbd", "listwatchers", key) == b""


async def test_nobody_watches(ioctx, key):
    assert await ioctx.objects.notify(key, b"hello") == aiorbd.NotifyResult((), ())


async def test_who_does_not_answer(cluster, ioctx, other, key):
    async with ioctx.objects.watch(key) as silent, other.objects.watch(key) as polite:

        async def answer():
            async for notification in polite:
                await notification.ack(b"here")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer)
            result = await other.objects.notify(key, b"anybody?", timeout=1)
            tasks.cancel_scope.cancel()
        assert [reply.data for reply in result.replies] == [b"here"]
        assert [client for client, _ in result.timeouts] == [cluster.get_instance_id()]
        assert (await anext(silent)).data == b"anybody?"


async def test_leaving_a_loop_loses_nothing(ioctx, other, key):
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


async def test_check(ioctx, key):
    async with ioctx.objects.watch(key, timeout=10) as watch:
        assert 0 <= await watch.check() < 10
    with pytest.raises(aiorbd.ClosedError):
        await watch.check()
    for timeout in (0, -1, 1 << 32):
        with pytest.raises(aiorbd.InvalidArgument, match="out of range"):
            await ioctx.objects.watch(key, timeout=timeout)


async def test_an_object_that_is_removed(ioctx, other, key):
    """The watch breaks, which is said where somebody listens."""
    async with ioctx.objects.watch(key) as watch:
        await other.objects.remove(key)
        with anyio.fail_after(20):
            with pytest.raises(aiorbd.ConnectionShutdown, match="the watch is broken: watch anew") as caught:
                await anext(watch)
        assert key in str(caught.value)
        with pytest.raises(aiorbd.RbdError):
            await watch.check()


async def test_the_end(ioctx, key):
    watch = await ioctx.objects.watch(key)
    ended = []

    async def listen():
        async for _ in watch:
            pass
        ended.append(True)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(5):
            await watch.close()
    assert ended == [True]


async def test_closing_the_pool_closes_its_watches(cluster, key, aiorbd_cluster):
    ioctx = await cluster.open_ioctx("rbd")
    watch = await ioctx.objects.watch(key)
    await ioctx.close(timeout=5)
    assert "closed" in repr(watch)
    assert await aiorbd_cluster.run("rados", "--pool", "rbd", "listwatchers", key) == b""


async def test_a_watch_that_nobody_waits_for_is_closed(osd):
    """Cancelled while it is registered: it is unwatched when it is there."""
    async with aiorbd.connect(osd.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        key = new_name("object")
        await ioctx.objects.write_full(key, b"")
        osd.pause()
        with anyio.move_on_after(0.1) as scope:
            await ioctx.objects.watch(key)
        assert scope.cancelled_caught
        osd.resume()
        with anyio.fail_after(10):
            while ioctx._handle.children:
                await anyio.sleep(0.01)
        assert await osd.run("rados", "--pool", "rbd", "listwatchers", key) == b""


async def test_a_notification_that_nobody_waits_for(osd):
    async with aiorbd.connect(osd.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        key = new_name("object")
        await ioctx.objects.write_full(key, b"")
        async with ioctx.objects.watch(key):
            with anyio.move_on_after(0.2):
                await ioctx.objects.notify(key, b"hello", timeout=1)
            await ioctx.drain(timeout=10)
