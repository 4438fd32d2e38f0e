"""The bytes that images use."""

import errno
import importlib
import json
import warnings
from typing import Any

import anyio
import pytest
from fix_witness import Witness
from helpers import new_name

import aiorbd
from aiorbd import Feature

pytestmark = pytest.mark.anyio

MIB = 1 << 20


async def rows(witness: Witness, name: str, *options: str) -> list[tuple[Any, int, int]]:
    """Return the rows of ``rbd du``: snapshot, size and used bytes."""
    shown = json.loads(await witness.rbd("du", name, "--format", "json", *options))
    return [(one.get("snapshot"), one["provisioned_size"], one["used_size"]) for one in shown["images"]]


def found(usage: aiorbd.DiskUsage) -> list[tuple[Any, int, int]]:
    return [(entry.snapshot, entry.provisioned, entry.used) for entry in usage.entries]


@pytest.mark.parametrize("features", [aiorbd.FEATURES_DEFAULT, Feature.LAYERING], ids=["fast-diff", "no-fast-diff"])
async def test_usage_matches_rbd_du(ioctx: aiorbd.IoCtx, make_image: Any, witness: Witness, features: Any) -> None:
    name = await make_image(32 * MIB, features=features)
    async with ioctx.open_image(name) as image:
        assert (await image.disk_usage()).used == 0
        await image.write(b"a" * 100_000, 5 * MIB)
        await image.create_snapshot("one")
        await image.write(b"b" * 5000, 9 * MIB)
        await image.create_snapshot("two")
        await image.resize(64 * MIB)
        await image.write(b"c" * 12_288, 50 * MIB)
        await image.discard(5 * MIB, 1 << 16)
        await image.flush()
        for exact in (False, True):
            usage = await image.disk_usage(exact=exact)
            assert found(usage) == await rows(witness, name, *["--exact"] * exact)
            assert usage.exact is exact
            assert (usage.provisioned, usage.used) == (64 * MIB, sum(entry.used for entry in usage.entries))
    async with ioctx.open_image(name, snapshot="one") as image:
        usage = await image.disk_usage(exact=True)
        assert found(usage) == (await rows(witness, name, "--exact"))[:1]


async def test_usage_of_a_clone_leaves_out_its_parent(
    ioctx: aiorbd.IoCtx, image: aiorbd.Image, witness: Witness
) -> None:
    await image.write(b"a" * MIB, 0)
    await image.create_snapshot("one")
    clone = new_name()
    await image.clone("one", ioctx, clone, clone_format=2)
    async with ioctx.open_image(clone) as opened:
        assert (await opened.disk_usage()).used == 0
        await opened.write(b"b" * 4096, 8 * MIB)
        await opened.flush()
        assert found(await opened.disk_usage()) == await rows(witness, clone)


async def test_usage_of_all_images_of_a_pool(cluster: aiorbd.Cluster, witness: Witness) -> None:
    pool = new_name("pool")
    await cluster.create_pool(pool)
    async with cluster.open_ioctx(pool) as ioctx:
        await ioctx.init_pool()
        assert await ioctx.disk_usage() == []
        for number in range(7):
            await ioctx.create_image(f"image-{number}", 8 * MIB)
            async with ioctx.open_image(f"image-{number}") as image:
                await image.write(bytes([number + 1]) * 4096 * (number + 1), 0)
        for depth in (1, 3, 20):
            usages = [one async for one in ioctx.disk_usage(exact=True, depth=depth)]
            shown = json.loads(await witness.rbd("du", "-p", pool, "--exact", "--format", "json"))
            assert {one.name: one.usage.used for one in usages} == {
                one["name"]: one["used_size"] for one in shown["images"]
            }
        with pytest.raises(aiorbd.InvalidArgument, match="depth 0 is not positive"):
            ioctx.disk_usage(depth=0)
    await cluster.delete_pool(pool)


