"""An image in which every block holds its own number."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from helpers import new_name

import aiorbd
from aiorbd.testing import DevCluster

MIB = 1 << 20

#: Every 4 KiB hold the number of the block, apart from a hole.
CONTENT = b"".join(number.to_bytes(4, "big") * 1024 * (not 2048 <= number < 3072) for number in range(4096))
CONTENT = CONTENT[: 8 * MIB] + bytes(4 * MIB) + CONTENT[8 * MIB :]


async def fill(image: aiorbd.Image) -> None:
    for offset in (0, 4 * MIB, 12 * MIB):
        await image.write(CONTENT[offset : offset + 4 * MIB], offset)
    await image.flush()


@pytest.fixture(scope="module")
def name_of_full(aiorbd_cluster: DevCluster) -> Any:
    name = new_name("full")

    async def make() -> None:
        async with aiorbd.connect(aiorbd_cluster.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
            await ioctx.create_image(name, 16 * MIB)
            async with ioctx.open_image(name) as image:
                await fill(image)

    anyio.run(make)
    return name


@pytest.fixture
async def full(ioctx: aiorbd.IoCtx, name_of_full: Any) -> AsyncIterator[Any]:
    """Open a shared image and return the image and its content. Tests must not change the image."""
    async with ioctx.open_image(name_of_full) as image:
        yield image, CONTENT
