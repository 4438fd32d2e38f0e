"""A blocklisted client: its calls fail at once with the reason, and a new connection works."""

import errno
import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from fix_lag import patience, took
from helpers import new_name

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio


@pytest.fixture
async def subject(osd: DevCluster) -> AsyncIterator[Any]:
    """Open a connection that a test will blocklist, with an image that holds its lock."""
    name = new_name()
    cluster = await aiorbd.connect(osd.conffile, timeout=30)
    ioctx = await cluster.open_ioctx("rbd")
    await ioctx.create_image(name, 1 << 24)
    image = await ioctx.open_image(name)
    await image.write(b"before", 0)
    await image.flush()
    yield cluster, ioctx, image
    osd.resume()
    await cluster.close(timeout=10)


async def newest_map(cluster: aiorbd.Cluster) -> Any:
    status = await cluster.osd_command(0, {"prefix": "status", "format": "json"})
    return int(json.loads(status.output)["newest_map"])  # a string from Ceph 20.2 on


async def cut_off(osd: DevCluster, image: aiorbd.Image) -> None:
    (watcher,) = [watcher async for watcher in image.watchers()]
    async with aiorbd.connect(osd.conffile, timeout=30) as other:
        await other.mon_command({"prefix": "osd blocklist", "blocklistop": "add", "addr": watcher.address})
        dump = await other.mon_command({"prefix": "osd dump", "format": "json"})
        epoch = json.loads(dump.output)["epoch"]
        with anyio.fail_after(10):  # until then the OSD still answers
            while await newest_map(other) < epoch:
                await anyio.sleep(0.02)
        await anyio.sleep(patience(0.1))  # its placement groups adopt the map a little later than the OSD reports it


async def durable_write(image: aiorbd.Image) -> None:
    """Write and flush: librbd's cache may accept a write that the OSDs refuse."""
    await image.write(b"after", 0)
    await image.flush()


FIRST: dict[str, Any] = {
    "read": lambda cluster, ioctx, image: image.read(0, 6),
    "write": lambda cluster, ioctx, image: durable_write(image),
    "flush": lambda cluster, ioctx, image: image.flush(),
    "resize": lambda cluster, ioctx, image: image.resize(1 << 25),
    "snapshot": lambda cluster, ioctx, image: image.create_snapshot("one"),
    "list": lambda cluster, ioctx, image: ioctx.list_images(),
    "object": lambda cluster, ioctx, image: ioctx.objects.write_full("object", b"x"),
    "open": lambda cluster, ioctx, image: ioctx.open_image(image.name),
}


@pytest.mark.parametrize("first", FIRST.values(), ids=FIRST)
async def test_blocklisted(osd: DevCluster, subject: Any, first: Any, caplog: pytest.LogCaptureFixture) -> None:
    """After the first call that sees the blocklisting, all others fail the same way, without a request to Ceph."""
    cluster, ioctx, image = subject
    await cut_off(osd, image)
    assert not cluster.blocklisted
    with took(2), pytest.raises(aiorbd.ConnectionShutdown, match="blocklisted") as caught:
        await first(cluster, ioctx, image)
    assert caught.value.errno == errno.ESHUTDOWN
    assert isinstance(caught.value, ConnectionError)
    for handle in subject:
        assert handle.blocklisted
        assert repr(handle).endswith("open, blocklisted>")
    osd.pause()  # none of the following calls needs the cluster
    with took(0.2):
        for name, call in FIRST.items():
            with pytest.raises(aiorbd.ConnectionShutdown):
                await call(cluster, ioctx, image)
                pytest.fail(name)
        with pytest.raises(aiorbd.ConnectionShutdown):
            await cluster.pools()
        with pytest.raises(aiorbd.ConnectionShutdown):
            async for _ in image.diff():
                pass
    assert cluster.stats.in_flight == 0
    osd.resume()
    with took(2):
        await cluster.close(timeout=5)
    assert caplog.text.count("the cluster has blocklisted this client") == 1


async def test_what_is_in_flight_fails_too(osd: DevCluster, subject: Any) -> None:
    cluster, _, image = subject
    (watcher,) = [watcher async for watcher in image.watchers()]
    errors = []

    async def read(number: int) -> None:
        try:
            await image.read(number * 512, 512)
        except aiorbd.ConnectionShutdown as error:
            errors.append(error)

    osd.pause()
    async with anyio.create_task_group() as tasks:
        for number in range(32):
            tasks.start_soon(read, number)
        await anyio.sleep(0.1)
        assert image.in_flight == 32
        await osd.run("ceph", "osd", "blocklist", "add", watcher.address)  # the monitors are alive
        osd.resume()
        tasks.cancel_scope.deadline = anyio.current_time() + 20
    assert not tasks.cancel_scope.cancelled_caught
    if not errors:  # all were answered before the OSD had the blocklist
        with anyio.fail_after(10), pytest.raises(aiorbd.ConnectionShutdown):
            while True:
                await image.read(0, 1)
    assert cluster.blocklisted


