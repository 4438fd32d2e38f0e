"""aiorbd beside fio and Ceph's own Python module: random reads and writes of an image written in full.

    python tests/bench/run.py                                   4 KiB reads, depths 1, 16 and 64
    python tests/bench/run.py --patterns randread,randwrite,randrw --blocks 4096,65536 --depths 16,64,256

All clients work on the same image of the same cluster, in interleaved rounds; the figures are medians, the ratios
medians of the ratios within a round, with the smallest and the largest beside them. Every client flushes once, so that
each owns the exclusive lock and has librbd's cache in the same state. All have librbd's default settings. CPU is user
and system time of the whole client process, less that of one that starts, opens and ends.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aiorbd.testing import DevCluster

HERE = Path(__file__).parent
IMAGE = "bench"

#: What is compared: how each is called. fio is the C client; the `rbd` module is bound to the distribution's Python.
CLIENTS = {
    "fio": [],
    "rbd.aio_*": ["/usr/bin/python3", "client_python_rbd.py", "--way=aio"],
    "rbd threads": ["/usr/bin/python3", "client_python_rbd.py", "--way=threads"],
    "rbd blocking": ["/usr/bin/python3", "client_python_rbd.py", "--way=blocking"],
    "aiorbd asyncio": [sys.executable, "client_aiorbd.py", "--backend=asyncio"],
    "aiorbd uvloop": [sys.executable, "client_aiorbd.py", "--backend=uvloop"],
    "aiorbd trio": [sys.executable, "client_aiorbd.py", "--backend=trio"],
    "stream asyncio": [sys.executable, "client_aiorbd.py", "--backend=asyncio", "--stream"],
    "stream uvloop": [sys.executable, "client_aiorbd.py", "--backend=uvloop", "--stream"],
    "stream trio": [sys.executable, "client_aiorbd.py", "--backend=trio", "--stream"],
}


@dataclass(frozen=True)
class Case:
    """What all of them do."""

    pattern: str
    block: int
    depth: int

    def __str__(self) -> str:
        return f"{self.pattern}, {self.block // 1024} KiB, depth {self.depth}"

    def clients(self) -> list[str]:
        """Who takes part: blocking calls have no depth, streams do not mix."""
        return [
            name
            for name in CLIENTS
            if not (name == "rbd blocking" and self.depth > 1)
            and not (name.startswith("stream") and (self.depth == 1 or self.pattern == "randrw"))
        ]

    def command(self, client: str, conffile: str, seconds: float) -> list[str]:
        """Return what to run."""
        if client == "fio":
            return [
                *("fio", "--output-format=json", "--name=bench", "--ioengine=rbd", "--clientname=admin", "--pool=rbd"),
                *(f"--rbdname={IMAGE}", f"--rw={self.pattern}", f"--bs={self.block}", f"--iodepth={self.depth}"),
                *("--time_based", f"--runtime={seconds}", "--randrepeat=0", "--norandommap", "--rwmixread=70"),
            ]
        program, script, *options = CLIENTS[client]
        return [
            *(program, str(HERE / script), conffile, IMAGE, *options, f"--pattern={self.pattern}"),
            *(f"--block={self.block}", f"--depth={self.depth}", f"--seconds={seconds}"),
        ]


def run(command: list[str], conffile: str) -> dict[str, Any]:
    """Run one client; return what it says, its CPU seconds and the most memory it had."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, stdout=output, env=os.environ | {"CEPH_CONF": conffile}, cwd=tempfile.gettempdir()
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} failed with {process.returncode}")
        output.seek(0)
        text = output.read()
    result: dict[str, Any] = json.loads(text[text.index("{") :])
    if "jobs" in result:
        result = from_fio(result["jobs"][0])
    return result | {"cpu": usage.ru_utime + usage.ru_stime, "rss_mib": usage.ru_maxrss / 1024}


def from_fio(job: dict[str, Any]) -> dict[str, Any]:
    """Bring fio's report into the form of the other clients'."""
    sides = [job[side] for side in ("read", "write") if job[side]["total_ios"]]
    cuts = sides[0]["clat_ns"]["percentile"]
    return {
        "operations": sum(side["total_ios"] for side in sides),
        "seconds": sides[0]["runtime"] / 1000,
        "latency_us": [cuts[cut] / 1000 for cut in ("50.000000", "99.000000", "99.900000")],
        "lag_ms": None,
    }


