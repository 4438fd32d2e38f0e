"""Compare aiorbd with fio, `rbd bench` and Ceph's Python module: reads and writes of a fully written image.

    tests/bench/run.sh                                   4 KiB random reads, depths 1, 16, 64 and 256
    tests/bench/run.sh --patterns randread,randwrite,randrw,read,write --blocks 4096,65536,4194304 --depths 16,64
    tests/bench/run.sh --delay 0,1                       without and with 1 ms between client and OSD
    tests/bench/run.sh --where                           also the CPU time of each kind of thread
    tests/bench/run.sh --transfers                       also `rbd export` and `rbd import` beside aiorbd's

All clients work on the same image of the same cluster, in interleaved rounds. Each round has another order. The figures
are medians. The ratios are medians of the ratios within a round, beside the smallest and the largest. Each client owns
the exclusive lock, and librbd's cache is in the same state for all: write-back from the start. The other settings are
librbd's defaults; only the clients called "own" have the settings that aiorbd chooses. The OSD stores its objects in
pages. Without pages, small writes would fragment the objects, and later clients would find the OSD slower.

With a delay, Ceph's fault injection delays each request to the OSD by up to twice that time, as a network would. CPU is
user and system time of the whole client process, without the time of a client that only starts, opens and ends.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import transfers
import where
from cases import CLIENTS, HERE, IMAGE, Case, run
from limits import check
from plot import draw

from aiorbd.testing import DevCluster

PEERS = ("fio", "rbd.aio_*", "rbd threads")

#: The same state for all clients: see above.
SETTINGS = {"rbd_cache_writethrough_until_flush": "false", "memstore_page_set": "true"}


def measure(
    case: Case,
    client: str,
    conffile: str,
    seconds: float,
    operations: int,
    idle: dict[str, Any],
    watch: where.Watch | None,
) -> Any:
    """Run one client. Before its first run, also run it for a moment, to measure the cost of its start."""
    if client not in idle:
        idle[client] = run(case.command(client, conffile, 0.01, 1), conffile)
    watch = None if client == "rbd bench" else watch  # it counts operations, and may end before the watch has looked
    full, short = run(case.command(client, conffile, seconds, operations), conffile, watch), idle[client]
    iops = full["operations"] / full["seconds"]
    return {
        "operations": full["operations"],
        "iops": iops,
        "mb_s": iops * case.block / 1e6,
        "cpu_us": (full["cpu"] - short["cpu"]) * 1e6 / max(1, full["operations"] - short["operations"]),
        "latency_us": full["latency_us"],
        "lag_ms": full["lag_ms"],
        "rss_mib": full["rss_mib"],
        "where": full.get("where"),
    }


def fill(cluster: DevCluster, size: int) -> None:
    """Write the whole image: a read of a hole would never leave the client."""
    with tempfile.NamedTemporaryFile() as source:
        for _ in range(size >> 20):
            source.write(os.urandom(1 << 20))
        source.flush()
        cluster.run_blocking("rbd", "import", source.name, IMAGE)
    usage = json.loads(cluster.run_blocking("rbd", "du", IMAGE, "--format", "json"))["images"][0]
    if usage["used_size"] != usage["provisioned_size"]:
        raise RuntimeError(f"the image has holes: {usage}")


def table(rounds: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the medians, and the ratios to the peers within each round."""

    def ratios(client: str, peer: str, figure: str) -> list[float]:
        return sorted(mine[figure] / theirs[figure] for mine, theirs in zip(rounds[client], rounds[peer], strict=True))

    rows = []
    for client, measured in rounds.items():
        row: dict[str, Any] = {"client": client}
        for figure in ("iops", "mb_s", "cpu_us", "rss_mib"):
            row[figure] = statistics.median(one[figure] for one in measured)
        for figure in ("latency_us", "lag_ms"):
            known = [one[figure] for one in measured if one[figure]]
            row[figure] = [statistics.median(cut) for cut in zip(*known, strict=True)]
        for peer in PEERS:
            row[f"iops/{peer}"] = ratios(client, peer, "iops") if peer in rounds else []
        row["cpu/fio"] = ratios(client, "fio", "cpu_us")
        rows.append(row)
    return rows


