"""A development cluster: start, stop, run programs, cause faults."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from anyio import to_thread

from aiorbd.testing import processes
from aiorbd.testing.config import ClusterConfig
from aiorbd.testing.running import Running

T = TypeVar("T")


async def _in_thread(function: Callable[..., T], *arguments: Any, **options: Any) -> T:
    return await to_thread.run_sync(partial(function, *arguments, **options))


def spawn(directory: Path, config: ClusterConfig, *flags: str) -> tuple["subprocess.Popen[str]", dict[str, int]]:
    """Start a supervisor and wait until its cluster is ready. Return the supervisor and the daemons' process ids."""
    supervisor = subprocess.Popen(
        [sys.executable, "-m", "aiorbd.testing.supervisor", str(directory), json.dumps(asdict(config)), *flags],
        stdin=subprocess.DEVNULL if flags else subprocess.PIPE,
        stdout=subprocess.PIPE,
        # A detached supervisor outlives its starter. So it must not hold the starter's terminal or pipe open.
        stderr=subprocess.DEVNULL if flags else None,
        text=True,
        start_new_session=True,  # only the owner handles a Ctrl-C in the terminal
    )
    assert supervisor.stdout is not None
    answer = json.loads(supervisor.stdout.readline() or '{"error": "the supervisor died"}')
    if "error" in answer:
        supervisor.communicate()
        raise RuntimeError(f"the development cluster did not start: {answer['error']}")
    return supervisor, answer["pids"]


class DevCluster(Running):
    """A Ceph cluster in a temporary directory of its own, on free ports of the loopback interface.

    Use the cluster as an async context manager::

        async with DevCluster() as ceph, aiorbd.connect(ceph.conffile) as cluster:
            ...

    Without an event loop, use a plain context manager (``with DevCluster() as ceph``).

    The end of the block, or the death of the process, ends the daemons and removes their directory.
    """

    def __init__(self, config: ClusterConfig | None = None, **options: Any) -> None:
        """Take a `ClusterConfig`, or the fields of a `ClusterConfig` as keyword arguments."""
        self.config: ClusterConfig = config or ClusterConfig(**options)
        self._supervisor: subprocess.Popen[str] | None = None
        self._directory: Path | None = None
        self._pids: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def directory(self) -> Path:
        """The directory of the configuration, the keyring, the logs and the data."""
        if self._directory is None:
            raise RuntimeError("the cluster is not running")
        return self._directory

    @property
    def conffile(self) -> str:
        """The path of the configuration file, for `aiorbd.connect` and ``CEPH_CONF``."""
        return str(self.directory / "ceph.conf")

    @property
    def mon_host(self) -> str:
        """The address of the monitor, for connections without a configuration file."""
        for line in Path(self.conffile).read_text().splitlines():
            name, _, value = line.partition(" = ")
            if name == "mon host":
                return value
        raise RuntimeError(f"{self.conffile} names no monitor")

    def environment(self) -> dict[str, str]:
        """Return environment variables for programs that use the cluster."""
        return dict(os.environ) | {"CEPH_CONF": self.conffile}

    # -- life ----------------------------------------------------------------------------------

    def start_blocking(self) -> None:
        """Start the cluster without an event loop."""
        self.config.require_programs()
        directory = Path(tempfile.mkdtemp(prefix="aiorbd-"))
        try:
            self._supervisor, self._pids = spawn(directory, self.config)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        self._directory = directory

    def stop_blocking(self) -> None:
        """Stop the cluster without an event loop. Stopping twice is allowed."""
        if self._supervisor is not None:
            self._supervisor.communicate()  # closes the supervisor's input, which ends the supervisor
            self._supervisor = self._directory = None

    # -- commands ------------------------------------------------------------------------------

    def run_blocking(self, *command: str, stdin: bytes | None = None) -> bytes:
        """Run a program that uses the cluster, like ``rbd``, without an event loop. Return the program's output."""
        done = subprocess.run(command, input=stdin, capture_output=True, env=self.environment(), check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout

    async def run(self, *command: str, stdin: bytes | None = None) -> bytes:
        """Run a program that uses the cluster, like ``rbd``. Return the program's output."""
        return await _in_thread(self.run_blocking, *command, stdin=stdin)

    # -- faults --------------------------------------------------------------------------------

    def pause(self, daemon: str = "osd.0") -> None:
        """Pause the process of a daemon. For the daemon's clients, the cluster is dead."""
        processes.pause(self._pids[daemon])

    def resume(self, daemon: str = "osd.0") -> None:
        """Continue a paused daemon."""
        processes.resume(self._pids[daemon])

    async def kill(self, daemon: str = "osd.0", number: int = signal.SIGKILL) -> None:
        """End a daemon with a signal.

        A memory-backed OSD loses its data with SIGKILL, and saves its data with SIGTERM.
        """
        await _in_thread(self._ask, do="kill", name=daemon, signal=int(number))
        del self._pids[daemon]

    async def restart(self, daemon: str = "osd.0", number: int = signal.SIGTERM) -> None:
        """End a daemon if it runs, start the daemon again, and wait until the daemon serves.

        For a daemon ``rbd-mirror``, the call does not wait. After a SIGKILL, the daemon needs longer until it copies
        again: its new process waits until the old one counts as dead.
        """
        osd = int(daemon.partition(".")[2]) if daemon.startswith("osd.") else None
        before = None if osd is None else (await _in_thread(self._osd_state, osd))[1]
        if daemon in self._pids:
            await self.kill(daemon, number)
        answer = await _in_thread(self._ask, do="start", name=daemon)
        self._pids[daemon] = answer["pid"]
        if osd is not None:
            await _in_thread(self._wait_until_up, osd, before)
        else:
            await self.run("ceph", "--connect-timeout", "30", "mon", "stat")

    async def blocklist(self, address: str) -> None:
        """Blocklist a client, by the client's address as ``rbd status`` shows it."""
        await self.run("ceph", "osd", "blocklist", "add", address)

    async def set_quota(self, pool: str, max_bytes: int) -> None:
        """Limit the bytes in a pool; 0 removes the limit.

        Only a cluster with a manager notices that the limit is reached: `mgr=True`.
        """
        await self.run("ceph", "osd", "pool", "set-quota", pool, "max_bytes", str(max_bytes))

    def _ask(self, **request: Any) -> dict[str, Any]:
        supervisor = self._supervisor
        if supervisor is None or supervisor.stdin is None or supervisor.stdout is None:
            raise RuntimeError("the cluster is not running")
        with self._lock:
            supervisor.stdin.write(json.dumps(request) + "\n")
            supervisor.stdin.flush()
            answer: dict[str, Any] = json.loads(supervisor.stdout.readline() or '{"error": "the supervisor died"}')
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def _osd_state(self, number: int) -> tuple[bool, int]:
        """Return whether the monitors see an OSD as up, and the nonce of its address. Each start has another nonce."""
        dump = json.loads(self.run_blocking("ceph", "--connect-timeout", "30", "osd", "dump", "-f", "json"))
        (osd,) = [osd for osd in dump["osds"] if osd["osd"] == number]
        addresses = osd["public_addrs"]["addrvec"] if osd["public_addrs"] else []
        return bool(osd["up"]), addresses[0]["nonce"] if addresses else 0

    def _wait_until_up(self, number: int, before: int | None) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            up, nonce = self._osd_state(number)
            # The OSD is up with a new nonce. Before, the monitors may not have noticed the end of the old process.
            if up and nonce != before:
                return
            time.sleep(0.1)
        raise RuntimeError(f"osd.{number} was not up after 60 s; see {self.directory}/log")
