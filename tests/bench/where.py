"""Measure the cores' time while a client works, from the kernel's counts, for `run.py --where`.

Times are in us for each operation, at the rate of the whole run, and add up to all of the cores' time. The numbers in
brackets are the times for which threads were ready without a core. The rest is the time of other processes, and time
that the kernel counts for no thread.
"""

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiorbd.testing import DevCluster

#: The kinds of Ceph's busy threads in a client, by the start of their names. All other threads are the client's own.
KINDS = {"msgr-worker": "messenger", "io_context_pool": "librbd"}
COUNTED = ("own", "messenger", "librbd", "OSD")
COLUMNS = (*COUNTED, "rest", "idle")

#: Seconds after which every client works.
START = 1.5


class Watch:
    """Watches a client for `seconds` after its start, while the client only works."""

    def __init__(self, cluster: DevCluster, seconds: float) -> None:
        socket = next((cluster.directory / "run").glob("osd.0.*.asok"))
        self.osd = int(socket.name.split(".")[2])
        self.seconds = seconds

    def __call__(self, client: int) -> dict[str, float]:
        """Return the seconds of CPU, and of waiting for a core, by kind of thread."""
        time.sleep(START)
        start, idle, before = time.perf_counter(), idle_seconds(), sample(client, self.osd)
        time.sleep(self.seconds)
        elapsed, idle, after = time.perf_counter() - start, idle_seconds() - idle, sample(client, self.osd)
        seconds = dict.fromkeys(COUNTED, 0.0) | {f"{kind} ready": 0.0 for kind in COUNTED}
        for (kind, thread), (ran, waited) in after.items():
            ran_before, waited_before = before.get((kind, thread), (0.0, 0.0))
            seconds[kind] += ran - ran_before
            seconds[f"{kind} ready"] += waited - waited_before
        rest = (os.cpu_count() or 1) * elapsed - idle - sum(seconds[kind] for kind in COUNTED)
        return seconds | {"rest": rest, "idle": idle, "elapsed": elapsed}


def idle_seconds() -> float:
    """Return the seconds for which cores were idle or waited for a disk, so far."""
    idle, iowait = map(int, Path("/proc/stat").read_text().split()[4:6])
    return (idle + iowait) / os.sysconf("SC_CLK_TCK")


def sample(client: int, osd: int) -> dict[tuple[str, int], tuple[float, float]]:
    """Return by kind and number of each thread: the seconds it has run, and waited for a core."""
    counts = {}
    for process in [*family(client), osd]:
        for task in Path(f"/proc/{process}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                name = (task / "comm").read_text()
                ran, waited, _ = (int(part) / 1e9 for part in (task / "schedstat").read_text().split())
                kind = next((kind for start, kind in KINDS.items() if name.startswith(start)), "own")
                counts["OSD" if process == osd else kind, int(task.name)] = ran, waited
    return counts


def family(process: int) -> Iterator[int]:
    """Yield a process and its descendants: fio works in a child process."""
    yield process
    for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
        yield from family(int(child))


def show(rounds: dict[str, list[dict[str, Any]]]) -> None:
    """Print the medians."""
    print(f"{'us (ready)':15}" + "".join(f"{kind:>16}" for kind in COLUMNS))
    for client, measured in rounds.items():
        if not measured[0]["where"]:
            continue
        line = f"{client:15}"
        for kind in COLUMNS:
            ran, ready = (
                statistics.median(one["where"].get(key, 0) / one["where"]["elapsed"] / one["iops"] for one in measured)
                for key in (kind, f"{kind} ready")
            )
            line += f"{f'{ran * 1e6:.1f}' + (f' ({ready * 1e6:.1f})' if ready else ''):>16}"
        print(line)
