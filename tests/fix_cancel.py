"""The operations that the cancellation tests cancel: one of every kind, on one image."""

import gc
from typing import Any

import pytest
from helpers import new_name

import aiorbd

SIZE = 4 << 20


class Subject:
    """An image with a snapshot, the objects that `prepare` made, and their connection."""

    def __init__(self, cluster: aiorbd.Cluster, ioctx: aiorbd.IoCtx, image: aiorbd.Image) -> None:
        self.cluster, self.ioctx, self.image = cluster, ioctx, image
        self.updates: Any = None
        self.clone: Any = None
        self.closable: Any = None

    async def open(self) -> None:
        async with self.ioctx.open_image(self.image.name, read_only=True):
            pass

    async def diff(self) -> None:
        async for _ in self.image.diff():
            pass

    async def flushed_write(self) -> None:
        await self.image.write(b"w" * 4096, 8192)
        await self.image.flush()

    async def prepare(self, kind: Any) -> None:
        """Make the object that an operation of this kind uses up."""
        name = new_name()
        if kind == "watch":
            self.updates = self.image.watch()
        if kind == "progress":
            await self.image.clone("one", self.ioctx, name, clone_format=2)
            self.clone = await self.ioctx.open_image(name)
        if kind == "close":  # an image with a write, for which its close has to wait
            await self.ioctx.create_image(name, SIZE)
            self.closable = await self.ioctx.open_image(name)
            await self.closable.write(b"c" * 4096, 0)

    async def close_what_was_prepared(self) -> None:
        if self.updates is not None:
            await self.updates.aclose()
        if self.clone is not None:
            await settled(self.clone)
            await self.clone.write(b"alive", 0)
            await self.clone.close(timeout=30)
        if self.closable is not None:
            await self.closable.close(timeout=30)
        self.updates = self.clone = self.closable = None


async def new_subject(cluster: aiorbd.Cluster, ioctx: aiorbd.IoCtx, name: str) -> Any:
    await ioctx.create_image(name, SIZE, order=16)
    image = await ioctx.open_image(name)
    await image.write(b"a" * (1 << 20), 0)
    await image.create_snapshot("one")
    return Subject(cluster, ioctx, image)


#: By kind: the awaitable, and the handle that counts the operation.
KINDS: dict[str, Any] = {
    "read": lambda s: (s.image, s.image.read(0, 4096)),
    "write": lambda s: (s.image, s.flushed_write()),
    "open": lambda s: (None, s.open()),
    "close": lambda s: (None, s.closable.close(timeout=60)),
    "thread": lambda s: (s.image, s.image.metadata.set("key", "value")),
    "diff": lambda s: (s.image, s.diff()),
    "watch": lambda s: (None, s.updates.wait()),
    "progress": lambda s: (s.clone, s.clone.flatten()),
    "rados": lambda s: (s.ioctx, s.ioctx.objects.write_full("object", b"x")),
}
#: All other kinds complete within a moment while the OSD runs.
LONG = {"watch"}
#: These kinds use up their object, so that a test can run them once only.
ONCE = {"close", "progress"}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


async def settled(*handles: Any) -> None:
    gc.collect()  # a forgotten diff stops; `drain` does not wait for a diff that is still referenced
    for handle in handles:
        await handle.drain(timeout=30)
        assert handle.in_flight == 0
