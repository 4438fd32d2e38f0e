"""Compare `rbd export` and `rbd import` with `export_image` and `import_image` on whole images.

The time is that of the transfer: that of the `rbd` tool excludes the time of `rbd info`, and aiorbd's excludes the
start of Python. Files are in memory if there is room. The SHA-256 of each copy is compared.
"""

import hashlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cases import HERE, IMAGE, timed

from aiorbd.testing import DevCluster

OBJECT = 4 << 20


def measure(cluster: DevCluster, size: int, rounds: int) -> dict[str, Any]:
    """Export and import the full image, and an image that is nine tenths empty."""
    results = {}
    memory = Path("/dev/shm")  # noqa: S108 - files of the full size, for the time of the measurement
    place = memory if memory.is_dir() and shutil.disk_usage(memory).free > 12 * size else None
    with tempfile.TemporaryDirectory(prefix="aiorbd-bench-", dir=place) as directory:
        original = Path(directory, "original")
        for name, image in (("full", IMAGE), ("90 % holes", "holes")):
            if name == "full":
                cluster.run_blocking("rbd", "export", "--no-progress", image, str(original))
            else:
                write_with_holes(original, 4 * size)
                cluster.run_blocking("rbd", "import", "--no-progress", str(original), image)
            digest = sha256(original)
            seconds: dict[str, list[float]] = {}
            for _ in range(rounds):
                for what, took in one_round(cluster, image, original, digest).items():
                    seconds.setdefault(what, []).append(took)
            results[name] = seconds
            show(name, original.stat().st_size, seconds)
            original.unlink()
    return results


def one_round(cluster: DevCluster, image: str, original: Path, digest: str) -> dict[str, float]:
    """Move the image four times and return the seconds."""
    seconds = {}
    copy = original.with_name("copy")
    idle = wall(cluster, "rbd", "info", image)
    seconds["rbd export"] = wall(cluster, "rbd", "export", "--no-progress", image, str(copy)) - idle
    require_same(copy, digest)
    seconds["export_image"] = ours(cluster, "export", image, copy)
    require_same(copy, digest)
    for what in ("rbd import", "import_image"):
        if what == "rbd import":
            seconds[what] = wall(cluster, "rbd", "import", "--no-progress", str(original), "new") - idle
        else:
            seconds[what] = ours(cluster, "import", "new", original)
        cluster.run_blocking("rbd", "export", "--no-progress", "new", str(copy))
        require_same(copy, digest)
        cluster.run_blocking("rbd", "remove", "--no-progress", "new")
    return seconds


def wall(cluster: DevCluster, *command: str) -> float:
    """Run a program and return its seconds."""
    start = time.perf_counter()
    timed(list(command), cluster.conffile)
    return time.perf_counter() - start


def ours(cluster: DevCluster, direction: str, image: str, path: Path) -> float:
    """Run aiorbd's client and return its seconds."""
    command = [sys.executable, str(HERE / "client_transfer.py"), cluster.conffile, direction, image, str(path)]
    text, _ = timed(command, cluster.conffile)
    seconds: float = json.loads(text)["seconds"]
    return seconds


def write_with_holes(path: Path, size: int) -> None:
    """Write a file in which every tenth object has data."""
    with path.open("wb") as file:
        file.truncate(size)
        for offset in range(0, size, 10 * OBJECT):
            file.seek(offset)
            file.write(os.urandom(min(OBJECT, size - offset)))


def sha256(path: Path) -> str:
    """Return a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_same(path: Path, digest: str) -> None:
    """Raise when a copy differs, and remove the copy."""
    if sha256(path) != digest:
        raise RuntimeError("what was moved is not what was there")
    path.unlink()


def show(name: str, size: int, seconds: dict[str, list[float]]) -> None:
    """Print one image's figures."""
    print(f"\n{size >> 20} MiB, {name}: medians of {len(seconds['rbd export'])} rounds, in seconds")
    for theirs, mine in (("rbd export", "export_image"), ("rbd import", "import_image")):
        ratios = sorted(a / b for a, b in zip(seconds[theirs], seconds[mine], strict=True))
        print(
            f"{theirs} {statistics.median(seconds[theirs]):.2f}, {mine} {statistics.median(seconds[mine]):.2f}: "
            f"{statistics.median(ratios):.2f} times as fast ({ratios[0]:.2f}-{ratios[-1]:.2f})",
            flush=True,
        )
