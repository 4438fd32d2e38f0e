"""Check whether librbd caches reads: compare_and_write bypasses that cache."""

import errno
from typing import Any

from aiorbd._image.handle import ImageHandle
from aiorbd._native.loader import ffi, rbd
from aiorbd._native.marshal import decode, grow
from aiorbd.errors import OperationNotSupported

_FUNCTION = "rbd_config_image_list"


def _options(handle: ImageHandle) -> dict[str, str]:
    """Return the image's configuration, with the overrides of image and pool. Runs on a worker thread."""

    def read(size: int) -> tuple[int, Any]:
        options, count = ffi.new("rbd_config_option_t[]", size), ffi.new("int *", size)
        code = rbd().rbd_config_image_list(handle.pointer, options, count)
        if code == -errno.ERANGE:
            return code, None
        handle.raise_for(code, _FUNCTION)
        try:
            return code, {decode(options[i].name): decode(options[i].value) for i in range(count[0])}
        finally:
            rbd().rbd_config_image_list_cleanup(options, count[0])

    found: dict[str, str] = grow(read, 256)
    return found


async def require_no_read_cache(handle: ImageHandle, operation: str) -> None:
    """Raise if librbd's cache would still return the old data after `operation`. Ask only once for each image."""
    async with handle.asking_policy:  # only one task asks: each question occupies a thread
        if handle.caches_reads is None:
            options = await handle.run(_FUNCTION, lambda: _options(handle))
            policy = options.get("rbd_cache_policy", "")
            handle.caches_reads = options.get("rbd_cache") == "true" and policy != "writearound"
    if handle.caches_reads:
        remedy = "set rbd_cache_policy to writearound, or rbd_cache to false"
        message = f"librbd's cache would go on returning the old data: {remedy}"
        raise OperationNotSupported(errno.EOPNOTSUPP, message, operation, str(handle.target))
