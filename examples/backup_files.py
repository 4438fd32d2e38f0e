"""The files of the backups that `backup.py` makes: their names, checks and merging. No cluster is needed."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from anyio import to_thread
from rich.console import Console

import aiorbd

errors = Console(stderr=True)

Report = Callable[[int, int], None]


class DamagedError(Exception):
    """A backup cannot be restored."""


@dataclass(frozen=True)
class Point:
    """One point in time of an image, and the file with the changes since the point before."""

    path: Path
    name: str
    base: str | None
    size: int

    def __str__(self) -> str:
        kind = "full" if self.base is None else f"since {self.base}"
        return f"{self.name}: {self.size} bytes, {kind}, file of {self.path.stat().st_size} bytes"


def counted(points: int) -> str:
    """Return a number of points in words."""
    return f"{points} point{'' if points == 1 else 's'}"


def digest(path: Path) -> str:
    """Return the start of the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def files_of(directory: Path) -> list[Path]:
    """Return the files of an image."""
    return sorted(directory.glob("*.diff"))


async def load(directory: Path) -> dict[str, Point]:
    """Return the points of an image by their names, oldest first. A damaged file counts as missing."""
    points: dict[str, Point] = {}
    for path in files_of(directory):
        try:
            async with aiorbd.read_diff(path) as records:
                header = await anext(records)
        except aiorbd.DiffFormatError as error:
            errors.print(f"damaged: {path}: {error}", markup=False, highlight=False, soft_wrap=True)
            continue
        if isinstance(header, aiorbd.DiffHeader) and header.to_snapshot is not None:
            known = points.get(header.to_snapshot)
            # A killed prune may leave a point twice. The full one needs no other file.
            if known is None or known.base is not None:
                points[header.to_snapshot] = Point(path, header.to_snapshot, header.from_snapshot, header.size)
    return dict(sorted(points.items()))


def chain(points: dict[str, Point], name: str) -> list[Point]:
    """Return the points that a restore needs, the full one first."""
    found: list[Point] = []
    wanted: str | None = name
    while wanted is not None:
        if wanted not in points:
            raise DamagedError(f"the file of the point {wanted} is missing or damaged")
        found.insert(0, points[wanted])
        wanted = points[wanted].base
    return found


async def check(point: Point) -> None:
    """Read a whole file. Raise if the file is damaged."""
    if not point.path.name.endswith(f"-{await to_thread.run_sync(digest, point.path)}.diff"):
        raise DamagedError(f"{point.path}: the content has another checksum")
    try:
        async with aiorbd.read_diff(point.path) as records:
            async for _ in records:
                pass
    except aiorbd.DiffFormatError as error:
        raise DamagedError(f"{point.path}: {error}") from error


async def keep(incoming: Path, point: str) -> Path:
    """Give a complete file its name, which has its checksum."""
    path = incoming.with_name(f"{point}-{await to_thread.run_sync(digest, incoming)}.diff")

    def rename() -> None:
        incoming.rename(path)
        descriptor = os.open(path.parent, os.O_RDONLY)
        os.fsync(descriptor)  # before what the new file replaces is removed
        os.close(descriptor)

    await to_thread.run_sync(rename)
    return path


def escaped(name: str) -> str:
    """Return a name as the name of a directory, also for names like "..", or that are no UTF-8."""
    return quote(os.fsencode(name), safe="").replace(".", "%2E")


async def verify(directory: Path, report: Report) -> str:
    """Read all files of an image, and check that each point can be restored."""
    points, files = await load(directory), files_of(directory)
    faults = [f"{path} is damaged" for path in files if not path.name.startswith(tuple(points))]
    faults += [] if files else ["no backup"]
    for number, point in enumerate(points.values(), 1):
        try:
            chain(points, point.name)
            await check(point)
        except DamagedError as error:
            faults.append(str(error))
        report(number, len(points))
    if faults:
        raise DamagedError("; ".join(faults))
    return f"{counted(len(points))} can be restored"


async def prune(directory: Path, count: int, report: Report) -> str:
    """Merge the oldest points until `count` are left."""
    found = await load(directory)
    for path in files_of(directory):  # left by a killed prune
        twice = [point for point in found.values() if path.name.startswith(f"{point.name}-") and point.path != path]
        if twice:
            path.unlink()
    points = list(found.values())
    if not points:
        raise DamagedError(f"no backup in {directory}")
    if points[0].base is not None:
        raise DamagedError(f"{points[0].name} needs {points[0].base}, whose file is missing or damaged")
    merged = max(0, len(points) - count)
    for number in range(merged):
        first, second = points[number], points[number + 1]
        if second.base is not None:
            await check(first)
            await check(second)
            incoming = directory / ".incoming"
            await aiorbd.merge_diff(first.path, second.path, incoming)
            path = await keep(incoming, second.name)
            second.path.unlink()
            points[number + 1] = Point(path, second.name, None, second.size)
        if any(point.base == first.name for point in points[number + 1 :]):
            raise DamagedError(f"a later point needs {first.name}")
        first.path.unlink()
        report(number + 1, merged)
    return f"{counted(merged)} merged, {len(points) - merged} left"
