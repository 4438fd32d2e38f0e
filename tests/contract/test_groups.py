"""Consistency groups: their members and their snapshots."""

import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from fix_witness import Witness
from helpers import new_name

import aiorbd
from aiorbd import GroupImage, GroupImageState, GroupSnapshot, GroupSnapshotState, GroupSpec, SnapshotNamespaceType
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio

MIB = 1 << 20


@pytest.fixture
async def group(ioctx: aiorbd.IoCtx) -> AsyncIterator[aiorbd.Group]:
    """Yield a new group."""
    group = await ioctx.groups.create(new_name("group"))
    yield group
    if await ioctx.groups.exists(group.name):
        await ioctx.groups.remove(group.name)


async def test_create_rename_list_and_remove(ioctx: aiorbd.IoCtx, witness: Witness) -> None:
    one, two = new_name("group"), new_name("group")
    await ioctx.groups.create(one)
    with pytest.raises(aiorbd.GroupExists, match=f"group 'rbd/{one}'"):
        await ioctx.groups.create(one)
    assert one in await ioctx.groups.names()
    assert one in json.loads(await witness.rbd("group", "ls", "rbd", "--format", "json"))
    await ioctx.groups.rename(one, two)
    assert (await ioctx.groups.exists(one), await ioctx.groups.exists(two)) == (False, True)
    for call in (ioctx.groups.remove(one), ioctx.groups.rename(one, "other")):
        with pytest.raises(aiorbd.GroupNotFound, match=one):
            await call
    await ioctx.groups.remove(two)
    assert two not in json.loads(await witness.rbd("group", "ls", "rbd", "--format", "json"))
    for bad in ("", "a@b", "a/b", "a\0"):
        with pytest.raises(aiorbd.InvalidArgument, match="must not"):
            await ioctx.groups.create(bad)


async def test_advisory_lock_of_a_member_is_the_reason_for_an_error(
    ioctx: aiorbd.IoCtx, group: aiorbd.Group, image: aiorbd.Image
) -> None:
    """librbd cannot take the exclusive lock of the member then. Other calls on the group wait."""
    await group.add_image(image.name)
    await group.create_snapshot("before")
    await image.advisory_locks.lock_exclusive("cookie")
    with pytest.raises(aiorbd.LockBusy, match="a member has another lock"):
        await group.remove_snapshot("before")
    with pytest.raises(aiorbd.LockBusy, match="a member has another lock"):
        await ioctx.groups.remove(group.name)
    await image.advisory_locks.unlock("cookie")
    await ioctx.groups.remove(group.name)
    assert await image.snapshots(any_namespace=True) == []


async def test_missing_namespace_is_reported(cluster: aiorbd.Cluster) -> None:
    async with cluster.open_ioctx("rbd", "no-such-namespace") as ioctx:
        with pytest.raises(aiorbd.NamespaceNotFound):
            await ioctx.groups.create("group")
        with pytest.raises(aiorbd.NamespaceNotFound):
            await ioctx.groups.names()


async def test_id_of_a_group_needs_a_new_release(group: aiorbd.Group) -> None:
    if "rbd_group_get_id" in aiorbd.capabilities():
        assert await group.id()
    else:
        with pytest.raises(aiorbd.LibraryTooOldError, match=r"rbd_group_get_id needs Ceph 20\.2"):
            await group.id()


async def test_members(
    cluster: aiorbd.Cluster, ioctx: aiorbd.IoCtx, group: aiorbd.Group, witness: Witness, make_image: Any
) -> None:
    one, two = await make_image(), await make_image()
    pool_id = await cluster.pool_id("rbd")
    assert await group.images() == []
    await group.add_image(one)
    await group.add_image(two)
    await group.add_image(two)  # adding a member again changes nothing
    members = {image.name: image for image in await group.images()}
    assert members == {name: GroupImage(name, pool_id, GroupImageState.ATTACHED) for name in (one, two)}
    shown = json.loads(await witness.rbd("group", "image", "ls", group.name, "--format", "json"))
    assert {image["image"] for image in shown} == {one, two}
    async with ioctx.open_image(one) as image:
        assert await image.group() == GroupSpec(pool_id, group.name)
        one_id = image.id
    with pytest.raises(aiorbd.ImageMemberOfGroup):
        await ioctx.remove_image(one)
    await group.remove_image(image_id=one_id)
    await group.remove_image(two)
    assert await group.images() == []
    async with ioctx.open_image(one) as image:
        assert await image.group() is None
    with pytest.raises(TypeError, match="either a name or an image_id"):
        await group.remove_image()


