"""Remove images: open images, images in the trash, and half-removed images."""

import errno
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import anyio

from aiorbd._core.long_call import LongCall
from aiorbd._core.pool_handle import PoolHandle
from aiorbd._core.progress import Progress
from aiorbd._image.gate import open_handles
from aiorbd._native.loader import ffi, rados, rbd
from aiorbd._native.marshal import decode, encode_name, grow, grow_string
from aiorbd.enums import OperationFeature, TrashImageSource
from aiorbd.error_codes import error_for
from aiorbd.errors import (
    ClosedError,
    ConnectionShutdown,
    Error,
    ImageBusy,
    InvalidArgument,
    Target,
    Timeout,
)

_REMOVE: Final = "rbd_remove_with_progress"

#: Seconds between two attempts to remove an image that is open somewhere.
_PAUSE: Final = 0.5

#: Seconds to find out, after an error, whether the image is half removed.
_PATIENCE: Final = 5.0


class _Removal(LongCall):
    """The removal of an image by its name."""

    def __init__(self, ioctx: PoolHandle, name: bytes, image_id: str | None, on: Target) -> None:
        super().__init__(ioctx.plain, _REMOVE, name, on=on, also=[ioctx])
        self._ioctx = ioctx
        self._name = name
        self._image_id = image_id

    def prepare(self) -> None:
        """Check that the name still belongs to the image."""
        self._ioctx.require_image(self._name, self._image_id, _REMOVE)


class _RemovalFromTrash(LongCall):
    """The removal of an image that is in the trash."""

    def __init__(self, ioctx: PoolHandle, image_id: bytes, on: Target, *, force: bool) -> None:
        super().__init__(ioctx.plain, "rbd_trash_remove_with_progress", image_id, force, on=on, also=[ioctx])
        self._ioctx = ioctx
        self._image_id = image_id
        self._force = force
        self._on = on

    def explain(self, code: int) -> None:
        """Tell if the image must stay in the trash for longer."""
        if code == -errno.EPERM and not self._force and _is_deferred(self._ioctx, self._image_id):
            message = "the image must stay in the trash for now: force=True removes it"
            raise error_for(code, self.function, self._on, message)


async def remove_by_name(ioctx: PoolHandle, name: str, progress: Progress | None, retry_for: float) -> None:
    """Remove the image that has the name now."""
    encoded = encode_name(name, "image name", _REMOVE)
    ioctx.check()
    image_id = await ioctx.run("rados_read_op_operate", lambda: ioctx.id_of(encoded))
    await _remove(ioctx, name, image_id, progress, retry_for)


async def remove_by_id(ioctx: PoolHandle, image_id: str, progress: Progress | None, retry_for: float) -> None:
    """Remove an image under any name, or complete an earlier removal."""
    encoded = encode_name(image_id, "image id", _REMOVE)
    ioctx.check()
    if await ioctx.run("rbd_trash_get", lambda: _is_removing(ioctx, encoded)):
        await remove_from_trash(ioctx, image_id, force=True, progress=progress, retry_for=retry_for)
        return
    name = await ioctx.run("rbd_open_by_id_read_only", lambda: _name(ioctx, image_id, encoded))
    if await ioctx.run("rbd_trash_get", lambda: _trash_info(ioctx, encoded)) is not None:
        message = f"the image is in the trash. Its name was {name!r}: see IoCtx.trash"
        raise InvalidArgument(errno.EINVAL, message, _REMOVE, str(_by_id(ioctx, image_id)))
    await _remove(ioctx, name, image_id, progress, retry_for)


async def _remove(
    ioctx: PoolHandle, name: str, image_id: str | None, progress: Progress | None, retry_for: float
) -> None:
    """Remove an image by its name, if the name still belongs to the image."""
    encoded, on = encode_name(name, "image name", _REMOVE), ioctx.image(name)

    async def remove() -> None:
        await _Removal(ioctx, encoded, image_id, on).run(progress)

    try:
        await _remove_when_free(ioctx, remove, image_id, ("rbd_open_read_only", encoded), retry_for)
    except (ConnectionShutdown, ClosedError, Timeout):
        raise
    except Exception as error:
        with suppress(Error), anyio.move_on_after(_PATIENCE):
            if image_id is not None and await ioctx.run(
                "rbd_trash_get", lambda: _is_removing(ioctx, image_id.encode())
            ):
                error.add_note(f"The image is half removed: remove_image(image_id={image_id!r}) finishes the work.")
        raise


