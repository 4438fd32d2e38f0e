"""Locks between two clients: advisory locks, and the exclusive lock that librbd manages."""

import json

import anyio
import pytest
from helpers import new_name

import aiorbd
from aiorbd import Feature, Locker, Lockers, LockMode

pytestmark = pytest.mark.anyio


@pytest.fixture
async def other(aiorbd_cluster, image):
    """Yield the same image, opened by another client."""
    async with aiorbd.connect(aiorbd_cluster.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        async with ioctx.open_image(image.name) as other:
            other.client = f"client.{cluster.get_instance_id()}"
            yield other


async def shown(witness, name):
    return json.loads(await witness.rbd("lock", "ls", name, "--format", "json"))


async def test_exclusive(cluster, image, other, witness):
    assert await image.locks.list_lockers() == Lockers(False, "", ())
    await image.locks.lock_exclusive("mine")
    (seen,) = await shown(witness, image.name)
    me = f"client.{cluster.get_instance_id()}"
    assert await other.locks.list_lockers() == Lockers(True, "", (Locker(me, "mine", seen["address"]),))
    assert (seen["id"], seen["locker"]) == ("mine", me)
    with pytest.raises(aiorbd.LockBusy, match="lock 'theirs' of image 'rbd/"):
        await other.locks.lock_exclusive("theirs")
    with pytest.raises(aiorbd.LockBusy, match=f"held exclusively by {me} as 'mine'"):
        await other.locks.lock_shared("theirs", "tag")
    with pytest.raises(aiorbd.LockExists, match="holds that lock already"):
        await image.locks.lock_exclusive("mine")
    await image.locks.unlock("mine")
    assert await shown(witness, image.name) == []
    await other.locks.lock_exclusive("theirs")


async def test_shared(image, other, witness):
    await image.locks.lock_shared("mine", "tag")
    await other.locks.lock_shared("theirs", "tag")
    lockers = await image.locks.list_lockers()
    assert (lockers.exclusive, lockers.tag) == (False, "tag")
    assert {locker.cookie for locker in lockers.lockers} == {"mine", "theirs"}
    assert len(await shown(witness, image.name)) == 2
    with pytest.raises(aiorbd.LockBusy):
        await other.locks.lock_shared("more", "another tag")
    with pytest.raises(aiorbd.LockExists):
        await image.locks.lock_shared("mine", "tag")


async def test_write_waits_until_an_advisory_lock_is_released(image, witness):
    """In the cluster, the advisory lock and librbd's exclusive lock are the same lock."""
    await image.locks.lock_exclusive("mine")
    with anyio.move_on_after(0.5) as scope:
        await image.write(b"late", 0)
    assert scope.cancelled_caught
    await image.locks.unlock("mine")
    await image.drain(timeout=30)
    await image.flush()
    assert (await witness.export(image.name))[:4] == b"late"


async def test_missing_locks_and_invalid_names_are_refused(image):
    with pytest.raises(aiorbd.LockNotFound, match="lock 'none' of image") as caught:
        await image.locks.unlock("none")
    assert isinstance(caught.value, FileNotFoundError)
    with pytest.raises(aiorbd.LockNotFound, match=r"lock 'none' held by client\.1 of image"):
        await image.locks.break_lock("client.1", "none")
    for client in ("", "nobody", "a\0b"):
        with pytest.raises(aiorbd.InvalidArgument):
            await image.locks.break_lock(client, "none")
    for cookie in ("a\0b",):
        for call in (
            image.locks.lock_exclusive,
            image.locks.unlock,
            lambda cookie: image.locks.lock_shared(cookie, "tag"),
            lambda cookie: image.locks.lock_shared("cookie", cookie),
        ):
            with pytest.raises(aiorbd.InvalidArgument, match="must not"):
                await call(cookie)


async def test_break(aiorbd_cluster, ioctx, make_image, witness):
    """The former holder is blocklisted, and its calls report this."""
    name = await make_image(features=Feature.LAYERING)
    async with aiorbd.connect(aiorbd_cluster.conffile) as cluster, cluster.open_ioctx("rbd") as theirs:
        victim = await theirs.open_image(name)
        await victim.locks.lock_exclusive("theirs")
        async with ioctx.open_image(name) as image:
            (locker,) = (await image.locks.list_lockers()).lockers
            await image.locks.break_lock(locker.client, locker.cookie)
            assert await shown(witness, name) == []
            await image.locks.lock_exclusive("mine")
        with pytest.raises(aiorbd.ConnectionShutdown):
            await victim.write(b"x", 0)
            await victim.flush()
        await victim.close()


async def test_list_lockers_returns_forty_lockers(image, witness):
    for number in range(40):
        await image.locks.lock_shared(f"{number:03}" + "x" * 60, "tag")
    lockers = (await image.locks.list_lockers()).lockers
    assert {locker.cookie[:3] for locker in lockers} == {f"{number:03}" for number in range(40)}
    assert len(await shown(witness, image.name)) == 40


async def test_managed_lock_has_one_owner_at_a_time(image, other):
    assert not await image.locks.is_exclusive_lock_owner()
    with pytest.raises(aiorbd.LockNotFound, match="managed lock of image"):
        await image.locks.lock_get_owners()
    await image.locks.lock_acquire()
    assert await image.locks.is_exclusive_lock_owner()
    mode, (owner,) = await other.locks.lock_get_owners()
    assert mode is LockMode.EXCLUSIVE
    (watcher,) = [w async for w in image.watchers() if f"client.{w.id}" != other.client]
    assert owner == watcher.address
    with pytest.raises(aiorbd.LockBusy, match="another client keeps the lock"):
        await other.locks.lock_acquire()
    await image.locks.lock_release()
    assert not await image.locks.is_exclusive_lock_owner()
    await other.locks.lock_acquire(LockMode.EXCLUSIVE)
    assert await other.locks.is_exclusive_lock_owner()
    await other.locks.lock_release()
    with pytest.raises(aiorbd.OperationNotSupported):
        await image.locks.lock_acquire(LockMode.SHARED)


async def test_exclusive_transient_mode_needs_a_newer_librbd(image):
    """librbd 16.2.15 and 18.2.7 do not know this mode. librbd 20.2.4 does."""
    if aiorbd.version().minor >= 20:
        await image.locks.lock_acquire(LockMode.EXCLUSIVE_TRANSIENT)
        assert await image.locks.is_exclusive_lock_owner()
        await image.locks.lock_release()
    else:
        with pytest.raises(aiorbd.OperationNotSupported):
            await image.locks.lock_acquire(LockMode.EXCLUSIVE_TRANSIENT)
        assert not await image.locks.is_exclusive_lock_owner()


async def test_write_takes_the_managed_lock_from_another_client(image, other):
    await image.write(b"mine", 0)
    assert await image.locks.is_exclusive_lock_owner()
    await other.write(b"theirs", 0)
    assert await other.locks.is_exclusive_lock_owner()
    assert not await image.locks.is_exclusive_lock_owner()


async def test_breaking_the_managed_lock_shuts_down_the_connection_of_its_owner(aiorbd_cluster, ioctx, make_image):
    name = await make_image()
    async with aiorbd.connect(aiorbd_cluster.conffile) as cluster, cluster.open_ioctx("rbd") as theirs:
        victim = await theirs.open_image(name)
        await victim.locks.lock_acquire()
        async with ioctx.open_image(name) as image:
            _, (owner,) = await image.locks.lock_get_owners()
            await image.locks.lock_break(LockMode.EXCLUSIVE, owner)
            await image.locks.lock_acquire()
            with pytest.raises(aiorbd.LockBusy, match=r"held by 1\.2\.3\.4"):
                await image.locks.lock_break(LockMode.EXCLUSIVE, "1.2.3.4:0/1")
        with pytest.raises(aiorbd.ConnectionShutdown):
            await victim.write(b"x", 0)
            await victim.flush()
        await victim.close()


async def test_images_without_the_exclusive_lock_feature_refuse_the_managed_lock(ioctx, make_image):
    async with ioctx.open_image(await make_image(features=Feature.LAYERING)) as image:
        for call in (image.locks.lock_acquire, image.locks.lock_release):
            with pytest.raises(aiorbd.InvalidArgument):
                await call()
        assert not await image.locks.is_exclusive_lock_owner()
        assert "Locks of image" in repr(image.locks)


async def test_read_only_images(ioctx, image):
    """Advisory locks show the users of an image, and readers may take them. The exclusive lock is for writers."""
    async with ioctx.open_image(image.name, read_only=True) as other:
        await other.locks.lock_shared(new_name(), "readers")
        with pytest.raises(aiorbd.InvalidArgument, match="managed lock of image"):
            await other.locks.lock_acquire()
