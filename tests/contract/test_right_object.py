"""Each call acts on the object that its caller means.

The tests give a name to another object, and interrupt removals.
"""

import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from fix_witness import Witness
from helpers import MakeImage, new_name, slow_down

import aiorbd
from aiorbd import Feature
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio

MIB = 1 << 20


async def replace(ioctx: aiorbd.IoCtx, name: str, how: Any) -> Any:
    """Give the name of an image to a new, empty image, and return the id of the old image."""
    async with ioctx.open_image(name, read_only=True) as image:
        old = image.id
    if how == "renamed":
        await ioctx.rename_image(name, new_name("old"))
    else:
        await ioctx.trash.move(name)
    await ioctx.create_image(name, 8 * MIB)
    return old


# -- clones ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["renamed", "trashed"])
async def test_clone_never_uses_another_image_that_took_the_name(
    ioctx: aiorbd.IoCtx, image: aiorbd.Image, name: str, how: str, witness: Witness
) -> None:
    snapshot = await image.create_snapshot("s")
    if how == "renamed":
        await ioctx.rename_image(image.name, new_name("old"))
    else:
        await ioctx.trash.move(image.name)
    await ioctx.create_image(image.name, 8 * MIB)
    async with ioctx.open_image(image.name) as other:
        await other.create_snapshot("s")
    for asked in ("s", snapshot):
        try:
            await image.clone(asked, ioctx, name, clone_format=2)
        except aiorbd.ImageNotFound as error:
            assert "librbd clones by name" in str(error)  # noqa: PT017
            assert name not in await witness.names()
        else:  # librbd knows the new name of its open image
            async with ioctx.open_image(name, read_only=True) as clone:
                parent = await clone.parent()
                assert parent
                assert parent.image.image_id == image.id
            await ioctx.remove_image(name)


# -- the shared connection -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["renamed", "trashed"])
async def test_connection_pool_opens_the_image_that_has_the_name_now(
    aiorbd_cluster: DevCluster, ioctx: aiorbd.IoCtx, make_image: MakeImage, how: str
) -> None:
    name = await make_image()
    async with aiorbd.SharedConnection(lambda: aiorbd.connect(aiorbd_cluster.conffile)) as pool:
        async with pool.open_image("rbd", name) as image:
            await image.write(b"old", 0)
        async with pool.open_image("rbd", image_id=image.id) as first:
            assert await first.read(0, 3) == b"old"
        old = await replace(ioctx, name, how)
        async with pool.open_image("rbd", name) as image, pool.open_image("rbd", image_id=old) as former:
            assert (image.id != old, await image.read(0, 3)) == (True, bytes(3))
            assert (former.id, await former.read(0, 3)) == (old, b"old")
            await image.write(b"new", 0)
        async with pool.open_image("rbd", name) as again:
            assert await again.read(0, 3) == b"new"


async def test_connection_pool_opens_the_snapshot_that_has_the_name_now(
    aiorbd_cluster: DevCluster, image: aiorbd.Image
) -> None:
    await image.write(b"one", 0)
    await image.create_snapshot("nightly")
    async with aiorbd.SharedConnection(lambda: aiorbd.connect(aiorbd_cluster.conffile)) as pool:
        async with pool.open_image("rbd", image.name, snapshot="nightly") as view:
            assert await view.read(0, 3) == b"one"
        async with pool.open_image("rbd", image.name, snapshot="nightly") as again:
            assert again is view
        await (await image.get_snapshot("nightly")).remove()
        await image.write(b"two", 0)
        await image.create_snapshot("nightly")
        async with pool.open_image("rbd", image.name, snapshot="nightly") as view:
            assert await view.read(0, 3) == b"two"
        await (await image.get_snapshot("nightly")).rename("yesterday")
        with pytest.raises(aiorbd.SnapshotNotFound):
            async with pool.open_image("rbd", image.name, snapshot="nightly"):
                pytest.fail("nothing has that name")


async def test_idle_image_of_a_connection_pool_does_not_prevent_its_removal(
    aiorbd_cluster: DevCluster, make_image: MakeImage, witness: Witness
) -> None:
    names = [await make_image() for _ in range(3)]
    async with aiorbd.SharedConnection(lambda: aiorbd.connect(aiorbd_cluster.conffile)) as pool:
        for name in names:
            async with pool.open_image("rbd", name) as image, pool.open_image("rbd", name, read_only=True) as reading:
                await image.write(b"x", 0)
        async with pool.open_ioctx("rbd") as ioctx:
            await ioctx.remove_image(names[0])
            await ioctx.remove_image(image_id=image.id)  # the last of the three images
            assert reading.closed
            async with pool.open_image("rbd", names[1]) as used:
                with pytest.raises(aiorbd.ImageBusy, match=r"the image is open at \S+ \(this connection\)"):
                    await ioctx.remove_image(names[1])
                assert await used.read(0, 1) == b"x"
            assert (names[1] in await witness.names(), names[0] in await witness.names()) == (True, False)


