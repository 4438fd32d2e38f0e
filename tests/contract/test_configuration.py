"""The options of a connection, the applications of a pool, and the map of the cluster."""

import json
import warnings

import pytest
from fix_witness import Witness
from helpers import MakeImage, new_name

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio


async def test_options_of_an_open_connection(
    aiorbd_cluster: DevCluster, make_image: MakeImage, cluster: aiorbd.Cluster
) -> None:
    """An option applies to images that are opened afterwards, and to this connection only."""
    name = await make_image()
    async with aiorbd.connect(aiorbd_cluster.conffile, conf={"rbd_cache": "true"}) as own:
        assert await own.conf_get("rbd_cache") == "true"
        async with own.open_ioctx("rbd") as ioctx:
            await own.conf_set("rbd_cache", "false")
            assert await own.conf_get("rbd_cache") == "false"
            async with ioctx.open_image(name) as image:
                assert (await image.config.get("rbd_cache")).value == "false"
                await image.write(b"data", 0)
        assert await cluster.conf_get("rbd_cache") == "true"


async def test_features_of_new_images_follow_the_option(aiorbd_cluster: DevCluster, witness: Witness) -> None:
    name = new_name()
    async with aiorbd.connect(aiorbd_cluster.conffile) as own, own.open_ioctx("rbd") as ioctx:
        default = aiorbd.Feature.from_names(await own.conf_get("rbd_default_features"))
        assert aiorbd.Feature.EXCLUSIVE_LOCK in default
        await own.conf_set("rbd_default_features", "layering")
        assert aiorbd.Feature.from_names(await own.conf_get("rbd_default_features")) == aiorbd.Feature.LAYERING
        await ioctx.create_image(name, 1 << 20)
        assert json.loads(await witness.rbd("info", name, "--format", "json"))["features"] == ["layering"]
        await ioctx.remove_image(name)


def test_names_of_features_as_one_text() -> None:
    both = aiorbd.Feature.LAYERING | aiorbd.Feature.EXCLUSIVE_LOCK
    assert aiorbd.Feature.from_names("layering, exclusive-lock") == both
    assert aiorbd.Feature.from_names("5") == both
    assert aiorbd.Feature.from_names("") == aiorbd.Feature(0)
    with pytest.raises(ValueError, match="no such feature: 'layers'"):
        aiorbd.Feature.from_names("layering,layers")


async def test_errors_about_options_name_the_option(cluster: aiorbd.Cluster) -> None:
    with pytest.raises(aiorbd.OptionNotFound, match=r"no such option .*'rbd_none'"):
        await cluster.conf_get("rbd_none")
    with pytest.raises(aiorbd.OptionNotFound, match=r"no such option .*'rbd_none'"):
        await cluster.conf_set("rbd_none", "1")
    with pytest.raises(aiorbd.InvalidArgument, match=r"does not take this value .*'rbd_cache'"):
        await cluster.conf_set("rbd_cache", "perhaps")
    with pytest.raises(TypeError, match="must be str"):
        await cluster.conf_set("rbd_cache", False)  # type: ignore[arg-type]
    for name in ("librados_thread_count", "mon_host", "ms_type"):
        before = await cluster.conf_get(name)
        with pytest.raises(aiorbd.OperationNotSupported, match="cannot change while the connection is open"):
            await cluster.conf_set(name, "3")
        assert await cluster.conf_get(name) == before


@pytest.mark.parametrize("value", ["secret-7Qx\0", "secret-7Qx\udfff", "secret-7Qx"])
async def test_errors_about_options_do_not_contain_the_value(aiorbd_cluster: DevCluster, value: str) -> None:
    async with aiorbd.connect(aiorbd_cluster.conffile) as own:
        with pytest.raises(aiorbd.RbdError) as caught:
            await own.conf_set("key", value)
    assert "7Qx" not in f"{caught.value!r} {caught.value}"
    with pytest.raises((aiorbd.Error, ValueError)) as caught_too:
        await aiorbd.connect(aiorbd_cluster.conffile, conf={"key": value, "none": "1"})
    assert "7Qx" not in f"{caught_too.value!r} {caught_too.value}"


async def test_a_timeout_that_loses_data_warns(aiorbd_cluster: DevCluster) -> None:
    async with aiorbd.connect(aiorbd_cluster.conffile) as own:
        with pytest.warns(RuntimeWarning, match="less than it takes to replace a dead OSD"):
            await own.conf_set("rados_osd_op_timeout", "2")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await own.conf_set("rados_osd_op_timeout", "0")


async def test_applications_of_a_pool(cluster: aiorbd.Cluster, aiorbd_cluster: DevCluster) -> None:
    pool = new_name("pool")
    await cluster.create_pool(pool)
    async with cluster.open_ioctx(pool) as ioctx:
        assert ioctx.pool_id == await cluster.pool_id(pool)
        assert await ioctx.applications() == []
        await ioctx.application_enable("rbd")
        await ioctx.application_enable("rbd")  # twice is allowed
        with pytest.raises(aiorbd.PermissionError):
            await ioctx.application_enable("backup")
        await ioctx.application_enable("backup", force=True)
        assert sorted([name async for name in ioctx.applications()]) == ["backup", "rbd"]
        get = ("osd", "pool", "application", "get", pool, "--format", "json")
        assert set(json.loads(await aiorbd_cluster.run("ceph", *get))) == {"backup", "rbd"}
    await cluster.delete_pool(pool)


async def test_the_latest_map_of_the_cluster(aiorbd_cluster: DevCluster, cluster: aiorbd.Cluster) -> None:
    """A pool that another client has just made is known after the wait."""
    for _ in range(5):
        pool = new_name("pool")
        await aiorbd_cluster.run("ceph", "osd", "pool", "create", pool)
        await cluster.wait_for_latest_osdmap()
        assert pool in await cluster.pools()
        await cluster.delete_pool(pool)
