"""Where the cores' time goes while a client works, by the kernel's own counts: what `run.py --where` measures besides.

Times are in us for each operation, and add up to what the cores had. In brackets is how long threads were ready and had
no core. The rest is what others do, and the difference between the kernel's two ways of counting; it may be below zero.
"""

import os
import statistics
import time
from pathlib import Path
from typing import Any

from aiorbd.testing import DevCluster

#: Ceph's threads in a client that work, by what their names begin with. What others there are is the client's own.
KINDS = {"msgr-worker": "messenger", "io_context_pool": "librbd"}
COLUMNS = ("own", "messenger", "librbd", "OSD", "rest", "idle")


#: Seconds after which every client works.
START = 1.5


class Watch:
    """Looks at a client for so many seconds after its start, in which it does nothing but work."""

    def __init__(self, cluster: DevCluster, seconds: float) -> None:
        socket = next((cluster.directory / "run").glob("osd.0.*.asok"))
        self.osd = int(socket.name.split(".")[2])
        self.seconds = seconds

    def __call__(self, client: int) -> dict[str, float]:
        """Return seconds of CPU, and of waiting for one, by kind."""
        time.sleep(START)
        before = sample(client, self.osd)
        time.sleep(self.seconds)
        after = sample(client, self.osd)
        # A thread that ended meanwhile is not missed: clients that work end none.
        return {kind: after[kind] - before[kind] for kind in after}


def sample(client: int, osd: int) -> dict[str, float]:
    """Return the seconds so far."""
    seconds = dict.fromkeys([*COLUMNS, *(f"{kind} ready" for kind in COLUMNS)], 0.0)
    seconds["at"] = time.perf_counter()
    for process in family(client):
        for task in Path(f"/proc/{process}/task").iterdir():
            name = (task / "comm").read_text()
            add(seconds, next((kind for start, kind in KINDS.items() if name.startswith(start)), "own"), task)
    for task in Path(f"/proc/{osd}/task").iterdir():
        add(seconds, "OSD", task)
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    tick = os.sysconf("SC_CLK_TCK")
    seconds["idle"] = (idle + iowait) / tick
    seconds["rest"] = (user + nice + system + irq + softirq + steal) / tick - sum(seconds[kind] for kind in COLUMNS[:4])
    return seconds


def add(seconds: dict[str, float], kind: str, task: Path) -> None:
    """Count one thread."""
    ran, waited, _ = (int(part) / 1e9 for part in (task / "schedstat").read_text().split())
    seconds[kind] += ran
    seconds[f"{kind} ready"] += waited


def family(process: int) -> list[int]:
    """Return a process and its descendants: fio works in a child."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *(one for child in children for one in family(int(child)))]


def show(rounds: dict[str, list[dict[str, Any]]]) -> None:
    """Print the medians."""
    print(f"{'us (ready)':15}" + "".join(f"{kind:>16}" for kind in COLUMNS))
    for client, measured in rounds.items():
        if not measured[0]["where"]:
            continue
        line = f"{client:15}"
        for kind in COLUMNS:
            ran, ready = (
                statistics.median(one["where"][key] / one["where"]["at"] / one["iops"] * 1e6 for one in measured)
                for key in (kind, f"{kind} ready")
            )
            line += f"{f'{ran:.1f}' + (f' ({ready:.1f})' if ready else ''):>16}"
        print(line)
