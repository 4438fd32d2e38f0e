"""Write a real disk image into a Ceph cluster and read it back, under asyncio and under trio.

The image is a file system made of files on this machine. It is imported with many writes in flight,
holes left out, read back concurrently, and compared by its SHA-256; ``rbd export`` is the witness.

    examples/quickstart.py                     starts a development cluster for the while
    examples/quickstart.py --conf ceph.conf    uses a cluster of yours (pool rbd)
"""

import argparse
import hashlib
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anyio
from anyio import to_thread
from rich.progress import BarColumn, DownloadColumn, Progress, TimeElapsedColumn, TransferSpeedColumn

import aiorbd
from aiorbd.testing import DevCluster, MissingDaemonError

MIB = 1 << 20
CHUNK = MIB
IN_FLIGHT = 32
ZEROES = bytes(CHUNK)


def megabytes(tree: Path) -> int:
    """How large a directory tree is."""
    return int(subprocess.run(["du", "-sm", tree], capture_output=True, check=True).stdout.split()[0])


def some_files() -> Path:
    """Choose a directory that every Debian has: all of /usr/share, unless that is very much."""
    return next((path for path in (Path("/usr/share"), Path("/usr/share/doc")) if megabytes(path) < 1024), Path("/etc"))


def make_file_system(tree: Path, path: Path) -> None:
    """Make an ext4 image that holds a copy of a directory tree, at least 256 MiB large."""
    content = megabytes(tree)
    size = max(256, math.ceil(content * 1.4) + 64)
    environment = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    subprocess.run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-i", "4096", "-d", tree, path, f"{size}M"],
        env=environment,
        stdout=subprocess.DEVNULL,
        check=True,
    )


async def import_file(path: Path, image: aiorbd.Image, progress: Progress) -> int:
    """Copy a file into a new image, holes left out; return how many bytes were written."""
    size = await image.size()
    written = 0
    bar = progress.add_task("import", total=size)
    slots = anyio.Semaphore(IN_FLIGHT)

    async def copy(file: int, offset: int) -> None:
        nonlocal written
        try:
            data = await to_thread.run_sync(os.pread, file, CHUNK, offset)
            if data != ZEROES[: len(data)]:
                await image.write(data, offset)
                written += len(data)
        finally:
            slots.release()
        progress.advance(bar, len(data))

    with path.open("rb") as source:
        async with anyio.create_task_group() as tasks:
            for offset in range(0, size, CHUNK):
                await slots.acquire()  # librbd has no back-pressure of its own
                tasks.start_soon(copy, source.fileno(), offset)
        await image.flush()  # from here on it is durable
    return written


async def digest_of_image(image: aiorbd.Image, progress: Progress) -> str:
    """Read all of an image, many reads in flight, and hash it; one window is hashed while the next is read."""
    size = await image.size()
    bar = progress.add_task("read back", total=size)
    digest = hashlib.sha256()
    windows = [memoryview(bytearray(CHUNK * IN_FLIGHT)) for _ in range(2)]

    async def read(window: memoryview, offset: int) -> None:
        async with anyio.create_task_group() as tasks:
            for start in range(0, len(window), CHUNK):
                tasks.start_soon(image.read_into, window[start : start + CHUNK], offset + start)

    async def hash_it(window: memoryview) -> None:
        await to_thread.run_sync(digest.update, window)
        progress.advance(bar, len(window))

    full = memoryview(b"")
    for number, offset in enumerate(range(0, size, CHUNK * IN_FLIGHT)):
        window = windows[number % 2][: size - offset]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, window, offset)
            tasks.start_soon(hash_it, full)
        full = window
    await hash_it(full)
    return digest.hexdigest()


def digest_of_file(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_export(conffile: str, name: str) -> str:
    """Hash what ``rbd export`` makes of an image."""
    command = ["rbd", "--conf", conffile, "export", "--no-progress", f"rbd/{name}", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as export:
        assert export.stdout is not None
        digest = hashlib.sha256()
        while data := export.stdout.read(CHUNK):
            digest.update(data)
    if export.returncode:
        raise RuntimeError(f"rbd export failed with {export.returncode}")
    return digest.hexdigest()


async def main_job(conffile: str, path: Path, size: int, label: str) -> None:
    """Import, read back, compare, on the event loop that is running."""
    name = f"quickstart-{label}-{os.getpid()}"
    bars = Progress("{task.description:>10}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeElapsedColumn())
    async with aiorbd.connect(conffile, timeout=30) as cluster, cluster.open_ioctx("rbd") as ioctx:
        await ioctx.create_image(name, size)
        try:
            with bars as progress:
                async with ioctx.open_image(name) as image:
                    start = time.perf_counter()
                    written = await import_file(path, image, progress)
                    write_seconds = time.perf_counter() - start
                async with ioctx.open_image(name, read_only=True) as image:
                    start = time.perf_counter()
                    mine = await digest_of_image(image, progress)
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
    """Do it once on each event loop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conf", help="configuration file of a cluster with a pool 'rbd'; default: start one")
    parser.add_argument("--tree", type=Path, help="files to make the image of; default: /usr/share")
    options = parser.parse_args()

    cluster = None if options.conf else DevCluster()
    try:
        if cluster is not None:
            print("Starting a development cluster ...", flush=True)
            cluster.start_blocking()
        conffile = options.conf or cluster.conffile
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "disk.img")
            tree = options.tree or some_files()
            print(f"Making a file system of {tree} ...", flush=True)
            make_file_system(tree, path)
            for backend in ("asyncio", "trio"):
                anyio.run(main_job, conffile, path, path.stat().st_size, backend, backend=backend)
    except MissingDaemonError as error:
        sys.exit(str(error))
    finally:
        if cluster is not None:
            cluster.stop_blocking()
    print("Identical under asyncio and under trio.")


if __name__ == "__main__":
    main()
