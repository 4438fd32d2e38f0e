"""Processes end within seconds, also on a dead cluster. Each test measures its own process."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fix_programs import PROGRAMS, finish
from helpers import new_name

from aiorbd.testing import DevCluster

MISSING = [sys.executable, str(PROGRAMS / "missing_library.py")]


def test_exit_with_reads_in_flight_on_a_dead_cluster(start: Any, osd: DevCluster) -> None:
    process = start("processes", "exit_with_reads_in_flight")
    osd.pause()
    code, output, errors = finish(process, 0.5 + 64 * 0.02 + 0.2 + 1 + 2)
    assert output == "in flight 65\n"
    assert code == 1
    assert "CloseTimeout" in errors


def test_exit_without_closing_anything(start: Any, osd: DevCluster) -> None:
    process = start("processes", "exit_without_closing_anything")
    osd.pause()
    code, _, errors = finish(process, 3)
    assert code == 0, errors


@pytest.mark.parametrize("how", ["connection", "image", "closed"])
def test_exit_with_an_open_connection_runs_no_handler_of_ceph(aiorbd_cluster: DevCluster, how: str) -> None:
    """These handlers destroy what the threads of an open connection use. Without one, all handlers run."""
    command = [sys.executable, str(PROGRAMS / "late_handler.py"), aiorbd_cluster.conffile, new_name(), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "exit\n"
        begin = time.monotonic()
        _, errors = process.communicate(timeout=60)
        seconds = time.monotonic() - begin
    assert process.returncode == 4, errors
    assert (seconds > 3.9) == (how == "closed"), seconds


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_with_a_dead_cluster(start: Any, osd: DevCluster, number: Any) -> None:
    process = start("processes", "read_that_a_signal_interrupts")
    osd.pause()
    time.sleep(0.6)
    process.send_signal(number)
    code, _, errors = finish(process, 3)
    assert code != 0
    if number == signal.SIGINT:
        assert "KeyboardInterrupt" in errors


def test_the_loop_ends_with_operations_in_flight(start: Any, osd: DevCluster) -> None:
    """Completions without an event loop must neither crash nor write to freed memory."""
    process = start("processes", "loop_ends_with_operations_in_flight")
    osd.pause()
    assert process.stdout.readline() == "loop ended\n"
    osd.resume()
    code, output, errors = finish(process, 5)
    assert code == 0, errors
    assert "rbd" in output


def test_killed_client_leaves_flushed_data(start: Any, osd: DevCluster) -> None:
    """Flushed data is there, while the lock and the watch of the client live on for a while."""
    process = start("processes", "flushed_write")
    process.kill()
    code, _, _ = finish(process, 1)
    assert code == -signal.SIGKILL
    name = process.args[5]
    assert osd.run_blocking("rbd", "export", "--no-progress", name, "-").startswith(b"x" * 4096 + bytes(4096))


@pytest.mark.parametrize(
    ("variable", "path", "package", "searched"),
    [
        ("AIORBD_LIBRADOS", "librados-missing.so.2", "librados2", "LD_LIBRARY_PATH (/opt/ceph)"),
        ("AIORBD_LIBRBD", "/no/such/librbd.so.1", "librbd1", "the file /no/such/librbd.so.1"),
    ],
)
def test_missing_library_raises_an_error_with_the_package_to_install(
    variable: str, path: str, package: str, searched: str
) -> None:
    """The import works. Connecting raises an error with the path that was searched and the package to install."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AIORBD_")}
    environment |= {variable: path, "LD_LIBRARY_PATH": "/opt/ceph"}
    done = subprocess.run(MISSING, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("LibraryNotFoundError True ")
    for part in (path, searched, variable, f"apt-get install {package}", f"dnf install {package}"):
        assert part in done.stdout


def test_old_librbd_is_refused_with_the_missing_function(tmp_path: Path) -> None:
    """The error names the missing function and the release that has it.

    The library is there, so installing it again would not help.
    """
    source, library = tmp_path / "old.c", tmp_path / "librbd-old.so"
    source.write_text("void rbd_version(int *a, int *b, int *c) { *a = 1; *b = 12; *c = 0; }")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    environment = os.environ | {"AIORBD_LIBRBD": str(library)}
    done = subprocess.run(MISSING, env=environment, capture_output=True, text=True, check=True)
    assert re.match(
        rf"LibraryTooOldError \w+ rbd_\w+ needs Ceph 16.2 or newer; {library}, version 1.12.0, lacks it", done.stdout
    )
