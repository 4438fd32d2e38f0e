"""A crash of the interpreter fails the run of the tests, even with the exit status 0."""

import os
import subprocess
import sys
from pathlib import Path

import guarded
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("pass", 0, ""),
        ("raise AssertionError", 1, ""),
        ("os._exit(0)", 1, "exit status 0; status of the session: never"),
        ("os.kill(os.getpid(), 11)", 1, "exit status -11; status of the session: never"),
        ("atexit.register(os._exit, 0); raise AssertionError", 1, "exit status 0; status of the session: 1"),
    ],
)
def test_crash_of_the_interpreter_never_looks_like_a_pass(tmp_path: Path, body: str, code: int, said: str) -> None:
    (tmp_path / "conftest.py").write_text("from guarded import pytest_sessionfinish as pytest_sessionfinish\n")
    (tmp_path / "test_one.py").write_text(f"import atexit, os\n\n\ndef test_one():\n    {body}\n")
    environment = {name: value for name, value in os.environ.items() if name != guarded.VARIABLE}
    done = subprocess.run(
        [sys.executable, ROOT / "tests/guarded.py", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert bool(said) == ("The interpreter crashed" in done.stderr)
