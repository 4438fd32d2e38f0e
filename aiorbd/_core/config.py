"""The options of librbd for an image or for a pool."""

import errno
from typing import TYPE_CHECKING, Any, cast

from aiorbd._core.handle import Handle
from aiorbd._core.listing import Listing
from aiorbd._core.resource import Topic
from aiorbd._native import loader
from aiorbd._native.loader import ffi
from aiorbd._native.marshal import decode, encode_name, encode_text, grow, invalid
from aiorbd.enums import ConfigSource
from aiorbd.errors import InvalidArgument, OperationNotSupported, OptionNotFound, Target
from aiorbd.pool_models import ConfigOption

if TYPE_CHECKING:
    from aiorbd._native.c_functions import CFunction


class Config(Topic[Handle]):
    """The options of librbd, as they apply to an image (`Image.config`) or to the images of a pool (`IoCtx.config`).

    An option of the image overrides the option of the pool, which overrides Ceph's configuration. Clients that have the
    image open for writing use a new value of the image at once. A new value of the pool applies to images that are
    opened afterwards.
    """

    def __init__(self, handle: Handle, kind: str) -> None:
        """Private. `kind` is "image" or "pool"."""
        super().__init__(handle)
        self._list = cast("CFunction", f"rbd_config_{kind}_list")
        prefix = "rbd_metadata" if kind == "image" else "rbd_pool_metadata"
        self._set = cast("CFunction", f"{prefix}_set")
        self._get = cast("CFunction", f"{prefix}_get")
        self._remove = cast("CFunction", f"{prefix}_remove")

    def _option(self, name: str) -> Target:
        return self._handle.about("option", f"option {name!r}")

    def options(self) -> Listing[ConfigOption]:
        """List all options that an image or a pool can have, with their values.

        Await the result, or iterate over it.

        Implements: rbd_config_image_list, rbd_config_image_list_cleanup, rbd_config_pool_list,
        rbd_config_pool_list_cleanup
        """
        return self._handle.listing(
            self._list, "rbd_config_option_t", f"{self._list}_cleanup", _converted, count_type="int *"
        )

    async def get(self, name: str) -> ConfigOption:
        """Return an option, with the value that applies.

        Raises:
            OptionNotFound: An image or a pool has no such option. The error is also a `KeyError`.

        Implements: rbd_config_image_list, rbd_config_pool_list
        """
        encode_name(name, "option name", self._list)
        return await self._handle.run(self._list, lambda: self._require(name, self._list))

    async def set(self, name: str, value: str) -> None:
        """Set an option of the image or of the pool. If the call is cancelled, the outcome is unknown.

        Raises:
            OptionNotFound: An image or a pool has no such option.
            InvalidArgument: The option does not accept the value.
            ReadOnlyImage: The image is open for reading only.
            OperationNotSupported: The I/O context is a namespace. Options belong to the whole pool.

        Implements: rbd_metadata_set, rbd_pool_metadata_set
        """
        handle, on, function = self._handle, self._option(name), self._set
        encoded = encode_name(name, "option name", function)
        if not isinstance(value, str):
            raise TypeError(f"the value of an option must be str, not {type(value).__name__}")
        if "\0" in value:
            raise invalid("value must not contain NUL", function, on)
        encoded_value = encode_text(value, "value", function)

        def why(code: int) -> None:
            if code == -errno.EINVAL:
                message = f"the option does not accept the value {value!r}"
                raise InvalidArgument(errno.EINVAL, message, function, str(on))

        await handle.call(
            function,
            b"conf_" + encoded,
            encoded_value,
            on=on,
            first=lambda: self._require_to_change(name, function),
            why=why,
        )

    async def unset(self, name: str) -> None:
        """Remove the value of an option from the image or from the pool, so that another value applies.

        If no value was set, nothing changes. If the call is cancelled, the outcome is unknown.

        Raises:
            OptionNotFound: An image or a pool has no such option.
            ReadOnlyImage: The image is open for reading only.
            OperationNotSupported: The I/O context is a namespace. Options belong to the whole pool.

        Implements: rbd_metadata_remove, rbd_pool_metadata_remove
        """
        handle, on = self._handle, self._option(name)
        encoded = encode_name(name, "option name", self._remove)
        key = b"conf_" + encoded

        def call() -> None:
            self._require_to_change(name, self._remove)
            size = ffi.new("size_t *", 0)
            code = getattr(loader.rbd(), self._get)(handle.pointer, key, ffi.NULL, size)
            if code != -errno.ENOENT:
                code = getattr(loader.rbd(), self._remove)(handle.pointer, key)
                handle.raise_on_thread(0 if code == -errno.ENOENT else code, self._remove, on)

        await handle.run(self._remove, call, on=on)

    def _require(self, name: str, function: str) -> ConfigOption:
        """Return an option, or raise if it does not exist. Runs on a worker thread."""
        option = read_options(self._handle, self._list).get(name)
        if option is None:
            on = str(self._option(name))
            raise OptionNotFound(errno.ENOENT, "an image or a pool has no such option", function, on)
        return option

    def _require_to_change(self, name: str, function: str) -> None:
        """Like `_require`, and raise for a namespace. Runs on a worker thread.

        librbd would store an option of a namespace, but uses only the options of the pool.
        """
        self._require(name, function)
        if getattr(self._handle, "namespace", ""):
            message = "options belong to the whole pool: open the pool without a namespace"
            raise OperationNotSupported(errno.EOPNOTSUPP, message, function, str(self._handle.target))


def read_options(handle: Handle, function: "CFunction") -> dict[str, ConfigOption]:
    """Return all options of an image or a pool by name. Runs on a worker thread."""

    def read(size: int) -> tuple[int, dict[str, ConfigOption]]:
        options, count = ffi.new("rbd_config_option_t[]", size), ffi.new("int *", size)
        code = getattr(loader.rbd(), function)(handle.pointer, options, count)
        if code == -errno.ERANGE:
            return code, {}
        handle.raise_on_thread(code, function)
        try:
            return 0, {option.name: option for option in map(_converted, options[0 : count[0]])}
        finally:
            getattr(loader.rbd(), f"{function}_cleanup")(options, count[0])

    return grow(read, 256)


def _converted(item: Any) -> ConfigOption:
    return ConfigOption(decode(item.name), decode(item.value), ConfigSource(item.source))
