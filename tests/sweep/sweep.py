"""Pass odd values as the arguments of one call: python tests/sweep/sweep.py CONF DIRECTORY CALL.

Prints a line before each attempt, so that the last line names the attempt that killed a process. At the end, prints the
wrong outcomes as a line of JSON.
"""

import inspect
import json
import math
import sys
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
from sweep_calls import CALLS
from sweep_world import TRUTHS, Call, World

import aiorbd

#: Around the widths of C's integers.
INTEGERS = sorted(
    {0, 1, -1, 10**30}
    | {sign * (1 << bits) + more for bits in (8, 31, 32, 63, 64) for sign in (1, -1) for more in (-1, 0, 1)}
    | {3 << 32, (1 << 32) + 22}
)

ODD: list[Any] = [
    *INTEGERS,
    True,
    1.5,
    math.nan,
    math.inf,
    -1.0,
    None,
    "",
    "x" * 300,
    "x" * 5000,
    "a\0b",
    "a@b/c",
    "\udc80",
    "\ud800",
    "ü",
    "1",
    b"",
    b"x",
    bytes(5 << 20),
    bytearray(3),
    memoryview(bytes(64))[::2],
    memoryview(bytes(8)).cast("H"),
    [],
    [b"x", 5],
    {},
    {1: 2},
    object(),
    datetime(9999, 12, 31, tzinfo=UTC),
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(2020, 1, 1),  # noqa: DTZ001
    timedelta(days=999_999_999),
    timedelta(days=-1),
    lambda *_: None,
]

#: Exceptions that Python itself raises: for local files, for settings that never reach Ceph, and for mappings.
PYTHONS: dict[str, tuple[type[Exception], ...]] = {
    "path": (OSError, ValueError),
    "source": (OSError, ValueError),
    "target": (OSError, ValueError),
    "first": (OSError, ValueError),
    "second": (OSError, ValueError),
    "conffile": (OSError, ValueError),
    "extents": (ValueError,),
    "option": (KeyError,),
    "idle_timeout": (ValueError,),
    "whence": (ValueError,),
    "level": (ValueError,),
    "cluster_log": (ValueError,),
    "fraction": (ValueError,),
    "function": (ValueError,),
}

#: From this size on, an integer does not fit everywhere.
LARGE = 1 << 31


@asynccontextmanager
async def new_world(conf: str, directory: str) -> AsyncIterator[World]:
    """Make a connection with an image of 16 MiB that has a snapshot."""
    cluster = await aiorbd.connect(conf, timeout=30)
    try:
        ioctx = await cluster.open_ioctx("rbd")
        world = World(conf, directory, cluster, ioctx, None, None)  # type: ignore[arg-type]
        name = f"world-{id(world):x}-{anyio.current_time()}"
        await ioctx.create_image(name, 1 << 24)
        world.image = await ioctx.open_image(name)
        await world.image.write(b"x" * 4096, 0)
        world.snapshot = await world.image.create_snapshot("one")
        await ioctx.objects.write_full("object", b"x")
        Path(directory, "import").write_bytes(b"x" * 4096)
        yield world
    finally:
        with suppress(aiorbd.Error):
            await cluster.close(10)


async def value_of(world: World, argument: Any) -> Any:
    """Return a good argument, made for this attempt."""
    if callable(argument):
        argument = argument(world)
        if inspect.isawaitable(argument):
            argument = await argument
    return argument


def show(value: Any) -> str:
    """Return a short text of a value."""
    text = repr(value)
    return text if len(text) < 80 else f"{text[:40]}... ({len(text)} characters)"


async def attempt(world: World, call: Call, place: str, odd: Any) -> str | None:
    """Make one call. Return a description of a wrong outcome, or None."""
    arguments = {name: await value_of(world, argument) for name, argument in call.arguments.items()} | {place: odd}
    try:
        with anyio.fail_after(call.patience):
            await call.make(world)(**arguments)
    except (aiorbd.Error, TypeError):
        return None
    except Exception as error:  # noqa: BLE001 - any other error is a finding
        if isinstance(error, TimeoutError):
            return None if place in call.waits else "it does not come to an end"
        # anyio refuses a deadline that is not a number.
        fine = isinstance(error, (ValueError,) if place in call.waits and str(odd) == "nan" else PYTHONS.get(place, ()))
        return None if fine else f"{type(error).__name__}: {error}"
    if isinstance(odd, int) and odd >= LARGE and place not in call.free | call.waits | TRUTHS:
        if place not in call.seen:
            return "it is taken, and it is not known whether all of it counts"
        found = await call.seen[place](world, arguments)
        if found != odd:
            return f"it is taken, and has become {found}"
    return None


async def sweep(conf: str, directory: str, name: str) -> dict[str, str]:
    """Make one call with each odd value as each argument."""
    call, wrong = CALLS[name], {}
    for place in call.places or call.arguments:
        pending = list(ODD)
        while pending:
            async with new_world(conf, directory) as world:
                while pending:
                    odd = pending.pop(0)
                    print(f"{place} = {show(odd)}", flush=True)
                    said = await attempt(world, call, place, odd)
                    if said is not None:
                        wrong[f"{place} = {show(odd)}"] = said
                    if world.image.closed or world.cluster.closed or world.image.snapshot is not None:
                        break
                    if await world.image.size() != 1 << 24 or not await world.image.snapshot_exists("one"):
                        break
    return wrong


if __name__ == "__main__":
    warnings.simplefilter("ignore", aiorbd.IncompleteDiffWarning)
    print(json.dumps(anyio.run(sweep, *sys.argv[1:])), flush=True)  # type: ignore[arg-type]
