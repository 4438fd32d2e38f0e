"""A client that the cluster cuts off: its calls fail at once, and say why; a new connection goes on."""

import errno
import json

import anyio
import pytest
from conftest import new_name
from fix_lag import took

import aiorbd

pytestmark = pytest.mark.anyio


@pytest.fixture
async def subject(osd):
    """A connection to be blocklisted, with an image that has its lock; and the image's name."""
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


async def newest_map(cluster):
    status = await cluster.osd_command(0, {"prefix": "status", "format": "json"})
    return int(json.loads(status.output)["newest_map"])  # from 20.2 on a string


async def cut_off(osd, image):
    (watcher,) = [watcher async for watcher in image.watchers()]
    async with aiorbd.connect(osd.conffile, timeout=30) as other:
        await other.mon_command({"prefix": "osd blocklist", "blocklistop": "add", "addr": watcher.address})
        dump = await other.mon_command({"prefix": "osd dump", "format": "json"})
        epoch = json.loads(dump.output)["epoch"]
        with anyio.fail_after(10):  # until then the OSD answers
            while await newest_map(other) < epoch:
                await anyio.sleep(0.02)
        await anyio.sleep(0.1)  # its placement groups take the map up a little later than it tells


async def durable_write(image):
    """librbd's cache may take a write that the OSDs refuse."""
    await image.write(b"after", 0)
    await image.flush()


FIRST = {
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
async def test_blocklisted(osd, subject, first, caplog):
    """Whichever call is the first to hear of it, all others fail the same way from then on, without Ceph."""
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
    osd.pause()  # nothing of what follows needs the cluster
    with took(0.2):
        for name, call in FIRST.items():
            with pytest.raises(aiorbd.ConnectionShutdown):
                await call(cluster, ioctx, image)
                pytest.fail(name)
        with pytest.raises(aiorbd.ConnectionShutdown):
            await cluster.list_pools()
        with pytest.raises(aiorbd.ConnectionShutdown):
            async for _ in image.diff():
                pass
    assert cluster.stats().in_flight == 0
    osd.resume()
    with took(2):
        await cluster.close(timeout=5)
    assert caplog.text.count("the cluster has blocklisted this client") == 1


async def test_what_is_in_flight_fails_too(osd, subject):
    cluster, _, image = subject
    (watcher,) = [watcher async for watcher in image.watchers()]
    errors = []

    async def read(number):
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
    if not errors:  # all were answered before the OSD heard of it
        with anyio.fail_after(10), pytest.raises(aiorbd.ConnectionShutdown):
            while True:
                await image.read(0, 1)
    assert cluster.blocklisted


async def test_a_new_connection_goes_on(osd, subject):
    """The way that the documentation shows: close within a bound, connect, open, go on."""
    cluster, _, image = subject
    await cut_off(osd, image)
    with pytest.raises(aiorbd.ConnectionShutdown):
        await image.write(b"lost", 0)
    await cluster.close(timeout=5)
    async with aiorbd.connect(osd.conffile, timeout=30) as again, again.open_ioctx("rbd") as ioctx:
        async with ioctx.open_image(image.name) as image:
            assert await image.read(0, 6) == b"before"
            with anyio.fail_after(20):  # the lock of who was cut off is broken first
                await image.write(b"after!", 0)
                await image.flush()
    assert (await osd.run("rbd", "export", "--no-progress", image.name, "-"))[:6] == b"after!"


async def test_other_connections_are_not_harmed(osd, subject):
    _, _, image = subject
    async with aiorbd.connect(osd.conffile, timeout=30) as other, other.open_ioctx("rbd") as ioctx:
        await cut_off(osd, image)
        with pytest.raises(aiorbd.ConnectionShutdown):
            await image.read(0, 1)
        assert not other.blocklisted
        assert image.name in await ioctx.list_images()


async def test_a_copy_to_a_cluster_that_cut_us_off(osd, subject, aiorbd_cluster):
    """Only the other connection is dead then; this one goes on."""
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
    assert not other_cluster.blocklisted  # it has not been asked itself yet


WAITS = {
    "updates.wait": lambda cluster, ioctx, image: wait_for_updates(image.watch()),
    "async for over updates": lambda cluster, ioctx, image: all_of(image.watch()),
    "async for over a watch of an object": lambda cluster, ioctx, image: watch_object(ioctx, image),
}


async def all_of(iterator):
    async for _ in iterator:
        pass


async def wait_for_updates(updates):
    while True:  # librbd 20.2 calls it an update
        await updates.wait()


async def watch_object(ioctx, image):
    watched = f"watched-{image.name}"
    await ioctx.objects.write_full(watched, b"x")
    async with ioctx.objects.watch(watched) as watch:
        await all_of(watch)


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
async def test_a_task_that_only_waits_hears_that_its_client_is_blocklisted(osd, subject, wait):
    """No other task makes a call."""
    cluster, ioctx, image = subject
    raised = []

    async def waiting():
        try:
            await wait(cluster, ioctx, image)
        except aiorbd.ConnectionShutdown as error:
            raised.append(error)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(waiting)
            await anyio.sleep(0.1)
            await cut_off(osd, image)
    assert raised[0].errno in (errno.ESHUTDOWN, errno.ENOTCONN)  # the latter of a watch that broke


async def test_one_call_that_fails_ends_every_stream_watch_and_log(osd, subject):
    cluster, _ioctx, image = subject
    raised = []

    async def waiting(iterator):
        try:
            await all_of(iterator)
        except aiorbd.ConnectionShutdown as error:
            raised.append(error)

    async def endless():
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


async def test_leaving_an_image_that_was_written_to_raises_what_its_flush_raises(osd):
    name = new_name()
    with pytest.raises(aiorbd.ConnectionShutdown):
        async with aiorbd.connect(osd.conffile, timeout=30) as cluster, cluster.open_ioctx("rbd") as ioctx:
            await ioctx.create_image(name, 1 << 22)
            async with ioctx.open_image(name) as image:
                await image.write(b"x" * 512, 0)
                await image.flush()
                await cut_off(osd, image)
                await image.write(b"y" * 512, 0)  # librbd's cache takes it
    assert image.closed


async def test_a_probe_is_no_operation_that_drain_waits_for(osd, subject):
    _cluster, _ioctx, image = subject
    osd.pause()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(image.watch().wait)
        await anyio.sleep(2.5)
        await image.drain(timeout=5)
        tasks.cancel_scope.cancel()
    osd.resume()
