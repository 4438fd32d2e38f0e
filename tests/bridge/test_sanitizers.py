"""Run the bridge in many threads under ThreadSanitizer and AddressSanitizer, and check that both report faults."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
BRIDGE = HERE.parents[1] / "ffi/bridge"
SANITIZERS = {"thread": ["thread"], "address": ["address,undefined", "-fno-sanitize-recover=all"]}


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that compiles the stress test."""

    def build(sanitizer: Any, *flags: Any) -> Any:
        program = tmp_path_factory.mktemp("stress") / f"stress-{sanitizer}"
        first, *more = SANITIZERS[sanitizer]
        subprocess.run(
            ["cc", "-std=gnu11", "-g", "-O1", "-fno-builtin", "-Wall", "-Wextra", "-Werror", f"-fsanitize={first}",
             *more, *flags, "-rdynamic", "-I", BRIDGE, "-o", program, HERE / "stress.c", *sorted(BRIDGE.glob("*.c")),
             "-lpthread", "-ldl"],
            check=True,
        )  # fmt: skip
        return program

    return build


def run(program: Any, rounds: Any) -> Any:
    # ThreadSanitizer cannot map its shadow memory when the kernel spreads addresses widely.
    command = ["setarch", "-R", program, str(rounds), "1"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=os.environ)


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_the_bridge_is_clean(build: Any, sanitizer: Any) -> None:
    done = run(build(sanitizer), 60)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Sanitizer" not in done.stderr
    figures = {name: int(number) for name, number in re.findall(r"([a-z-]+) (\d+)", done.stdout)}
    assert figures["operations"] > 60 * 100
    assert min(figures.values()) > 0, figures


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_sanitizers_report_a_broken_bridge(build: Any, sanitizer: Any) -> None:
    done = run(build(sanitizer, "-DBREAK"), 10)
    assert done.returncode != 0
    assert "Sanitizer" in done.stderr