async def remove_from_trash(
    ioctx: PoolHandle, image_id: str, *, force: bool, progress: Progress | None, retry_for: float
) -> None:
    """Remove an image that is in the trash."""
    encoded = encode_name(image_id, "image id", "rbd_trash_remove_with_progress")
    on = Target("image", f"image id {image_id!r} in the trash of {ioctx.target}")

    async def remove() -> None:
        await _RemovalFromTrash(ioctx, encoded, on, force=bool(force)).run(progress)

    await _remove_when_free(ioctx, remove, image_id, ("rbd_open_by_id_read_only", encoded), retry_for)


async def _remove_when_free(
    ioctx: PoolHandle,
    remove: Callable[[], Awaitable[object]],
    image_id: str | None,
    opening: tuple[str, bytes],
    retry_for: float,
) -> None:
    """Remove an image. While the image is open somewhere, retry for `retry_for` seconds.

    The last error names the clients that have the image open. Images that a shared connection only keeps open for later
    use are closed. `opening` has the C function that opens the image for reading only, and the argument of this
    function.
    """
    deadline = anyio.current_time() + retry_for
    evicted = False
    while True:
        try:
            await remove()
        except ImageBusy as error:
            if not evicted and await evict(ioctx, image_id):
                evicted = True  # only once: a task that opens the image again and again uses it
                continue
            left = deadline - anyio.current_time()
            if left <= 0:
                if openers := await ioctx.run("rbd_watchers_list", lambda: _watchers(ioctx, *opening)):
                    message = f"the image is open at {openers}"
                    raise error_for(-errno.EBUSY, error.operation, Target("image", error.target), message) from None
                if opening[0] == "rbd_open_read_only" and await ioctx.run(
                    "rbd_migration_status", lambda: ioctx.migration_of(opening[1]) is not None
                ):
                    message = "the image is in a migration: commit or abort the migration"
                    raise error_for(-errno.EBUSY, error.operation, Target("image", error.target), message) from None
                raise
            evicted = False
            await anyio.sleep(min(_PAUSE, left))
        else:
            await evict(ioctx, image_id)  # handles kept for reading only did not prevent the removal
            return


async def evict(ioctx: PoolHandle, image_id: str | None) -> bool:
    """Close the handles of an image that a `SharedConnection` only keeps for later use. Tell whether there was one."""
    found = False
    for handle in open_handles(ioctx.bridge, (ioctx.pool_id, ioctx.namespace, image_id)):
        if handle.evict is not None:  # checked at each step: a task may have begun to use the handle
            found = True
            await handle.evict()
    return found


# -- on a worker thread ----------------------------------------------------------------------------


def _by_id(ioctx: PoolHandle, image_id: str) -> Target:
    return Target("image", f"image id {image_id!r} of {ioctx.target}")


def _trash_info(ioctx: PoolHandle, encoded: bytes) -> tuple[int, int] | None:
    """Return the source of an image in the trash and the end of its deferment; None if the image is not there."""
    info = ffi.new("rbd_trash_image_info_t *")
    code = rbd().rbd_trash_get(ioctx.pointer, encoded, info)
    if code == -errno.ENOENT:
        ioctx.require_place("rbd_trash_get")
        return None
    ioctx.raise_for(code, "rbd_trash_get", _by_id(ioctx, os.fsdecode(encoded)))
    try:
        return int(info.source), int(info.deferment_end_time)
    finally:
        rbd().rbd_trash_get_cleanup(info)


def _is_removing(ioctx: PoolHandle, encoded: bytes) -> bool:
    info = _trash_info(ioctx, encoded)
    return info is not None and info[0] == TrashImageSource.REMOVING


