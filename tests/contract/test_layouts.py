"""Images of every layout: aiorbd writes and ``rbd`` reads, and the reverse."""

import random
from typing import Any

import anyio
import pytest
from fix_witness import Witness
from helpers import MakeImage, new_name

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio

KIB, MIB = 1 << 10, 1 << 20

SHAPES = {
    "4 KiB objects": {"order": 12},
    "64 KiB objects": {"order": 16},
    "32 MiB objects": {"order": 25},
    "striping": {"order": 20, "stripe_unit": 64 * KIB, "stripe_count": 5},
    "small stripes": {"order": 16, "stripe_unit": 4 * KIB, "stripe_count": 3},
    "data pool": {"data_pool": "rbd-data"},
    "no lock": {"features": aiorbd.Feature.LAYERING},
    "journal": {"features_set": aiorbd.Feature.JOURNALING},
}


@pytest.fixture(scope="module")
def data_pool(aiorbd_cluster: DevCluster) -> None:
    aiorbd_cluster.run_blocking("ceph", "osd", "pool", "create", "rbd-data")
    aiorbd_cluster.run_blocking("ceph", "osd", "pool", "application", "enable", "rbd-data", "rbd")


async def scatter(image: aiorbd.Image, size: int, seed: int | str) -> bytes:
    """Write pieces that cross objects and stripes, some at the very end. Return the expected content."""
    choose = random.Random(seed)
    model = bytearray(size)
    pieces = [(choose.randrange(size - 200 * KIB), choose.randrange(1, 200 * KIB)) for _ in range(12)]
    pieces += [(size - 1, 1), (0, 1), (size - 70 * KIB, 70 * KIB)]
    for offset, length in pieces:  # in sequence, because the pieces overlap
        data = choose.randbytes(length)
        await image.write(data, offset)
        model[offset : offset + length] = data
    return bytes(model)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.usefixtures("data_pool")
async def test_rbd_export_reads_every_layout_that_aiorbd_writes(
    ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness, shape: Any
) -> None:
    size = 3 * MIB + 5 * KIB
    name = await make_image(size, **shape)
    async with ioctx.open_image(name) as image:
        model = await scatter(image, size, name)
        assert await image.read(0, size) == model
    assert await witness.export(name) == model


@pytest.mark.parametrize("shape", ["4 KiB objects", "32 MiB objects", "striping", "data pool"])
@pytest.mark.usefixtures("data_pool")
async def test_aiorbd_reads_every_layout_that_rbd_import_writes(
    ioctx: aiorbd.IoCtx, name: str, witness: Witness, shape: str
) -> None:
    options = {
        "4 KiB objects": ["--object-size", "4K"],
        "32 MiB objects": ["--object-size", "32M"],
        "striping": ["--object-size", "1M", "--stripe-unit", "65536", "--stripe-count", "5"],
        "data pool": ["--data-pool", "rbd-data"],
    }[shape]
    data = random.Random(name).randbytes(2 * MIB + 3)
    await witness.import_(data, name, *options)
    async with ioctx.open_image(name) as image:
        assert await image.read(0, len(data)) == data
        seen = bytearray(len(data))

        async def read(offset: int) -> None:
            length = min(100_000, len(data) - offset)
            seen[offset : offset + length] = await image.read(offset, length)

        async with anyio.create_task_group() as tasks:
            for offset in range(0, len(data), 100_000):
                tasks.start_soon(read, offset)
        assert seen == data


async def test_snapshot_keeps_the_old_content(ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness) -> None:
    name = await make_image(2 * MIB)
    async with ioctx.open_image(name) as image:
        before = await scatter(image, 2 * MIB, 1)
        await image.flush()
        await witness.rbd("snap", "create", "--no-progress", f"{name}@before")
        after = await scatter(image, 2 * MIB, 2)
        after = bytes(await image.read(0, 2 * MIB))
        async with ioctx.open_image(name, snapshot="before") as snapshot:
            assert snapshot.read_only
            assert snapshot.snapshot == "before"
            assert await snapshot.read(0, 2 * MIB) == before
            with pytest.raises(aiorbd.ReadOnlyImage):
                await snapshot.write(b"x", 0)
    assert await witness.export(f"{name}@before") == before
    assert await witness.export(name) == after != before


async def test_create_options_reach_the_image(make_image: MakeImage, witness: Witness) -> None:
    name = await make_image(
        5 * MIB + 1,
        order=21,
        features=aiorbd.Feature.LAYERING | aiorbd.Feature.EXCLUSIVE_LOCK | aiorbd.Feature.JOURNALING,
        stripe_unit=32 * KIB,
        stripe_count=4,
        journal_order=23,
        journal_splay_width=2,
    )
    info = await witness.info(name)
    assert info["size"] == 5 * MIB + 1
    assert info["order"] == 21
    assert set(info["features"]) == {"layering", "exclusive-lock", "journaling", "striping"}
    assert (info["stripe_unit"], info["stripe_count"]) == (32 * KIB, 4)
    journal = (await witness.rbd("journal", "info", "--image", name)).decode()
    assert "order: 23" in journal
    assert "splay_width: 2" in journal


@pytest.mark.usefixtures("data_pool")
async def test_journal_is_created_in_the_given_pool(make_image: MakeImage, witness: Witness) -> None:
    name = await make_image(features_set=aiorbd.Feature.JOURNALING, journal_pool="rbd-data", image_format=2)
    assert (await witness.info(name))["format"] == 2
    assert b"object_pool: rbd-data" in await witness.rbd("journal", "info", "--image", name)


async def test_a_mirrored_image(cluster: aiorbd.Cluster, aiorbd_cluster: DevCluster, witness: Witness) -> None:
    pool = new_name("pool")
    await cluster.create_pool(pool)
    await witness.rbd("pool", "init", pool)
    await witness.rbd("mirror", "pool", "enable", pool, "image")
    async with cluster.open_ioctx(pool) as ioctx:
        await ioctx.create_image("mirrored", MIB, mirror_image_mode=aiorbd.MirrorImageMode.SNAPSHOT)
        info = await witness.info(f"{pool}/mirrored")
        assert info["mirroring"]["mode"] == "snapshot"


async def test_features_beside_the_default_ones(make_image: MakeImage, witness: Witness) -> None:
    name = await make_image(features_clear=aiorbd.Feature.FAST_DIFF | aiorbd.Feature.OBJECT_MAP)
    assert set((await witness.info(name))["features"]) == {"layering", "exclusive-lock", "deep-flatten"}
