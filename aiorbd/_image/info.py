"""Features, layout, times and watchers of an open image."""

from datetime import datetime
from typing import TYPE_CHECKING

from aiorbd._core.listing import Listing
from aiorbd._core.resource import Resource
from aiorbd._image.handle import ImageHandle
from aiorbd._native.loader import ffi, rbd
from aiorbd._native.marshal import decode, number, utc
from aiorbd.enums import Feature, ImageFlag, OperationFeature
from aiorbd.models import Watcher
from aiorbd.pool_models import GroupSpec

if TYPE_CHECKING:
    from aiorbd._native.c_functions import CFunction


class ImageAttributes(Resource[ImageHandle]):
    """Features, layout, times and watchers of an open image. Part of `Image`."""

    @property
    def stripe_unit(self) -> int:
        """The number of bytes that go to one object before the next object follows.

        Implements: rbd_get_stripe_unit
        """
        return self._handle.layout.stripe_unit

    @property
    def stripe_count(self) -> int:
        """The number of objects that a stripe spans.

        Implements: rbd_get_stripe_count
        """
        return self._handle.layout.stripe_count

    @property
    def block_name_prefix(self) -> str:
        """The prefix of the names of the image's objects.

        Implements: rbd_get_block_name_prefix
        """
        return self._handle.layout.block_name_prefix

    @property
    def data_pool_id(self) -> int:
        """The id of the pool that holds the image's data.

        Implements: rbd_get_data_pool_id
        """
        return self._handle.layout.data_pool_id

    @property
    def create_timestamp(self) -> datetime:
        """The time when the image was created.

        Implements: rbd_get_create_timestamp
        """
        return self._handle.layout.create_timestamp

    @property
    def old_format(self) -> bool:
        """Whether the image has the obsolete format 1.

        Implements: rbd_get_old_format
        """
        return not self._handle.image_id

    async def access_timestamp(self) -> datetime:
        """Return the time of the last read. By default, Ceph updates this time once a day.

        Implements: rbd_get_access_timestamp
        """
        return await self._timestamp("rbd_get_access_timestamp")

    async def modify_timestamp(self) -> datetime:
        """Return the time of the last write. By default, Ceph updates this time once a minute.

        Implements: rbd_get_modify_timestamp
        """
        return await self._timestamp("rbd_get_modify_timestamp")

    async def _timestamp(self, function: "CFunction") -> datetime:
        time = await self._handle.get(function, "struct timespec *")
        return utc(time.tv_sec, time.tv_nsec)

    async def features(self) -> Feature:
        """Return the features of the image, including bits without a name in this library.

        Implements: rbd_get_features
        """
        return Feature(await self._handle.get("rbd_get_features", "uint64_t *"))

    async def update_features(self, features: Feature | int, *, enabled: bool) -> None:
        """Switch features on or off. If the call is cancelled, the outcome is unknown.

        Raises:
            InvalidArgument: A feature cannot be switched, or needs another feature.
            ReadOnlyImage: The image is open for reading only.

        Implements: rbd_update_features
        """
        handle = self._handle
        features = number(features, "features", "rbd_update_features", handle.target, bits=64)
        await handle.call("rbd_update_features", int(features), bool(enabled))

    async def op_features(self) -> OperationFeature:
        """Return flags that tell how the image is used: see `OperationFeature`.

        Implements: rbd_get_op_features
        """
        return OperationFeature(await self._handle.get("rbd_get_op_features", "uint64_t *"))

    async def flags(self) -> ImageFlag:
        """Return flags that tell which data about the image is out of date: see `ImageFlag`.

        Implements: rbd_get_flags
        """
        return ImageFlag(await self._handle.get("rbd_get_flags", "uint64_t *"))

    async def group(self) -> GroupSpec | None:
        """Return the consistency group of which the image is a member; None if there is none.

        Implements: rbd_get_group, rbd_group_info_cleanup
        """
        handle = self._handle

        def call() -> GroupSpec | None:
            info, size = ffi.new("rbd_group_info_t *"), ffi.sizeof("rbd_group_info_t")
            handle.raise_on_thread(rbd().rbd_get_group(handle.pointer, info, size), "rbd_get_group")
            try:
                return GroupSpec(info.pool, decode(info.name)) if info.pool >= 0 else None
            finally:
                rbd().rbd_group_info_cleanup(info, size)

        return await handle.run("rbd_get_group", call)

    async def migration_source(self) -> str:
        """Return the source specification of a migration, as JSON text: see `Migration.prepare_import`.

        Raises:
            InvalidArgument: The image is not in a migration.

        Implements: rbd_get_migration_source_spec
        """
        return await self._handle.get_string("rbd_get_migration_source_spec", size_type="size_t *")

    def watchers(self) -> Listing[Watcher]:
        """List the clients that have the image open for writing, including this client.

        Await the result, or iterate over it.

        Implements: rbd_watchers_list
        """
        return self._handle.listing(
            "rbd_watchers_list",
            "rbd_image_watcher_t",
            "rbd_watchers_list_cleanup",
            lambda item: Watcher(decode(item.addr), item.id, item.cookie),
        )
