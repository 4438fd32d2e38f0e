"""Run a development cluster from the shell: ``python -m aiorbd.testing up``, and then ``env``, ``status`` or ``down``.

``pause`` and ``resume`` stop and continue a daemon.
"""

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from aiorbd.testing import processes
from aiorbd.testing.cluster import spawn
from aiorbd.testing.config import ClusterConfig, MissingDaemonError


def _up(directory: Path, arguments: argparse.Namespace) -> str:
    config = ClusterConfig(
        osds=arguments.osds,
        mgr=arguments.mgr,
        cephx=arguments.cephx,
        objectstore=arguments.objectstore,
        rbd_mirrors=arguments.rbd_mirrors,
        osd_bytes=arguments.osd_bytes,
        delay=arguments.delay,
    )
    config.require_programs()
    try:
        directory.mkdir(parents=True)
    except FileExistsError:
        raise SystemExit(f"{directory} exists: a cluster runs there already, or remove it") from None
    supervisor, pids = spawn(directory, config, "--detached")
    (directory / "supervisor.pid").write_text(str(supervisor.pid))
    (directory / "daemons.json").write_text(json.dumps(pids))
    return _env(directory)


def _require_own(directory: Path) -> None:
    """Refuse the directory of another user. The configuration file there could name any key."""
    if directory.exists() and directory.stat().st_uid != os.getuid():
        raise SystemExit(f"{directory} belongs to another user: choose another --directory")


def _require_cluster(directory: Path) -> None:
    if not (directory / "ceph.conf").exists():
        raise SystemExit(f"no cluster runs in {directory}")


def _env(directory: Path) -> str:
    _require_cluster(directory)
    return f"export CEPH_CONF={shlex.quote(str(directory / 'ceph.conf'))}"


def _daemons(directory: Path) -> dict[str, int]:
    """Return the process ids of the daemons that still run there."""
    _require_cluster(directory)
    pids: dict[str, int] = json.loads((directory / "daemons.json").read_text())
    return {name: pid for name, pid in pids.items() if _is_own(directory, pid)}


def _is_own(directory: Path, pid: int) -> bool:
    """Tell whether a process belongs to the cluster. Another process may have the id of a daemon that ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return str(directory).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _status(directory: Path) -> str:
    running = _daemons(directory)
    names = json.loads((directory / "daemons.json").read_text())
    lines = [f"{name}: {processes.describe(running[name]) if name in running else 'ended'}" for name in names]
    return "\n".join([f"cluster in {directory}", *lines])


def _signal(directory: Path, command: str, daemon: str) -> str:
    pids = _daemons(directory)
    if daemon not in pids:
        raise SystemExit(f"no daemon {daemon} runs there: {', '.join(pids)}")
    (processes.pause if command == "pause" else processes.resume)(pids[daemon])
    return f"{daemon}: {processes.describe(pids[daemon])}"


def _down(directory: Path) -> None:
    try:
        pid = int((directory / "supervisor.pid").read_text())
    except FileNotFoundError:
        raise SystemExit(f"no cluster runs in {directory}") from None
    # A killed supervisor could not clean up, and another process may have its process id by now.
    if _is_own(directory, pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
            for _ in range(200):
                if not directory.exists():
                    return
                time.sleep(0.05)
    shutil.rmtree(directory)


def main() -> None:
    """Run the command that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m aiorbd.testing", description=__doc__)
    default = Path(tempfile.gettempdir(), f"aiorbd-dev-{os.getuid()}")
    parser.add_argument(
        "--directory", type=Path, default=default, help="the directory of the cluster (default: %(default)s)"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start a cluster and print what 'env' prints")
    up.add_argument("--osds", type=int, default=1)
    up.add_argument("--mgr", action="store_true")
    up.add_argument("--rbd-mirrors", type=int, default=0)
    up.add_argument("--cephx", action="store_true")
    up.add_argument("--objectstore", choices=["memstore", "bluestore"], default="memstore")
    up.add_argument("--osd-bytes", type=int, default=ClusterConfig.osd_bytes, help="the capacity of each OSD")
    up.add_argument("--delay", type=float, default=0.0, help="mean delay of each request in seconds, like a network's")
    commands.add_parser("env", help='print a line for the shell: eval "$(python -m aiorbd.testing env)"')
    commands.add_parser("status", help="show the daemons of the cluster, and whether they run")
    for name, what in (("pause", "pause a daemon: for its clients it is dead"), ("resume", "continue a paused daemon")):
        commands.add_parser(name, help=what).add_argument("daemon", nargs="?", default="osd.0")
    commands.add_parser("down", help="end the cluster and remove its directory")
    arguments = parser.parse_args()
    arguments.directory = arguments.directory.resolve()
    _require_own(arguments.directory)
    try:
        if arguments.command == "up":
            print(_up(arguments.directory, arguments))
        elif arguments.command == "env":
            print(_env(arguments.directory))
        elif arguments.command == "status":
            print(_status(arguments.directory))
        elif arguments.command in ("pause", "resume"):
            print(_signal(arguments.directory, arguments.command, arguments.daemon))
        else:
            _down(arguments.directory)
    except (MissingDaemonError, RuntimeError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
