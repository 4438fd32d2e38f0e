"""Images of a pool: create, list, rename, remove and open them."""

from typing import Any

import pytest
from fix_witness import Witness
from helpers import MakeImage, new_name
from inside import handle_of

import aiorbd

pytestmark = pytest.mark.anyio

MIB = 1 << 20


async def test_create_and_list(ioctx: aiorbd.IoCtx, name: str, witness: Witness) -> None:
    await ioctx.create_image(name, 5 * MIB)
    assert name in await ioctx.list_images()
    assert name in await witness.names()
    assert (await witness.info(name))["size"] == 5 * MIB
    (spec,) = [spec async for spec in ioctx.images() if spec.name == name]
    assert spec.id == (await witness.info(name))["id"]


async def test_list_images_returns_more_images_than_one_page_holds(
    aiorbd_ioctx: aiorbd.IoCtx, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiorbd._core.handle.PAGE", 16)
    names = {f"image-{number:04}" for number in range(40)}
    for name in names:
        await aiorbd_ioctx.create_image(name, 0, order=12, features=0)
    assert set(await aiorbd_ioctx.list_images()) == names


async def test_namespaces_have_separate_images(
    ioctx: aiorbd.IoCtx, aiorbd_ioctx: aiorbd.IoCtx, name: str, witness: Witness
) -> None:
    assert aiorbd_ioctx.namespace
    assert await aiorbd_ioctx.list_images() == []
    await aiorbd_ioctx.create_image(name, MIB)
    assert await aiorbd_ioctx.list_images() == [name]
    assert name not in await ioctx.list_images()
    spec = f"rbd/{aiorbd_ioctx.namespace}/{name}"
    async with aiorbd_ioctx.open_image(name) as image:
        await image.write(b"here", 0)
        with pytest.raises(aiorbd.PastEndOfImage, match=spec):
            await image.read(MIB, 1)
    assert (await witness.export(spec))[:4] == b"here"


async def test_create_and_rename_to_an_existing_name_raise_image_exists(
    ioctx: aiorbd.IoCtx, make_image: MakeImage
) -> None:
    name = await make_image()
    with pytest.raises(aiorbd.ImageExists, match=f"rbd/{name}") as caught:
        await ioctx.create_image(name, MIB)
    assert isinstance(caught.value, FileExistsError)
    other = await make_image()
    with pytest.raises(aiorbd.ImageExists, match=other):
        await ioctx.rename_image(name, other)


async def test_rename(ioctx: aiorbd.IoCtx, make_image: MakeImage, name: str, witness: Witness) -> None:
    old = await make_image()
    await ioctx.rename_image(old, name)
    names = await witness.names()
    assert name in names
    assert old not in names


async def test_remove(ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness) -> None:
    name = await make_image()
    reports = []
    await ioctx.remove_image(name, progress=lambda done, total: reports.append((done, total)))
    assert name not in await witness.names()
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    assert all(0 <= done <= total for done, total in reports)


async def test_missing_images(ioctx: aiorbd.IoCtx) -> None:
    for call in (ioctx.remove_image, ioctx.open_image, lambda name: ioctx.rename_image(name, new_name())):
        with pytest.raises(aiorbd.ImageNotFound, match="rbd/no-such-image") as caught:
            await call("no-such-image")
        assert isinstance(caught.value, FileNotFoundError)
    with pytest.raises(aiorbd.ImageNotFound, match="no-such-id"):
        await ioctx.open_image(image_id="no-such-id")


async def test_remove_of_an_open_image_or_an_image_with_snapshots_is_refused(
    ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness
) -> None:
    name = await make_image()
    async with ioctx.open_image(name), ioctx.open_image(name):
        with pytest.raises(aiorbd.ImageBusy, match=name):
            await ioctx.remove_image(name)
    await witness.rbd("snap", "create", "--no-progress", f"{name}@one")
    with pytest.raises(aiorbd.ImageHasSnapshots, match=name):
        await ioctx.remove_image(name)


@pytest.mark.parametrize("bad", ["", "a@b", "a/b", "a\0b"])
async def test_names_nobody_should_make(ioctx: aiorbd.IoCtx, make_image: MakeImage, bad: str) -> None:
    with pytest.raises(aiorbd.InvalidArgument, match="must not"):
        await ioctx.create_image(bad, MIB)
    name = await make_image()
    with pytest.raises(aiorbd.InvalidArgument, match="must not"):
        await ioctx.rename_image(name, bad)


async def test_images_with_invalid_names_can_be_opened_and_renamed(ioctx: aiorbd.IoCtx) -> None:
    """librbd accepts such names, so such images exist. The test creates them with the C function itself."""
    from aiorbd._native.image_options import ImageOptions
    from aiorbd._native.loader import rbd

    for bad in (new_name("a@b"), new_name("a/b")):

        def create(name: Any = bad) -> Any:
            return rbd().rbd_create4(handle_of(ioctx).pointer, name.encode(), MIB, ImageOptions()._pointer)

        assert await handle_of(ioctx).run("rbd_create4", create) == 0
        async with ioctx.open_image(bad) as image:
            assert image.name == bad
            await image.write(b"x", 0)
        fixed = new_name()
        await ioctx.rename_image(bad, fixed)
        await ioctx.remove_image(fixed)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"size": -1}, aiorbd.InvalidArgument),
        ({"size": 1 << 63}, aiorbd.InvalidArgument),
        ({"order": 5}, aiorbd.ArgumentOutOfRange),
        ({"order": -1}, aiorbd.InvalidArgument),
        ({"features": 1 << 70}, aiorbd.InvalidArgument),
        ({"stripe_unit": 4096}, aiorbd.InvalidArgument),
        ({"stripe_unit": 5000, "stripe_count": 2}, aiorbd.InvalidArgument),
        ({"data_pool": "no-such-pool"}, aiorbd.PoolNotFound),
        ({"journal_pool": "no-such-pool", "features_set": aiorbd.Feature.JOURNALING}, aiorbd.PoolNotFound),
        ({"data_pool": ""}, aiorbd.InvalidArgument),
    ],
    ids=str,
)
async def test_create_with_invalid_options_is_refused(
    ioctx: aiorbd.IoCtx, name: str, witness: Witness, options: Any, error: Any
) -> None:
    with pytest.raises(error):
        await ioctx.create_image(name, **{"size": MIB} | options)
    assert name not in await witness.names()


