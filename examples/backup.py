"""Back up images of a pool into a directory, in full once and then incrementally, and restore any point.

    python examples/backup.py --directory /backups backup vm-1 vm-2     # or: backup --all
    python examples/backup.py --directory /backups list
    python examples/backup.py --directory /backups restore vm-1 vm-1-copy [--point POINT] [--onto]
    python examples/backup.py --directory /backups verify
    python examples/backup.py --directory /backups prune --keep 7

Each point in time is one file in Ceph's own diff format, which `rbd import-diff` also reads. The name of a file has the
point and the start of the file's SHA-256. The image keeps one snapshot, of the newest point: the next backup has the
changes since that snapshot.

A killed backup leaves a snapshot without a file. The next backup exports this snapshot.

Exit codes: 0 success, 1 an image failed, 2 wrong usage, 3 a backup is damaged, 130 stopped by a signal.
"""

import argparse
import fcntl
import os
import re
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote_to_bytes

import anyio
from backup_files import DamagedError, Point, Report, chain, check, counted, errors, escaped, keep, load, prune, verify
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

import aiorbd

#: The key in the metadata of an image that has only a part of its data yet.
RESTORING = "backup.restoring"

#: The most zeroes to write at once.
ZEROES = 256 << 20

#: The time in the names of points.
TIME = "%Y%m%dT%H%M%S.%fZ"


def identity(root: Path) -> str:
    """Return the random id of a directory of backups. Its snapshots have the id in their names."""
    path = root / ".identity"
    if not path.exists():
        new = root / ".identity.new"
        with new.open("w") as file:
            file.write(secrets.token_hex(4))
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
    return path.read_text()


class Backups:
    """The backups of the images of a pool. Only `backup` and `restore` need the pool."""

    def __init__(self, root: Path, ioctx: aiorbd.IoCtx | None = None) -> None:
        self.root = root
        self._ioctx = ioctx

    @property
    def ioctx(self) -> aiorbd.IoCtx:
        """The pool of the images."""
        assert self._ioctx is not None
        return self._ioctx

    def directory(self, image: str) -> Path:
        """Return the directory of an image."""
        return self.root / escaped(image)

    def images(self) -> list[str]:
        """Return the images that have backups."""
        return [os.fsdecode(unquote_to_bytes(path.name)) for path in sorted(self.root.iterdir()) if path.is_dir()]

    def own_name(self) -> re.Pattern[str]:
        """Return the pattern of the names of this directory's snapshots. Other directories have other names."""
        return re.compile(rf"backup-\d{{8}}T\d{{6}}\.\d{{6}}Z-{identity(self.root)}")

    def new_name(self, last: str | None) -> str:
        """Return the name of a new point. It sorts after the last one, even if a clock was set back."""
        now = datetime.now(UTC)
        if last is not None:
            now = max(now, datetime.strptime(last.split("-")[1], TIME).replace(tzinfo=UTC) + timedelta(microseconds=1))
        return f"backup-{now:{TIME}}-{identity(self.root)}"

    async def backup(self, name: str, report: Report) -> str:
        """Make one more point of an image. Before that, complete a point that a killed backup left."""
        directory = self.directory(name)
        async with self.ioctx.open_image(name) as image:
            if await restoring(image):
                raise DamagedError(f"{name} is only half restored: restore it again")
            directory.mkdir(exist_ok=True)
            for left in directory.glob(".*incoming*"):  # by a killed backup
                left.unlink()
            points, named = await load(directory), self.own_name()
            own = {snapshot.name: snapshot for snapshot in await image.snapshots() if named.fullmatch(snapshot.name)}
            base = max(set(own) & set(points), default=None)
            unfinished = max((one for one in own if base is None or one > base), default=None)
            said = ""
            try:
                if base is not None:
                    chain(points, base)
            except DamagedError as error:  # without its older files, the next point must be a full one
                said, base, unfinished = f"{error}; ", None, None
            if unfinished is not None:
                said = f"{await self._export(name, unfinished, base, report)} (continued), "
                base = unfinished
            new = self.new_name(max([*points, *own], default=None))
            await image.create_snapshot(new)
            said += await self._export(name, new, base, report)
            for old in own.values():
                await old.remove()
        return said

    async def _export(self, name: str, point: str, base: str | None, report: Report) -> str:
        """Write the file of a point."""
        incoming = self.directory(name) / ".incoming"
        async with self.ioctx.open_image(name, snapshot=point) as image:
            moved = await aiorbd.export_diff(image, incoming, base, progress=report)
        path = await keep(incoming, point)
        return f"{'full' if base is None else 'incremental'}: {moved:,} bytes of data, {path.name}"

    async def restore(self, name: str, target: str, point: str | None, *, onto: bool, report: Report) -> str:
        """Write a point of an image to a new image, or onto an existing one, which keeps its snapshots."""
        points = await load(self.directory(name))
        if not points:
            raise DamagedError(f"{name} has no backup")
        files = chain(points, point or max(points))
        for one in files:
            await check(one)
        if not onto:
            await self.ioctx.create_image(target, files[0].size)
        async with self.ioctx.open_image(target) as image:
            await image.metadata.set(RESTORING, files[-1].name)  # until the image has all data
            await image.resize(0, allow_shrink=True)  # an existing image has other data
            for one in files:
                await apply(image, one, report)
            await image.metadata.remove(RESTORING)
        return f"restored {files[-1].name} to {target}"


async def restoring(image: aiorbd.Image) -> bool:
    """Tell whether an image has only a part of its data yet."""
    with suppress(aiorbd.MetadataNotFound):
        await image.metadata.get(RESTORING)
        return True
    return False


