"""Statistics of a pool, and the bytes that its images use."""

from functools import partial
from typing import TypeVar

from aiorbd._core.gathering import gathered
from aiorbd._core.listing import Listing
from aiorbd._core.pool_handle import PoolHandle
from aiorbd._image.image import open_image
from aiorbd._native.loader import ffi, rbd
from aiorbd._native.marshal import as_integer, invalid
from aiorbd.enums import PoolStatOption
from aiorbd.errors import ImageNotFound
from aiorbd.models import ImageSpec, PoolStats
from aiorbd.pool_models import ImageDiskUsage

T = TypeVar("T")


def pool_usage(
    handle: PoolHandle, close_timeout: float, images: Listing[ImageSpec], *, exact: bool, depth: int
) -> Listing[ImageDiskUsage]:
    """List the used bytes of each image: see `IoCtx.disk_usage`."""
    if as_integer(depth, "depth") < 1:
        raise invalid(f"depth {depth} is not positive", "rbd_diff_iterate2", handle.target)

    batch: list[ImageSpec] = []  # kept until its page is complete: a cancelled step must not lose images

    async def one(image: ImageSpec) -> ImageDiskUsage | None:
        name, image_id = (None, image.id) if image.id else (image.name, None)
        try:
            opening = open_image(handle, close_timeout, name, image_id, None, read_only=True)
            async with await opening as opened:
                return ImageDiskUsage(image.name, image.id, await opened.disk_usage(exact=exact))
        except ImageNotFound:  # removed meanwhile
            return None

    async def next_page() -> list[ImageDiskUsage]:
        page: list[ImageDiskUsage] = []
        while not page:
            while len(batch) < depth and (image := await anext(images, None)) is not None:
                if not image.removing:
                    batch.append(image)
            if not batch:
                break
            page = [usage for usage in await gathered([partial(one, image) for image in batch]) if usage is not None]
            batch.clear()
        return page

    return Listing(f"disk usage of {handle.target}", next_page)


async def pool_stats(handle: PoolHandle) -> PoolStats:
    """Return the statistics of a pool or namespace: see `IoCtx.pool_stats`."""

    def call() -> PoolStats:
        pointer = ffi.new("rbd_pool_stats_t *")
        values = ffi.new("uint64_t[]", len(PoolStatOption))
        rbd().rbd_pool_stats_create(pointer)
        try:
            for option in PoolStatOption:
                code = rbd().rbd_pool_stats_option_add_uint64(pointer[0], option, values + option)
                handle.raise_for(code, "rbd_pool_stats_option_add_uint64")
            handle.raise_on_thread(rbd().rbd_pool_stats_get(handle.pointer, pointer[0]), "rbd_pool_stats_get")
        finally:
            rbd().rbd_pool_stats_destroy(pointer[0])
        if not any(values):
            handle.require_all()
        return PoolStats(*values)

    return await handle.run("rbd_pool_stats_get", call)
