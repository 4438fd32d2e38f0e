"""Keys and values that are stored with an image or with a pool."""

import errno
from typing import TYPE_CHECKING, Any, Final, cast

from aiorbd._core.handle import Handle
from aiorbd._core.listing import Listing
from aiorbd._core.resource import Topic
from aiorbd._native import loader
from aiorbd._native.loader import ffi
from aiorbd._native.marshal import encode_name, encode_text, grow, invalid, split
from aiorbd.errors import Target

if TYPE_CHECKING:
    from aiorbd._native.c_functions import CFunction

#: The number of keys in one request.
PAGE: Final = 64


class Metadata(Topic[Handle]):
    """Keys and values, both text: `Image.metadata` for an image, `IoCtx.metadata` for a pool.

    Keys that begin with ``conf_`` override Ceph's options for that image or pool, as `Config.set` does. In a namespace,
    such keys have no effect.
    """

    def __init__(self, handle: Handle, prefix: str) -> None:
        """Private."""
        super().__init__(handle)
        self._prefix = prefix

    def _function(self, name: str) -> "CFunction":
        """Return the name of one of the C functions."""
        return cast("CFunction", f"{self._prefix}_{name}")

    def _key(self, key: str) -> Target:
        return self._handle.about("key", f"metadata key {key!r}")

    async def get(self, key: str) -> str:
        """Return the value of a key. The value may have any size.

        Raises:
            MetadataNotFound: The key does not exist. The error is also a `KeyError`.

        Implements: rbd_metadata_get, rbd_pool_metadata_get
        """
        function = self._function("get")
        encoded = encode_name(key, "key", function)
        return await self._handle.get_string(function, encoded, size_type="size_t *", on=self._key(key))

    async def set(self, key: str, value: str) -> None:
        """Set the value of a key. A cancelled call has an unknown outcome.

        Raises:
            InvalidArgument: The key is empty, or the key or the value contains NUL.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_metadata_set, rbd_pool_metadata_set
        """
        function = self._function("set")
        encoded = encode_name(key, "key", function)
        if "\0" in value:
            raise invalid("value must not contain NUL", function, self._key(key))
        handle = self._handle
        await handle.call(
            function, encoded, encode_text(value, "value", function), on=self._key(key), first=handle.require_all
        )

    async def remove(self, key: str) -> None:
        """Remove a key. A cancelled call has an unknown outcome.

        Raises:
            MetadataNotFound: The key does not exist. The error is also a `KeyError`.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_metadata_remove, rbd_pool_metadata_remove
        """
        function = self._function("remove")
        encoded = encode_name(key, "key", function)
        on = self._key(key)
        c_function = getattr(loader.rbd(), function)
        handle = self._handle

        def call() -> None:
            # Ceph reports success for the removal of a missing key, so ask for the key first.
            size = ffi.new("size_t *", 0)
            code = getattr(loader.rbd(), self._function("get"))(handle.pointer, encoded, ffi.NULL, size)
            if code not in (0, -errno.ERANGE):
                handle.raise_on_thread(code, function, on)
            handle.raise_on_thread(c_function(handle.pointer, encoded), function, on)

        await handle.run(function, call, on=on)

    def items(self) -> Listing[tuple[str, str]]:
        """Iterate over all keys and their values, in the order of the keys.

        One page of keys is in memory at a time.

        Implements: rbd_metadata_list, rbd_pool_metadata_list
        """
        handle, function = self._handle, self._function("list")
        start: bytes | None = b""

        def read(size: int) -> tuple[int, Any]:
            keys, values = ffi.new("char[]", size), ffi.new("char[]", size)
            key_length, value_length = ffi.new("size_t *", size), ffi.new("size_t *", size)
            c_function = getattr(loader.rbd(), function)
            code = c_function(handle.pointer, start, PAGE, keys, key_length, values, value_length)
            if code == -errno.ERANGE:
                return code, None
            handle.raise_on_thread(code, function)
            if not key_length[0]:
                handle.require_all()
            return code, list(zip(split(keys, key_length[0]), split(values, value_length[0]), strict=True))

        async def next_page() -> list[tuple[str, str]]:
            nonlocal start
            if start is None:
                return []
            page: list[tuple[str, str]] = await handle.run(function, lambda: grow(read, 4096))
            start = encode_name(page[-1][0], "key", function) if len(page) == PAGE else None
            return page

        return Listing(f"metadata of {handle.target}", next_page)