async def test_evict_image_closes_an_image_once_no_task_uses_it(
    aiorbd_cluster: DevCluster, make_image: MakeImage, witness: Witness
) -> None:
    name = await make_image()

    async def openers() -> Any:
        return len(json.loads(await witness.rbd("status", name, "--format", "json"))["watchers"])

    async with aiorbd.SharedConnection(lambda: aiorbd.connect(aiorbd_cluster.conffile)) as pool:
        async with pool.open_image("rbd", name) as used:
            await pool.evict_image("rbd", name)  # closes the image when no task uses it any more
            assert await used.read(0, 1) == b"\0"
            async with pool.open_image("rbd", name) as other:
                assert other is not used
        assert (used.closed, other.closed, await openers()) == (True, False, 1)
        await pool.evict_image("rbd", name)
        assert (other.closed, await openers()) == (True, 0)
        await pool.evict_image("rbd", "no-such-image")
        with pytest.raises(TypeError, match="either a name or an image_id"):
            await pool.evict_image("rbd")


async def test_connection_pool_opens_an_image_of_a_pool_that_was_recreated(
    aiorbd_cluster: DevCluster, cluster: aiorbd.Cluster
) -> None:
    name = new_name("pool")
    async with aiorbd.SharedConnection(lambda: aiorbd.connect(aiorbd_cluster.conffile)) as connections:
        for data in (b"one", b"two"):
            await cluster.create_pool(name)
            async with cluster.open_ioctx(name) as ioctx:
                await ioctx.init_pool()
                await ioctx.create_image("image", 8 * MIB)
            with anyio.fail_after(30):
                while True:
                    try:
                        async with connections.open_image(name, "image") as image:
                            assert await image.read(0, 3) == bytes(3)
                            await image.write(data, 0)
                        break
                    except aiorbd.PoolNotFound:  # until the connection knows the new pool
                        await anyio.sleep(0.1)
            await cluster.delete_pool(name)


async def test_a_snapshot_of_another_image_is_refused(
    ioctx: aiorbd.IoCtx, image: aiorbd.Image, make_image: MakeImage, name: str
) -> None:
    await image.create_snapshot("daily")
    async with ioctx.open_image(await make_image()) as other:
        theirs = await other.create_snapshot("daily")
        for call in (
            lambda: image.set_snapshot(theirs),
            lambda: image.clone(theirs, ioctx, name, clone_format=2),
            lambda: ioctx.open_image(image.name, snapshot=theirs),
        ):
            with pytest.raises((aiorbd.InvalidArgument, aiorbd.SnapshotNotFound)):
                await call()
        with pytest.raises(aiorbd.InvalidArgument, match="the snapshot is one of image"):
            image.diff(from_snapshot=theirs)
        assert (image.snapshot, other.snapshot) == (None, None)
    assert name not in await ioctx.list_images()


async def test_set_snapshot_affects_only_the_image_that_it_is_called_on(
    ioctx: aiorbd.IoCtx, image: aiorbd.Image
) -> None:
    await image.write(b"old", 0)
    snapshot = await image.create_snapshot("one")
    await image.write(b"new", 0)
    await image.flush()
    async with ioctx.open_image(image.name) as other:
        await other.set_snapshot(snapshot)
        assert (await other.read(0, 3), await image.read(0, 3)) == (b"old", b"new")
        assert (other.snapshot, image.snapshot) == ("one", None)


async def test_retried_removal_spares_another_image_that_took_the_name(
    ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness
) -> None:
    name = await make_image()
    async with ioctx.open_image(name) as image, anyio.create_task_group() as tasks:

        async def take_the_name() -> None:
            await anyio.sleep(0.2)
            await ioctx.rename_image(name, new_name("old"))
            await ioctx.create_image(name, MIB)

        tasks.start_soon(take_the_name)
        with pytest.raises(aiorbd.ImageNotFound, match=f"not that of the image of id {image.id!r} any more"):
            await ioctx.remove_image(name, retry_for=20)
    assert name in await witness.names()


async def test_removed_image_is_not_read_as_zeroes(
    aiorbd_cluster: DevCluster, image: aiorbd.Image, ioctx: aiorbd.IoCtx, tmp_path: Path, make_image: MakeImage
) -> None:
    """An image that is open read-only gets no notice of the removal."""
    name = await make_image()
    async with ioctx.open_image(name) as writer:
        await writer.write(b"x" * MIB, 0)
    async with (
        aiorbd.SharedConnection(lambda: aiorbd.connect(aiorbd_cluster.conffile)) as pool,
        ioctx.open_image(name, read_only=True) as reading,
    ):
        async with pool.open_image("rbd", image_id=reading.id, read_only=True):
            pass
        await ioctx.remove_image(name)
        for call in (
            lambda: aiorbd.export_image(reading, tmp_path / "export"),
            lambda: aiorbd.copy_image(reading, image),
            lambda: reading.copy(ioctx, new_name()),
            lambda: drained(reading.diff()),
        ):
            with pytest.raises(aiorbd.ImageNotFound):
                await call()
        with pytest.raises(aiorbd.ImageNotFound):
            async with pool.open_image("rbd", image_id=reading.id, read_only=True):
                pytest.fail("it is gone")