async def test_member_of_another_pool(
    cluster: aiorbd.Cluster, ioctx: aiorbd.IoCtx, group: aiorbd.Group, witness: Witness
) -> None:
    pool = new_name("pool")
    await cluster.create_pool(pool)
    async with cluster.open_ioctx(pool) as other:
        await other.init_pool()
        await other.create_image("far", MIB)
        await group.add_image("far", other)
        (member,) = await group.images()
        assert (member.name, member.pool_id) == ("far", await cluster.pool_id(pool))
        assert pool.encode() in await witness.rbd("group", "image", "ls", group.name)
        await group.create_snapshot("one")
        async with other.open_image("far") as image:
            (snapshot,) = await image.snapshots(any_namespace=True)
            assert snapshot.namespace_type is SnapshotNamespaceType.GROUP
        await group.remove_snapshot("one")
        await group.remove_image("far", other)
        assert await group.images() == []
    await cluster.delete_pool(pool)


async def test_missing_images_and_groups(ioctx: aiorbd.IoCtx, group: aiorbd.Group, make_image: Any) -> None:
    name = await make_image()
    with pytest.raises(aiorbd.ImageNotFound, match="no-such-image"):
        await group.add_image("no-such-image")
    second = await ioctx.groups.create(new_name("group"))
    await second.add_image(name)
    with pytest.raises(aiorbd.ImageExists, match="member of another group"):
        await group.add_image(name)
    none = ioctx.groups.get("no-such-group")
    for call in (
        lambda: none.add_image(name),
        none.images,
        none.snapshots,
        lambda: none.create_snapshot("one"),
        lambda: none.remove_snapshot("one"),
        lambda: none.rename_snapshot("one", "two"),
        lambda: none.rollback("one"),
    ):
        with pytest.raises(aiorbd.GroupNotFound, match="no-such-group"):
            await call()
    await ioctx.groups.remove(second.name)


async def test_snapshots(
    cluster: aiorbd.Cluster, ioctx: aiorbd.IoCtx, group: aiorbd.Group, make_image: Any, witness: Witness
) -> None:
    names, pool_id = [await make_image(), await make_image()], await cluster.pool_id("rbd")
    for name in names:
        await group.add_image(name)
    assert await group.snapshots() == []
    assert await group.create_snapshot("one") == GroupSnapshot("one", GroupSnapshotState.COMPLETE)
    assert await group.snapshots() == [GroupSnapshot("one", GroupSnapshotState.COMPLETE)]
    with pytest.raises(aiorbd.SnapshotExists, match="snapshot 'one' of group"):
        await group.create_snapshot("one")
    await group.rename_snapshot("one", "two")
    shown = json.loads(await witness.rbd("group", "snap", "ls", group.name, "--format", "json"))
    assert [snapshot["snapshot"] for snapshot in shown] == ["two"]
    for name in names:
        async with ioctx.open_image(name) as image:
            assert await image.snapshots() == []
            (snapshot,) = await image.snapshots(any_namespace=True)
            assert await snapshot.group_namespace() == GroupSpec(pool_id, group.name, "two")
            with pytest.raises(aiorbd.InvalidArgument):
                await snapshot.mirror_namespace()
    if "rbd_group_snap_list2" in aiorbd.capabilities():
        info = await group.get_snapshot("two")
        assert [info] == await group.snapshot_infos()
        assert {member.image_name for member in info.members} == set(names)
        with pytest.raises(aiorbd.SnapshotNotFound):
            await group.get_snapshot("none")
    else:
        with pytest.raises(aiorbd.LibraryTooOldError, match=r"needs Ceph 20\.2"):
            await group.get_snapshot("two")
        with pytest.raises(aiorbd.LibraryTooOldError, match=r"needs Ceph 20\.2"):
            await group.snapshot_infos()
    for call in (group.rename_snapshot("none", "x"), group.remove_snapshot("none"), group.rollback("none")):
        with pytest.raises(aiorbd.SnapshotNotFound, match="snapshot 'none' of group"):
            await call
    await group.remove_snapshot("two")
    assert await group.snapshots() == []


async def test_snapshot_during_writes_is_crash_consistent(
    aiorbd_cluster: DevCluster, ioctx: aiorbd.IoCtx, group: aiorbd.Group, make_image: Any, witness: Witness
) -> None:
    """A writer numbers its writes, which go to three images in turn. Each write follows the flush of the one before.

    So in a consistent snapshot, a later number is there only together with all earlier numbers.
    """
    names = [await make_image(4 * MIB) for _ in range(3)]
    for name in names:
        await group.add_image(name)
    async with aiorbd.connect(aiorbd_cluster.conffile) as client, client.open_ioctx("rbd") as pool:
        images = [await pool.open_image(name) for name in names]

        async def write() -> None:
            number = 0
            while True:
                number += 1
                await images[number % 3].write(number.to_bytes(8, "little") * 512, 0)
                await images[number % 3].flush()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            await anyio.sleep(0.3)
            await group.create_snapshot("one")
            await anyio.sleep(0.2)
            tasks.cancel_scope.cancel()
        for image in images:
            await image.drain()
            await image.close()
    after = [await witness.export(name) for name in names]
    reports = []
    await group.rollback("one", progress=lambda done, total: reports.append((done, total)))
    before = [await witness.export(name) for name in names]
    assert all(0 <= done <= total for done, total in reports)
    assert [hashlib.sha256(data).digest() for data in before] != [hashlib.sha256(data).digest() for data in after]
    numbers = sorted(int.from_bytes(data[:8], "little") for data in before)
    assert all(data[:4096] == data[:8] * 512 for data in before)
    assert numbers[0] > 0
    assert numbers == list(range(numbers[0], numbers[0] + 3))


