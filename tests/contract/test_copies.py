"""Clones, copies, parents, children, and operations that make an image independent or smaller."""

import hashlib
from typing import Any

import anyio
import pytest
from fix_witness import Witness
from helpers import MakeImage, new_name, slow_down

import aiorbd
from aiorbd import Feature, ImageOption, ImageOptions
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio

MIB = 1 << 20
DATA = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture
async def parent(image: aiorbd.Image) -> Any:
    """Return an image with data and the protected snapshot "one"."""
    await image.write(DATA, 0)
    await image.write(DATA, 12 * MIB)
    await (await image.create_snapshot("one")).protect()
    return image


async def digest(witness: Witness, spec: Any) -> Any:
    return hashlib.sha256(await witness.export(spec)).hexdigest()


async def test_clone_from_a_name(ioctx: aiorbd.IoCtx, parent: Any, name: str, witness: Witness) -> None:
    await ioctx.clone_image(parent.name, "one", ioctx, name, order=23)
    info = await witness.info(name)
    assert (info["order"], info["parent"]["image"], info["parent"]["snapshot"]) == (23, parent.name, "one")
    assert await digest(witness, name) == await digest(witness, f"{parent.name}@one")


async def test_clone_from_an_image_into_another_pool_and_namespace(
    cluster: aiorbd.Cluster, parent: Any, aiorbd_ioctx: aiorbd.IoCtx, name: str, witness: Witness
) -> None:
    if "clones" not in await cluster.pools():
        await cluster.create_pool("clones")
    async with cluster.open_ioctx("clones") as clones:
        await clones.init_pool()
        snapshot = await parent.get_snapshot("one")
        await parent.clone(snapshot, clones, name, ImageOptions({ImageOption.ORDER: 24}), clone_format=2)
        info = await witness.info(f"clones/{name}")
        assert (info["order"], info["parent"]["pool"], info["parent"]["image"]) == (24, "rbd", parent.name)
    # This I/O context belongs to another connection to the same cluster.
    await parent.clone("one", aiorbd_ioctx, name, clone_format=2)
    spec = f"rbd/{aiorbd_ioctx.namespace}/{name}"
    assert await digest(witness, spec) == await digest(witness, f"{parent.name}@one")
    async with aiorbd_ioctx.open_image(name) as clone:
        await clone.flatten()


async def test_parents_and_children(ioctx: aiorbd.IoCtx, parent: Any, name: str) -> None:
    assert await parent.parent() is None
    assert await parent.overlap() == 0
    assert [child async for child in parent.children()] == []
    await parent.clone("one", ioctx, name)
    (child,) = [child async for child in parent.children()]
    assert (child.pool_name, child.pool_namespace, child.image_name, child.trash) == ("rbd", "", name, False)
    async with ioctx.open_image(name) as clone:
        assert child.image_id == clone.id
        found = await clone.parent()
        assert found
        assert found.image == aiorbd.LinkedImage(child.pool_id, "rbd", "", parent.id, parent.name, False)
        snapshot = await parent.get_snapshot("one")
        assert (found.snapshot_id, found.snapshot_name) == (snapshot.id, "one")
        assert found.snapshot_namespace_type is aiorbd.SnapshotNamespaceType.USER
        assert await clone.overlap() == 16 * MIB
        await clone.resize(4 * MIB, allow_shrink=True)
        assert await clone.overlap() == 4 * MIB
        await (await clone.create_snapshot("two")).protect()
        grandchild = new_name()
        await clone.clone("two", ioctx, grandchild)
        assert {image.image_name async for image in parent.descendants()} == {name, grandchild}
        assert {image.image_name async for image in parent.children()} == {name}
    with pytest.raises(aiorbd.SnapshotBusy, match="has clones"):
        await snapshot.unprotect()
    with pytest.raises(aiorbd.ImageHasSnapshots):
        await ioctx.remove_image(name)


async def test_invalid_clones_are_refused(ioctx: aiorbd.IoCtx, parent: Any, name: str, make_image: MakeImage) -> None:
    await parent.create_snapshot("open")
    with pytest.raises(aiorbd.InvalidArgument):
        await parent.clone("open", ioctx, name, clone_format=1)
    with pytest.raises(aiorbd.SnapshotNotFound, match="snapshot 'nowhen' of image"):
        await parent.clone("nowhen", ioctx, name)
    with pytest.raises(aiorbd.SnapshotNotFound, match=f"snapshot 'nowhen' of image 'rbd/{parent.name}'"):
        await ioctx.clone_image(parent.name, "nowhen", ioctx, name)
    with pytest.raises(aiorbd.ImageNotFound, match="image 'rbd/no-such-image'"):
        await ioctx.clone_image("no-such-image", "one", ioctx, name)
    with pytest.raises(aiorbd.PoolNotFound, match="data pool"):
        await parent.clone("one", ioctx, name, data_pool="no-such-pool")
    taken = await make_image()
    with pytest.raises(aiorbd.ImageExists, match=taken):
        await parent.clone("one", ioctx, taken)
    for bad in ("", "a@b", "a/b"):
        with pytest.raises(aiorbd.InvalidArgument, match="must not"):
            await parent.clone("one", ioctx, bad)
    assert name not in await ioctx.list_images()


