"""Run a development cluster from the shell: ``python -m aiorbd.testing up``, ``env``, ``down``."""

import argparse
import contextlib
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from aiorbd.testing.cluster import spawn
from aiorbd.testing.config import ClusterConfig, MissingDaemonError


def _up(directory: Path, arguments: argparse.Namespace) -> str:
    config = ClusterConfig(
        osds=arguments.osds, mgr=arguments.mgr, cephx=arguments.cephx, objectstore=arguments.objectstore
    )
    config.require_programs()
    try:
        directory.mkdir(parents=True)
    except FileExistsError:
        raise SystemExit(f"{directory} exists: a cluster runs there already, or remove it") from None
    supervisor, _ = spawn(directory, config, "--detached")
    (directory / "supervisor.pid").write_text(str(supervisor.pid))
    return _env(directory)


def _require_own(directory: Path) -> None:
    """Refuse the directory of another user. The configuration file there could name any key."""
    if directory.exists() and directory.stat().st_uid != os.getuid():
        raise SystemExit(f"{directory} belongs to another user: choose another --directory")


def _env(directory: Path) -> str:
    if not (directory / "ceph.conf").exists():
        raise SystemExit(f"no cluster runs in {directory}")
    return f"export CEPH_CONF={shlex.quote(str(directory / 'ceph.conf'))}"


def _down(directory: Path) -> None:
    try:
        pid = int((directory / "supervisor.pid").read_text())
    except FileNotFoundError:
        raise SystemExit(f"no cluster runs in {directory}") from None
    # A killed supervisor could not clean up, and another process may have its process id by now.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        if str(directory).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
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
    parser.add_argument("--directory", type=Path, default=default, help="where it lives (default: %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start a cluster and print what 'env' prints")
    up.add_argument("--osds", type=int, default=1)
    up.add_argument("--mgr", action="store_true")
    up.add_argument("--cephx", action="store_true")
    up.add_argument("--objectstore", choices=["memstore", "bluestore"], default="memstore")
    commands.add_parser("env", help='print a line for the shell: eval "$(python -m aiorbd.testing env)"')
    commands.add_parser("down", help="end it and remove its directory")
    arguments = parser.parse_args()
    arguments.directory = arguments.directory.resolve()
    _require_own(arguments.directory)
    try:
        if arguments.command == "up":
            print(_up(arguments.directory, arguments))
        elif arguments.command == "env":
            print(_env(arguments.directory))
        else:
            _down(arguments.directory)
    except (MissingDaemonError, RuntimeError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
