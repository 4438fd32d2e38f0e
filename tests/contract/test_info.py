"""The features, flags, layout, timestamps and watchers of an image."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from fix_witness import Witness
from helpers import MakeImage

import aiorbd
from aiorbd import FEATURES_DEFAULT, Feature, ImageFlag, OperationFeature

pytestmark = pytest.mark.anyio

MIB = 1 << 20


async def test_features(ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness) -> None:
    name = await make_image(features_set=Feature.JOURNALING)
    async with ioctx.open_image(name) as image:
        assert await image.features() == FEATURES_DEFAULT | Feature.JOURNALING
        assert set((await image.features()).names()) == set((await witness.info(name))["features"])
        await image.update_features(
            Feature.JOURNALING | Feature.FAST_DIFF, enabled=False
        )  # this disables the object map too
        assert set((await witness.info(name))["features"]) == {"layering", "exclusive-lock", "deep-flatten"}
        await image.update_features(Feature.FAST_DIFF, enabled=True)
        assert await image.features() == FEATURES_DEFAULT
        for features in (Feature.LAYERING, 1 << 40):
            with pytest.raises(aiorbd.InvalidArgument):
                await image.update_features(features, enabled=False)
        with pytest.raises(aiorbd.InvalidArgument, match="out of range"):
            await image.update_features(-1, enabled=True)
        async with ioctx.open_image(name, read_only=True) as other:
            with pytest.raises(aiorbd.ReadOnlyImage):
                await other.update_features(Feature.FAST_DIFF, enabled=False)


def test_names_of_features() -> None:
    some = Feature.from_names(["layering", "exclusive-lock", "striping"])
    assert some == Feature.LAYERING | Feature.EXCLUSIVE_LOCK | Feature.STRIPINGV2
    assert some.names() == ["layering", "striping", "exclusive-lock"]
    assert Feature.from_names([]) == 0
    assert Feature.from_names(FEATURES_DEFAULT.names()) == FEATURES_DEFAULT
    with pytest.raises(ValueError, match="no such feature: 'colour'; known are layering"):
        Feature.from_names(["layering", "colour"])
    unknown = Feature(1 << 40 | 1)
    assert int(unknown) == 1 << 40 | 1
    assert unknown.names() == ["layering"]
    assert int(ImageFlag(1 << 30 | 1)) == 1 << 30 | 1


async def test_flags_show_an_invalid_object_map_until_it_is_rebuilt(image: aiorbd.Image, witness: Witness) -> None:
    assert await image.flags() == 0
    # Enabling the object map of an image that already has data leaves the map invalid. Rebuilding repairs the map.
    await image.write(b"x", 0)
    await image.update_features(Feature.FAST_DIFF | Feature.OBJECT_MAP, enabled=False)
    await image.update_features(Feature.OBJECT_MAP, enabled=True)
    assert await image.flags() == ImageFlag.OBJECT_MAP_INVALID | ImageFlag.FAST_DIFF_INVALID
    assert (await witness.info(image.name))["flags"] == ["object map invalid", "fast diff invalid"]
    await image.rebuild_object_map()
    assert await image.flags() == 0


async def test_op_features_show_clone_parents_and_children(
    ioctx: aiorbd.IoCtx, image: aiorbd.Image, name: str, witness: Witness
) -> None:
    assert await image.op_features() == 0
    await image.create_snapshot("one")
    await image.clone("one", ioctx, name, clone_format=2)
    async with ioctx.open_image(image.name, read_only=True) as anew:  # librbd does not notify open handles
        assert await anew.op_features() == OperationFeature.CLONE_PARENT
    assert (await witness.info(image.name))["op_features"] == ["clone-parent"]
    async with ioctx.open_image(name) as clone:
        assert await clone.op_features() == OperationFeature.CLONE_CHILD


async def test_layout(cluster: aiorbd.Cluster, ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness) -> None:
    if "data" not in await cluster.pools():
        await cluster.create_pool("data")
    name = await make_image(order=22, stripe_unit=65536, stripe_count=8, data_pool="data")
    info = await witness.info(name)
    async with ioctx.open_image(name) as image:
        assert (image.stripe_unit, image.stripe_count) == (info["stripe_unit"], info["stripe_count"]) == (65536, 8)
        assert image.block_name_prefix == info["block_name_prefix"]
        assert image.data_pool_id == await cluster.pool_id("data")
        assert not image.old_format
        assert info["format"] == 2
    async with ioctx.open_image(await make_image()) as plain:
        assert (plain.stripe_unit, plain.stripe_count) == (4 * MIB, 1)
        assert plain.data_pool_id == await cluster.pool_id("rbd")


async def test_timestamps(image: aiorbd.Image, witness: Witness) -> None:
    info = await witness.info(image.name)
    for mine, shown in (
        (image.create_timestamp, "create_timestamp"),
        (await image.access_timestamp(), "access_timestamp"),
        (await image.modify_timestamp(), "modify_timestamp"),
    ):
        assert mine.tzinfo is UTC
        assert abs(datetime.now(UTC) - mine) < timedelta(minutes=1)
        assert mine.replace(microsecond=0, tzinfo=None) == datetime.strptime(info[shown], "%a %b %d %H:%M:%S %Y")  # noqa: DTZ007


async def test_watchers(cluster: aiorbd.Cluster, ioctx: aiorbd.IoCtx, image: aiorbd.Image, witness: Witness) -> None:
    (mine,) = [watcher async for watcher in image.watchers()]
    assert mine.id == cluster.instance_id
    (shown,) = json.loads(await witness.rbd("status", image.name, "--format", "json"))["watchers"]
    assert (mine.address, mine.id, mine.cookie) == (shown["address"], shown["client"], shown["cookie"])
    async with ioctx.open_image(image.name), ioctx.open_image(image.name, read_only=True):
        assert len([watcher async for watcher in image.watchers()]) == 2
