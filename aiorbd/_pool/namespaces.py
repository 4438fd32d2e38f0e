"""The namespaces of a pool."""

import errno
from typing import TypeAlias

from aiorbd._core.pool_handle import PoolHandle
from aiorbd._core.resource import Topic
from aiorbd._native.loader import ffi, rbd
from aiorbd._native.marshal import encode_name, encode_new_name, grow, split
from aiorbd.errors import Target

#: Within the class, `list` is the method: Python 3.14 evaluates annotations there.
_Names: TypeAlias = list[str]


class Namespaces(Topic[PoolHandle]):
    """The namespaces of a pool, whichever the I/O context is in: `IoCtx.namespaces`."""

    def _namespace(self, name: str) -> Target:
        return self._handle.about("namespace", f"namespace {name!r}")

    async def create(self, name: str) -> None:
        """Create a namespace. When cancelled, the outcome is unknown.

        Raises:
            NamespaceExists: There is one of that name.
            InvalidArgument: The name is empty or holds ``@`` or ``/``.

        Implements: rbd_namespace_create
        """
        encoded = encode_new_name(name, "namespace name", "rbd_namespace_create")
        await self._handle.call("rbd_namespace_create", encoded, on=self._namespace(name))

    async def remove(self, name: str) -> None:
        """Remove an empty namespace. When cancelled, the outcome is unknown.

        Raises:
            NamespaceNotFound: There is none of that name.
            NamespaceBusy: It has images.

        Implements: rbd_namespace_remove
        """
        encoded = encode_name(name, "namespace name", "rbd_namespace_remove")
        await self._handle.call("rbd_namespace_remove", encoded, on=self._namespace(name))

    async def list(self) -> _Names:
        """Return the names of all namespaces but the default one.

        Implements: rbd_namespace_list
        """
        handle = self._handle

        def read(size: int) -> tuple[int, _Names]:
            names, length = ffi.new("char[]", size), ffi.new("size_t *", size)
            code = rbd().rbd_namespace_list(handle.pointer, names, length)
            if code == -errno.ERANGE:
                return code, []
            handle.raise_for(code, "rbd_namespace_list")
            return code, split(names, length[0])

        return await handle.run("rbd_namespace_list", lambda: grow(read, 1024))

    async def exists(self, name: str) -> bool:
        """Tell whether there is a namespace of that name.

        Implements: rbd_namespace_exists
        """
        encoded = encode_name(name, "namespace name", "rbd_namespace_exists")
        return bool(await self._handle.get("rbd_namespace_exists", "bool *", encoded))
