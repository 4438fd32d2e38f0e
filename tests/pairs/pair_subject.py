"""The image on which calls run in pairs, and the list of these calls."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count

import aiorbd
from aiorbd import Feature

SIZE = 16 << 20
OBJECT = 1 << 20

#: Features that depend on each other, so one call switches both.
SWITCHED = Feature.OBJECT_MAP | Feature.FAST_DIFF


class Subject:
    """An image with a snapshot, on its own connection. `elsewhere` is the image on another connection, or None."""

    def __init__(
        self,
        ioctx: aiorbd.IoCtx,
        image: aiorbd.Image,
        base: aiorbd.Snapshot,
        target: aiorbd.Image,
        elsewhere: aiorbd.Image | None = None,
    ) -> None:
        self.ioctx, self.image, self.base, self.target, self.elsewhere = ioctx, image, base, target, elsewhere
        self._numbers = count()

    def new_name(self, prefix: str) -> str:
        """Return a name that is not used in the pool."""
        return f"{self.image.name}-{prefix}{next(self._numbers)}"

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[aiorbd.Snapshot]:
        """Create a snapshot and remove it."""
        snapshot = await self.image.create_snapshot(self.new_name("s"))
        try:
            yield snapshot
        finally:
            await snapshot.remove()

    async def removed(self, name: str) -> None:
        """Remove an image that a call created."""
        with contextlib.suppress(aiorbd.ImageNotFound):
            await self.ioctx.remove_image(name)


Call = Callable[[Subject], Awaitable[object]]
CALLS: dict[str, Call] = {}

#: The calls of another client. They are in no pair unless they are asked for: two clients that hand the exclusive lock
#: over can wait for each other for ever inside librbd.
ELSEWHERE: dict[str, Call] = {}


def call(function: Call) -> Call:
    """Add a call under the name of its function."""
    CALLS[function.__name__] = function
    return function
