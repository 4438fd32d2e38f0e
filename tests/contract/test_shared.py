"""Connections, I/O contexts and images that are shared."""

import json

import anyio
import pytest

import aiorbd

pytestmark = pytest.mark.anyio


@pytest.fixture
def connects(aiorbd_cluster):
    """What a pool connects with, counting."""
    made = []

    def connect():
        made.append(1)
        return aiorbd.connect(aiorbd_cluster.conffile, timeout=30)

    return connect, made


async def watchers(witness, name):
    return json.loads(await witness.rbd("status", name, "--format", "json"))["watchers"]


async def test_many_share_one(connects, make_image, witness):
    connect, made = connects
    name, seen = await make_image(), []
    async with aiorbd.ConnectionPool(connect) as connections:

        async def use(number):
            async with connections.open_image("rbd", name) as image:
                await image.write(bytes([number]) * 512, number * 512)
                seen.append(image)

        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(use, number)
        assert len(seen) == 50
        assert len(set(map(id, seen))) == 1
        async with connections.open_image("rbd", name, read_only=True) as other:
            assert other is not seen[0]
            assert other.read_only
        async with connections.connect() as cluster, connections.open_ioctx("rbd") as ioctx:
            assert name in await ioctx.list_images()
            assert not cluster.closed
        assert made == [1]
        assert len(await watchers(witness, name)) == 1
    assert seen[0].closed
    assert cluster.closed
    assert await watchers(witness, name) == []


async def test_what_is_idle_is_closed(connects, make_image, witness):
    """The image first, and when nobody has used what it was opened from either, all of it."""
    connect, made = connects
    name = await make_image()
    async with aiorbd.ConnectionPool(connect, idle_timeout=0.2) as connections:
        async with connections.open_image("rbd", name) as image:
            await anyio.sleep(0.5)
            assert not image.closed  # in use
        async with connections.open_image("rbd", name) as again:
            assert again is image
        with anyio.fail_after(10):
            while not image.closed:
                await anyio.sleep(0.02)
            while await watchers(witness, name):
                await anyio.sleep(0.02)
        with anyio.fail_after(10):
            while connections._shared:
                await anyio.sleep(0.02)
        async with connections.open_image("rbd", name) as another:
            assert another is not image
        assert made == [1, 1]


async def test_nothing_is_kept(connects, make_image):
    connect, made = connects
    async with aiorbd.ConnectionPool(connect, idle_timeout=0) as connections:
        async with connections.open_image("rbd", await make_image()) as image:
            pass
        assert image.closed
        assert not connections._shared
    assert made == [1]


async def test_an_open_that_fails_or_is_given_up_is_tried_again(connects, ioctx, make_image, name):
    connect, _ = connects
    async with aiorbd.ConnectionPool(connect) as connections:
        for _ in range(2):
            with pytest.raises(aiorbd.ImageNotFound):
                async with connections.open_image("rbd", name):
                    pass
        await ioctx.create_image(name, 1 << 20)
        done = []

        async def use():
            async with connections.open_image("rbd", name) as image:
                done.append(await image.size())

        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                tasks.start_soon(use)
                tasks.start_soon(use)
                scope.cancel()
                async with connections.open_image("rbd", name):
                    pass
        assert done == [1 << 20] * 2


async def test_one_that_was_cut_off_is_replaced(osd, name):
    async with aiorbd.ConnectionPool(lambda: aiorbd.connect(osd.conffile, timeout=30)) as connections:
        async with connections.open_ioctx("rbd") as ioctx:
            await ioctx.create_image(name, 1 << 20)
        with pytest.raises(aiorbd.ConnectionShutdown):  # its last write is not durable
            async with connections.open_image("rbd", name) as old:
                await old.write(b"x" * 512, 0)
                await old.flush()
                (watcher,) = [one async for one in old.watchers()]
                await old.write(b"y" * 512, 0)
                await osd.run("ceph", "osd", "blocklist", "add", watcher.address)
                with pytest.raises(aiorbd.ConnectionShutdown):
                    while True:
                        await old.flags()
                        async with connections.open_ioctx("rbd") as ioctx:
                            await ioctx.list_images()
                async with connections.open_image("rbd", name, read_only=True) as new:
                    assert await new.read(0, 1) in (b"x", b"y")
                assert not old.closed  # its task may still look at it
        assert old.closed
        assert not connections._outdated


async def test_use_of_a_pool_that_is_not_open(connects):
    connect, made = connects
    connections = aiorbd.ConnectionPool(connect)
    with pytest.raises(aiorbd.ClosedError, match="use it within"):
        async with connections.connect():
            pass
    async with connections:
        with pytest.raises(aiorbd.ClosedError, match="open already"):
            await connections.__aenter__()
    with pytest.raises(aiorbd.ClosedError):
        async with connections.open_ioctx("rbd"):
            pass
    assert not made
    with pytest.raises(ValueError, match="negative"):
        aiorbd.ConnectionPool(connect, idle_timeout=-1)
