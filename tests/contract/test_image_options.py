"""Options for creating images: the mapping, and images created with these options."""

from typing import Any

import pytest
from fix_witness import Witness

import aiorbd
from aiorbd import Feature, ImageOption, ImageOptions, MirrorImageMode

pytestmark = pytest.mark.anyio

MIB = 1 << 20

VALUES = {
    ImageOption.FORMAT: 2,
    ImageOption.FEATURES: Feature.LAYERING | Feature.JOURNALING,
    ImageOption.ORDER: 20,
    ImageOption.STRIPE_UNIT: 65536,
    ImageOption.STRIPE_COUNT: 16,
    ImageOption.JOURNAL_ORDER: 16,
    ImageOption.JOURNAL_SPLAY_WIDTH: 4,
    ImageOption.JOURNAL_POOL: "journals",
    ImageOption.FEATURES_SET: 1 << 63,
    ImageOption.FEATURES_CLEAR: 8,
    ImageOption.DATA_POOL: "p" * 300,
    ImageOption.FLATTEN: 1,
    ImageOption.CLONE_FORMAT: 2,
    ImageOption.MIRROR_IMAGE_MODE: MirrorImageMode.SNAPSHOT,
}


def test_a_mapping() -> None:
    options = ImageOptions()
    assert options.is_empty
    assert (len(options), dict(options)) == (0, {})
    assert set(VALUES) == set(ImageOption)
    for option, value in VALUES.items():
        assert option not in options
        with pytest.raises(KeyError):
            options[option]
        with pytest.raises(KeyError):
            del options[option]
        options[option] = value  # type: ignore[assignment]
        assert option in options
        assert options[option] == value
    assert dict(options) == VALUES
    assert not options.is_empty
    assert ImageOptions(options) == options
    assert "ImageOption.ORDER" in repr(options)
    del options[ImageOption.ORDER]
    assert ImageOption.ORDER not in options
    assert options.get(ImageOption.ORDER, 7) == 7
    assert options.pop(ImageOption.STRIPE_COUNT) == 16
    assert len(options) == 12
    options.clear()
    assert options.is_empty


def test_invalid_options_and_values_are_refused() -> None:
    options = ImageOptions()
    for value in (-1, 1 << 64):
        with pytest.raises(aiorbd.InvalidArgument, match=f"value {value} is out of range"):
            options[ImageOption.ORDER] = value
    for option, value in ((ImageOption.ORDER, "22"), (ImageOption.DATA_POOL, 3), (ImageOption.ORDER, 2.5)):  # type: ignore[assignment]
        with pytest.raises(TypeError, match="must be"):
            options[option] = value
    for value in ("", "a\0b"):  # type: ignore[assignment]
        with pytest.raises(aiorbd.InvalidArgument, match="must not"):
            options[ImageOption.DATA_POOL] = value
    for option in (99, -1):  # type: ignore[assignment]
        with pytest.raises(aiorbd.InvalidArgument, match="no such image option"):
            options[option] = 1
        assert option not in options
    assert "order" not in options  # type: ignore[comparison-overlap]
    assert options.is_empty


async def test_options_and_keywords(ioctx: aiorbd.IoCtx, name: str, witness: Witness) -> None:
    options = ImageOptions({ImageOption.ORDER: 20, ImageOption.FEATURES: Feature.LAYERING})
    await ioctx.create_image(name, 5 * MIB, options, order=21)
    info = await witness.info(name)
    assert (info["order"], info["features"]) == (21, ["layering"])
    assert options[ImageOption.ORDER] == 20
    with pytest.raises(TypeError, match=r"create_image\(\) got an unexpected keyword argument 'colour'"):
        await ioctx.create_image("other", 1, colour="red")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="keywords like order=22, not 22"):
        await ioctx.create_image("other", 1, 22)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        (ImageOption.ORDER, 11),
        (ImageOption.ORDER, 26),
        (ImageOption.ORDER, (1 << 8) + 22),
        (ImageOption.ORDER, (1 << 32) + 22),
        (ImageOption.STRIPE_UNIT, (1 << 32) + 4096),
        (ImageOption.STRIPE_COUNT, 1 << 32),
        (ImageOption.STRIPE_COUNT, 3 << 32),
        (ImageOption.STRIPE_COUNT, (1 << 32) + 2),
        (ImageOption.JOURNAL_ORDER, (1 << 8) + 22),
        (ImageOption.JOURNAL_SPLAY_WIDTH, (1 << 8) + 4),
        (ImageOption.MIRROR_IMAGE_MODE, 1 << 31),
        (ImageOption.FORMAT, 0),
        (ImageOption.FORMAT, 3),
        (ImageOption.CLONE_FORMAT, 3),
    ],
)
def test_values_that_librbd_would_truncate_are_refused(option: Any, value: int) -> None:
    with pytest.raises(aiorbd.ArgumentOutOfRange, match=r"out of range|not between|neither 1 nor 2"):
        ImageOptions({option: value})


async def test_valid_layout_options_reach_the_image(ioctx: aiorbd.IoCtx, name: str) -> None:
    await ioctx.create_image(name, 1 << 23, order=20, stripe_unit=4096, stripe_count=255)
    async with ioctx.open_image(name) as image:
        assert ((await image.stat()).order, image.stripe_unit, image.stripe_count) == (20, 4096, 255)
