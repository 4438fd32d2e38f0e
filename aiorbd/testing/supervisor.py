"""The process that starts the daemons of a cluster and ends them.

The supervisor runs beside its owner. The owner sends requests as lines of JSON. When the owner ends, for any reason,
the standard input of the supervisor ends. The supervisor then stops the daemons and removes their directory. If the
supervisor dies, the kernel kills the daemons.
"""

import argparse
import ctypes
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from aiorbd.testing.config import ClusterConfig

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class StartError(RuntimeError):
    """A daemon or a command failed during the start of the cluster."""


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Supervisor:
    """Starts and stops daemons, with one thread. The kernel ties child processes to the thread that forked them."""

    def __init__(self, directory: Path, config: ClusterConfig) -> None:
        self.directory: Path = directory.resolve()
        self.config = config
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    # -- starting ------------------------------------------------------------------------------

    def run(self, *command: str) -> str:
        """Run a tool to its end, and return the tool's output."""
        environment = os.environ | {"CEPH_CONF": f"{self.directory}/ceph.conf"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
        if done.returncode:
            raise StartError(f"{' '.join(command)} failed: {done.stderr.strip()[-800:]}")
        return done.stdout

    def ceph(self, *command: str) -> str:
        """Run the ``ceph`` tool."""
        return self.run("ceph", "--connect-timeout", "20", *command)

    def start(self, name: str) -> None:
        """Start a daemon. The data of the daemon must exist."""
        kind, _, number = name.partition(".")
        command = [f"ceph-{kind}", "-i", number] if kind != "rbd-mirror" else [kind, "--id", name]
        with (self.directory / "log" / f"{name}.out").open("ab") as output:
            self.daemons[name] = subprocess.Popen(
                [*command, "-f", "-c", f"{self.directory}/ceph.conf"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # A mirror daemon makes more connections to its own cluster, and finds the file in the environment.
                env=os.environ | {"CEPH_CONF": f"{self.directory}/ceph.conf"},
                cwd="/",  # as with init: Debian's build of Ceph 18.2 looks for its classes from there
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one thread
            )

    def boot(self) -> None:
        """Create a cluster, and wait until the cluster accepts I/O."""
        here = str(self.directory)
        for name in ("log", "run"):
            (self.directory / name).mkdir()
        address = self.config.write(self.directory)
        new_key = ("ceph-authtool", "--create-keyring", "--gen-key")
        self.run(*new_key, f"{here}/keyring.mon", "-n", "mon.", "--cap", "mon", "allow *")
        caps = [part for daemon in ("mon", "osd", "mgr") for part in ("--cap", daemon, "allow *")]
        self.run(*new_key, f"{here}/keyring", "-n", "client.admin", *caps)
        self.run("ceph-authtool", f"{here}/keyring.mon", "--import-keyring", f"{here}/keyring")
        fsid = self.run("ceph-conf", "--lookup", "fsid").strip()
        self.run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:{address}]", f"{here}/monmap")
        self.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", f"{here}/monmap", "--keyring", f"{here}/keyring.mon")
        self.start("mon.a")
        for number in range(self.config.osds):
            self._make_osd(number)
        if self.config.mgr:
            self._make_key("mgr.x", "mgr", "allow profile mgr")
            self.start("mgr.x")
        self.wait_for_osds()
        if pool := self.config.pool:
            self.ceph("osd", "pool", "create", pool)
            self.run("rbd", "pool", "init", pool)
        for number in range(self.config.rbd_mirrors):
            self._make_mirror(f"rbd-mirror.{number}")

    def _make_mirror(self, name: str) -> None:
        """Start a mirror daemon, and make the user with which the daemon of another cluster connects to this one."""
        for user, profile in ((f"client.{name}", "rbd-mirror"), ("client.rbd-mirror-peer", "rbd-mirror-peer")):
            # Not the monitors' own keys: those of 20.2 are of a kind that clients of 16.2 cannot read.
            path = f"{self.directory}/keyring.{user}"
            caps = ("--cap", "mon", f"profile {profile}", "--cap", "osd", "profile rbd")
            self.run("ceph-authtool", "--create-keyring", "--gen-key", path, "-n", user, *caps)
            self.ceph("auth", "import", "-i", path)
        with (self.directory / "keyring").open("a") as keyring:
            keyring.write((self.directory / f"keyring.client.{name}").read_text())
        self.start(name)

    def _make_key(self, name: str, profile: str, mon: str) -> None:
        directory = self.directory / name
        directory.mkdir()
        caps = ["mon", mon, "mgr", f"allow profile {profile}" if profile == "osd" else "allow *", "osd", "allow *"]
        self.ceph("auth", "get-or-create", name, *caps, "-o", f"{directory}/keyring")

    def _make_osd(self, number: int) -> None:
        identity = str(uuid.uuid4())
        self.ceph("osd", "new", identity, str(number))
        name = f"osd.{number}"
        if self.config.cephx:
            self._make_key(name, "osd", "allow profile osd")
        else:
            (self.directory / name).mkdir()
        # Use the identity that the monitors know. With another identity, the daemon waits for ever without a message.
        self.run("ceph-osd", "--mkfs", "-i", str(number), "--osd-uuid", identity, "-c", f"{self.directory}/ceph.conf")
        self.start(name)

    def wait_for_osds(self, seconds: float = 60) -> None:
        """Wait until all OSDs with a running daemon are up."""
        wanted = sum(name.startswith("osd.") for name in self.daemons)
        deadline = time.monotonic() + seconds
        while json.loads(self.ceph("osd", "stat", "-f", "json"))["num_up_osds"] < wanted:
            for name, daemon in self.daemons.items():
                if daemon.poll() is not None:
                    log = (self.directory / "log" / f"{name}.out").read_text(errors="replace")
                    raise StartError(f"{name} ended with {daemon.returncode}: {log.strip()[-800:]}")
            if time.monotonic() > deadline:
                raise StartError(f"the OSDs were not up after {seconds:.0f} s; see {self.directory}/log")
            time.sleep(0.05)

    # -- faults and the end --------------------------------------------------------------------

    def kill(self, name: str, number: int) -> None:
        """Send a signal that ends a daemon, and wait until the daemon has ended."""
        daemon = self.daemons.pop(name)
        daemon.send_signal(signal.SIGCONT)
        daemon.send_signal(number)
        daemon.wait(30)

    def stop(self) -> None:
        """End all daemons and remove the directory. No data needs to be saved."""
        for daemon in self.daemons.values():
            daemon.kill()
        for daemon in self.daemons.values():
            daemon.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def obey(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out a request of the owner, and return the answer."""
        action, name = request["do"], request["name"]
        if action == "start":
            self.start(name)
            return {"pid": self.daemons[name].pid}
        if action == "kill":
            self.kill(name, request["signal"])
        return {}

    def pids(self) -> dict[str, int]:
        """Return the process ids of the daemons."""
        return {name: daemon.pid for name, daemon in self.daemons.items()}


def _serve(supervisor: Supervisor, ended: int) -> None:
    """Carry out requests from standard input, until the input ends or the signal handler sends a byte."""
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        selector.register(ended, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if ended in ready:
                return
            line = sys.stdin.readline()
            if not line:
                return
            try:
                answer = supervisor.obey(json.loads(line))
            except Exception as error:  # noqa: BLE001 - the owner raises it
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)


def main() -> int:
    """Start the cluster, report the result on standard output, carry out requests, and stop the cluster."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("config")
    parser.add_argument("--detached", action="store_true", help="live until SIGTERM, without an owner")
    arguments = parser.parse_args()

    ended, end = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: os.write(end, b"x"))
    supervisor = Supervisor(arguments.directory, ClusterConfig(**json.loads(arguments.config)))
    try:
        try:
            supervisor.boot()
        except Exception as error:  # noqa: BLE001 - the owner raises it
            print(json.dumps({"error": str(error)}), flush=True)
            return 1
        print(json.dumps({"pids": supervisor.pids()}), flush=True)
        if arguments.detached:
            sys.stdout.close()
            os.read(ended, 1)
        else:
            _serve(supervisor, ended)
    finally:
        supervisor.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