async def apply(image: aiorbd.Image, point: Point, report: Report) -> None:
    """Apply the changes of one file to an image, without its snapshot."""
    await image.resize(point.size, allow_shrink=True)
    async with aiorbd.read_diff(point.path) as records, image.writer(depth=16) as writer:
        done = 0
        async for record in records:
            assert isinstance(record, aiorbd.DiffHeader | aiorbd.DiffData | aiorbd.DiffZeroes)
            if isinstance(record, aiorbd.DiffHeader):
                continue
            if record.offset < done:  # in diffs of striped images; overlapping writes have no order
                await writer.flush()
            done = max(done, record.offset + record.length)
            if isinstance(record, aiorbd.DiffData):
                await writer.write(record.data, record.offset)
            else:
                end = record.offset + record.length
                for offset in range(record.offset, end, ZEROES):  # librbd makes all requests of a range at once
                    await writer.write_zeroes(offset, min(ZEROES, end - offset))
            report(done, point.size)


async def for_each(names: list[str], jobs: int, work: Callable[[str, Report], Awaitable[str]]) -> int:
    """Do the same work for several images, some at a time, with a bar for each. Return the exit code."""
    limiter, code = anyio.Semaphore(jobs), 0
    columns = TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=errors, transient=True) as bars:

        async def one(name: str) -> None:
            nonlocal code
            async with limiter:
                bar = bars.add_task(name, total=None)
                try:
                    said = await work(name, lambda done, total: bars.update(bar, completed=done, total=total))
                    bars.print(f"{name}: {said}", highlight=False, markup=False, soft_wrap=True)
                except DamagedError as error:
                    code = 3
                    bars.print(f"{name}: damaged: {error}", highlight=False, markup=False, soft_wrap=True)
                except Exception as error:  # noqa: BLE001 - the other images go on
                    code = code or 1
                    bars.print(f"{name}: failed: {error}", highlight=False, markup=False, soft_wrap=True)
                finally:
                    bars.remove_task(bar)

        async with anyio.create_task_group() as tasks:
            for name in names:
                tasks.start_soon(one, name)
    return code


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Refuse to run beside another backup into the same directory."""
    os.umask(0o077)  # the files have the data of disks
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"another backup works in {root}") from None
        yield


async def run(options: argparse.Namespace) -> int:
    """Do what the command line says. Return the exit code."""
    place = options.directory / escaped(options.pool) / (escaped(options.namespace) or "default namespace")
    if options.command == "backup":
        place.mkdir(parents=True, exist_ok=True)
    elif not place.is_dir():
        errors.print(f"{place} has no backups", markup=False, highlight=False, soft_wrap=True)
        return 1
    backups = Backups(place)
    names = list(dict.fromkeys(getattr(options, "images", [])))  # each once

    async def restore(name: str, report: Report) -> str:
        return await backups.restore(name, options.target, options.point, onto=options.onto, report=report)

    async def check_all(name: str, report: Report) -> str:
        return await verify(backups.directory(name), report)

    async def merge(name: str, report: Report) -> str:
        return await prune(backups.directory(name), options.keep, report)

    match options.command:
        case "verify":
            return await for_each(names or backups.images(), options.jobs, check_all)
        case "prune":
            return await for_each(names or backups.images(), options.jobs, merge)
        case "list":
            for name in backups.images():
                points = (await load(backups.directory(name))).values()
                print(f"{name}: {counted(len(points))}", *points, sep="\n  ")
            return 0
    async with aiorbd.connect(options.conf) as cluster:
        async with cluster.open_ioctx(options.pool, options.namespace) as ioctx:
            backups = Backups(place, ioctx)
            if options.command == "restore":
                return await for_each([options.image], 1, restore)
            if options.all:
                names = await ioctx.list_images()
            return await for_each(names, options.jobs, backups.backup)


async def main(options: argparse.Namespace) -> int:
    """Run until the work is done or a signal arrives."""
    code = 130
    async with anyio.create_task_group() as tasks:

        async def stop() -> None:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for _ in signals:
                    errors.print("stopped")
                    tasks.cancel_scope.cancel()

        tasks.start_soon(stop)
        try:
            code = await run(options)
        except (aiorbd.Error, OSError) as error:  # for example a wrong pool
            errors.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
            code = 1
        tasks.cancel_scope.cancel()
    return code


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conf", default=aiorbd.DEFAULT_CONF_FILES)
    parser.add_argument("--pool", default="rbd")
    parser.add_argument("--namespace", default="")
    parser.add_argument("--directory", type=Path, required=True, help="where the backups are")
    parser.add_argument("--jobs", type=int, default=4, help="images at the same time")
    commands = parser.add_subparsers(dest="command", required=True)
    backup = commands.add_parser("backup", help="make one more point of images")
    chosen = backup.add_mutually_exclusive_group(required=True)
    chosen.add_argument("images", nargs="*", default=[])
    chosen.add_argument("--all", action="store_true", help="all images of the pool")
    commands.add_parser("list", help="show all points")
    restore = commands.add_parser("restore", help="write a point to an image")
    restore.add_argument("image")
    restore.add_argument("target", help="the image to write to")
    restore.add_argument("--point", help="the point; the newest by default")
    restore.add_argument("--onto", action="store_true", help="the target exists, and loses its present data")
    commands.add_parser("verify", help="read all files").add_argument("images", nargs="*")
    prune = commands.add_parser("prune", help="merge the oldest points")
    prune.add_argument("--keep", type=int, required=True, help="points to keep, at least 1")
    prune.add_argument("images", nargs="*")
    options = parser.parse_args()
    if options.jobs < 1 or getattr(options, "keep", 1) < 1:
        parser.error("--jobs and --keep must be at least 1")
    return options


if __name__ == "__main__":
    chosen = arguments()
    with alone(chosen.directory):
        sys.exit(anyio.run(main, chosen))