def measure(case: Case, client: str, conffile: str, seconds: float) -> dict[str, Any]:
    """Run one client, and once more for a moment, to know what its start costs."""
    full = run(case.command(client, conffile, seconds), conffile)
    short = run(case.command(client, conffile, 0.01 if client != "fio" else 1), conffile)
    iops = full["operations"] / full["seconds"]
    return {
        "iops": iops,
        "mb_s": iops * case.block / 1e6,
        "cpu_us": (full["cpu"] - short["cpu"]) * 1e6 / max(1, full["operations"] - short["operations"]),
        "latency_us": full["latency_us"],
        "rss_mib": full["rss_mib"],
    }


def fill(cluster: DevCluster, size: int) -> None:
    """Write the whole image: reads of holes would never leave the client."""
    with tempfile.NamedTemporaryFile() as source:
        for _ in range(size >> 20):
            source.write(os.urandom(1 << 20))
        source.flush()
        cluster.run_blocking("rbd", "import", source.name, IMAGE)
    usage = json.loads(cluster.run_blocking("rbd", "du", IMAGE, "--format", "json"))["images"][0]
    if usage["used_size"] != usage["provisioned_size"]:
        raise RuntimeError(f"the image has holes: {usage}")


def table(rounds: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Medians, and the ratios to the peers within each round."""

    def ratios(client: str, peer: str, figure: str) -> list[float]:
        return sorted(mine[figure] / theirs[figure] for mine, theirs in zip(rounds[client], rounds[peer], strict=True))

    rows = []
    for client, measured in rounds.items():
        row: dict[str, Any] = {"client": client}
        for figure in ("iops", "mb_s", "cpu_us", "rss_mib"):
            row[figure] = statistics.median(one[figure] for one in measured)
        latencies = [one["latency_us"] for one in measured if one["latency_us"]]
        row["latency_us"] = [statistics.median(cut) for cut in zip(*latencies, strict=True)]
        for peer in ("fio", "rbd.aio_*", "rbd threads"):
            row[f"iops/{peer}"] = ratios(client, peer, "iops")
        row["cpu/fio"] = statistics.median(ratios(client, "fio", "cpu_us"))
        rows.append(row)
    return rows


def show(case: Case, rows: list[dict[str, Any]], rounds: int, seconds: float) -> None:
    """Print one case."""
    print(f"\n{case}: medians of {rounds} rounds of {seconds:g} s")
    print(
        f"{'':15}{'IOPS':>7}{'MB/s':>7}{'p50 us':>8}{'p99':>7}{'p99.9':>7}{'CPU us':>8}{'MiB':>5}"
        f"{'/fio':>6}{'least-most':>12}{'/aio_*':>8}{'/threads':>9}{'CPU/fio':>8}"
    )
    for row in rows:
        p50, p99, p999 = (f"{value:.0f}" for value in row["latency_us"]) if row["latency_us"] else ("",) * 3
        fio = row["iops/fio"]
        print(
            f"{row['client']:15}{row['iops']:7.0f}{row['mb_s']:7.0f}{p50:>8}{p99:>7}{p999:>7}{row['cpu_us']:8.1f}"
            f"{row['rss_mib']:5.0f}{statistics.median(fio):6.2f}{f'{fio[0]:.2f}-{fio[-1]:.2f}':>12}"
            f"{statistics.median(row['iops/rbd.aio_*']):8.2f}{statistics.median(row['iops/rbd threads']):9.2f}"
            f"{row['cpu/fio']:8.2f}"
        )


def numbers(text: str) -> list[int]:
    """Parse a list."""
    return [int(part) for part in text.split(",")]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--patterns", type=lambda text: text.split(","), default=["randread"])
    parser.add_argument("--blocks", type=numbers, default=[4096])
    parser.add_argument("--depths", type=numbers, default=[1, 16, 64])
    parser.add_argument("--clients", help="only those with one of these in their names, and fio")
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--json", type=Path, default=HERE / "results" / "results.json")
    options = parser.parse_args()

    cluster = DevCluster()
    cluster.start_blocking()
    try:
        fill(cluster, options.megabytes << 20)
        results = []
        for case in (Case(p, b, d) for p in options.patterns for b in options.blocks for d in options.depths):
            rounds: dict[str, list[dict[str, Any]]] = {client: [] for client in case.clients()}
            for _ in range(options.rounds):
                for client, measured in rounds.items():
                    measured.append(measure(case, client, cluster.conffile, options.seconds))
            rows = table(rounds)
            show(case, rows, options.rounds, options.seconds)
            results.append(asdict(case) | {"seconds": options.seconds, "rounds": rounds, "table": rows})
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(results, indent=1))
        print(f"\nwritten to {options.json}")
    finally:
        cluster.stop_blocking()


if __name__ == "__main__":
    main()
