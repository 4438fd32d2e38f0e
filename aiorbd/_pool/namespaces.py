"""The namespaces of a pool."""

import errno

from aiorbd._core.listing import Listing, whole
from aiorbd._core.pool_handle import PoolHandle
from aiorbd._core.resource import Topic
from aiorbd._native.loader import ffi, rbd
from aiorbd._native.marshal import encode_name, encode_new_name, grow, split
from aiorbd.errors import Target


class Namespaces(Topic[PoolHandle]):
    """The namespaces of a pool: `IoCtx.namespaces`. The namespace of the I/O context itself makes no difference."""

    def _namespace(self, name: str) -> Target:
        return self._handle.about("namespace", f"namespace {name!r}")

    async def create(self, name: str) -> None:
        """Create a namespace. If the call is cancelled, the outcome is unknown.

        Raises:
            NamespaceExists: A namespace with this name already exists.
            InvalidArgument: The name is empty or contains ``@`` or ``/``.

        Implements: rbd_namespace_create
        """
        encoded = encode_new_name(name, "namespace name", "rbd_namespace_create")
        await self._handle.call("rbd_namespace_create", encoded, on=self._namespace(name))

    async def remove(self, name: str) -> None:
        """Remove an empty namespace. If the call is cancelled, the outcome is unknown.

        Raises:
            NamespaceNotFound: No namespace has this name.
            NamespaceBusy: The namespace has images.

        Implements: rbd_namespace_remove
        """
        encoded = encode_name(name, "namespace name", "rbd_namespace_remove")
        await self._handle.call("rbd_namespace_remove", encoded, on=self._namespace(name))

    def names(self) -> Listing[str]:
        """List the names of all namespaces, except the default namespace: await the result, or iterate over it.

        Implements: rbd_namespace_list
        """
        handle = self._handle

        def read(size: int) -> tuple[int, list[str]]:
            names, length = ffi.new("char[]", size), ffi.new("size_t *", size)
            code = rbd().rbd_namespace_list(handle.pointer, names, length)
            if code == -errno.ERANGE:
                return code, []
            handle.raise_for(code, "rbd_namespace_list")
            return code, split(names, length[0])

        async def names() -> list[str]:
            return await handle.run("rbd_namespace_list", lambda: grow(read, 1024))

        return whole(f"namespaces of {handle.target}", names)

    async def exists(self, name: str) -> bool:
        """Tell whether a namespace with this name exists.

        Implements: rbd_namespace_exists
        """
        encoded = encode_name(name, "namespace name", "rbd_namespace_exists")
        return bool(await self._handle.get("rbd_namespace_exists", "bool *", encoded))
