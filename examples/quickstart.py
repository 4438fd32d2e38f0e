"""Write a real disk image into a Ceph cluster and read it back, under asyncio and under trio.

The image is a file system made from files on this machine. The import keeps many writes in flight and skips holes. The
program then reads the image back as a stream, and compares its SHA-256 with those of the file and of ``rbd export``.

    examples/quickstart.py                     uses a temporary development cluster
    examples/quickstart.py --conf ceph.conf    uses your cluster (pool rbd)
"""

import argparse
import hashlib
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import anyio
from anyio import to_thread
from rich.progress import BarColumn, DownloadColumn, Progress, TimeElapsedColumn, TransferSpeedColumn

import aiorbd
from aiorbd.testing import DevCluster, MissingDaemonError

MIB = 1 << 20


def megabytes(tree: Path) -> int:
    """Return the size of a directory tree in MiB."""
    return int(subprocess.run(["du", "-sm", tree], capture_output=True, check=True).stdout.split()[0])


def some_files() -> Path:
    """Choose a directory that every Debian has: /usr/share or /usr/share/doc if below 1 GiB, otherwise /etc."""
    return next((path for path in (Path("/usr/share"), Path("/usr/share/doc")) if megabytes(path) < 1024), Path("/etc"))


def make_file_system(tree: Path, path: Path) -> None:
    """Make an ext4 image of at least 256 MiB that holds a copy of a directory tree."""
    content = megabytes(tree)
    size = max(256, math.ceil(content * 1.4) + 64)
    environment = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    subprocess.run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-i", "4096", "-d", tree, path, f"{size}M"],
        env=environment,
        stdout=subprocess.DEVNULL,
        check=True,
    )


async def digest_of_image(image: aiorbd.Image, report: Callable[[int, int], None]) -> str:
    """Read a whole image with many reads in flight, and return its SHA-256."""
    size = await image.size()
    digest = hashlib.sha256()
    async for chunk in image.read_extents():
        await to_thread.run_sync(digest.update, chunk.data or b"")
        report(chunk.offset + chunk.length, size)
    return digest.hexdigest()


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_export(conffile: str, name: str) -> str:
    """Return the SHA-256 of the output of ``rbd export``."""
    command = ["rbd", "--conf", conffile, "export", "--no-progress", f"rbd/{name}", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as export:
        assert export.stdout is not None
        digest = hashlib.sha256()
        while data := export.stdout.read(MIB):
            digest.update(data)
    if export.returncode:
        raise RuntimeError(f"rbd export failed with {export.returncode}")
    return digest.hexdigest()


async def main_job(conffile: str, path: Path, size: int, label: str) -> None:
    """Import the file, read the image back and compare both, on the running event loop."""
    name = f"quickstart-{label}-{os.getpid()}"
    bars = Progress("{task.description:>10}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeElapsedColumn())
    async with aiorbd.connect(conffile, timeout=30) as cluster, cluster.open_ioctx("rbd") as ioctx:
        try:
            with bars as progress:

                def bar(description: str) -> Callable[[int, int], None]:
                    task = progress.add_task(description, total=size)
                    return lambda done, total: progress.update(task, completed=done, total=total)

                start = time.perf_counter()
                written = await aiorbd.import_image(ioctx, path, name, progress=bar("import"))
                write_seconds = time.perf_counter() - start
                async with ioctx.open_image(name, read_only=True) as image:
                    start = time.perf_counter()
                    mine = await digest_of_image(image, bar("read back"))
                    read_seconds = time.perf_counter() - start
            source = await to_thread.run_sync(digest_of_file, path)
            witness = await to_thread.run_sync(digest_of_export, conffile, name)
        finally:
            with anyio.CancelScope(shield=True):
                await ioctx.remove_image(name)
    print(f"{label}: {size / MIB:.0f} MiB image, {written / MIB:.0f} MiB of it data")
    print(
        f"{label}: imported at {written / MIB / write_seconds:.0f} MiB/s, read at {size / MIB / read_seconds:.0f} MiB/s"
    )
    for who, digest in (("file", source), ("aiorbd", mine), ("rbd export", witness)):
        print(f"{label}: SHA-256 {digest}  {who}")
    if not source == mine == witness:
        raise SystemExit(f"{label}: the images differ")


def main() -> None:
    """Run the main job once on each event loop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conf", help="configuration file of a cluster with a pool 'rbd'; default: start one")
    parser.add_argument("--tree", type=Path, help="files to make the image of; default: /usr/share")
    options = parser.parse_args()

    try:
        with ExitStack() as stack:
            if not options.conf:
                print("Starting a development cluster ...", flush=True)
                options.conf = stack.enter_context(DevCluster()).conffile
            directory = stack.enter_context(tempfile.TemporaryDirectory())
            path = Path(directory, "disk.img")
            tree = options.tree or some_files()
            print(f"Making a file system of {tree} ...", flush=True)
            make_file_system(tree, path)
            for backend in ("asyncio", "trio"):
                anyio.run(main_job, options.conf, path, path.stat().st_size, backend, backend=backend)
    except MissingDaemonError as error:
        sys.exit(str(error))
    print("Identical under asyncio and under trio.")


if __name__ == "__main__":
    main()
