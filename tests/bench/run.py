"""aiorbd beside fio and Ceph's own Python module: 4 KiB random reads of an image written in full.

All clients read the same image on the same cluster, in interleaved rounds; the figures are medians,
the ratios are medians of the ratios within a round. Every client flushes once, so that each owns the
exclusive lock and has librbd's cache in the same state. All have librbd's default settings. CPU is
user and system time of the whole client process, less that of one that starts, opens and ends.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from aiorbd.testing import DevCluster

HERE = Path(__file__).parent
IMAGE = "bench"
#: The table's rows: what Ceph's own module gives comes first, fio is the C client.
CLIENTS = (
    "rbd.aio_read",
    "rbd threads",
    "fio",
    "aiorbd asyncio",
    "aiorbd uvloop",
    "aiorbd trio",
    "rbd.aio_read *",
    "aiorbd asyncio *",
)


def command(client: str, conffile: str, depth: int, seconds: float) -> list[str]:
    """Return what to run."""
    arguments = [conffile, IMAGE, "--depth", str(depth), "--seconds", str(seconds)]
    if client.endswith("*"):
        arguments += ["--threads", "1"]
    if client.startswith("rbd"):
        way = "threads" if client == "rbd threads" else "aio"
        # The module is bound to the distribution's Python.
        return ["/usr/bin/python3", str(HERE / "client_python_rbd.py"), *arguments, "--way", way]
    if client == "fio":
        return [
            *("fio", "--output-format=json", "--name=bench", "--ioengine=rbd", "--clientname=admin", "--pool=rbd"),
            *(f"--rbdname={IMAGE}", "--rw=randread", "--bs=4k", f"--iodepth={depth}", "--time_based"),
            *(f"--runtime={seconds}", "--randrepeat=0", "--norandommap"),
        ]
    return [sys.executable, str(HERE / "client_aiorbd.py"), *arguments, "--backend", client.split()[1]]


def measure(client: str, conffile: str, depth: int, seconds: float) -> dict[str, float]:
    """Run one client; return IOPS and CPU microseconds per operation."""
    operations, iops, cpu = run(client, conffile, depth, seconds)
    few, _, start = run(client, conffile, depth, 0.01 if client != "fio" else 1)
    return {"iops": iops, "cpu_us": (cpu - start) * 1e6 / (operations - few)}


def run(client: str, conffile: str, depth: int, seconds: float) -> tuple[int, float, float]:
    """Run one client; return operations, operations a second, CPU seconds."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command(client, conffile, depth, seconds),
            stdout=output,
            env=os.environ | {"CEPH_CONF": conffile},
            cwd=tempfile.gettempdir(),
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{client} failed with {process.returncode}")
        output.seek(0)
        text = output.read()
    result = json.loads(text[text.index("{") :])
    if client == "fio":
        read = result["jobs"][0]["read"]
        operations, iops = read["total_ios"], read["iops"]
    else:
        operations, iops = result["operations"], result["operations"] / result["seconds"]
    return operations, iops, usage.ru_utime + usage.ru_stime


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


def table(rounds: dict[str, list[dict[str, float]]]) -> list[dict[str, float | str]]:
    """Medians, and the ratio to Ceph's module and to fio within each round."""

    def ratio(client: str, peer: str, figure: str) -> float:
        return statistics.median(
            mine[figure] / theirs[figure] for mine, theirs in zip(rounds[client], rounds[peer], strict=True)
        )

    return [
        {
            "client": client,
            "iops": statistics.median(one["iops"] for one in rounds[client]),
            "cpu_us": statistics.median(one["cpu_us"] for one in rounds[client]),
            "iops_to_aio_read": ratio(client, "rbd.aio_read", "iops"),
            "iops_to_threads": ratio(client, "rbd threads", "iops"),
            "iops_to_fio": ratio(client, "fio", "iops"),
            "cpu_to_aio_read": ratio(client, "rbd.aio_read", "cpu_us"),
        }
        for client in CLIENTS
    ]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--depths", type=lambda text: [int(part) for part in text.split(",")], default=[16, 64])
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--json", type=Path, default=HERE / "results" / "reads.json")
    options = parser.parse_args()

    cluster = DevCluster()
    cluster.start_blocking()
    try:
        fill(cluster, options.megabytes << 20)
        results = {}
        for depth in options.depths:
            rounds: dict[str, list[dict[str, float]]] = {client: [] for client in CLIENTS}
            for _ in range(options.rounds):
                for client in CLIENTS:
                    rounds[client].append(measure(client, cluster.conffile, depth, options.seconds))
            results[depth] = {"rounds": rounds, "table": table(rounds)}
            print(f"\n4 KiB random reads, depth {depth}, medians of {options.rounds} rounds of {options.seconds:g} s")
            print(f"{'':18}{'IOPS':>8}{'CPU us':>8}{'/aio_read':>11}{'/threads':>10}{'/fio':>7}{'CPU/aio_read':>14}")
            for row in results[depth]["table"]:
                print(
                    f"{row['client']:18}{row['iops']:8.0f}{row['cpu_us']:8.1f}{row['iops_to_aio_read']:11.2f}"
                    f"{row['iops_to_threads']:10.2f}{row['iops_to_fio']:7.2f}{row['cpu_to_aio_read']:14.2f}"
                )
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1))
        print("\n* with librados_thread_count 1 instead of 2")
        print(f"written to {options.json}")
    finally:
        cluster.stop_blocking()


if __name__ == "__main__":
    main()
