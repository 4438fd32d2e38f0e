"""Run pytest in a process of its own. A crash of the interpreter never looks like a pass.

pytest writes its exit status to a file when the session has finished. This program fails if the file is missing, or if
the process ended with another status.

    python tests/guarded.py [ARGUMENTS OF PYTEST]
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

#: The variable with the path of the file.
VARIABLE = "AIORBD_TESTS_STATUS"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the status, because the session has finished. A worker process of the session says nothing."""
    path = os.environ.get(VARIABLE)
    if path and not hasattr(session.config, "workerinput"):
        Path(path).write_text(str(int(exitstatus)))


def main() -> int:
    """Run pytest, and return the exit status."""
    with tempfile.TemporaryDirectory() as directory:
        status = Path(directory) / "status"
        process = subprocess.Popen([sys.executable, "-m", "pytest", *sys.argv[1:]], env=os.environ | {VARIABLE: status})
        signal.signal(signal.SIGINT, lambda *_: None)  # a terminal interrupts pytest as well, which then cleans up
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        code = process.wait()
        finished = status.read_text() if status.exists() else "never"
    if finished != str(code):
        print(f"The interpreter crashed: exit status {code}; status of the session: {finished}", file=sys.stderr)
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