def mark_removing(ioctx: PoolHandle, specs: Any, count: int) -> list[bool]:
    """Tell for each image in a list whether the image is half removed. librbd puts these images at the end."""
    marks = [False] * count
    for index in range(count - 1, -1, -1):
        marks[index] = specs[index].id[0] != b"\0" and _is_removing(ioctx, ffi.string(specs[index].id))
        if not marks[index]:
            break
    return marks


def _is_deferred(ioctx: PoolHandle, encoded: bytes) -> bool:
    """Tell whether the deferment of an image in the trash has not ended, by this host's clock."""
    info = _trash_info(ioctx, encoded)
    return info is not None and info[1] > time.time()


def _name(ioctx: PoolHandle, image_id: str, encoded: bytes) -> str:
    function, on = "rbd_open_by_id_read_only", _by_id(ioctx, image_id)
    with ioctx.opened(function, encoded) as (code, image):
        ioctx.raise_on_thread(code, function, on)
        return grow_string(
            lambda buffer, size: rbd().rbd_get_name(image, buffer, ffi.new("size_t *", size)),
            lambda code: ioctx.raise_for(code, "rbd_get_name", on),
        )


def _watchers(ioctx: PoolHandle, opening: str, name: bytes) -> str:
    """Return the addresses of the clients that have an image open for writing; empty if they cannot be found out."""
    own = rados().rados_get_instance_id(ioctx.cluster.pointer)
    with ioctx.opened(opening, name) as (opened, image):

        def read(size: int) -> tuple[int, list[tuple[str, bool]]]:
            watchers, count = ffi.new("rbd_image_watcher_t[]", size), ffi.new("size_t *", size)
            code = rbd().rbd_watchers_list(image, watchers, count)
            if code < 0:
                return code, []
            found = [(decode(watchers[index].addr), watchers[index].id == own) for index in range(count[0])]
            rbd().rbd_watchers_list_cleanup(watchers, count[0])
            return code, found

        openers = Counter(grow(read, 64) if opened >= 0 else [])
    # This connection's own opens come first: the caller can close them.
    return ", ".join(
        address + (" (this connection)" if mine else "") + (f", {times} times" if times > 1 else "")
        for (address, mine), times in sorted(openers.items(), key=lambda item: not item[0][1])
    )


def explain_purge(ioctx: PoolHandle, when: int, code: int) -> None:
    """Raise an error that names an image that prevents the purge of the trash."""

    def look(size: int) -> tuple[int, str | None]:
        items, count = ffi.new("rbd_trash_image_info_t[]", size), ffi.new("size_t *", size)
        listed = rbd().rbd_trash_list(ioctx.pointer, items, count)
        if listed < 0:
            return listed, None
        try:  # find the first expired image that cannot be removed for this reason
            for item in items[0 : count[0]]:
                if item.deferment_end_time <= when and _keeps(ioctx, ffi.string(item.id), code):
                    return listed, f"image {decode(item.name)!r}, id {decode(item.id)!r}"
            return listed, None
        finally:
            rbd().rbd_trash_list_cleanup(items, count[0])

    if code in _KEPT and (name := grow(look, 256)) is not None:
        raise error_for(
            code, "rbd_trash_purge_with_progress", Target("image", f"{name}, in the trash of {ioctx.target}")
        )


#: The reasons that prevent a removal: the image is open, has snapshots, or is a member of a group.
_KEPT: Final = {-errno.EBUSY, -errno.ENOTEMPTY, -errno.EMLINK}


def _keeps(ioctx: PoolHandle, image_id: bytes, code: int) -> bool:
    """Tell whether an image cannot be removed for the reason of the error number `code`."""
    with ioctx.opened("rbd_open_by_id_read_only", image_id) as (opened, image):
        if opened < 0:
            return False
        if code == -errno.EMLINK:
            features = ffi.new("uint64_t *")
            return rbd().rbd_get_op_features(image, features) >= 0 and bool(features[0] & OperationFeature.GROUP)
        if code == -errno.ENOTEMPTY:
            found: int = rbd().rbd_snap_list(image, ffi.new("rbd_snap_info_t[]", 1), ffi.new("int *", 1))
        else:
            found = rbd().rbd_watchers_list(image, ffi.new("rbd_image_watcher_t[]", 0), ffi.new("size_t *", 0))
        return found == -errno.ERANGE  # the list is not empty
