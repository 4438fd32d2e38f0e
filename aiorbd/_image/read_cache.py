"""Check whether librbd caches reads: compare_and_write bypasses that cache."""

import errno
from typing import Final

from aiorbd._core.config import read_options
from aiorbd._image.handle import ImageHandle
from aiorbd.errors import OperationNotSupported

_FUNCTION: Final = "rbd_config_image_list"


async def require_no_read_cache(handle: ImageHandle, operation: str) -> None:
    """Raise if librbd's cache would still return the old data after `operation`. Ask only once for each image."""
    async with handle.asking_policy:  # only one task asks: each question occupies a thread
        if handle.caches_reads is None:
            options = await handle.run(_FUNCTION, lambda: read_options(handle, _FUNCTION))
            policy = options["rbd_cache_policy"].value
            handle.caches_reads = options["rbd_cache"].value == "true" and policy != "writearound"
    if handle.caches_reads:
        remedy = "set rbd_cache_policy to writearound, or rbd_cache to false"
        message = f"librbd's cache would go on returning the old data: {remedy}"
        raise OperationNotSupported(errno.EOPNOTSUPP, message, operation, str(handle.target))
