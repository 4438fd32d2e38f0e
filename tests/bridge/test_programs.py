"""The compiled bridge, against a fake librbd that can refuse requests.

Each test runs one function of a file in `programs/`. Each function has its own process, because the bridge binds to one
librbd for good.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"


def programs() -> Iterator[Any]:
    """Return a parameter of the tests for each program: its file, its function and its argument, if it has one."""
    for path in sorted(PROGRAMS.glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                marks = [mark.args for mark in node.decorator_list if isinstance(mark, ast.Call)]
                for arguments in [[argument] for mark in marks for argument in map(ast.literal_eval, mark)] or [[]]:
                    yield pytest.param(path.stem, node.name, *arguments, id="-".join([node.name[5:], *arguments]))


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Compile the fake library and return its path."""
    library = tmp_path_factory.mktemp("fake") / "librbd-fake.so"
    source = HERE / "fake_librbd.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-w", "-o", str(library), str(source)], check=True)
    return library


@pytest.mark.parametrize("program", [pytest.param(p.values, id=p.id) for p in programs()])
def test_bridge(fake: Any, program: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", PROGRAMS / "run.py", fake, *program],
        capture_output=True,
        text=True,
        timeout=120,
        # Fill freed memory, so that a use after free shows.
        env={"MALLOC_PERTURB_": "165", "PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert done.stdout.endswith("passed\n"), done.stderr
    assert done.returncode == 0, done.stderr


def test_every_program_is_found() -> None:
    """The list of programs is not empty by mistake: each file but the helpers has some."""
    files = {program.values[0] for program in programs()}
    assert files == {path.stem for path in PROGRAMS.glob("*.py")} - {"each", "fake", "own_table", "run"}
    assert len(list(programs())) == 65
