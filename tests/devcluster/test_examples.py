"""The examples run, and say what they should."""

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_quickstart(aiorbd_cluster, tmp_path):
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