async def test_snapshot_and_rollback_with_members_that_this_connection_has_open(
    ioctx: aiorbd.IoCtx, group: aiorbd.Group, make_image: Any
) -> None:
    names = [await make_image(4 * MIB) for _ in range(3)]
    for name in names:
        await group.add_image(name)
    images = [await ioctx.open_image(name) for name in names]

    async def write() -> None:
        while True:
            for image in images:
                await image.write(b"later" * 100, MIB)

    for image in images:
        await image.write(b"first", 0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        with anyio.fail_after(60):
            for number in range(3):
                await anyio.sleep(0.05)
                await group.create_snapshot(f"s{number}")
            for image in images:
                await image.write(b"second", 0)
            await group.rollback("s1")
        tasks.cancel_scope.cancel()
    for image in images:
        assert await image.read(0, 6) == b"first\0"
        await image.close()


async def test_cancelled_snapshot_call_leaves_the_group_usable(
    ioctx: aiorbd.IoCtx, group: aiorbd.Group, make_image: Any
) -> None:
    name = await make_image()
    await group.add_image(name)
    async with ioctx.open_image(name) as image:
        await image.write(b"x", 0)
        with anyio.move_on_after(0.001):
            await group.create_snapshot("one")
        await ioctx.drain()
        assert len(await group.snapshots()) <= 1
        await image.write(b"y", 0)
        assert await image.read(0, 1) == b"y"
        await group.create_snapshot("two")
    assert "two" in [snapshot.name for snapshot in await group.snapshots()]


async def test_snapshot_beside_a_copy_between_two_members_ends(
    ioctx: aiorbd.IoCtx, group: aiorbd.Group, make_image: Any
) -> None:
    """A copy enters the gates of its target and of its source, and the group the gates of both."""
    names = sorted([await make_image(4 * MIB) for _ in range(2)])
    for name in names:
        await group.add_image(name)
    one, two = [await ioctx.open_image(name) for name in names]

    async def copy(source: aiorbd.Image, target: aiorbd.Image) -> None:
        for _ in range(10):
            await source.copy_to(target)

    async def write(image: aiorbd.Image) -> None:
        while True:
            await image.write(b"later" * 1000, MIB)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as writers:  # the group waits for writes in flight at each gate
            for image in (one, two):
                for _ in range(8):
                    writers.start_soon(write, image)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(copy, one, two)
                tasks.start_soon(copy, two, one)
                for number in range(5):
                    await group.create_snapshot(f"s{number}")
            writers.cancel_scope.cancel()
    assert len(await group.snapshots()) == 5
    for image in (one, two):
        await image.drain()
    await one.close()
    await two.close()


async def test_member_that_is_opened_during_a_snapshot_waits(
    ioctx: aiorbd.IoCtx, group: aiorbd.Group, make_image: Any
) -> None:
    """The gate of a member also holds up an image that nobody had open when the call began."""
    names = [await make_image(4 * MIB) for _ in range(4)]
    for name in names:
        await group.add_image(name)

    async def use(name: str) -> None:
        for _ in range(20):
            async with ioctx.open_image(name) as image:
                await image.write(b"x" * 4096, 0)

    with anyio.fail_after(120):
        async with anyio.create_task_group() as tasks:
            for name in names:
                tasks.start_soon(use, name)
            for number in range(10):
                await group.create_snapshot(f"s{number}")
    for name in names:
        async with ioctx.open_image(name) as image:
            assert await image.read(0, 4096) == b"x" * 4096


async def test_advisory_lock_of_a_member_can_be_released_beside_a_snapshot(
    ioctx: aiorbd.IoCtx, group: aiorbd.Group, make_image: Any
) -> None:
    name = await make_image()
    await group.add_image(name)
    async with ioctx.open_image(name) as image:
        await image.advisory_locks.lock_exclusive("cookie")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(group.create_snapshot, "one")
            await anyio.sleep(0.5)
            with anyio.fail_after(20):
                await image.advisory_locks.unlock("cookie")
    assert [snapshot.name for snapshot in await group.snapshots()] == ["one"]
