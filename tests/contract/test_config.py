"""Options of librbd for an image and for a pool."""

import json
import time
from typing import Any

import anyio
import pytest
from fix_witness import Witness
from helpers import new_name

import aiorbd
from aiorbd import ConfigSource

pytestmark = pytest.mark.anyio


async def test_options_of_an_image_match_those_of_the_rbd_tool(
    image: aiorbd.Image, ioctx: aiorbd.IoCtx, witness: Witness
) -> None:
    await image.config.set("rbd_qos_iops_limit", "100")
    options = {option.name: option for option in await image.config.options()}
    shown = json.loads(await witness.rbd("config", "image", "list", image.name, "--format", "json"))
    changed_by_librbd = "rbd_cache_writethrough_until_flush"  # after the first flush of this client
    assert {one["name"]: (one["value"], one["source"]) for one in shown if one["name"] != changed_by_librbd} == {
        name: (option.value, option.source.name.lower())
        for name, option in options.items()
        if name != changed_by_librbd
    }
    assert options["rbd_qos_iops_limit"] == await image.config.get("rbd_qos_iops_limit")
    assert options["rbd_qos_iops_limit"].source is ConfigSource.IMAGE
    await image.config.unset("rbd_qos_iops_limit")
    await image.config.unset("rbd_qos_iops_limit")  # a second time changes nothing
    assert (await image.config.get("rbd_qos_iops_limit")).source is ConfigSource.CONFIG


async def test_an_image_overrides_its_pool(cluster: aiorbd.Cluster, witness: Witness) -> None:
    pool = new_name("pool")
    await cluster.create_pool(pool)
    async with cluster.open_ioctx(pool) as ioctx:
        await ioctx.init_pool()
        await ioctx.create_image("image", 1 << 20)
        await ioctx.config.set("rbd_readahead_max_bytes", "4096")
        shown = await witness.rbd("config", "pool", "get", pool, "rbd_readahead_max_bytes")
        assert shown.strip() == b"4096"
        assert "rbd_cache" in {option.name for option in await ioctx.config.options()}
        async with ioctx.open_image("image") as image:
            option = await image.config.get("rbd_readahead_max_bytes")
            assert (option.value, option.source) == ("4096", ConfigSource.POOL)
            await image.config.set("rbd_readahead_max_bytes", "8192")
            option = await image.config.get("rbd_readahead_max_bytes")
            assert (option.value, option.source) == ("8192", ConfigSource.IMAGE)
        await ioctx.config.unset("rbd_readahead_max_bytes")
        assert (await ioctx.config.get("rbd_readahead_max_bytes")).source is ConfigSource.CONFIG
    await cluster.delete_pool(pool)


async def test_unknown_options_and_values_are_refused(image: aiorbd.Image, ioctx: aiorbd.IoCtx) -> None:
    for config in (image.config, ioctx.config):
        for call in (config.get("rbd_none"), config.set("rbd_none", "1"), config.unset("rbd_none")):
            with pytest.raises(aiorbd.OptionNotFound, match="option 'rbd_none' of"):
                await call
        with pytest.raises(aiorbd.InvalidArgument, match="does not accept the value 'many'"):
            await config.set("rbd_qos_iops_limit", "many")
        with pytest.raises(aiorbd.InvalidArgument, match="must not contain NUL"):
            await config.set("rbd_qos_iops_limit", "1\0")
        with pytest.raises(TypeError, match="must be str"):
            await config.set("rbd_qos_iops_limit", 1)  # type: ignore[arg-type]
    assert "conf_rbd_none" not in dict(await image.metadata.items())


async def test_limit_of_requests_acts_on_an_open_image(image: aiorbd.Image) -> None:
    async def seconds(count: int) -> float:
        began = time.monotonic()
        async with anyio.create_task_group() as tasks:
            for number in range(count):
                tasks.start_soon(image.write, b"x", number * 512)
        return time.monotonic() - began

    await image.write(b"x", 0)
    free = await seconds(40)
    await image.config.set("rbd_qos_iops_limit", "20")
    limited = await seconds(40)
    await image.config.unset("rbd_qos_iops_limit")
    assert limited > 0.8  # 20 at once, and then 20 a second
    assert free < limited
    assert await seconds(40) < limited


async def test_read_only_image_refuses_changes(ioctx: aiorbd.IoCtx, make_image: Any) -> None:
    async with ioctx.open_image(await make_image(), read_only=True) as image:
        assert (await image.config.get("rbd_cache")).value in ("true", "false")
        with pytest.raises(aiorbd.ReadOnlyImage):
            await image.config.set("rbd_cache", "false")


async def test_namespace_shows_the_options_of_its_pool_and_sets_none(aiorbd_ioctx: aiorbd.IoCtx) -> None:
    """librbd would store the option, and never use it."""
    assert (await aiorbd_ioctx.config.get("rbd_cache")).value in ("true", "false")
    for call in (aiorbd_ioctx.config.set("rbd_cache", "false"), aiorbd_ioctx.config.unset("rbd_cache")):
        with pytest.raises(aiorbd.OperationNotSupported, match="open the pool without a namespace"):
            await call
    assert await aiorbd_ioctx.metadata.items() == []
    await aiorbd_ioctx.create_image("image", 1 << 20)
    async with aiorbd_ioctx.open_image("image") as image:
        await image.config.set("rbd_cache", "false")
        assert (await image.config.get("rbd_cache")).value == "false"