def show(case: Case, rows: list[dict[str, Any]], rounds: int, seconds: float) -> None:
    """Print one case."""

    def middle(values: list[float]) -> str:
        return f"{statistics.median(values):.2f}" if values else ""

    print(f"\n{case}: medians of {rounds} rounds of {seconds:g} s")
    print(
        f"{'':15}{'IOPS':>7}{'MB/s':>7}{'p50 us':>8}{'p99':>8}{'p99.9':>9}{'lag p99':>9}{'CPU us':>8}{'MiB':>5}"
        f"{'/fio':>6}{'least-most':>12}{'/aio_*':>8}{'/threads':>9}{'CPU/fio':>8}"
    )
    for row in rows:
        p50, p99, p999 = (f"{value:.0f}" for value in row["latency_us"]) if row["latency_us"] else ("",) * 3
        lag = f"{row['lag_ms'][1]:.1f}" if row["lag_ms"] else ""
        fio = row["iops/fio"]
        print(
            f"{row['client']:15}{row['iops']:7.0f}{row['mb_s']:7.0f}{p50:>8}{p99:>8}{p999:>9}{lag:>9}"
            f"{row['cpu_us']:8.1f}{row['rss_mib']:5.0f}{middle(fio):>6}{f'{fio[0]:.2f}-{fio[-1]:.2f}':>12}"
            f"{middle(row['iops/rbd.aio_*']):>8}{middle(row['iops/rbd threads']):>9}{middle(row['cpu/fio']):>8}",
            flush=True,
        )


def order(clients: list[str], rounds: int) -> Iterator[str]:
    """Yield each client once a round. The first round has the given order; later rounds rotate it."""
    for number in range(rounds):
        first = number * len(clients) // rounds
        yield from clients[first:] + clients[:first]


def delays(text: str) -> list[float]:
    """Parse a list of numbers with fractions."""
    return [float(part) for part in text.split(",")]


def numbers(text: str) -> list[int]:
    """Parse a list of integers."""
    return [int(part) for part in text.split(",")]


def words(text: str) -> list[str]:
    """Parse a list of words."""
    return text.split(",")


def compare(case: Case, cluster: DevCluster, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one case with all of its clients, and print it."""
    watch = where.Watch(cluster, options.seconds - where.START) if options.where else None
    rounds: dict[str, list[dict[str, Any]]] = {client: [] for client in case.clients(options.clients)}
    idle: dict[str, Any] = {}
    operations = 0  # of the first client, in the latest round
    for client in order(list(rounds), options.rounds):
        one = measure(case, client, cluster.conffile, options.seconds, operations, idle, watch)
        operations = one["operations"] if client == next(iter(rounds)) else operations
        rounds[client].append(one)
    rows = table(rounds)
    show(case, rows, options.rounds, options.seconds)
    if watch:
        where.show(rounds)
    return asdict(case) | {"seconds": options.seconds, "rounds": rounds, "table": rows}


def main() -> None:
    """Measure the cases, print them, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--patterns", type=words, default=["randread"])
    parser.add_argument("--blocks", type=numbers, default=[4096])
    parser.add_argument("--depths", type=numbers, default=[1, 16, 64, 256])
    parser.add_argument("--delay", type=delays, default=[0.0], metavar="MS", help="mean delay to the OSD, in ms")
    parser.add_argument("--clients", type=words, help=f"of {', '.join(CLIENTS)}")
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--transfers", action="store_true", help="also move whole images, full and nearly empty")
    parser.add_argument("--where", action="store_true", help="also tell whose threads have the cores' time")
    parser.add_argument("--check", action="store_true", help="fail when a ratio is far below what is usual")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "results.json")
    options = parser.parse_args()
    if options.where and (options.seconds < where.START + 1 or options.seconds % 1):
        parser.error("--where needs whole --seconds, as fio does, and three or more: it leaves out the start")

    results: dict[str, Any] = {"cases": [], "transfers": {}}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    for delay in options.delay:
        with DevCluster(options=SETTINGS, osd_bytes=16 << 30, delay=delay / 1000) as cluster:
            fill(cluster, options.megabytes << 20)
            for case in (
                Case(p, b, d, delay) for p in options.patterns for b in options.blocks for d in options.depths
            ):
                results["cases"].append(compare(case, cluster, options))
                options.json.write_text(json.dumps(results, indent=1))
            if options.transfers:
                results["transfers"] = transfers.measure(cluster, options.megabytes << 20, options.rounds)
                options.json.write_text(json.dumps(results, indent=1))
    print(f"\nwritten to {options.json}")
    if options.check:
        check(results["cases"])
    elif results["cases"]:
        print(f"drawn to {draw(results['cases'], options.json.with_suffix('.svg'))}")


if __name__ == "__main__":
    main()
