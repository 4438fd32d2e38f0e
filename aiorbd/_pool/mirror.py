"""The mirroring of a pool or namespace."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

from aiorbd._core.listing import Listing
from aiorbd._core.pool_handle import PoolHandle
from aiorbd._core.resource import Topic
from aiorbd._image.mirror_values import image_info, image_status, text
from aiorbd._native.loader import ffi, rbd
from aiorbd._native.marshal import encode_name, encode_text, grow_string, invalid, number
from aiorbd._pool.mirror_peers import MirrorPeers
from aiorbd.enums import MirrorImageMode, MirrorMode, MirrorStatusState
from aiorbd.errors import ObjectNotFound
from aiorbd.mirror_models import MirroredImage, MirrorImageStatus

T = TypeVar("T")

#: The number of images in one request.
PAGE: Final = 64

#: The ids of the images of one page, and what was asked for about each.
Page: TypeAlias = tuple[list[str], list[T]]


class Mirror(Topic[PoolHandle]):
    """The mirroring of a pool or namespace: `IoCtx.mirror`.

    The daemon ``rbd-mirror`` of each site copies the images. The calls here set up the mirroring and report its state.
    """

    @property
    def peers(self) -> MirrorPeers:
        """The other sites with which the pool mirrors its images."""
        return MirrorPeers(self._handle)

    async def mode(self) -> MirrorMode:
        """Return whether the pool mirrors no images, the images of choice, or all images with a journal.

        Implements: rbd_mirror_mode_get
        """
        function: Final = "rbd_mirror_mode_get"
        return MirrorMode(await self._handle.get(function, "rbd_mirror_mode_t *", first=self._handle.require_all))

    async def set_mode(self, mode: MirrorMode | int) -> None:
        """Enable or disable the mirroring of the pool. If the call is cancelled, the outcome is unknown.

        Raises:
            ObjectBusy: The pool still has peers. Remove them before the mirroring is disabled.
            InvalidArgument: Images of the pool are still mirrored, or `mode` is unknown.

        Implements: rbd_mirror_mode_set
        """
        wanted = number(mode, "mode", "rbd_mirror_mode_set", self._handle.target, bits=31)
        await self._handle.call("rbd_mirror_mode_set", wanted, first=self._handle.require_all)

    async def uuid(self) -> str:
        """Return the id under which the other sites know the pool; empty before mirroring was ever enabled.

        Implements: rbd_mirror_uuid_get
        """
        on = self._handle.about("other", "mirroring")
        try:
            return await self._handle.get_string("rbd_mirror_uuid_get", size_type="size_t *", on=on)
        except ObjectNotFound as error:
            if type(error) is not ObjectNotFound:  # the pool or the namespace is missing
                raise
            return ""

    async def site_name(self) -> str:
        """Return the name of this site, which all pools of the cluster share.

        Implements: rbd_mirror_site_name_get
        """
        handle, function = self._handle, "rbd_mirror_site_name_get"
        return await handle.run(
            function,
            lambda: grow_string(
                lambda buffer, size: rbd().rbd_mirror_site_name_get(
                    handle.cluster.pointer, buffer, ffi.new("size_t *", size)
                ),
                lambda code: handle.raise_for(code, function),
            ),
        )

    async def set_site_name(self, name: str) -> None:
        """Set the name of this site, for all pools of the cluster. If the call is cancelled, the outcome is unknown.

        Args:
            name: The name. An empty name resets it to the id of the cluster.

        Implements: rbd_mirror_site_name_set
        """
        handle, function = self._handle, "rbd_mirror_site_name_set"
        encoded = encode_name(name, "site name", function, may_be_empty=True)

        def call() -> None:
            handle.raise_for(rbd().rbd_mirror_site_name_set(handle.cluster.pointer, encoded), function)

        await handle.run(function, call)

    async def remote_namespace(self) -> str:
        """Return the namespace of the other site to which this namespace is mirrored.

        Raises:
            LibraryTooOldError: librbd is older than 20.2.

        Implements: rbd_mirror_remote_namespace_get
        """
        return await self._handle.get_string("rbd_mirror_remote_namespace_get", size_type="size_t *")

    async def set_remote_namespace(self, namespace: str) -> None:
        """Set the namespace of the other site to which this namespace is mirrored.

        If the call is cancelled, the outcome is unknown.

        Raises:
            InvalidArgument: The pool already mirrors images.
            LibraryTooOldError: librbd is older than 20.2.

        Implements: rbd_mirror_remote_namespace_set
        """
        function: Final = "rbd_mirror_remote_namespace_set"
        if "\0" in namespace:
            raise invalid("namespace must not contain NUL", function, self._handle.target)
        await self._handle.call(function, encode_text(namespace, "namespace", function))

    # -- the images ----------------------------------------------------------------------------

    def image_statuses(self) -> Listing[MirrorImageStatus]:
        """List the states of all mirrored images on all sites: await the result, or iterate over it.

        The list does not tell which images are primary here: `MirrorImageInfo.primary` is None.

        Implements: rbd_mirror_image_global_status_list, rbd_mirror_image_global_status_list_cleanup
        """
        function: Final = "rbd_mirror_image_global_status_list"
        handle = self._handle

        def read(start: bytes) -> Page[MirrorImageStatus]:
            ids, items, count = _page("rbd_mirror_image_global_status_t")
            code = rbd().rbd_mirror_image_global_status_list(handle.pointer, start, PAGE, ids, items, count)
            handle.raise_on_thread(code, function)
            names = [text(ids[index]) for index in range(count[0])]
            try:
                return names, [image_status(name, items[i], primary_known=False) for i, name in enumerate(names)]
            finally:
                rbd().rbd_mirror_image_global_status_list_cleanup(ids, items, count[0])

        return self._paged(function, read)

    def images(self, mode: MirrorImageMode | None = None) -> Listing[MirroredImage]:
        """List all mirrored images: await the result, or iterate over it.

        Args:
            mode: List only the images with this mode.

        Implements: rbd_mirror_image_info_list, rbd_mirror_image_info_list_cleanup
        """
        function: Final = "rbd_mirror_image_info_list"
        handle = self._handle
        wanted = ffi.NULL
        if mode is not None:
            wanted = ffi.new("rbd_mirror_image_mode_t *", number(mode, "mode", function, handle.target, bits=31))

        def read(start: bytes) -> Page[MirroredImage]:
            ids, items, count = _page("rbd_mirror_image_info_t")
            modes = ffi.new("rbd_mirror_image_mode_t[]", PAGE)
            code = rbd().rbd_mirror_image_info_list(handle.pointer, wanted, start, PAGE, ids, modes, items, count)
            handle.raise_on_thread(code, function)
            names = [text(ids[index]) for index in range(count[0])]
            try:
                return names, [
                    MirroredImage(name, MirrorImageMode(modes[i]), image_info(items[i])) for i, name in enumerate(names)
                ]
            finally:
                rbd().rbd_mirror_image_info_list_cleanup(ids, items, count[0])

        return self._paged(function, read)

    def instance_ids(self) -> Listing[tuple[str, str]]:
        """List the id of each image that a mirror daemon works on, with the id of the daemon's instance.

        Await the result, or iterate over it.

        Implements: rbd_mirror_image_instance_id_list, rbd_mirror_image_instance_id_list_cleanup
        """
        function: Final = "rbd_mirror_image_instance_id_list"
        handle = self._handle

        def read(start: bytes) -> Page[tuple[str, str]]:
            ids, items, count = _page("char *")
            code = rbd().rbd_mirror_image_instance_id_list(handle.pointer, start, PAGE, ids, items, count)
            handle.raise_on_thread(code, function)
            names = [text(ids[index]) for index in range(count[0])]
            try:
                return names, [(name, text(items[i])) for i, name in enumerate(names)]
            finally:
                rbd().rbd_mirror_image_instance_id_list_cleanup(ids, items, count[0])

        return self._paged(function, read)

    async def status_summary(self) -> dict[MirrorStatusState, int]:
        """Return the number of images in each state that the mirror daemons report.

        Implements: rbd_mirror_image_status_summary
        """
        function: Final = "rbd_mirror_image_status_summary"
        handle = self._handle

        def call() -> dict[MirrorStatusState, int]:
            size = len(MirrorStatusState)
            states, counts = ffi.new("rbd_mirror_image_status_state_t[]", size), ffi.new("int[]", size)
            length = ffi.new("size_t *", size)
            code = rbd().rbd_mirror_image_status_summary(handle.pointer, states, counts, length)
            handle.raise_on_thread(code, function)
            return {MirrorStatusState(states[index]): counts[index] for index in range(length[0])}

        return await handle.run(function, call)

    def _paged(self, function: str, read: Callable[[bytes], Page[T]]) -> Listing[T]:
        """Return a listing that asks page by page. `read` takes the last id of the page before."""
        handle = self._handle
        start: bytes | None = b""

        def ask(after: bytes) -> Page[T]:
            names, items = read(after)
            if not (names or after):
                handle.require_all()  # a missing pool or namespace looks empty
            return names, items

        async def next_page() -> list[T]:
            nonlocal start
            if start is None:
                return []
            names, items = await handle.run(function, partial(ask, start))
            start = names[-1].encode() if len(names) == PAGE else None
            return items

        return Listing(f"{function} on {handle.target}", next_page)


def _page(item_type: str) -> tuple[Any, Any, Any]:
    return ffi.new("char *[]", PAGE), ffi.new(f"{item_type}[]", PAGE), ffi.new("size_t *", PAGE)