async def test_flatten(ioctx: aiorbd.IoCtx, parent: Any, name: str, witness: Witness) -> None:
    with pytest.raises(aiorbd.InvalidArgument, match="no parent"):
        await parent.flatten()
    await parent.clone("one", ioctx, name)
    reports = []
    async with ioctx.open_image(name) as clone:
        await clone.flatten(progress=lambda done, total: reports.append((done, total)))
        assert await clone.parent() is None
    assert "parent" not in await witness.info(name)
    assert all(0 <= done <= total for done, total in reports)
    assert await digest(witness, name) == await digest(witness, f"{parent.name}@one")


async def test_copy(ioctx: aiorbd.IoCtx, parent: Any, name: str, witness: Witness) -> None:
    await parent.write(b"later", 0)
    reports = []
    progress = lambda done, total: reports.append((done, total))  # noqa: E731
    await parent.copy(ioctx, name, order=23, features=Feature.LAYERING, progress=progress)
    info = await witness.info(name)
    assert (info["order"], info["features"], info["snapshot_count"]) == (23, ["layering", "striping"], 0)
    assert await digest(witness, name) == await digest(witness, parent.name)
    assert reports[-1][0] == reports[-1][1] > 0
    old = new_name()
    async with ioctx.open_image(parent.name, snapshot="one") as then:
        await then.copy(ioctx, old, sparse_size=65536)
    assert await digest(witness, old) == await digest(witness, f"{parent.name}@one")
    with pytest.raises(aiorbd.ImageExists, match=name):
        await parent.copy(ioctx, name)


async def test_copy_to_an_open_image(ioctx: aiorbd.IoCtx, parent: Any, make_image: MakeImage, witness: Witness) -> None:
    reports = []
    async with ioctx.open_image(await make_image(20 * MIB)) as other:
        await parent.copy_to(other, progress=lambda done, total: reports.append((done, total)))
        copied = await other.read(12 * MIB, MIB)
    assert copied == DATA
    assert reports[-1][0] == reports[-1][1] > 0
    exported = await witness.export(other.name)
    assert exported[: 16 * MIB] == await witness.export(parent.name)
    async with ioctx.open_image(await make_image(20 * MIB)) as used:  # zeroes in the source are not copied
        await used.write(b"old", 6 * MIB)
        await parent.copy_to(used)
        assert await used.read(6 * MIB, 3) == b"old"
        assert await used.read(12 * MIB, MIB) == DATA
    async with ioctx.open_image(await make_image(MIB)) as small:
        with pytest.raises(aiorbd.InvalidArgument, match=small.name):
            await parent.copy_to(small)
    async with ioctx.open_image(await make_image(), read_only=True) as locked:
        with pytest.raises(aiorbd.ReadOnlyImage, match=locked.name):
            await parent.copy_to(locked)
    with pytest.raises(aiorbd.ClosedError):
        await parent.copy_to(locked)


async def test_deep_copy(ioctx: aiorbd.IoCtx, parent: Any, name: str, witness: Witness) -> None:
    await parent.write(b"later", 0)
    reports = []
    await parent.deep_copy(ioctx, name, progress=lambda done, total: reports.append((done, total)))
    for spec in ("", "@one"):
        assert await digest(witness, name + spec) == await digest(witness, parent.name + spec)
    assert reports
    clone, flat = new_name(), new_name()
    await parent.clone("one", ioctx, clone)
    async with ioctx.open_image(clone) as image:
        await image.deep_copy(ioctx, flat, flatten=True)
    assert "parent" in await witness.info(clone)
    assert "parent" not in await witness.info(flat)
    with pytest.raises(aiorbd.ImageExists, match=name):
        await parent.deep_copy(ioctx, name)


