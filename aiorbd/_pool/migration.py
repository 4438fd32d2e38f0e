"""Live migration: move an image to another pool, name or layout, or import an image, while clients use it."""

import errno
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Unpack

from aiorbd._core.long_call import LongCall
from aiorbd._core.pool_handle import PoolHandle
from aiorbd._core.progress import Progress
from aiorbd._core.resource import Topic
from aiorbd._native.image_options import ImageKeywords, ImageOptions, merged
from aiorbd._native.loader import ffi, rbd
from aiorbd._native.marshal import decode, encode_name, encode_new_name, encode_secret, handle_of, invalid
from aiorbd._pool.removal import evict
from aiorbd.enums import MigrationState
from aiorbd.errors import InvalidArgument, ObjectNotFound, Target
from aiorbd.pool_models import MigrationStatus

if TYPE_CHECKING:
    from aiorbd._native.c_functions import CFunction
    from aiorbd._pool.ioctx import IoCtx


class Migration(Topic[PoolHandle]):
    """The migrations of images from or to a pool or namespace: `IoCtx.migration`.

    A migration has three steps. `prepare` links a new image to its source. From then on, clients open the new image.
    `execute` copies the data in the background. `commit` ends the link and removes the source. `abort` undoes all
    steps before `commit`. The last four calls take the name of the new image, in this pool or namespace, or the
    name of the source.
    """

    async def prepare(
        self,
        name: str,
        ioctx: "IoCtx",
        new_name: str,
        options: ImageOptions | None = None,
        **keywords: Unpack[ImageKeywords],
    ) -> None:
        """Link a new image to an image of this pool or namespace. If the call is cancelled, the outcome is unknown.

        Args:
            name: The name of the source image. No client may have the image open.
            ioctx: The pool or namespace of the new image: this I/O context, or another one of the same cluster.
            new_name: The name of the new image.
            options: Options of the new image.
            **keywords: More options: see `ImageKeywords`. With ``flatten=True``, the new image has no parent.

        Raises:
            ImageNotFound: The source does not exist.
            ImageExists: An image with the name `new_name` exists in `ioctx`.
            ImageBusy: The source is open somewhere, or its migration has begun already.
            InvalidArgument: The source has mirroring enabled, or an option is not acceptable.

        Implements: rbd_migration_prepare
        """
        function: Final = "rbd_migration_prepare"
        encoded, new = encode_name(name, "image name", function), encode_new_name(new_name, "new image name", function)
        target = handle_of(ioctx, PoolHandle, "ioctx")
        wanted = merged(options, keywords, "prepare")
        on = Target("image", f"{self._handle.image(name)}, new image {target.name + '/' + new_name!r}")
        await self._evict(encoded)
        await self._handle.call(function, encoded, target.pointer, new, wanted._pointer, on=on, also=[target])

    async def prepare_import(
        self,
        source: str | Mapping[str, Any],
        name: str,
        options: ImageOptions | None = None,
        **keywords: Unpack[ImageKeywords],
    ) -> None:
        """Link a new image of this pool or namespace to data from outside: a file or a server.

        If the call is cancelled, the outcome is unknown.

        Args:
            source: The source specification, as JSON text or as a mapping: the ``type`` (``native``, ``raw`` or
                ``qcow``), and for the last two a ``stream`` with its own ``type`` (``file``, ``http`` or ``s3``). See
                Ceph's page about live migration. Each client of the new image reads this source, until `execute` ends.
            name: The name of the new image.
            options: Options of the new image.
            **keywords: More options: see `ImageKeywords`.

        Raises:
            ObjectNotFound: The source does not exist.
            ImageExists: An image with this name exists.
            InvalidArgument: The specification is malformed, or an option is not acceptable.

        Implements: rbd_migration_prepare_import
        """
        function: Final = "rbd_migration_prepare_import"
        handle, on = self._handle, self._handle.image(name)
        new = encode_new_name(name, "image name", function)
        spec = source if isinstance(source, str) else _json(source, on)
        encoded = encode_secret(spec, "the source specification", function, on)
        wanted = merged(options, keywords, "prepare_import")

        def call() -> None:
            handle.require_all()
            code = rbd().rbd_migration_prepare_import(encoded, handle.pointer, new, wanted._pointer)
            if code == -errno.ENOENT:
                raise ObjectNotFound(errno.ENOENT, "the source does not exist", function, str(on))
            if code in (-errno.EBADMSG, -errno.ENOSYS):
                raise InvalidArgument(-code, "librbd does not understand the source specification", function, str(on))
            handle.raise_on_thread(code, function, on)

        await handle.run(function, call, on=on)

    async def execute(self, name: str, *, progress: Progress | None = None) -> None:
        """Copy the data of the source to the new image, while clients use the new image.

        librbd cannot be stopped: a cancelled call continues in librbd. After an interruption, for example the end of
        the process, another call continues the copy.

        Args:
            name: The name of the new image, or of the source.
            progress: Called on the event loop as ``progress(done, total)``.

        Raises:
            ImageNotFound: The image does not exist.
            InvalidArgument: The image is not prepared for a migration.

        Implements: rbd_migration_execute_with_progress
        """
        await self._step("rbd_migration_execute_with_progress", name, progress)

    async def commit(self, name: str, *, progress: Progress | None = None) -> None:
        """End a migration, and remove its source. librbd cannot be stopped: a cancelled call continues in librbd.

        Args:
            name: The name of the new image, or of the source.
            progress: Called on the event loop as ``progress(done, total)``.

        Raises:
            ImageNotFound: The image does not exist.
            InvalidArgument: `execute` has not ended, or the image is not in a migration.
            ImageBusy: A clone of the source still uses the source.

        Implements: rbd_migration_commit_with_progress
        """
        await self._step("rbd_migration_commit_with_progress", name, progress)

    async def abort(self, name: str, *, progress: Progress | None = None) -> None:
        """Undo a migration: remove the new image, and make the source usable again.

        Writes to the new image are lost. librbd cannot be stopped: a cancelled call continues in librbd.

        Args:
            name: The name of the new image, or of the source.
            progress: Called on the event loop as ``progress(done, total)``.

        Raises:
            ImageNotFound: The image does not exist.
            InvalidArgument: The image is not in a migration.
            ImageBusy: The new image is open somewhere.

        Implements: rbd_migration_abort_with_progress
        """
        await self._step("rbd_migration_abort_with_progress", name, progress)

    async def status(self, name: str) -> MigrationStatus:
        """Return the state of a migration.

        Args:
            name: The name of the new image, or of the source.

        Raises:
            ImageNotFound: The image does not exist.
            InvalidArgument: The image is not in a migration.

        Implements: rbd_migration_status, rbd_migration_status_cleanup
        """
        function: Final = "rbd_migration_status"
        handle, on, encoded = self._handle, self._handle.image(name), encode_name(name, "image name", function)

        def call() -> MigrationStatus:
            out = ffi.new("rbd_image_migration_status_t *")
            size = ffi.sizeof("rbd_image_migration_status_t")
            handle.raise_on_thread(rbd().rbd_migration_status(handle.pointer, encoded, out, size), function, on)
            try:
                return MigrationStatus(
                    out.source_pool_id,
                    decode(out.source_pool_namespace),
                    decode(out.source_image_name),
                    decode(out.source_image_id),
                    out.dest_pool_id,
                    decode(out.dest_pool_namespace),
                    decode(out.dest_image_name),
                    decode(out.dest_image_id),
                    MigrationState(out.state),
                    decode(out.state_description),
                )
            finally:
                rbd().rbd_migration_status_cleanup(out)

        return await handle.run(function, call, on=on)

    async def _evict(self, name: bytes) -> None:
        """Close the handles of an image that are only kept for later use. They would count as open."""
        handle = self._handle
        handle.check()
        await evict(handle, await handle.run("rados_read_op_operate", lambda: handle.id_of(name)))

    async def _step(self, function: "CFunction", name: str, progress: Progress | None) -> None:
        encoded = encode_name(name, "image name", function)
        on = self._handle.image(name)
        if function == "rbd_migration_abort_with_progress":  # this removes an image, which must not be open
            await self._evict(encoded)
        await LongCall(self._handle, function, encoded, on=on, stoppable=False).run(progress)


def _json(source: Mapping[str, Any], on: Target) -> str:
    if not isinstance(source, Mapping):
        raise TypeError(f"the source must be JSON text or a mapping, not {type(source).__name__}")
    try:
        return json.dumps(dict(source))
    except (TypeError, ValueError) as error:
        raise invalid(f"the source is not JSON: {error}", "rbd_migration_prepare_import", on) from None
