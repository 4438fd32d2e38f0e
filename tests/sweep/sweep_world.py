"""The objects on which the sweep makes its calls, and the way each call is made."""

import asyncio
import itertools
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiorbd


@dataclass
class World:
    """The objects on which the calls are made. The sweep makes new ones when a call has changed them."""

    conf: str
    directory: str
    cluster: aiorbd.Cluster
    ioctx: aiorbd.IoCtx
    image: aiorbd.Image
    snapshot: aiorbd.Snapshot


@dataclass
class Call:
    """A call with good arguments. Functions among the arguments take the world and return the argument."""

    make: Callable[[World], Callable[..., Any]]
    arguments: dict[str, Any]
    #: By argument: a function that returns the value an argument resulted in, for arguments that accept large values.
    seen: dict[str, Callable[[World, dict[str, Any]], Any]] = field(default_factory=dict)
    #: Arguments that are times to wait. The call may wait for a large one.
    waits: frozenset[str] = frozenset({"timeout", "retry_for", "idle_timeout"})
    #: Arguments that accept any value.
    free: frozenset[str] = frozenset()
    #: The arguments to sweep. Empty means all.
    places: tuple[str, ...] = ()
    #: Seconds for one attempt.
    patience: float = 8.0


#: Arguments that only count as true or false.
TRUTHS = frozenset(
    {
        "allow_shrink", "any_namespace", "enabled", "exact", "flatten", "force", "full_try", "include_parent",
        "ordered", "read_only", "resize", "skip_zeroes", "thick", "use_object_map", "whole_object",
    }
)  # fmt: skip


_numbers = itertools.count()


def fresh(_world: World) -> str:
    """Return a name that is not in use."""
    return f"swept-{os.getpid()}-{next(_numbers)}"


def new_diff(world: World) -> str:
    """Return a file with a small diff."""
    path = Path(world.directory, fresh(world))
    path.write_bytes(b"rbd diff v1\ns" + struct.pack("<Q", 1 << 24) + b"z" + struct.pack("<QQ", 0, 512) + b"e")
    return str(path)


async def drained(stream: Any) -> list[Any]:
    """Return the first items of a stream, at most nine."""
    found = []
    async for item in stream:
        found.append(item)
        if len(found) > 8:
            break
    return found


def iterated(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a call that iterates over the function's result."""

    async def call(**arguments: Any) -> Any:
        return await drained(function(**arguments))

    return call


def used(function: Callable[..., Any], then: Callable[[Any], Any] | None = None) -> Callable[..., Any]:
    """Return a call that opens an object, uses it and closes it."""

    async def call(**arguments: Any) -> Any:
        async with function(**arguments) as opened:
            return None if then is None else await then(opened)

    return call


def plainly(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a call of a function that is not async."""

    async def call(**arguments: Any) -> Any:
        return function(**arguments)

    return call


def pooled(method: str) -> Callable[[World], Callable[..., Any]]:
    """Return a call of a shared connection's method."""

    def make(world: World) -> Callable[..., Any]:
        async def call(**arguments: Any) -> Any:
            async with aiorbd.SharedConnection(lambda: aiorbd.connect(world.conf)) as pool:
                if method == "evict_image":
                    return await pool.evict_image(**arguments)
                async with getattr(pool, method)(**arguments):
                    return None

        return call

    return make


def blocking(method: str) -> Callable[[World], Callable[..., Any]]:
    """Return a call of a blocking file's method, on a thread."""

    def make(world: World) -> Callable[..., Any]:
        file = world.image.blocking_file(allow_shrink=True)
        return lambda **arguments: asyncio.to_thread(lambda: getattr(file, method)(*arguments.values()))

    return make


async def size_of(world: World, name: str) -> int:
    async with world.ioctx.open_image(name, read_only=True) as image:
        return await image.size()


async def deferred(world: World, arguments: dict[str, Any]) -> float:
    """Return for how many seconds the trash keeps an image, rounded to whole seconds."""
    entries = [e async for e in world.ioctx.trash.entries() if e.name == arguments["name"]]
    return round((entries[-1].deferment_end_time - entries[-1].deletion_time).total_seconds())


async def made(world: World, **keywords: Any) -> str:
    name = fresh(world)
    await world.ioctx.create_image(name, 1 << 20, **keywords)
    return name


def option(name: str, **others: Any) -> Call:
    """Return a call that creates an image with one option."""
    keep: dict[str, Callable[[World, dict[str, Any]], Any]] = {}

    async def look(world: World, arguments: dict[str, Any]) -> Any:
        async with world.ioctx.open_image(arguments["name"], read_only=True) as image:
            found = {
                "stripe_unit": image.stripe_unit,
                "stripe_count": image.stripe_count,
                "features": int(await image.features()),
            }
            return found.get(name)

    if name in ("stripe_unit", "stripe_count", "features"):
        keep[name] = look
    # librbd keeps all bits of `features_clear`. No image could have the unknown ones.
    free = frozenset({"features_clear"})
    arguments = {"name": fresh, "size": 1 << 20, name: None} | others
    return Call(lambda w: w.ioctx.create_image, arguments, keep, free=free, places=(name,))


def data(length: int = 512) -> Callable[[World], bytes]:
    return lambda _: bytes(length)


class Written:
    """A writer's block with one call in it."""

    def __init__(self, world: World, method: str, arguments: dict[str, Any]) -> None:
        self._writer = world.image.writer()
        self._method = method
        self._arguments = arguments

    async def __aenter__(self) -> None:
        writer = await self._writer.__aenter__()
        try:
            await getattr(writer, self._method)(**self._arguments)
        except BaseException as error:
            await self._writer.__aexit__(type(error), error, error.__traceback__)
            raise

    async def __aexit__(self, *_: object) -> None:
        await self._writer.__aexit__(None, None, None)
