"""Run every pair of calls on one image, each in its own process. `run.py` defines when a pair passes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aiorbd.testing import DevCluster

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from pair_calls import CALLS  # noqa: E402 - it lies beside this file

RUN = [sys.executable, str(HERE / "run.py")]


def run(conffile: str, *arguments: Any, timeout: int = 380) -> Any:
    return subprocess.run([*RUN, conffile, *arguments], capture_output=True, text=True, timeout=timeout, check=False)


@pytest.mark.slow
@pytest.mark.pairs
@pytest.mark.parametrize("call", CALLS)
def test_a_call_survives_beside_every_other_call(aiorbd_cluster: DevCluster, call: Any) -> None:
    done = run(aiorbd_cluster.conffile, call, "--after", "--verbose")
    assert done.returncode == 0, done.stdout[-6000:]
    pairs = len(CALLS) - list(CALLS).index(call)
    assert f"0 of {pairs} runs failed" in done.stdout


@pytest.mark.slow
@pytest.mark.pairs
def test_three_tasks_of_snapshot_calls_freeze_no_connection(aiorbd_cluster: DevCluster) -> None:
    """Two tasks create, protect, unprotect and remove snapshots, and one opens the image at them: 30 runs."""
    done = run(
        aiorbd_cluster.conffile,
        *("protect", "protect", "open_at_snapshot"),
        *("--repeat", "30", "--seconds", "3", "--jobs", "3", "--verbose"),
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert "0 of 30 runs failed" in done.stdout


def test_pair_that_dies_and_pair_that_raises_are_reported(aiorbd_cluster: DevCluster, tmp_path: Path) -> None:
    program = HERE.parent / "programs/broken_pairs.py"
    done = subprocess.run(
        [sys.executable, program, aiorbd_cluster.conffile, "dies"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "dies + read: SIGKILL" in done.stdout
    done = subprocess.run(
        [sys.executable, program, aiorbd_cluster.conffile, "fails", "read"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "fails + read: an exception" in done.stdout


@pytest.mark.slow
@pytest.mark.pairs
@pytest.mark.parametrize("resize", ["resize", "resize_elsewhere"])
def test_diffs_of_whole_objects_survive_a_shrink_by_any_client(aiorbd_cluster: DevCluster, resize: str) -> None:
    done = run(
        aiorbd_cluster.conffile,
        *("diff_since", "diff_since", "diff_since", resize),
        *("--repeat", "12", "--seconds", "3", "--jobs", "3", "--verbose"),
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert "0 of 12 runs failed" in done.stdout


def test_pairs_that_librbd_alone_does_not_survive_pass(aiorbd_cluster: DevCluster) -> None:
    for pair in (("set_snapshot", "write"), ("update_features", "create_snapshot"), ("rollback", "remove_by_id")):
        done = run(aiorbd_cluster.conffile, *pair, "--verbose")
        assert done.returncode == 0, done.stdout[-6000:]