async def drained(diff: Any) -> Any:
    return [extent async for extent in diff]


async def test_image_busy_names_the_clients_of_more_than_64_openings(
    aiorbd_cluster: DevCluster, ioctx: aiorbd.IoCtx, make_image: MakeImage
) -> None:
    name = await make_image()
    async with aiorbd.connect(aiorbd_cluster.conffile) as other, other.open_ioctx("rbd") as elsewhere:
        async with elsewhere.open_image(name):
            images = [await ioctx.open_image(name) for _ in range(70)]
            with pytest.raises(aiorbd.ImageBusy, match=r"open at \S+ \(this connection\), 70 times, \S+ \[EBUSY\]"):
                await ioctx.remove_image(name)
            for image in images:
                await image.close()


# -- interrupted removals ----------------------------------------------------------------------------


@pytest.fixture
async def half_removed(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> Any:
    """Interrupt the removal of an image, and return the name and the id of the image."""
    name = await make_image(2048 * MIB, order=20, features=Feature.LAYERING)
    await slow_down(ioctx, name)
    async with ioctx.open_image(name) as image:
        for offset in range(0, 2048 * MIB, 16 * MIB):
            await image.write(b"x", offset)

    def stop(done: Any, total: int) -> None:
        if 10 * done > total:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough") as caught:
        await ioctx.remove_image(name, progress=stop)
    assert caught.value.__notes__ == [
        f"The image is half removed: remove_image(image_id={image.id!r}) finishes the work."
    ]
    return name, image.id


async def test_removal_by_id_finishes_after_another_image_took_the_name(
    ioctx: aiorbd.IoCtx, half_removed: Any, witness: Witness
) -> None:
    name, image_id = half_removed
    assert aiorbd.ImageSpec(image_id, name, removing=True) in [spec async for spec in ioctx.images()]
    await ioctx.create_image(name, MIB)
    await ioctx.remove_image(image_id=image_id)
    (left,) = [spec async for spec in ioctx.images() if spec.name == name]
    assert (left.id != image_id, left.removing) == (True, False)
    assert name in await witness.names()
    objects = await witness._cluster.run("rados", "-p", "rbd", "ls")
    assert image_id.encode() not in objects
    with pytest.raises(aiorbd.ImageNotFound):
        await ioctx.remove_image(image_id=image_id)


async def test_removal_by_name_finishes_while_the_name_is_free(
    ioctx: aiorbd.IoCtx, half_removed: Any, witness: Witness
) -> None:
    name, image_id = half_removed
    await ioctx.remove_image(name)
    assert image_id not in [spec.id async for spec in ioctx.images()]
    assert name not in await witness.names()


async def test_remove_by_id_refuses_an_image_in_the_trash(
    ioctx: aiorbd.IoCtx, make_image: MakeImage, image: aiorbd.Image, witness: Witness
) -> None:
    name = await make_image()
    async with ioctx.open_image(name) as other:
        image_id = other.id
    await ioctx.remove_image(image_id=image_id)
    assert name not in await witness.names()
    await ioctx.trash.move(image.name)
    with pytest.raises(aiorbd.InvalidArgument, match="the image is in the trash"):
        await ioctx.remove_image(image_id=image.id)
    wrong: list[dict[str, Any]] = [{}, {"name": "a", "image_id": "b"}]
    for arguments in wrong:
        with pytest.raises(TypeError, match="either a name or an image_id"):
            await ioctx.remove_image(**arguments)


async def test_finished_removal_is_not_reported_as_failed(
    ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    """The removal of an empty image has no step at which librbd can stop."""

    def stop(_done: int, _total: int) -> None:
        raise RuntimeError("stop")

    done = 0
    for _ in range(10):
        name = await make_image()
        try:
            await ioctx.remove_image(name, progress=stop)
        except RuntimeError:
            assert name in await witness.names()
        else:
            assert name not in await witness.names()
            done += 1
    assert done
    assert all("progress failed, the work is done" in record.message for record in caplog.records)


async def test_progress_is_not_called_after_the_copy_ends(ioctx: aiorbd.IoCtx, image: aiorbd.Image) -> None:
    told = []
    await image.write(b"x" * MIB, 0)
    await image.copy(ioctx, new_name(), progress=lambda *numbers: told.append(numbers))
    count = len(told)
    await anyio.sleep(0.1)
    assert len(told) == count
    assert all(done <= total for done, total in told)
