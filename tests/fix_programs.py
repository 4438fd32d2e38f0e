"""Start programs in their own processes and measure how long they take to end."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fix_lag import patience
from helpers import new_name

from aiorbd.testing import DevCluster

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture(params=["asyncio", "trio"])
def start(request: pytest.FixtureRequest, osd: DevCluster) -> Iterator[Any]:
    """Return a function that starts a function of a program, and waits for the line 'ready'."""
    started = []

    def start(file: str, *call: str) -> Any:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", PROGRAMS / f"{file}.py", *[osd.conffile, new_name(), request.param], *call],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
    osd.resume()


def finish(process: Any, seconds: float) -> Any:
    begin = time.perf_counter()
    output, errors = process.communicate(timeout=patience(seconds) + 30)
    assert time.perf_counter() - begin < patience(seconds), errors
    return process.returncode, output, errors
