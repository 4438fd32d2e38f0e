"""The pytest fixtures, used as in another project."""

import subprocess
import sys
from pathlib import Path


def test_fixtures_work_in_another_project(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text(
        """
import pytest

seen = set()

@pytest.mark.anyio
@pytest.mark.parametrize("turn", [1, 2])
async def test_a_place_of_its_own(aiorbd_ioctx, turn):
    assert await aiorbd_ioctx.list_images() == []
    await aiorbd_ioctx.create_image("image", 1 << 20)
    async with aiorbd_ioctx.open_image("image") as image:
        await image.write(b"x", 0)
    assert aiorbd_ioctx.namespace not in seen
    seen.add(aiorbd_ioctx.namespace)

def test_the_cluster(aiorbd_cluster):
    assert aiorbd_cluster.run_blocking("ceph", "osd", "pool", "ls") == b"rbd\\n"
"""
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "5 passed" in done.stdout, done.stdout + done.stderr
