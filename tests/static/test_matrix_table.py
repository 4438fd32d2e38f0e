"""The matrix's table fails if a cell fails, and says why."""

import subprocess
import sys
from pathlib import Path

import pytest

TABLE = Path(__file__).parents[1] / "matrix/table.py"
FAILURE = '<failure message="Failed: DID NOT RAISE&#10;more">text</failure>'


@pytest.mark.parametrize(
    ("problem", "ended", "said"),
    [
        ("", "0", None),
        (FAILURE, "1", "tests.some.test_one[trio]: Failed: DID NOT RAISE\n"),
        ("", "134", "corrupted double-linked list\n"),  # the process crashed after the last test
        (None, "1", "corrupted double-linked list\n"),  # and before it
    ],
)
def test_table_names_failed_tests_and_crashes(
    tmp_path: Path, problem: str | None, ended: str, said: str | None
) -> None:
    (tmp_path / "cell.json").write_text('{"client": "16.2.15", "daemons": "16.2.15", "python": "3.11.2"}')
    (tmp_path / "cell.exit").write_text(ended)
    (tmp_path / "cell.log").write_text("1 passed\ncorrupted double-linked list\n")
    if problem is not None:
        case = f'<testcase classname="tests.some" name="test_one[trio]">{problem}</testcase>'
        (tmp_path / "cell.xml").write_text(f'<testsuites><testsuite time="61">{case}</testsuite></testsuites>')
    done = subprocess.run([sys.executable, TABLE, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == int(said is not None), done.stderr
    assert "| cell | 16.2.15 | 16.2.15 | 3.11.2 |" in done.stdout
    assert ("cell failed:" in done.stdout) == (said is not None)
    assert (said or "") in done.stdout
    assert "more" not in done.stdout