async def test_usage_of_an_image_of_format_1(
    ioctx: aiorbd.IoCtx, make_image: Any, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RBD_FORCE_ALLOW_V1", "1")  # needed to create such an image, not to open one
    name = await make_image(16 * MIB, image_format=1)
    async with ioctx.open_image(name) as image:
        await image.write(b"a" * 4096, 0)
        await image.create_snapshot("one")
        await image.write(b"b" * 4096, 8 * MIB)
        await image.flush()
        assert found(await image.disk_usage(exact=True)) == await rows(witness, name, "--exact")


async def test_a_cancelled_step_of_the_list_loses_no_image(aiorbd_ioctx: aiorbd.IoCtx) -> None:
    names = [f"image-{number}" for number in range(6)]
    for name in names:
        await aiorbd_ioctx.create_image(name, MIB)
    usages = aiorbd_ioctx.disk_usage(depth=3)
    await anext(usages)
    await anext(usages)
    await anext(usages)
    with anyio.move_on_after(0.001) as scope:
        await anext(usages)
    rest = [usage.name async for usage in usages]
    assert scope.cancelled_caught
    assert rest == names[3:]


async def test_errors_come_alone_and_warnings_stay_as_they_were(
    cluster: aiorbd.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several images are examined at the same time."""
    pool, filters = new_name("pool"), list(warnings.filters)
    await cluster.create_pool(pool)
    async with cluster.open_ioctx(pool) as ioctx:
        await ioctx.init_pool()
        await ioctx.create_image("parent", MIB)
        async with ioctx.open_image("parent") as image:
            await image.create_snapshot("one")
            for number in range(4):
                await image.clone("one", ioctx, f"clone-{number}", clone_format=2)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always", aiorbd.IncompleteDiffWarning)
            assert len(await ioctx.disk_usage(exact=True)) == 5
        assert [warning for warning in seen if warning.category is aiorbd.IncompleteDiffWarning] == []

        async def fail(*_: Any, **__: Any) -> None:
            raise aiorbd.RbdError(errno.EIO, "as if a read had failed")

        monkeypatch.setattr("aiorbd.Image.disk_usage", fail)
        with pytest.raises(aiorbd.RbdError, match="as if a read had failed"):
            await ioctx.disk_usage()
    assert warnings.filters == filters
    await cluster.delete_pool(pool)


@pytest.mark.parametrize("change", ["taken", "removed"])
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_usage_counts_again_after_a_snapshot_was_taken_or_removed_meanwhile(
    image: aiorbd.Image, monkeypatch: pytest.MonkeyPatch, change: str, times: int
) -> None:
    """The third count is the last one. Each count opens the image once for each snapshot, and once for the data."""
    await image.write(b"a" * MIB, 0)
    old = [await image.create_snapshot(f"old-{number}") for number in range(times if change == "removed" else 1)]
    new = [f"new-{number}" for number in range(times if change == "taken" else 0)]
    module = "usage" if change == "removed" else "diff"
    real = importlib.import_module(f"aiorbd._image.{module}").open_handle
    changes = 0

    async def open_meanwhile(*args: Any, **options: Any) -> Any:
        nonlocal changes
        if change == "removed" and old:
            await old.pop(0).remove()
            changes += 1
        if change == "taken" and new:
            await image.create_snapshot(new.pop())
            changes += 1
        return await real(*args, **options)

    monkeypatch.setattr(f"aiorbd._image.{module}.open_handle", open_meanwhile)
    if times == 3:
        with pytest.raises(aiorbd.RbdError) as raised:
            await image.disk_usage()
        assert raised.value.errno == {"taken": errno.ESTALE, "removed": errno.ENOENT}[change]
        assert isinstance(raised.value, aiorbd.SnapshotNotFound) is (change == "removed")
    else:
        usage = await image.disk_usage()
        assert [entry.snapshot for entry in usage.entries] == [one.name for one in await image.snapshots()] + [None]
        assert usage.used == 4 * MIB
    assert changes == times
