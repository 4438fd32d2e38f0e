"""The measured cases, the clients, and the command of each client."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
IMAGE = "bench"

#: Ceph's Python module works only with the distribution's Python.
SYSTEM_PYTHON = "/usr/bin/python3"

CLIENTS = {
    "fio": [],
    "rbd bench": [],
    "rbd.aio_*": [SYSTEM_PYTHON, "client_python_rbd.py", "--way=aio"],
    "rbd threads": [SYSTEM_PYTHON, "client_python_rbd.py", "--way=threads"],
    "rbd blocking": [SYSTEM_PYTHON, "client_python_rbd.py", "--way=blocking"],
    "aiorbd asyncio": [sys.executable, "client_aiorbd.py", "--backend=asyncio"],
    "aiorbd uvloop": [sys.executable, "client_aiorbd.py", "--backend=uvloop"],
    "aiorbd trio": [sys.executable, "client_aiorbd.py", "--backend=trio"],
    "stream asyncio": [sys.executable, "client_aiorbd.py", "--backend=asyncio", "--stream"],
    "stream uvloop": [sys.executable, "client_aiorbd.py", "--backend=uvloop", "--stream"],
    "stream trio": [sys.executable, "client_aiorbd.py", "--backend=trio", "--stream"],
    "own asyncio": [sys.executable, "client_aiorbd.py", "--backend=asyncio", "--own-settings"],
    "own stream": [sys.executable, "client_aiorbd.py", "--backend=asyncio", "--own-settings", "--stream"],
}


@dataclass(frozen=True)
class Case:
    """The work of the clients.

    Attributes:
        pattern: The pattern by fio's name.
        block: Bytes of an operation.
        depth: Operations in flight.
        delay: The mean delay to the OSD in ms.
    """

    pattern: str
    block: int
    depth: int
    delay: float = 0.0

    def __str__(self) -> str:
        return f"{self.pattern}, {self.block // 1024} KiB, depth {self.depth}, delay {self.delay:g} ms"

    def clients(self, only: list[str] | None = None) -> list[str]:
        """Return the clients of this case, always including fio.

        Blocking calls have no depth, and streams do not mix reads and writes.
        """
        return [
            name
            for name in CLIENTS
            if (name == "fio" or only is None or name in only)
            and not (name == "rbd blocking" and self.depth > 1)
            and not ("--stream" in CLIENTS[name] and (self.depth == 1 or self.pattern == "randrw"))
        ]

    def command(self, client: str, conffile: str, seconds: float, operations: int) -> list[str]:
        """Return the client's command.

        The command runs for `seconds`. A client that counts operations makes about as many as fio did.
        """
        if client == "fio":
            return [
                *("fio", "--output-format=json", "--name=bench", "--ioengine=rbd", "--clientname=admin", "--pool=rbd"),
                *(f"--rbdname={IMAGE}", f"--rw={self.pattern}", f"--bs={self.block}", f"--iodepth={self.depth}"),
                *("--time_based", f"--runtime={max(1, seconds):.0f}", "--randrepeat=0", "--norandommap"),
                *("--rwmixread=70", "--lat_percentiles=1"),  # latency from before the submit, as the others measure
                *(["--rate_iops=1,1"] if seconds < 1 else []),  # to measure its start: fio runs for at least a second
            ]
        if client == "rbd bench":
            kind = "rw" if self.pattern == "randrw" else self.pattern.removeprefix("rand")
            return [
                *("rbd", "bench", f"rbd/{IMAGE}", f"--io-type={kind}", f"--io-size={self.block}B"),
                *(f"--io-threads={self.depth}", f"--io-total={max(self.depth, operations) * self.block}B"),
                f"--io-pattern={'rand' if self.pattern.startswith('rand') else 'full-seq'}",
                *(["--rw-mix-read=70"] if kind == "rw" else []),
            ]
        program, script, *options = CLIENTS[client]
        return [
            *(program, str(HERE / script), conffile, IMAGE, *options, f"--pattern={self.pattern}"),
            *(f"--block={self.block}", f"--depth={self.depth}", f"--seconds={seconds}"),
        ]


def timed(command: list[str], conffile: str, watch: Callable[[int], Any] | None = None) -> tuple[str, dict[str, Any]]:
    """Run a program. Return its output, and its CPU seconds, peak memory and the result of `watch`."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, stdout=output, env=os.environ | {"CEPH_CONF": conffile}, cwd=tempfile.gettempdir()
        )
        try:
            seen = {"where": watch(process.pid)} if watch else {}
        except BaseException:
            process.kill()
            process.wait()
            raise
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} failed with {process.returncode}")
        output.seek(0)
        text = output.read()
    return text, {"cpu": usage.ru_utime + usage.ru_stime, "rss_mib": usage.ru_maxrss / 1024} | seen


def run(command: list[str], conffile: str, watch: Callable[[int], Any] | None = None) -> dict[str, Any]:
    """Run one client and return its report."""
    text, usage = timed(command, conffile, watch)
    if command[0] == "rbd":
        return from_rbd_bench(text) | usage
    result: dict[str, Any] = json.loads(text[text.index("{") :])
    if "jobs" in result:
        result = from_fio(result["jobs"][0])
    return result | usage


def from_fio(job: dict[str, Any]) -> dict[str, Any]:
    """Convert fio's report into the format of the other clients."""
    sides = [job[side] for side in ("read", "write") if job[side]["total_ios"]]
    cuts = sides[0]["lat_ns"]["percentile"]
    return {
        "operations": sum(side["total_ios"] for side in sides),
        "seconds": sides[0]["runtime"] / 1000,
        "latency_us": [cuts[cut] / 1000 for cut in ("50.000000", "99.000000", "99.900000")],
        "lag_ms": None,
    }


def from_rbd_bench(text: str) -> dict[str, Any]:
    """Read the line with the totals. It rounds the seconds, but not the rate."""
    found = re.search(r"elapsed: \d+ +ops: (\d+) +ops/sec: ([\d.]+|inf)", text)
    if found is None:
        raise RuntimeError(f"`rbd bench` printed no totals: {text}")
    operations, rate = int(found[1]), float(found[2])
    return {"operations": operations, "seconds": operations / rate, "latency_us": None, "lag_ms": None}
