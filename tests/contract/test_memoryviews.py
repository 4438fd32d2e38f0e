"""Memoryviews that become garbage while C uses them.

Python before 3.12.4 crashes on such a memoryview, unless another reference keeps the memoryview alive.
"""

import subprocess
import sys
from typing import Any

import pytest
from fix_programs import PROGRAMS
from helpers import new_name

from aiorbd.testing import DevCluster

CALLS = ["write", "writev", "write_same", "compare_and_write", "read_into", "readv", "writer", "objects"]


@pytest.mark.parametrize("call", CALLS)
def test_garbage_collection_of_a_memoryview_in_use_by_c_does_not_crash(aiorbd_cluster: DevCluster, call: Any) -> None:
    program = [sys.executable, PROGRAMS / "collected_memoryviews.py", aiorbd_cluster.conffile, new_name(), call]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("alive\n", "", 0)
