"""The applications that use a pool."""

import errno

from aiorbd._core.listing import Listing, whole
from aiorbd._core.pool_handle import PoolHandle
from aiorbd._native.loader import ffi, rados
from aiorbd._native.marshal import grow, split


def pool_applications(handle: PoolHandle) -> Listing[str]:
    """List the applications of a pool: see `IoCtx.applications`."""

    def read(size: int) -> tuple[int, list[str]]:
        names, length = ffi.new("char[]", size), ffi.new("size_t *", size)
        code = rados().rados_application_list(handle.pointer, names, length)
        if code == -errno.ERANGE:
            return code, []
        handle.raise_for(code, "rados_application_list")
        return code, split(names, length[0])

    async def names() -> list[str]:
        return await handle.run("rados_application_list", lambda: grow(read, 1024))

    return whole(f"applications of {handle.target}", names)