async def test_a_new_connection_goes_on(osd: DevCluster, subject: Any) -> None:
    """Follow the documented way: close with a timeout, connect, open, continue."""
    cluster, _, image = subject
    await cut_off(osd, image)
    with pytest.raises(aiorbd.ConnectionShutdown):
        await image.write(b"lost", 0)
    await cluster.close(timeout=5)
    async with aiorbd.connect(osd.conffile, timeout=30) as again, again.open_ioctx("rbd") as ioctx:
        async with ioctx.open_image(image.name) as image:
            assert await image.read(0, 6) == b"before"
            with anyio.fail_after(20):  # librbd first breaks the lock of the blocklisted client
                await image.write(b"after!", 0)
                await image.flush()
    assert (await osd.run("rbd", "export", "--no-progress", image.name, "-"))[:6] == b"after!"


async def test_other_connections_are_not_harmed(osd: DevCluster, subject: Any) -> None:
    _, _, image = subject
    async with aiorbd.connect(osd.conffile, timeout=30) as other, other.open_ioctx("rbd") as ioctx:
        await cut_off(osd, image)
        with pytest.raises(aiorbd.ConnectionShutdown):
            await image.read(0, 1)
        assert not other.blocklisted
        assert image.name in await ioctx.list_images()


async def test_copy_to_a_cluster_that_blocklisted_the_client_leaves_the_source_usable(
    osd: DevCluster, subject: Any, aiorbd_cluster: DevCluster
) -> None:
    """Only the connection to the other cluster is dead; this connection still works."""
    other_cluster, other_ioctx, other_image = subject
    async with aiorbd.connect(aiorbd_cluster.conffile, timeout=30) as cluster, cluster.open_ioctx("rbd") as ioctx:
        name = new_name()
        await ioctx.create_image(name, 1 << 20)
        async with ioctx.open_image(name) as image:
            await image.write(b"x", 0)
            await cut_off(osd, other_image)
            with anyio.fail_after(20), pytest.raises(aiorbd.ConnectionShutdown):
                await image.copy(other_ioctx, new_name())
            assert not cluster.blocklisted
            assert await image.read(0, 1) == b"x"
    assert not other_cluster.blocklisted  # no call has used the other connection itself yet


WAITS = {
    "updates.wait": lambda cluster, ioctx, image: wait_for_updates(image.watch()),
    "async for over updates": lambda cluster, ioctx, image: all_of(image.watch()),
    "async for over a watch of an object": lambda cluster, ioctx, image: watch_object(ioctx, image),
}


async def all_of(iterator: Any) -> None:
    async for _ in iterator:
        pass


async def wait_for_updates(updates: Any) -> None:
    while True:  # librbd 20.2 reports the blocklisting as an update
        await updates.wait()


async def watch_object(ioctx: aiorbd.IoCtx, image: aiorbd.Image) -> None:
    watched = f"watched-{image.name}"
    await ioctx.objects.write_full(watched, b"x")
    async with ioctx.objects.watch(watched) as watch:
        await all_of(watch)


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
async def test_waiting_task_raises_when_its_client_is_blocklisted(osd: DevCluster, subject: Any, wait: Any) -> None:
    """No other task makes a call."""
    cluster, ioctx, image = subject
    raised = []

    async def waiting() -> None:
        try:
            await wait(cluster, ioctx, image)
        except aiorbd.ConnectionShutdown as error:
            raised.append(error)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(waiting)
            await anyio.sleep(0.1)
            await cut_off(osd, image)
    assert raised[0].errno in (errno.ESHUTDOWN, errno.ENOTCONN)  # ENOTCONN comes from a broken watch


async def test_one_failing_call_ends_every_stream_watch_and_log(osd: DevCluster, subject: Any) -> None:
    cluster, _ioctx, image = subject
    raised = []

    async def waiting(iterator: Any) -> None:
        try:
            await all_of(iterator)
        except aiorbd.ConnectionShutdown as error:
            raised.append(error)

    async def endless() -> AsyncIterator[Any]:
        while True:
            yield 0, 512
            await anyio.sleep(0.01)

    log = await cluster.monitor_log("error")
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            for iterator in (image.watch(), image.watch(), image.read_extents(endless()), log):
                tasks.start_soon(waiting, iterator)
            await anyio.sleep(0.1)
            await cut_off(osd, image)
            with pytest.raises(aiorbd.ConnectionShutdown):
                await image.flush()
    assert len(raised) == 4


async def test_leaving_a_written_image_raises_the_error_of_its_flush(osd: DevCluster) -> None:
    name = new_name()
    with pytest.raises(aiorbd.ConnectionShutdown):
        async with aiorbd.connect(osd.conffile, timeout=30) as cluster, cluster.open_ioctx("rbd") as ioctx:
            await ioctx.create_image(name, 1 << 22)
            async with ioctx.open_image(name) as image:
                await image.write(b"x" * 512, 0)
                await image.flush()
                await cut_off(osd, image)
                await image.write(b"y" * 512, 0)  # librbd's cache accepts it
    assert image.closed


async def test_probe_does_not_hold_up_drain(osd: DevCluster, subject: Any) -> None:
    _cluster, _ioctx, image = subject
    osd.pause()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(image.watch().wait)
        await anyio.sleep(2.5)
        await image.drain(timeout=5)
        tasks.cancel_scope.cancel()
    osd.resume()
