"""The process that starts a cluster's daemons, and sees to it that they end.

It runs beside its owner, who talks to it in lines of JSON. When the owner is gone, however that came,
its standard input ends and it stops the daemons and removes their directory. The daemons in turn are
killed by the kernel should the supervisor die.
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
    """A daemon or a command failed while the cluster was started."""


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Supervisor:
    """Starts and stops daemons. Single-threaded: the kernel ties children to the thread that forked."""

    def __init__(self, directory: Path, config: ClusterConfig) -> None:
        self.directory: Path = directory.resolve()
        self.config = config
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    # -- starting ------------------------------------------------------------------------------

    def run(self, *command: str) -> str:
        """Run a tool to its end; return what it printed."""
        environment = os.environ | {"CEPH_CONF": f"{self.directory}/ceph.conf"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
        if done.returncode:
            raise StartError(f"{' '.join(command)} failed: {done.stderr.strip()[-800:]}")
        return done.stdout

    def ceph(self, *command: str) -> str:
        """Run the ``ceph`` tool."""
        return self.run("ceph", "--connect-timeout", "20", *command)

    def start(self, name: str) -> None:
        """Start a daemon whose data is there."""
        kind, _, number = name.partition(".")
        with (self.directory / "log" / f"{name}.out").open("ab") as output:
            self.daemons[name] = subprocess.Popen(
                [f"ceph-{kind}", "-f", "-i", number, "-c", f"{self.directory}/ceph.conf"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",  # as init does: Debian's build of Ceph 18.2 looks for its classes from there
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one thread
            )

    def boot(self) -> None:
        """From nothing to a cluster that takes I/O."""
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
        # The same identity as the monitors know, or the daemon would wait for ever without a word.
        self.run("ceph-osd", "--mkfs", "-i", str(number), "--osd-uuid", identity, "-c", f"{self.directory}/ceph.conf")
        self.start(name)

    def wait_for_osds(self, seconds: float = 60) -> None:
        """Wait until every OSD whose daemon runs is up."""
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
        """Send a signal that ends a daemon, and wait for its end."""
        daemon = self.daemons.pop(name)
        daemon.send_signal(signal.SIGCONT)
        daemon.send_signal(number)
        daemon.wait(30)

    def stop(self) -> None:
        """End every daemon and remove the directory. There is nothing to save."""
        for daemon in self.daemons.values():
            daemon.kill()
        for daemon in self.daemons.values():
            daemon.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def obey(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what the owner asks."""
        action, name = request["do"], request["name"]
        if action == "start":
            self.start(name)
            return {"pid": self.daemons[name].pid}
        if action == "kill":
            self.kill(name, request["signal"])
        return {}

    def pids(self) -> dict[str, int]:
        """Return the daemons' process ids."""
        return {name: daemon.pid for name, daemon in self.daemons.items()}


def _serve(supervisor: Supervisor, ended: int) -> None:
    """Obey lines from standard input until it ends or a byte comes from the signal handler."""
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
    """Boot, say so on standard output, obey, stop."""
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
