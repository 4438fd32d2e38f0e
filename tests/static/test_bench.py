"""The check of the short benchmark can fail."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parent.parent / "bench"


@pytest.fixture
def check() -> Any:
    spec = importlib.util.spec_from_file_location("bench_limits", BENCH / "limits.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.check


def cases(ratio: Any) -> Any:
    clients = ("aiorbd asyncio", "aiorbd uvloop", "aiorbd trio", "stream asyncio")
    peers = ("fio", "rbd.aio_*", "rbd threads")
    rows = [{"client": client} | {f"iops/{peer}": [0.1, ratio, 3.0] for peer in peers} for client in clients]
    return [{"pattern": "randread", "block": 4096, "depth": 64, "delay": delay, "table": rows} for delay in (0.0, 1.0)]


def test_check_accepts_ratios_above_the_limits(check: Any, capsys: Any) -> None:
    check(cases(2.0))
    assert "10 ratios are where they should be" in capsys.readouterr().out


def test_check_rejects_a_ratio_below_its_limit(check: Any) -> None:
    with pytest.raises(
        SystemExit, match=r"randread, depth 64, delay 1 ms: aiorbd asyncio / rbd\.aio_\* is 0\.90, not 1\.0"
    ):
        check(cases(0.9))


def test_check_rejects_results_without_checked_cases(check: Any) -> None:
    with pytest.raises(SystemExit, match="nothing to check"):
        check([])