async def test_open_by_id(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> None:
    name = await make_image()
    (spec,) = [spec async for spec in ioctx.images() if spec.name == name]
    async with ioctx.open_image(image_id=spec.id) as image:
        assert (image.id, image.name) == (spec.id, name)
        await image.write(b"by id", 0)
        await image.flush()
        async with ioctx.open_image(image_id=spec.id, read_only=True) as other:
            assert await other.read(0, 5) == b"by id"


async def test_open_takes_one_of_name_and_id(ioctx: aiorbd.IoCtx) -> None:
    wrong: list[dict[str, Any]] = [{}, {"name": "a", "image_id": "b"}]
    for arguments in wrong:
        with pytest.raises(TypeError, match="either a name or an image_id"):
            await ioctx.open_image(**arguments)
    with pytest.raises(aiorbd.InvalidArgument, match="must not be empty"):
        await ioctx.open_image("")
    with pytest.raises(aiorbd.InvalidArgument, match="must not be empty"):
        await ioctx.open_image("a", snapshot="")


async def test_a_missing_snapshot_is_not_a_missing_image(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> None:
    name = await make_image()
    with pytest.raises(aiorbd.SnapshotNotFound, match=f"snapshot 'nowhen' of image 'rbd/{name}'"):
        await ioctx.open_image(name, snapshot="nowhen")
    with pytest.raises(aiorbd.ImageNotFound, match="no-such-image"):
        await ioctx.open_image("no-such-image", snapshot="nowhen")


async def test_read_only_images(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> None:
    async with ioctx.open_image(await make_image(), read_only=True) as image:
        assert image.read_only
        changes: dict[str, Any] = {
            "write": lambda: image.write(b"x", 0),
            "writev": lambda: image.writev([b"x"], 0),
            "write_same": lambda: image.write_same(b"x", 0, 1),
            "compare_and_write": lambda: image.compare_and_write(b"\0", b"x", 0),
            "discard": lambda: image.discard(0, 1),
            "write_zeroes": lambda: image.write_zeroes(0, 1),
            "resize": lambda: image.resize(MIB, allow_shrink=True),
        }
        for change in changes.values():
            with pytest.raises(aiorbd.ReadOnlyImage, match=image.name):
                await change()
        await image.flush()
        assert await image.read(0, 1) == b"\0"
