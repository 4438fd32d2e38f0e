"""Metadata of images and pools."""

import json

import pytest
from fix_lag import measured_lag, patience
from fix_witness import Witness

import aiorbd

pytestmark = pytest.mark.anyio


async def test_of_an_image(image: aiorbd.Image, witness: Witness) -> None:
    metadata = image.metadata
    assert [item async for item in metadata.items()] == []
    await metadata.set("colour", "grün")
    await metadata.set("empty", "")
    assert await metadata.get("colour") == "grün"
    assert await metadata.get("empty") == ""
    shown = json.loads(await witness.rbd("image-meta", "ls", image.name, "--format", "json"))
    assert shown == dict([item async for item in metadata.items()]) == {"colour": "grün", "empty": ""}
    await metadata.set("colour", "blau")
    assert (await witness.rbd("image-meta", "get", image.name, "colour")).decode().strip() == "blau"
    await metadata.remove("colour")
    assert [item async for item in metadata.items()] == [("empty", "")]


async def test_of_a_pool(cluster: aiorbd.Cluster, name: str, witness: Witness) -> None:
    await cluster.create_pool(name)
    async with cluster.open_ioctx(name) as ioctx:
        await ioctx.init_pool()
        await ioctx.metadata.set("conf_rbd_cache", "false")
        assert await ioctx.metadata.get("conf_rbd_cache") == "false"
        shown = json.loads(await witness.rbd("config", "pool", "ls", name, "--format", "json"))
        assert [o["value"] for o in shown if o["name"] == "rbd_cache"] == ["false"]
        assert [item async for item in ioctx.metadata.items()] == [("conf_rbd_cache", "false")]
        await ioctx.metadata.remove("conf_rbd_cache")
        with pytest.raises(aiorbd.MetadataNotFound, match=f"metadata key 'conf_rbd_cache' of pool '{name}'"):
            await ioctx.metadata.get("conf_rbd_cache")
        with pytest.raises(aiorbd.MetadataNotFound):
            await ioctx.metadata.remove("conf_rbd_cache")
    await cluster.delete_pool(name)


async def test_missing_key_raises_metadata_not_found(image: aiorbd.Image) -> None:
    for call in (image.metadata.get, image.metadata.remove):
        with pytest.raises(aiorbd.MetadataNotFound, match="metadata key 'none' of image 'rbd/") as caught:
            await call("none")
        assert isinstance(caught.value, KeyError)
        assert isinstance(caught.value, FileNotFoundError)


async def test_empty_keys_and_nul_bytes_raise_invalid_argument(image: aiorbd.Image) -> None:
    for key in ("", "a\0b"):
        for call in (image.metadata.get, image.metadata.remove, lambda key: image.metadata.set(key, "value")):
            with pytest.raises(aiorbd.InvalidArgument, match="key must not"):
                await call(key)
    with pytest.raises(aiorbd.InvalidArgument, match="value must not contain NUL"):
        await image.metadata.set("key", "a\0b")


async def test_large_value_is_stored_and_listed(image: aiorbd.Image) -> None:
    value = "x" * 300_000
    await image.metadata.set("large", value)
    assert await image.metadata.get("large") == value
    assert [item async for item in image.metadata.items()] == [("large", value)]


async def test_many_keys(image: aiorbd.Image) -> None:
    """A listing of more than two pages returns every item, page by page."""
    from aiorbd._core.metadata import PAGE

    expected = {f"key-{number:04}": f"value-{number}" * (number % 5) for number in range(2 * PAGE + 9)}
    for key, value in expected.items():
        await image.metadata.set(key, value)
    async with measured_lag() as lag:
        seen = [item async for item in image.metadata.items()]
    assert seen == sorted(expected.items())
    assert lag.worst < patience(0.2)


async def test_listing_returns_all_keys_when_they_fill_exactly_one_page(image: aiorbd.Image) -> None:
    from aiorbd._core.metadata import PAGE

    for number in range(PAGE):
        await image.metadata.set(f"{number:04}", "x")
    assert len([item async for item in image.metadata.items()]) == PAGE


async def test_read_only_images(ioctx: aiorbd.IoCtx, image: aiorbd.Image) -> None:
    await image.metadata.set("key", "value")
    async with ioctx.open_image(image.name, read_only=True) as other:
        assert await other.metadata.get("key") == "value"
        with pytest.raises(aiorbd.ReadOnlyImage):
            await other.metadata.set("key", "other")
        with pytest.raises(aiorbd.ReadOnlyImage):
            await other.metadata.remove("key")
