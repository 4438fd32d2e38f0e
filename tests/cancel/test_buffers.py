"""Buffers live until librbd is done with them.

AddressSanitizer watches Python's memory while librbd writes to it.
"""

import os
import subprocess
import sys
import sysconfig
from typing import Any

import pytest
from fix_programs import PROGRAMS
from helpers import new_name

from aiorbd.testing import DevCluster

pytestmark = pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="a Python without the GIL has an allocator of its own, into which the sanitizer does not see",
)


@pytest.fixture
def run(osd: DevCluster) -> Any:
    """Return a function that runs the program with all of Python's memory under AddressSanitizer."""
    # Preload libstdc++ too: the sanitizer must find the functions that it intercepts.
    libraries = [
        subprocess.run(["cc", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libstdc++.so.6")
    ]
    environment = os.environ | {
        "LD_PRELOAD": " ".join(libraries),
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0:exitcode=77",
    }

    def run(backend: Any, how: Any) -> Any:
        arguments = [osd.conffile, new_name(), backend, how]
        process = subprocess.Popen(
            ["setarch", "-R", sys.executable, PROGRAMS / "abandoned_buffers.py", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        assert process.stdin
        assert process.stdout
        try:
            assert process.stdout.readline() == "written\n", process.communicate()[1]
            osd.pause()
            process.stdin.write("\n")
            process.stdin.flush()
            abandoned = process.stdout.readline()
            osd.resume()
            output, errors = process.communicate("\n", timeout=60)
            return process.returncode, abandoned + output, errors
        finally:
            osd.resume()
            process.kill()

    return run


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_librbd_writes_to_no_freed_memory(run: Any, backend: str) -> None:
    code, output, errors = run(backend, "whole")
    assert code == 0, errors[-4000:]
    assert output.startswith("abandoned ")
    assert int(output.split()[1]) >= 60
    assert output.endswith("closed\n")
    assert "AddressSanitizer" not in errors


def test_sanitizer_sees_a_buffer_that_was_freed_too_early(run: Any) -> None:
    code, _, errors = run("asyncio", "broken")
    assert code == 77
    assert "heap-use-after-free" in errors
