"""Measure the programs in ``examples/`` beside Ceph's and QEMU's programs.

    tests/bench/programs.sh --delay 0,1 --rounds 5
    tests/bench/programs.sh --cases nbd

Each round runs ours and the peer, in turn the one or the other first. The table has the medians, and the median of the
ratios within a round. Times are those of whole processes, from start to end. Only `export_diff` and `import_diff` are
measured within a process, from the connection to its close: these calls are for programs that run long.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from aiorbd.testing import DevCluster

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
MIB = 1 << 20

#: The OSD stores its objects in pages. Otherwise small writes would fragment them, and the OSD would become slower.
PAGES = {"memstore_page_set": "true"}

#: The name of a figure, its unit, and what ours and the peer measure.
Case = tuple[str, str, Callable[[], float], Callable[[], float]]


class Bench:
    """A cluster, a directory and the sizes."""

    def __init__(self, cluster: DevCluster, directory: Path, options: argparse.Namespace) -> None:
        self.cluster = cluster
        self.environment = {**os.environ, "CEPH_CONF": cluster.conffile}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program has its bytecode
        self.directory = directory
        self.size: int = options.megabytes * MIB
        self.seconds: int = options.seconds
        self.number = 0
        #: What the last command printed.
        self.output = b""

    def sh(self, command: str, **values: object) -> float:
        """Run a command line. Return its duration."""
        line = command.format(**{name: shlex.quote(str(value)) for name, value in values.items()})
        begin = time.perf_counter()
        bash = ["bash", "-euo", "pipefail", "-c", line]
        self.output = subprocess.run(bash, env=self.environment, check=True, capture_output=True).stdout
        return time.perf_counter() - begin

    def new_name(self) -> str:
        self.number += 1
        return f"image-{self.number}"

    def image(self, data: float, size: int | None = None) -> str:
        """Create an image. `data` is the fraction of its 4 MiB blocks that have data."""
        name = self.new_name()
        file = self.directory / "data"
        with file.open("wb") as out:
            out.truncate(size or self.size)
            for number in range((size or self.size) // (4 * MIB)):
                if number * data % 1 < data:
                    out.seek(number * 4 * MIB)
                    out.write(os.urandom(4 * MIB))
        self.sh("rbd import --no-progress {file} {name}", file=file, name=name)
        return name

    def remove(self, *names: str) -> None:
        for name in names:
            self.sh("rbd snap purge --no-progress {name} && rbd rm --no-progress {name}", name=name)

    # -- diff streams --------------------------------------------------------------------------

    def diffs(self) -> Iterator[Case]:
        """`export_diff` into `import_diff`, beside the tool's commands with a pipe between them."""
        for title, data in (("full", 1.0), ("90 % empty", 0.1)):
            source = self.image(data)
            self.sh("rbd snap create --no-progress {name}@end", name=source)

            def ours(source: str = source) -> float:
                target = self.new_name()
                self.sh("rbd create --size 1 {target}", target=target)
                command = "{python} {program} {source} {target}"
                program = HERE / "client_diff.py"
                self.sh(command, python=sys.executable, program=program, source=source, target=target)
                seconds = float(self.output)
                self.require_equal(source, target)
                return seconds

            def peer(source: str = source) -> float:
                target = self.new_name()
                self.sh("rbd create --size 1 {target}", target=target)
                command = "rbd export-diff --no-progress {source}@end - | rbd import-diff --no-progress - {target}"
                seconds = self.sh(command, source=source, target=target)
                self.require_equal(source, target)
                return seconds

            yield f"`export_diff` to `import_diff`, {title}", "s", ours, peer
            self.remove(source)

    def require_equal(self, source: str, target: str) -> None:
        """Compare two images with the tool, and remove the second."""
        export = "rbd export --no-progress {} - | sha256sum"
        self.sh(f'test "$({export.format("{name}")})" = "$({export.format("{copy}")})"', name=source, copy=target)
        self.remove(target)

    # -- backups -------------------------------------------------------------------------------

    def backups(self) -> Iterator[Case]:
        """Eight images, four at a time: a full backup, and an incremental one after changes to a tenth."""
        names = [self.image(0.5, self.size // 4) for _ in range(8)]
        ours_directory, peer_directory = self.directory / "ours", self.directory / "peer"
        peer_directory.mkdir()
        backup = "{python} {program} --directory {directory} --jobs 4 backup " + " ".join(names)
        rounds = {"peer": 0}

        def ours() -> float:
            return self.sh(backup, python=sys.executable, program=EXAMPLES / "backup.py", directory=ours_directory)

        def peer() -> float:
            number = rounds["peer"] = rounds["peer"] + 1
            since = f"--from-snap p{number - 1}" if number > 1 else ""
            one = (
                f"rbd snap create --no-progress $0@p{number} && "
                f"rbd export-diff --no-progress {since} $0@p{number} {peer_directory}/$0.{number}"
            )
            return self.sh(f"printf '%s\\n' {' '.join(names)} | xargs -P4 -n1 bash -c {shlex.quote(one)}")

        def full(run: Callable[[], float], directory: Path) -> Callable[[], float]:
            def once() -> float:
                for name in names:
                    self.sh("rbd snap purge --no-progress {name}", name=name)
                self.sh("rm -rf {directory}; mkdir {directory}", directory=directory)
                rounds["peer"] = 0
                return run()

            return once

        def after_changes() -> float:
            for name in names:
                bench = "rbd bench --io-type write --io-size 4M --io-total {total} --io-pattern rand {name}"
                self.sh(bench, total=self.size // 40, name=name)
            return ours()

        yield "8 images, full", "s", full(ours, ours_directory), full(peer, peer_directory)
        full(ours, ours_directory)()
        self.sh("rm -rf {directory}; mkdir {directory}", directory=peer_directory)
        rounds["peer"] = 0
        peer()
        yield "8 images, a tenth changed", "s", after_changes, peer
        self.remove(*names)

    # -- NBD -----------------------------------------------------------------------------------

    def nbd(self) -> Iterator[Case]:
        """The NBD server beside ``qemu-nbd``: `nbdcopy` with four connections, and fio with one."""
        name = self.image(1.0)
        file = self.directory / "data"
        with ExitStack() as stack:
            ours = stack.enter_context(self.our_server(name))
            peer = stack.enter_context(self.qemu_server(name))
            copies = {
                "`nbdcopy` from the server, MB/s": "nbdcopy --connections=4 {uri} null:",
                "`nbdcopy` to the server, MB/s": "nbdcopy --connections=4 --flush {file} {uri}",
            }

            def copy(command: str, uri: str) -> Callable[[], float]:
                return lambda: self.size / 1e6 / self.sh(command, uri=uri, file=file)

            def fio(pattern: str, uri: str) -> Callable[[], float]:
                return lambda: self.fio(pattern, uri)

            for title, command in copies.items():
                yield title, "MB/s", copy(command, ours), copy(command, peer)
            for pattern in ("randread", "randwrite"):
                yield f"fio, 4 KiB {pattern}, 16 in flight, IOPS", "IOPS", fio(pattern, ours), fio(pattern, peer)
        self.remove(name)

    def fio(self, pattern: str, uri: str) -> float:
        """Return the IOPS of one connection. librbd keeps written data in its cache after the first flush only."""
        self.sh("qemu-io -f raw -c flush {uri}", uri=uri)
        command = (
            f"fio --name=job --ioengine=nbd --uri={shlex.quote(uri)} --rw={pattern} --bs=4k --iodepth=16 --time_based "
            f"--runtime={self.seconds} --size={self.size} --output-format=json"
        )
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=True, cwd=self.directory)
        job = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]
        return float(job["read" if pattern == "randread" else "write"]["iops"])

    @contextmanager
    def our_server(self, name: str) -> Iterator[str]:
        path = self.directory / "ours.sock"
        command = [
            sys.executable,
            str(EXAMPLES / "nbd_server.py"),
            "--conf",
            self.cluster.conffile,
            "--socket",
            str(path),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
            assert server.stdout is not None
            assert server.stdout.readline().startswith("ready")
            yield f"nbd+unix:///{name}?socket={path}"
            server.terminate()

    @contextmanager
    def qemu_server(self, name: str) -> Iterator[str]:
        path = self.directory / "qemu.sock"
        target = f"rbd:rbd/{name}:conf={self.cluster.conffile}"
        command = ["qemu-nbd", "-f", "raw", "--cache=writeback", "-k", str(path), "-e", "8", "-t", target]
        with subprocess.Popen(command) as server:
            while not path.exists():
                assert server.poll() is None
                time.sleep(0.05)
            yield f"nbd+unix:///?socket={path}"
            server.terminate()


def measure(number: int, ours: Callable[[], float], peer: Callable[[], float]) -> tuple[float, float]:
    """Run ours and the peer, the peer first in every second round."""
    if number % 2:
        theirs = peer()
        return ours(), theirs
    return ours(), peer()


def main() -> None:
    """Measure the cases, print a table, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=lambda text: text.split(","), default=["diffs", "backups", "nbd"])
    parser.add_argument("--delay", type=lambda text: [float(one) for one in text.split(",")], default=[0.0, 1.0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each run of fio")
    parser.add_argument("--megabytes", type=int, default=512, help="the size of an image")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "programs.json")
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    options.json.parent.mkdir(parents=True, exist_ok=True)
    print("| case | delay | ours | peer | unit | times as fast |\n|---|---|---|---|---|---|", flush=True)
    for delay in options.delay:
        with (
            DevCluster(delay=delay / 1000, osd_bytes=16 << 30, options=PAGES) as cluster,
            tempfile.TemporaryDirectory() as directory,
        ):
            bench = Bench(cluster, Path(directory), options)
            for case in options.cases:
                for title, unit, ours, peer in getattr(bench, case)():
                    rounds = [measure(number, ours, peer) for number in range(options.rounds)]
                    ratios = [own / other if unit != "s" else other / own for own, other in rounds]
                    own, other = (statistics.median(column) for column in zip(*rounds, strict=True))
                    ratio = statistics.median(ratios)
                    shown = [f"{value:,.0f}" if value >= 100 else f"{value:.2f}" for value in (own, other)]
                    print(f"| {title} | {delay:g} ms | {shown[0]} | {shown[1]} | {unit} | {ratio:.2f} |", flush=True)
                    results.append({"case": title, "delay": delay, "unit": unit, "rounds": rounds, "ratio": ratio})
                    options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
