"""Mirroring between two clusters with the daemon ``rbd-mirror``."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import pytest
from helpers import TWO_LOOPS, new_name
from inside import refused_call

import aiorbd
from aiorbd import (
    MirrorImageMode,
    MirrorImageState,
    MirrorMode,
    MirrorPeerDirection,
    MirrorSnapshotState,
    MirrorStatusState,
    SnapshotNamespaceType,
)
from aiorbd.testing import DevCluster, MirrorPair

pytestmark = pytest.mark.anyio

MIB = 1 << 20


@dataclass
class Sites:
    """Both clusters, and the pool ``rbd`` of each."""

    pair: MirrorPair
    a: aiorbd.IoCtx
    b: aiorbd.IoCtx


@pytest.fixture
async def sites(aiorbd_mirror_pair: MirrorPair) -> AsyncIterator[Sites]:
    """Connect to both clusters."""
    pair = aiorbd_mirror_pair
    async with aiorbd.connect(pair.a.conffile) as here, aiorbd.connect(pair.b.conffile) as there:
        async with here.open_ioctx("rbd") as a, there.open_ioctx("rbd") as b:
            yield Sites(pair, a, b)


async def until(condition: Callable[[], Any], seconds: float = 120) -> None:
    """Wait until an async condition is true."""
    with anyio.fail_after(seconds):
        while not await condition():
            await anyio.sleep(0.2)


async def info_at(ioctx: aiorbd.IoCtx, name: str) -> aiorbd.MirrorImageInfo | None:
    """Return the mirroring of an image at a site; None without the image."""
    try:
        async with ioctx.open_image(name, read_only=True) as image:
            return await image.mirror.info()
    except (aiorbd.ImageNotFound, aiorbd.ObjectNotFound):
        return None


async def change(sites: Sites, site: aiorbd.IoCtx, name: str, mode: MirrorImageMode, data: bytes) -> None:
    """Write to an image at the primary site, and wait until the other site has the data."""
    async with site.open_image(name) as image:
        await image.write(data, MIB)
        await image.flush()
        if mode is MirrorImageMode.SNAPSHOT:
            await image.mirror.create_snapshot()
    await sites.pair.wait_until_equal(name, seconds=180)  # a busy daemon looks for promotions now and then


async def read_at(ioctx: aiorbd.IoCtx, name: str, length: int) -> bytes:
    async with ioctx.open_image(name, read_only=True) as image:
        return await image.read(MIB, length)


@pytest.mark.slow
@TWO_LOOPS
@pytest.mark.parametrize("mode", MirrorImageMode, ids=lambda mode: mode.name)
async def test_failover_and_failback(sites: Sites, name: str, mode: MirrorImageMode) -> None:
    await sites.a.create_image(name, 8 * MIB)
    async with sites.a.open_image(name) as image:
        assert await image.mirror.mode() is None
        assert (await image.mirror.info()).state is MirrorImageState.DISABLED
        await image.write(os.urandom(4 * MIB), 0)
        await image.mirror.enable(mode)
        assert await image.mirror.mode() is mode
        info = await image.mirror.info()
        assert (info.state, info.primary) == (MirrorImageState.ENABLED, True)
        assert info.global_id
    await sites.pair.wait_until_equal(name)
    there = await info_at(sites.b, name)
    assert there is not None
    assert (there.global_id, there.primary) == (info.global_id, False)
    with pytest.raises(aiorbd.LockBusy, match="not primary"):  # the copy refuses writes
        async with sites.b.open_image(name) as image:
            await image.write(b"x", 0)
    await change(sites, sites.a, name, mode, b"first" * 100)
    for old, new, data in ((sites.a, sites.b, b"over"), (sites.b, sites.a, b"back")):
        async with old.open_image(name) as image:
            await image.mirror.demote()
            assert not (await image.mirror.info()).primary
        await until(partial(promoted, new, name))
        await change(sites, new, name, mode, data)
        assert await read_at(old, name, len(data)) == data
    async with sites.a.open_image(name) as image:
        await image.mirror.disable()
    await until(lambda: is_gone(sites.b, name))


async def promoted(ioctx: aiorbd.IoCtx, name: str) -> bool:
    """Promote an image, as soon as the site knows that the other site has demoted it."""
    async with ioctx.open_image(name) as image:
        try:
            await image.mirror.promote()
        except aiorbd.RbdError:
            return False
        return bool((await image.mirror.info()).primary)


async def is_gone(ioctx: aiorbd.IoCtx, name: str) -> bool:
    return await info_at(ioctx, name) is None


@pytest.mark.slow
@TWO_LOOPS
@pytest.mark.parametrize("mode", MirrorImageMode, ids=lambda mode: mode.name)
async def test_split_brain_and_resync(sites: Sites, name: str, mode: MirrorImageMode) -> None:
    await sites.a.create_image(name, 8 * MIB)
    async with sites.a.open_image(name) as image:
        await image.mirror.enable(mode)
    await sites.pair.wait_until_equal(name)
    await change(sites, sites.a, name, mode, b"both")
    async with sites.b.open_image(name) as image:  # as if site a were lost
        await until(lambda: forced(image))
    async with sites.b.open_image(name) as image:
        await image.write(b"there", MIB)
    async with sites.a.open_image(name) as image:
        await image.write(b"here", MIB)
        await image.mirror.demote()
    await until(lambda: reports_split_brain(sites.a, name))
    async with sites.a.open_image(name) as image:
        await image.mirror.resync()

    async def equal() -> bool:
        async with sites.b.open_image(name) as image:
            if mode is MirrorImageMode.SNAPSHOT:
                await image.mirror.create_snapshot()
        try:
            return await read_at(sites.a, name, 5) == b"there"
        except aiorbd.ImageNotFound:
            return False

    await until(equal, 120)
    await sites.pair.wait_until_equal(name)


async def forced(image: aiorbd.Image) -> bool:
    try:
        await image.mirror.promote(force=True)
    except aiorbd.ImageBusy:  # the daemon still works on the image
        return False
    return True


async def reports_split_brain(ioctx: aiorbd.IoCtx, name: str) -> bool:
    async with ioctx.open_image(name, read_only=True) as image:
        local = (await image.mirror.status()).local
    return local is not None and local.state is MirrorStatusState.ERROR and "split-brain" in local.description


@pytest.mark.slow
@TWO_LOOPS
async def test_status_of_all_images(sites: Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiorbd._pool.mirror.PAGE", 2)
    names = {new_name() for _ in range(5)}
    for name in names:
        await sites.a.create_image(name, MIB)
        async with sites.a.open_image(name) as image:
            await image.mirror.enable()

    async def replaying() -> bool:
        found = [one for one in await sites.b.mirror.image_statuses() if one.name in names]
        return len(found) == 5 and all(
            one.local is not None and one.local.up and one.local.state is MirrorStatusState.REPLAYING for one in found
        )

    await until(replaying)
    statuses = {status.name: status async for status in sites.a.mirror.image_statuses()}
    assert names <= set(statuses)
    assert all(statuses[name].info.primary is None for name in names)
    images = {image.id: image async for image in sites.a.mirror.images(MirrorImageMode.SNAPSHOT)}
    assert {statuses[name].id for name in names} <= set(images)
    assert all(images[statuses[name].id].info.primary for name in names)
    journals = {image.id async for image in sites.a.mirror.images(MirrorImageMode.JOURNAL)}
    assert not journals & {statuses[name].id for name in names}

    async def summed_up() -> bool:
        return (await sites.b.mirror.status_summary()).get(MirrorStatusState.REPLAYING, 0) >= 5

    await until(summed_up)  # each image is asked anew, and one may be between two states
    instances = dict(await sites.b.mirror.instance_ids())
    async with sites.b.open_image(min(names), read_only=True) as image:
        assert (await image.mirror.status()).info.primary is False
        assert await image.mirror.instance_id() == instances[image.id]
    for name in names:
        async with sites.a.open_image(name) as image:
            await image.mirror.disable()


async def test_mirror_snapshots(sites: Sites, name: str) -> None:
    await sites.a.create_image(name, MIB)
    async with sites.a.open_image(name) as image:
        await image.mirror.enable(MirrorImageMode.SNAPSHOT)
        snapshot_id = await image.mirror.create_snapshot()
        snapshot = await image.get_snapshot(snapshot_id=snapshot_id)
        assert snapshot.namespace_type is SnapshotNamespaceType.MIRROR
        role = await snapshot.mirror_namespace()
        assert (role.state, role.complete) == (MirrorSnapshotState.PRIMARY, True)
        assert len(role.peer_uuids) <= 1
        with pytest.raises(aiorbd.InvalidArgument):
            await snapshot.group_namespace()
        await image.mirror.disable()


async def test_site_names_peers_and_modes(sites: Sites) -> None:
    for here, there in ((sites.a, "site-b"), (sites.b, "site-a")):
        assert await here.mirror.mode() is MirrorMode.IMAGE
        (peer,) = await here.mirror.peers.sites()
        assert (peer.site_name, peer.direction) == (there, MirrorPeerDirection.RX_TX)
        attributes = await here.mirror.peers.attributes(peer.uuid)
        assert set(attributes) == {"key", "mon_host"}
        with pytest.raises(aiorbd.ObjectBusy):
            await here.mirror.set_mode(MirrorMode.DISABLED)  # it has a peer
    assert await sites.a.mirror.site_name() == "site-a"
    assert await sites.a.mirror.uuid() != await sites.b.mirror.uuid()


async def test_empty_site_name_resets_it_to_the_id_of_the_cluster(
    cluster: aiorbd.Cluster, ioctx: aiorbd.IoCtx, aiorbd_cluster: DevCluster
) -> None:
    pool = new_name("pool")
    await cluster.create_pool(pool)
    async with cluster.open_ioctx(pool) as own:
        await own.init_pool()
        await own.mirror.set_mode(MirrorMode.IMAGE)
        assert await ioctx.mirror.site_name() == cluster.fsid
        await ioctx.mirror.set_site_name("here")
        assert b"Site Name: here" in await aiorbd_cluster.run("rbd", "mirror", "pool", "info", pool)
        await ioctx.mirror.set_site_name("")
        assert await ioctx.mirror.site_name() == cluster.fsid
    await cluster.delete_pool(pool)


async def test_mirroring_of_a_pool_without_peers(cluster: aiorbd.Cluster, aiorbd_mirror_pair: MirrorPair) -> None:
    pool = new_name("pool")
    await cluster.create_pool(pool)
    async with cluster.open_ioctx(pool) as ioctx:
        await ioctx.init_pool()
        mirror = ioctx.mirror
        assert (await mirror.mode(), await mirror.uuid()) == (MirrorMode.DISABLED, "")
        await ioctx.create_image("image", MIB)
        async with ioctx.open_image("image") as image:
            calls: list[Callable[[], Awaitable[object]]]
            calls = [image.mirror.enable, image.mirror.status, image.mirror.create_snapshot]
            for call in calls:
                with pytest.raises(aiorbd.InvalidArgument):
                    await call()
            await mirror.set_mode(MirrorMode.IMAGE)
            assert await mirror.uuid()
            await image.mirror.enable()
            with pytest.raises(aiorbd.InvalidArgument):
                await image.mirror.enable(MirrorImageMode.JOURNAL)
            for change_it in (image.mirror.promote, image.mirror.resync):  # it is primary
                with pytest.raises(aiorbd.InvalidArgument):
                    await change_it()
            with pytest.raises(aiorbd.InvalidArgument):
                await mirror.set_mode(MirrorMode.DISABLED)  # it has a mirrored image
            with anyio.move_on_after(0.0001):
                await image.mirror.demote()
            await image.drain()
            await image.mirror.disable(force=True)
        async with ioctx.open_image("image", read_only=True) as image:
            with pytest.raises(aiorbd.ReadOnlyImage):
                await image.mirror.enable()
        with pytest.raises(aiorbd.InvalidArgument):
            await mirror.set_mode(9)
        peers = mirror.peers
        uuid = await peers.add("elsewhere", "client.none", MirrorPeerDirection.RX_TX)
        with pytest.raises(aiorbd.ObjectExists):
            await peers.add("elsewhere", "client.none")
        await peers.set_site_name(uuid, "faraway")
        await peers.set_client_name(uuid, "client.other")
        await peers.set_direction(uuid, MirrorPeerDirection.RX)
        await peers.set_attributes(uuid, {"mon_host": "127.0.0.1", "key": "a key"})
        assert await peers.attributes(uuid) == {"mon_host": "127.0.0.1", "key": "a key"}
        (peer,) = await peers.sites()
        assert (peer.uuid, peer.site_name, peer.client_name) == (uuid, "faraway", "client.other")
        assert (peer.direction, peer.last_seen) == (MirrorPeerDirection.RX, None)
        calls = [
            lambda: peers.remove("none"),
            lambda: peers.set_site_name("none", "x"),
            lambda: peers.set_client_name("none", "x"),
            lambda: peers.set_direction("none", 0),
            lambda: peers.attributes("none"),
            lambda: peers.set_attributes("none", {"key": "x"}),
        ]
        for call in calls:
            with pytest.raises(aiorbd.ObjectNotFound, match="mirror peer 'none'"):
                await call()
        with pytest.raises(aiorbd.InvalidArgument, match="no such direction"):
            await peers.set_direction(uuid, 7)
        await peers.remove(uuid)
        await mirror.set_mode(MirrorMode.DISABLED)
    await cluster.delete_pool(pool)


async def test_remote_namespace_needs_a_new_release(sites: Sites) -> None:
    if "rbd_mirror_remote_namespace_get" in aiorbd.capabilities():
        assert await sites.a.mirror.remote_namespace() == ""
    else:
        with pytest.raises(aiorbd.LibraryTooOldError, match=r"needs Ceph 20\.2"):
            await sites.a.mirror.remote_namespace()
        with pytest.raises(aiorbd.LibraryTooOldError, match=r"needs Ceph 20\.2"):
            await sites.a.mirror.set_remote_namespace("there")


async def test_tokens_show_up_nowhere(sites: Sites, caplog: pytest.LogCaptureFixture) -> None:
    """No log, error, repr or event for observers shows a bootstrap token or a key of a peer."""
    caplog.set_level("DEBUG")
    pool = new_name("pool")
    seen: list[str] = []
    async with aiorbd.connect(sites.pair.a.conffile) as cluster:
        await cluster.create_pool(pool)
        cluster.add_observer(lambda operation: seen.append(repr(operation)))
        async with cluster.open_ioctx(pool) as ioctx:
            await ioctx.init_pool()
            await ioctx.mirror.set_mode(MirrorMode.IMAGE)
            peers = ioctx.mirror.peers
            token = await peers.create_token()
            seen += [repr(token), str(token), repr(peers)]
            uuid = await peers.add("elsewhere", "client.none")
            secret = "the secret key"
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: peers.import_token(token),  # from the same cluster
                lambda: peers.import_token(token.text[:-8]),
                lambda: peers.import_token(token.text + "\0"),
                lambda: peers.import_token(token, 99),
                lambda: peers.set_attributes("none", {"key": secret}),
                lambda: peers.set_attributes(uuid, {"key": secret + "\0"}),
            ]
            for call in calls:
                with pytest.raises(aiorbd.RbdError) as caught:
                    await call()
                seen += [repr(caught.value), str(caught.value)]
            await peers.set_attributes(uuid, {"key": secret})
            await peers.remove(uuid)
            await ioctx.mirror.set_mode(MirrorMode.DISABLED)
        await cluster.delete_pool(pool)
    assert any("rbd_mirror_peer_bootstrap_import" in one for one in seen)
    everything = "\n".join([*seen, caplog.text])
    assert token.text[:40] not in everything
    assert secret not in everything


async def test_refused_submit_raises_and_leaves_nothing(ioctx: aiorbd.IoCtx, make_image: Any) -> None:
    async with ioctx.open_image(await make_image()) as image:
        for _ in range(20):
            with pytest.raises(aiorbd.ArgumentOutOfRange):
                await refused_call(image)
        assert image.in_flight == 0
        assert (await image.mirror.info()).state is MirrorImageState.DISABLED


async def test_cancelled_questions_leave_the_image_usable(ioctx: aiorbd.IoCtx, make_image: Any) -> None:
    async with ioctx.open_image(await make_image()) as image:
        for number in range(50):
            with anyio.move_on_after(number / 20_000):
                await image.mirror.info()
        await image.drain(20)
        assert await image.mirror.mode() is None


async def test_advisory_lock_can_be_released_beside_a_demotion(cluster: aiorbd.Cluster) -> None:
    """librbd takes the exclusive lock, for which it waits while an advisory lock is held."""
    pool = new_name("pool")
    await cluster.create_pool(pool)
    async with cluster.open_ioctx(pool) as ioctx:
        await ioctx.init_pool()
        await ioctx.mirror.set_mode(MirrorMode.IMAGE)
        await ioctx.create_image("image", MIB)
        async with ioctx.open_image("image") as image:
            await image.mirror.enable()
        async with ioctx.open_image("image") as image:
            await image.advisory_locks.lock_exclusive("cookie")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(image.mirror.demote)
                await anyio.sleep(0.5)
                with anyio.fail_after(20):
                    await image.advisory_locks.unlock("cookie")
            assert not (await image.mirror.info()).primary
            await image.mirror.disable(force=True)
    await cluster.delete_pool(pool)


async def test_second_import_of_a_token_changes_nothing(sites: Sites) -> None:
    before = await sites.b.mirror.peers.sites()
    await sites.b.mirror.peers.import_token(await sites.a.mirror.peers.create_token())
    assert await sites.b.mirror.peers.sites() == before