async def test_closing_the_target_of_a_copy_waits_for_the_copy(osd: DevCluster) -> None:
    """Closing waits even after the task that awaited the copy was cancelled."""
    async with aiorbd.connect(osd.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        names = new_name(), new_name()
        for name in names:
            await ioctx.create_image(name, MIB)
        async with ioctx.open_image(names[0]) as source:
            await source.write(DATA, 0)
            await source.flush()
            other = await ioctx.open_image(names[1])
            osd.pause()
            with anyio.move_on_after(0.2):
                await source.copy_to(other)
            assert other.in_flight == 1
            with pytest.raises(aiorbd.CloseTimeout, match="1 operations in flight"):
                await other.close(timeout=0.1)
            osd.resume()
            await other.close(timeout=20)
            assert source.in_flight == 0


async def test_sparsify(image: aiorbd.Image, witness: Witness) -> None:
    await image.write(bytes(8 * MIB), 0)
    await image.flush()
    used = int((await witness.rbd("diff", image.name)).split()[4])
    assert used
    reports = []
    await image.sparsify(4096, progress=lambda done, total: reports.append((done, total)))
    assert (await witness.rbd("diff", image.name)).split() == []
    assert reports
    for size in (0, 1024, 4097, 1 << 23, -1):
        with pytest.raises(aiorbd.InvalidArgument):
            await image.sparsify(size)


async def test_rebuild_object_map_reports_progress_and_needs_the_feature(
    image: aiorbd.Image, make_image: MakeImage, ioctx: aiorbd.IoCtx, witness: Witness
) -> None:
    await image.write(DATA, 0)
    reports = []
    await image.rebuild_object_map(progress=lambda done, total: reports.append((done, total)))
    assert reports
    assert await image.flags() == 0
    async with ioctx.open_image(await make_image(features=Feature.LAYERING)) as plain:
        with pytest.raises(aiorbd.InvalidArgument):
            await plain.rebuild_object_map()


@pytest.mark.parametrize("operation", ["flatten", "sparsify", "rollback"])
async def test_exception_in_progress_stops_flatten_and_sparsify_but_not_rollback(
    ioctx: aiorbd.IoCtx, make_image: MakeImage, operation: str, caplog: pytest.LogCaptureFixture
) -> None:
    name, clone = await make_image(64 * MIB, order=16), new_name()
    await slow_down(ioctx, name)
    async with ioctx.open_image(name) as image:
        for number in range(64):
            await image.write(DATA, number * MIB)
        snapshot = await image.create_snapshot("one")
        await image.clone("one", ioctx, clone, clone_format=2)
        await slow_down(ioctx, clone)

        def progress(_done: int, _total: int) -> None:
            raise LookupError("enough")

        async with ioctx.open_image(clone) as child:
            calls = {
                "flatten": child.flatten,
                "sparsify": lambda **k: image.sparsify(4096, **k),
                "rollback": snapshot.rollback,
            }
            if operation == "rollback":  # librbd does not stop a rollback, and finishes the work
                await calls[operation](progress=progress)
                assert "progress failed, the work is done" in caplog.text
            else:
                with pytest.raises(LookupError, match="enough"):
                    await calls[operation](progress=progress)
                await calls[operation]()  # a second call finishes the work
            assert (await child.parent() is None) == (operation == "flatten")
        assert image.in_flight == 0


async def test_clone_into_another_cluster_is_refused_but_copy_is_allowed(
    parent: Any, ioctx: aiorbd.IoCtx, name: str, own_cluster: DevCluster
) -> None:
    async with aiorbd.connect(own_cluster.conffile) as cluster, cluster.open_ioctx("rbd") as elsewhere:
        with pytest.raises(aiorbd.UsageError, match="another cluster"):
            await parent.clone("one", elsewhere, name)
        await parent.copy(elsewhere, name)
        copied = await own_cluster.run("rbd", "export", "--no-progress", name, "-")
        assert copied[:MIB] == DATA


@pytest.mark.parametrize("how", ["copy", "deep_copy"])
async def test_copy_keeps_the_data_pool_unless_another_is_given(
    cluster: aiorbd.Cluster, ioctx: aiorbd.IoCtx, name: str, how: str, witness: Witness
) -> None:
    pools = [new_name("data") for _ in range(2)]
    for pool in pools:
        await cluster.create_pool(pool)
    await ioctx.create_image(name, 8 * MIB, data_pool=pools[0])
    async with ioctx.open_image(name) as image, cluster.open_ioctx(pools[1]) as elsewhere:
        await elsewhere.init_pool()
        await image.write(DATA, 0)
        await image.create_snapshot("one")
        for where, keywords, expected in (
            (ioctx, {}, pools[0]),
            (elsewhere, {}, pools[0]),
            (ioctx, {"data_pool": pools[1]}, pools[1]),
        ):
            copy = new_name()
            await getattr(image, how)(where, copy, **keywords)
            info = await witness.info(f"{where.pool}/{copy}")
            assert info["data_pool"] == expected
            assert await digest(witness, f"{where.pool}/{copy}") == await digest(witness, name)


async def test_copy_into_the_data_pool_of_the_source(
    cluster: aiorbd.Cluster, ioctx: aiorbd.IoCtx, name: str, witness: Witness
) -> None:
    pool = new_name("data")
    await cluster.create_pool(pool)
    await ioctx.create_image(name, 8 * MIB, data_pool=pool)
    async with ioctx.open_image(name) as image, cluster.open_ioctx(pool) as elsewhere:
        await elsewhere.init_pool()
        await image.write(DATA, 0)
        await image.copy(elsewhere, "copy")
    assert await digest(witness, f"{pool}/copy") == await digest(witness, name)


@pytest.mark.parametrize("how", ["copy", "deep_copy"])
async def test_observers_see_one_completion_for_each_copy(
    cluster: aiorbd.Cluster, ioctx: aiorbd.IoCtx, image: aiorbd.Image, name: str, how: str
) -> None:
    told: list[Any] = []
    cluster.add_observer(told.append)
    await getattr(image, how)(ioctx, name)
    assert len([completed for completed in told if "copy_with_progress" in completed.operation]) == 1
