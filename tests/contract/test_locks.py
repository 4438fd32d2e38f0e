"""Locks between two clients: advisory locks, and the exclusive lock that librbd manages."""

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from fix_witness import Witness
from helpers import MakeImage, new_name

import aiorbd
from aiorbd import Feature, Locker, LockMode, LockOwner
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio


@pytest.fixture
async def other(aiorbd_cluster: DevCluster, image: aiorbd.Image) -> AsyncIterator[Any]:
    """Yield the same image, opened by another client."""
    async with aiorbd.connect(aiorbd_cluster.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        async with ioctx.open_image(image.name) as other:
            vars(other)["client"] = f"client.{cluster.instance_id}"
            yield other


async def shown(witness: Witness, name: str) -> Any:
    return json.loads(await witness.rbd("lock", "ls", name, "--format", "json"))


async def test_exclusive(cluster: aiorbd.Cluster, image: aiorbd.Image, other: Any, witness: Witness) -> None:
    assert await image.advisory_locks.lockers() == []
    await image.advisory_locks.lock_exclusive("mine")
    (seen,) = await shown(witness, image.name)
    me = f"client.{cluster.instance_id}"
    assert await other.advisory_locks.lockers() == [Locker(me, "mine", seen["address"], True, "")]
    assert (seen["id"], seen["locker"]) == ("mine", me)
    with pytest.raises(aiorbd.LockBusy, match="lock 'theirs' of image 'rbd/"):
        await other.advisory_locks.lock_exclusive("theirs")
    with pytest.raises(aiorbd.LockBusy, match=f"held exclusively by {me} as 'mine'"):
        await other.advisory_locks.lock_shared("theirs", "tag")
    with pytest.raises(aiorbd.LockExists, match="holds that lock already"):
        await image.advisory_locks.lock_exclusive("mine")
    await image.advisory_locks.unlock("mine")
    assert await shown(witness, image.name) == []
    await other.advisory_locks.lock_exclusive("theirs")


async def test_shared(image: aiorbd.Image, other: Any, witness: Witness) -> None:
    await image.advisory_locks.lock_shared("mine", "tag")
    await other.advisory_locks.lock_shared("theirs", "tag")
    lockers = await image.advisory_locks.lockers()
    assert {(locker.cookie, locker.exclusive, locker.tag) for locker in lockers} == {
        ("mine", False, "tag"),
        ("theirs", False, "tag"),
    }
    assert len(await shown(witness, image.name)) == 2
    with pytest.raises(aiorbd.LockBusy):
        await other.advisory_locks.lock_shared("more", "another tag")
    with pytest.raises(aiorbd.LockExists):
        await image.advisory_locks.lock_shared("mine", "tag")


async def test_write_waits_until_an_advisory_lock_is_released(image: aiorbd.Image, witness: Witness) -> None:
    """In the cluster, the advisory lock and librbd's exclusive lock are the same lock."""
    await image.advisory_locks.lock_exclusive("mine")
    with anyio.move_on_after(0.5) as scope:
        await image.write(b"late", 0)
    assert scope.cancelled_caught
    await image.advisory_locks.unlock("mine")
    await image.drain(timeout=30)
    await image.flush()
    assert (await witness.export(image.name))[:4] == b"late"


async def test_missing_locks_and_invalid_names_are_refused(image: aiorbd.Image) -> None:
    with pytest.raises(aiorbd.LockNotFound, match="lock 'none' of image") as caught:
        await image.advisory_locks.unlock("none")
    assert isinstance(caught.value, FileNotFoundError)
    with pytest.raises(aiorbd.LockNotFound, match=r"lock 'none' held by client\.1 of image"):
        await image.advisory_locks.break_lock("client.1", "none")
    for client in ("", "nobody", "a\0b"):
        with pytest.raises(aiorbd.InvalidArgument):
            await image.advisory_locks.break_lock(client, "none")
    for cookie in ("a\0b",):
        for call in (
            image.advisory_locks.lock_exclusive,
            image.advisory_locks.unlock,
            lambda cookie: image.advisory_locks.lock_shared(cookie, "tag"),
            lambda cookie: image.advisory_locks.lock_shared("cookie", cookie),
        ):
            with pytest.raises(aiorbd.InvalidArgument, match="must not"):
                await call(cookie)


async def test_break(aiorbd_cluster: DevCluster, ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness) -> None:
    """The former holder is blocklisted, and its calls report this."""
    name = await make_image(features=Feature.LAYERING)
    async with aiorbd.connect(aiorbd_cluster.conffile) as cluster, cluster.open_ioctx("rbd") as theirs:
        victim = await theirs.open_image(name)
        await victim.advisory_locks.lock_exclusive("theirs")
        async with ioctx.open_image(name) as image:
            (locker,) = await image.advisory_locks.lockers()
            await image.advisory_locks.break_lock(locker.client, locker.cookie)
            assert await shown(witness, name) == []
            await image.advisory_locks.lock_exclusive("mine")
        with pytest.raises(aiorbd.ConnectionShutdown):
            await victim.write(b"x", 0)
            await victim.flush()
        await victim.close()


async def test_list_lockers_returns_forty_lockers(image: aiorbd.Image, witness: Witness) -> None:
    for number in range(40):
        await image.advisory_locks.lock_shared(f"{number:03}" + "x" * 60, "tag")
    lockers = await image.advisory_locks.lockers()
    assert {locker.cookie[:3] for locker in lockers} == {f"{number:03}" for number in range(40)}
    assert len(await shown(witness, image.name)) == 40


async def test_exclusive_lock_has_one_owner_at_a_time(image: aiorbd.Image, other: Any) -> None:
    assert not await image.exclusive_lock.is_owner()
    assert await image.exclusive_lock.owners() == []
    await image.exclusive_lock.acquire()
    assert await image.exclusive_lock.is_owner()
    (watcher,) = [w async for w in image.watchers() if f"client.{w.id}" != other.client]
    assert await other.exclusive_lock.owners() == [LockOwner(watcher.address, LockMode.EXCLUSIVE)]
    with pytest.raises(aiorbd.LockBusy, match="another client keeps the lock"):
        await other.exclusive_lock.acquire()
    await image.exclusive_lock.release()
    assert not await image.exclusive_lock.is_owner()
    await other.exclusive_lock.acquire(LockMode.EXCLUSIVE)
    assert await other.exclusive_lock.is_owner()
    await other.exclusive_lock.release()
    with pytest.raises(aiorbd.OperationNotSupported):
        await image.exclusive_lock.acquire(LockMode.SHARED)


async def test_exclusive_transient_mode_needs_a_newer_librbd(image: aiorbd.Image) -> None:
    """librbd 16.2.15 and 18.2.7 do not know this mode. librbd 20.2.4 does."""
    if aiorbd.version().minor >= 20:
        await image.exclusive_lock.acquire(LockMode.EXCLUSIVE_TRANSIENT)
        assert await image.exclusive_lock.is_owner()
        await image.exclusive_lock.release()
    else:
        with pytest.raises(aiorbd.OperationNotSupported):
            await image.exclusive_lock.acquire(LockMode.EXCLUSIVE_TRANSIENT)
        assert not await image.exclusive_lock.is_owner()


async def test_write_takes_the_exclusive_lock_from_another_client(image: aiorbd.Image, other: Any) -> None:
    await image.write(b"mine", 0)
    assert await image.exclusive_lock.is_owner()
    await other.write(b"theirs", 0)
    assert await other.exclusive_lock.is_owner()
    assert not await image.exclusive_lock.is_owner()


async def test_breaking_the_exclusive_lock_shuts_down_the_connection_of_its_owner(
    aiorbd_cluster: DevCluster, ioctx: aiorbd.IoCtx, make_image: MakeImage
) -> None:
    name = await make_image()
    async with aiorbd.connect(aiorbd_cluster.conffile) as cluster, cluster.open_ioctx("rbd") as theirs:
        victim = await theirs.open_image(name)
        await victim.exclusive_lock.acquire()
        async with ioctx.open_image(name) as image:
            (owner,) = await image.exclusive_lock.owners()
            await image.exclusive_lock.break_lock(owner.address)
            await image.exclusive_lock.acquire()
            with pytest.raises(aiorbd.LockBusy, match=r"held by 1\.2\.3\.4"):
                await image.exclusive_lock.break_lock("1.2.3.4:0/1")
        with pytest.raises(aiorbd.ConnectionShutdown):
            await victim.write(b"x", 0)
            await victim.flush()
        await victim.close()


async def test_images_without_the_exclusive_lock_feature_refuse_the_exclusive_lock(
    ioctx: aiorbd.IoCtx, make_image: MakeImage
) -> None:
    async with ioctx.open_image(await make_image(features=Feature.LAYERING)) as image:
        for call in (image.exclusive_lock.acquire, image.exclusive_lock.release):
            with pytest.raises(aiorbd.InvalidArgument):
                await call()
        assert not await image.exclusive_lock.is_owner()
        assert "AdvisoryLocks of image" in repr(image.advisory_locks)
        assert "ExclusiveLock of image" in repr(image.exclusive_lock)


async def test_read_only_images(ioctx: aiorbd.IoCtx, image: aiorbd.Image) -> None:
    """Advisory locks show the users of an image, and readers may take them. The exclusive lock is for writers."""
    async with ioctx.open_image(image.name, read_only=True) as other:
        await other.advisory_locks.lock_shared(new_name(), "readers")
        with pytest.raises(aiorbd.InvalidArgument, match="exclusive lock of image"):
            await other.exclusive_lock.acquire()
