"""Pass odd arguments to every public call, in separate processes.

Only typed errors may result, and no value may be truncated.
"""

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sweep_calls import CALLS, NOT_SWEPT

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.slow


def test_every_call_with_arguments_is_swept() -> None:
    """Constructors are exempt: they are private, or only keep their arguments."""
    found = set()
    for name in aiorbd.__all__:
        thing = getattr(aiorbd, name)
        if inspect.isfunction(thing) and inspect.signature(thing).parameters:
            found.add(name)
        if not isinstance(thing, type) or issubclass(thing, (Exception, int)):
            continue
        for attribute in dir(thing):
            function = inspect.getattr_static(thing, attribute)
            if (
                inspect.isfunction(function)
                and not attribute.startswith("_")
                and (function.__module__ or "").startswith("aiorbd")
                and len(inspect.signature(function).parameters) > 1
            ):
                found.add(f"{name}.{attribute}")
    swept = {name.split(" ")[0].rstrip(",") for name in CALLS} | set(NOT_SWEPT)
    assert found <= swept, sorted(found - swept)
    for name, call in CALLS.items():
        owner, _, method = name.split(" ")[0].rstrip(",").partition(".")
        function = getattr(getattr(aiorbd, owner), method) if method else getattr(aiorbd, owner)
        if not isinstance(function, type):
            names = [p.name for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
            assert set(names) - {"self"} <= set(call.arguments) or " " in name, name


@pytest.mark.parametrize("name", CALLS)
def test_odd_arguments_raise_typed_errors_or_keep_their_value(
    own_cluster: DevCluster, tmp_path: Path, name: Any
) -> None:
    sweep = Path(__file__).with_name("sweep.py")
    program = [sys.executable, str(sweep), str(own_cluster.conffile), str(tmp_path), name]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=390, check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{name} ended with {done.returncode} at {lines[-1:]}: {done.stderr[-2000:]}"
    wrong = json.loads(lines[-1])
    assert not wrong, "\n".join(f"{where}: {what}" for where, what in wrong.items())
