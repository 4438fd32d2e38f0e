"""What a service does with the volumes of a pool, without HTTP."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
from pydantic import BaseModel, Field
from volume_jobs import BusyError, Job, Jobs

import aiorbd

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


#: With these errors, a removal has removed no data.
UNTOUCHED = aiorbd.ObjectBusy, aiorbd.ImageHasSnapshots, aiorbd.ImageMemberOfGroup


class RefusedError(Exception):
    """The request makes no sense for this volume."""


class Source(BaseModel):
    """A snapshot to clone."""

    volume: str = Field(pattern=NAME)
    snapshot: str = Field(pattern=NAME)


class NewVolume(BaseModel):
    """A volume to create: empty with a size, or as a clone of a snapshot."""

    name: str = Field(pattern=NAME)
    size: int | None = Field(default=None, gt=0, lt=2**60)
    source: Source | None = None


class NewName(BaseModel):
    """The name of a snapshot or of a copy to create."""

    name: str = Field(pattern=NAME)


class NewSize(BaseModel):
    """The new size of a volume. A smaller size removes data, and needs `allow_shrink`."""

    size: int = Field(gt=0, lt=2**60)
    allow_shrink: bool = False


@dataclass
class Volumes:
    """The volumes of a pool, and the jobs that work on them."""

    pool: str
    shared: aiorbd.SharedConnection
    jobs: Jobs
    #: The most seconds to remove an incomplete copy.
    cleanup_timeout: float
    #: Held while leftovers are removed: two removals of one image would disturb each other.
    cleaning: anyio.Lock = field(default_factory=anyio.Lock)

    def ioctx(self) -> AbstractAsyncContextManager[aiorbd.IoCtx]:
        """Use the pool."""
        return self.shared.open_ioctx(self.pool)

    def image(self, name: str) -> AbstractAsyncContextManager[aiorbd.Image]:
        """Use an image of the pool."""
        return self.shared.open_image(self.pool, name)

    async def names(self) -> list[str]:
        """Return the names of all volumes. Incomplete copies have other names."""
        async with self.ioctx() as ioctx:
            return sorted(one.name for one in await ioctx.images() if not one.removing and not one.name.startswith("."))

    async def remove_leftovers(self) -> None:
        """Remove the incomplete copies of a service that was killed. Those of a running service are in use."""
        async with self.ioctx() as ioctx, self.cleaning:
            for one in await ioctx.images():
                if one.name.startswith(".") and one.name.endswith(".copying"):
                    with suppress(aiorbd.ImageBusy, aiorbd.ImageNotFound):
                        await ioctx.remove_image(one.name, retry_for=35)  # by name: a complete copy gets another one

    async def show(self, name: str) -> dict[str, Any]:
        """Describe a volume."""
        async with self.image(name) as image:
            parent = await image.parent()
            return {
                "name": name,
                "size": await image.size(),
                "snapshots": [{"name": one.name, "size": one.size} for one in await image.snapshots()],
                "parent": parent and {"volume": parent.image.image_name, "snapshot": parent.snapshot_name},
            }

    async def create(self, new: NewVolume) -> None:
        """Create an empty volume or a clone."""
        self.jobs.require_idle(new.name)  # a failed removal needs the name again
        async with self.ioctx() as ioctx:
            if new.size is not None and new.source is None:
                await ioctx.create_image(new.name, new.size)
            elif new.source is not None and new.size is None:
                source = new.source
                await ioctx.clone_image(source.volume, source.snapshot, ioctx, new.name, clone_format=2)
            else:
                raise RefusedError("a new volume takes either a size or a source")

    async def create_snapshot(self, name: str, snapshot: str) -> None:
        """Create a snapshot of a volume."""
        async with self.image(name) as image:
            await image.create_snapshot(snapshot)

    async def remove_snapshot(self, name: str, snapshot: str) -> None:
        """Remove a snapshot of a volume."""
        async with self.image(name) as image:
            await (await image.get_snapshot(snapshot)).remove()

    async def remove(self, name: str) -> Job:
        """Begin to remove a volume: it goes to the trash first, so that no volume lacks a part of its data."""
        async with self.image(name) as image:
            await require_no_snapshots(image)

        async def work(report: aiorbd.Progress) -> None:
            async with self.image(name) as image, self.ioctx() as ioctx:
                await require_no_snapshots(image)
                image_id = image.id
                await ioctx.trash.move(name)
            async with self.ioctx() as ioctx:
                try:
                    await ioctx.trash.remove(image_id, progress=report, retry_for=5)
                except UNTOUCHED as error:  # for example, another client uses it
                    try:
                        await ioctx.trash.restore(image_id, name)
                    except aiorbd.ObjectExists:
                        raise BusyError(f"{error}; the name is taken: the trash has {image_id}") from error
                    raise
                except aiorbd.Error as error:
                    raise BusyError(f"{error}; the trash has {image_id}, perhaps without a part of its data") from error

        return self.jobs.start("remove", name, work)

    async def resize(self, name: str, new: NewSize) -> Job:
        """Begin to change the size of a volume."""
        async with self.image(name) as image:
            if new.size < await image.size() and not new.allow_shrink:
                raise RefusedError(f"volume {name} would lose data: set allow_shrink to allow this")

        async def work(report: aiorbd.Progress) -> None:
            async with self.image(name) as image:
                await image.resize(new.size, allow_shrink=new.allow_shrink, progress=report)

        return self.jobs.start("resize", name, work)

    async def flatten(self, name: str) -> Job:
        """Begin to copy the parent's data into a clone."""
        async with self.image(name) as image:
            if await image.parent() is None:
                raise RefusedError(f"volume {name} is no clone")

        async def work(report: aiorbd.Progress) -> None:
            async with self.image(name) as image:
                await image.flatten(progress=report)

        return self.jobs.start("flatten", name, work)

    async def copy(self, name: str, snapshot: str, target: str) -> Job:
        """Begin to copy a snapshot to a new volume. The copy has another name until it is complete."""
        if target in await self.names():
            raise BusyError(f"volume {target} exists")
        async with self.shared.open_image(self.pool, name, snapshot=snapshot):
            pass  # it exists

        async def work(report: aiorbd.Progress) -> None:
            async with self.shared.open_image(self.pool, name, snapshot=snapshot) as source, self.ioctx() as ioctx:
                async with self._incomplete(ioctx, target) as hidden:
                    await ioctx.create_image(hidden, await source.size())
                    async with ioctx.open_image(hidden) as copy:
                        await aiorbd.copy_image(source, copy, progress=report)
                    await ioctx.rename_image(hidden, target)

        return self.jobs.start("copy", target, work)

    @asynccontextmanager
    async def _incomplete(self, ioctx: aiorbd.IoCtx, target: str) -> AsyncIterator[str]:
        """Return the name for an incomplete volume. Remove the volume if the block fails."""
        hidden = f".{target}.copying"
        async with self.cleaning:
            with suppress(aiorbd.ImageNotFound):  # unless a service that was killed left it
                await ioctx.remove_image(hidden, retry_for=35)  # the cluster forgets a killed client after 30 s
        try:
            yield hidden
        except BaseException:
            with anyio.move_on_after(self.cleanup_timeout, shield=True), suppress(aiorbd.Error):
                await ioctx.remove_image(hidden)
            raise


async def require_no_snapshots(image: aiorbd.Image) -> None:
    """Raise if an image has snapshots."""
    if await image.snapshots():
        raise BusyError(f"volume {image.name} has snapshots: remove them first")
