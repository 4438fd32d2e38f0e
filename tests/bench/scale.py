"""Measure the cost of growth: open images, operations in flight, clusters in one loop, snapshots of an image.

    tests/bench/scale.sh                               all parts
    tests/bench/scale.sh --parts images --sizes 1000

Each line has its own process. Memory is the growth of the process. Threads and descriptors are the totals of the
process. The memory of operations is that of Python's objects, tasks included and buffers excluded. Beside it are the
memory of a task that waits for a future, and of a read in a stream, which needs no task. Lag is the worst delay of a
task that sleeps for 5 ms, while the objects are opened, submitted or listed. "librbd's own" opens the same images with
only librbd's C functions.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from aiorbd.testing import DevCluster

HERE = Path(__file__).parent

#: By part: the sizes and the columns.
PARTS: dict[str, tuple[list[int], list[str]]] = {
    "images": ([1, 10, 100, 1000], ["KiB each", "librbd's own", "threads", "descriptors", "lag ms", "seconds"]),
    "operations": ([100, 1000, 10_000], ["bytes each", "bare task", "in a stream", "threads", "lag ms", "seconds"]),
    "clusters": ([1, 8, 32], ["KiB each", "threads", "descriptors", "lag ms", "seconds"]),
    # librbd (16.2) cannot open an image with 16,384 snapshots: it makes four requests for each at once, and counts them
    # in 16 bits.
    "snapshots": ([1000, 4000, 16_000], ["MiB", "threads", "descriptors", "lag ms", "list s", "diff s", "extents"]),
}


def measure(cluster: DevCluster, part: str, size: int) -> dict[str, Any]:
    """Run one size of one part. The program may ask to pause the OSD."""
    command = [sys.executable, str(HERE / "scale_parts.py"), part, str(size), cluster.conffile]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith("{"):
                    result: dict[str, Any] = json.loads(line)
                    return result
                getattr(cluster, line.strip())()
                process.stdin.write("done\n")
                process.stdin.flush()
        finally:
            cluster.resume()
    raise RuntimeError(f"{part} {size} came to no end: {process.returncode}")


def show(part: str, size: int, result: dict[str, Any]) -> None:
    """Print one line."""
    values = (result[column] for column in PARTS[part][1])
    shown = (f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" for value in values)
    print(f"{size:12,}" + "".join(f"{value:>14}" for value in shown), flush=True)


def main() -> None:
    """Measure the parts, print them, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=lambda text: text.split(","), default=list(PARTS))
    parser.add_argument("--sizes", type=lambda text: [int(size) for size in text.split(",")])
    parser.add_argument("--json", type=Path, default=HERE / "results" / "scale.json")
    options = parser.parse_args()
    results: dict[str, dict[int, Any]] = {}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    with DevCluster() as cluster:
        for part in options.parts:
            sizes, columns = PARTS[part]
            print(f"\n{part:>12}" + "".join(f"{column:>14}" for column in columns), flush=True)
            for size in options.sizes or sizes:
                result = measure(cluster, part, size)
                if part == "images":
                    result["librbd's own"] = measure(cluster, "images_of_librbd", size)["KiB each"]
                show(part, size, result)
                results.setdefault(part, {})[size] = result
                options.json.write_text(json.dumps(results, indent=1))
    print(f"\nwritten to {options.json}")


if __name__ == "__main__":
    main()
