"""The tables of names in the docs are complete and up to date, and their names exist."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import aiorbd
from aiorbd._native.loader import SINCE

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))

import tables  # noqa: E402 - the generator

REFERENCE = tables.rows("go_ceph.tsv")
RBD = tables.rows("python_rbd.tsv")


def test_pages_match_the_output_of_the_generator() -> None:
    subprocess.run([sys.executable, ROOT / "docs" / "tables.py", "--check"], check=True)


def test_every_item_of_the_reference_has_a_row() -> None:
    assert len({row["reference"] for row in REFERENCE}) == len(REFERENCE) == 144


@pytest.mark.parametrize("row", REFERENCE, ids=lambda row: row["reference"])
def test_no_row_of_the_reference_is_empty(row: Any) -> None:
    assert row["aiorbd"]
    for name in row["aiorbd"].split(", "):
        tables.resolve(name)
    functions = tables.c_functions(row["aiorbd"])
    assert functions or row["note"]
    assert set(functions) <= set(SINCE)
    path, _, test = row["test"].partition("::")
    module = ast.parse((ROOT / path).read_text())
    assert test in {node.name for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_function_of_the_newest_go_ceph_has_a_row() -> None:
    rows = tables.rows("go_ceph_latest.tsv")
    assert len({row["reference"] for row in rows}) == len(rows) == 192
    for row in rows:
        assert bool(row["aiorbd"]) != row["note"].startswith("not yet: "), row
        for name in filter(None, row["aiorbd"].split(", ")):
            tables.resolve(name)


def test_every_name_of_python_s_rbd_has_a_row() -> None:
    done = subprocess.run(
        ["/usr/bin/python3", ROOT / "tests/programs/rbd_names.py"], capture_output=True, text=True, check=True
    )
    # librbd 1.16 is that of Ceph 16.
    shipped = {row["rbd"] for row in RBD if int(row["since"].partition(".")[0]) <= aiorbd.version().minor}
    assert set(json.loads(done.stdout)) == shipped


@pytest.mark.parametrize("row", RBD, ids=lambda row: row["rbd"])
def test_no_row_of_python_s_rbd_is_empty(row: Any) -> None:
    if row["aiorbd"]:
        tables.resolve(row["aiorbd"])
    else:
        assert row["note"].startswith("not here because ")


def test_every_failure_has_a_test() -> None:
    """Every test named in the table of the tests' README exists."""
    table = (ROOT / "tests/README.md").read_text().partition("## Failures, and their tests")[2]
    named = re.findall(r"`(test_\w+)`", table)
    assert len(named) > 25
    written = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        written |= set(re.findall(r"def (test_\w+)", path.read_text()))
    assert set(named) <= written, set(named) - written
    for line in table.strip().splitlines()[2:]:
        assert "`test_" in line


def test_each_function_of_librbd_has_a_call_or_a_reason() -> None:
    calls = tables.public_calls()
    reasons = {row["function"]: row["reason"] for row in tables.rows("c_functions.tsv")}
    functions = {function for function in SINCE if function.startswith("rbd_")}
    header = Path("/usr/include/rbd/librbd.h").read_text()
    assert set(re.findall(r"CEPH_RBD_API [\w\s*]*?\b(rbd_\w+)\(", header)) <= functions
    assert set(reasons) == functions - set(calls)
    for function, reason in reasons.items():
        assert reason, function
        for other in re.findall(r"`(rbd_\w+)`", reason):  # which users reach
            assert other in calls or other.endswith("_cleanup"), (function, other)


def test_no_name_of_the_rbd_module_lacks_a_call() -> None:
    missing = {row["rbd"] for row in RBD if not row["aiorbd"]}
    assert missing == {"Completion", "ECANCELED", "Image.require_not_closed", "RBD_FEATURES_ALL"}
