"""What an open image is made of, and who uses it."""

from datetime import datetime

from aiorbd._core.listing import Listing
from aiorbd._core.resource import Resource
from aiorbd._image.handle import ImageHandle
from aiorbd._native.loader import ffi, rbd
from aiorbd._native.marshal import decode, number, utc
from aiorbd.enums import Feature, ImageFlag, OperationFeature
from aiorbd.models import Watcher


class ImageAttributes(Resource[ImageHandle]):
    """Features, layout, times and watchers of an open image: part of `Image`."""

    @property
    def stripe_unit(self) -> int:
        """Bytes that go to one object before the next one's turn.

        Implements: rbd_get_stripe_unit
        """
        return self._handle.layout.stripe_unit

    @property
    def stripe_count(self) -> int:
        """Objects that a stripe spans.

        Implements: rbd_get_stripe_count
        """
        return self._handle.layout.stripe_count

    @property
    def block_name_prefix(self) -> str:
        """What the names of the image's objects begin with.

        Implements: rbd_get_block_name_prefix
        """
        return self._handle.layout.block_name_prefix

    @property
    def data_pool_id(self) -> int:
        """The id of the pool that holds the data.

        Implements: rbd_get_data_pool_id
        """
        return self._handle.layout.data_pool_id

    def create_timestamp(self) -> datetime:
        """Return when the image was made.

        Implements: rbd_get_create_timestamp
        """
        return self._timestamp("rbd_get_create_timestamp")

    def access_timestamp(self) -> datetime:
        """Return when it was last read from; Ceph notes it once a day unless told otherwise.

        Implements: rbd_get_access_timestamp
        """
        return self._timestamp("rbd_get_access_timestamp")

    def modify_timestamp(self) -> datetime:
        """Return when it was last written to; Ceph notes it once a minute unless told otherwise.

        Implements: rbd_get_modify_timestamp
        """
        return self._timestamp("rbd_get_modify_timestamp")

    def _timestamp(self, function: str) -> datetime:
        handle = self._handle
        handle.check()
        out = ffi.new("struct timespec *")
        handle.raise_for(getattr(rbd(), function)(handle.pointer, out), function)
        return utc(out.tv_sec, out.tv_nsec)

    async def features(self) -> Feature:
        """Return the image's features; bits that this library has no name for are kept.

        Implements: rbd_get_features
        """
        return Feature(await self._handle.get("rbd_get_features", "uint64_t *"))

    async def update_features(self, features: Feature | int, enabled: bool) -> None:
        """Switch features on or off. When cancelled, the outcome is unknown.

        Raises:
            InvalidArgument: One of them cannot be switched, or needs another one.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_update_features
        """
        handle = self._handle
        features = number(features, "features", "rbd_update_features", handle.target, bits=64)
        await handle.call("rbd_update_features", int(features), bool(enabled))

    async def op_features(self) -> OperationFeature:
        """Return what uses the image.

        Implements: rbd_get_op_features
        """
        return OperationFeature(await self._handle.get("rbd_get_op_features", "uint64_t *"))

    async def flags(self) -> ImageFlag:
        """Return what is out of date about the image.

        Implements: rbd_get_flags
        """
        return ImageFlag(await self._handle.get("rbd_get_flags", "uint64_t *"))

    async def old_format(self) -> bool:
        """Tell whether the image has the obsolete format 1.

        Implements: rbd_get_old_format
        """
        return bool(await self._handle.get("rbd_get_old_format", "uint8_t *"))

    def watchers(self) -> Listing[Watcher]:
        """Iterate over the clients that have the image open for writing, this one included.

        Implements: rbd_watchers_list
        """
        return self._handle.listing(
            "rbd_watchers_list",
            "rbd_image_watcher_t",
            "rbd_watchers_list_cleanup",
            lambda item: Watcher(decode(item.addr), item.id, item.cookie),
        )
