"""The examples run and print the expected lines."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aiorbd.testing import DevCluster

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_quickstart_reports_identical_images_on_both_loops(aiorbd_cluster: DevCluster, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(4):
        (tree / f"file-{number}").write_bytes(bytes(range(256)) * 20_000)
    done = subprocess.run(
        [sys.executable, EXAMPLES / "quickstart.py", "--conf", aiorbd_cluster.conffile, "--tree", tree],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for backend in ("asyncio", "trio"):
        digests = [line.split()[2] for line in done.stdout.splitlines() if line.startswith(f"{backend}: SHA-256")]
        assert len(digests) == 3
        assert len(set(digests)) == 1
    assert done.stdout.endswith("Identical under asyncio and under trio.\n")
    assert aiorbd_cluster.run_blocking("rbd", "ls").find(b"quickstart") == -1


EXPECTED = {
    "snapshot_diff.py": ["monday: ", " bytes read, the backup is the same\n", "tuesday: ", " the same\n"],
    "watch_resize.py": [" has 10 MiB now\n"],
    "lock_handover.py": [
        "anna: has the image\n",
        "bert: waits for anna\n",
        "anna: gives it up\n",
        "bert: has the image\n",
        "bert: gives it up\n",
        "in the image: annabert\n",
    ],
}


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_short_programs_print_the_expected_lines(aiorbd_cluster: DevCluster, name: Any, backend: str) -> None:
    program = EXAMPLES / name
    start = f"import runpy, sys, anyio; sys.argv = {[str(program), aiorbd_cluster.conffile]!r}; run = anyio.run; "
    start += f"anyio.run = lambda function: run(function, backend={backend!r}); "
    start += f"runpy.run_path({str(program)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    at = 0
    for text in EXPECTED[name]:
        assert text in done.stdout[at:], done.stdout
        at = done.stdout.index(text, at) + 1
    assert name.removesuffix(".py").replace("_", "-").encode() not in aiorbd_cluster.run_blocking("rbd", "ls")


#: The programs that have tests of their own, and the modules that run them.
PROGRAMS = {
    "backup.py": "test_backup.py",
    "nbd_server.py": "nbd_clients.py",
    "volume_service.py": "test_volume_service.py",
}

#: The modules that these programs consist of.
PARTS = {"backup_files.py", "nbd_handshake.py", "nbd_requests.py", "nbd_wire.py", "volume_jobs.py", "volumes.py"}


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"quickstart.py", *EXPECTED, *PROGRAMS, *PARTS}
    for program, module in PROGRAMS.items():
        assert f"examples/{program}" in (Path(__file__).parent / module).read_text(), program


@pytest.mark.parametrize("name", EXPECTED)
def test_short_programs_start_a_cluster_when_run_without_arguments(name: Any) -> None:
    done = subprocess.run([sys.executable, EXAMPLES / name], capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(EXPECTED[name][-1])
