"""Print the table of the matrix's cells from pytest's reports, and what failed: table.py DIRECTORY.

Fails unless all cells ran and passed.
"""

import json
import re
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

BACKENDS = ("asyncio", "eager", "uvloop", "trio")
OTHER = "no loop"
#: How many lines of a log are shown.
LAST = 60
COLUMNS = ("cell", "client", "daemons", "Python", *BACKENDS, OTHER, "skipped", "minutes")


def backend_of(test: str) -> str:
    """Return the event loop of a test, which is one of the test's parameters."""
    parameters = re.findall(r"\w+", test.partition("[")[2])
    return next((backend for backend in BACKENDS if backend in parameters), OTHER)


def row(facts: Path) -> tuple[dict[str, str], bool]:
    """Return the cells of one line, and whether all of its tests passed."""
    found = json.loads(facts.read_text())
    line = {"cell": facts.stem} | {column: found.get(column.lower(), "") for column in ("client", "daemons", "Python")}
    report, code = facts.with_suffix(".xml"), facts.with_suffix(".exit")
    if "broken" in found or not report.exists() or not code.exists():
        return line | {"asyncio": f"BROKEN OFF: {found.get('broken', 'no report')}"}, False
    suite = ET.parse(report).getroot().find("testsuite")  # noqa: S314 - our own file
    assert suite is not None
    passed, failed, skipped = Counter[str](), Counter[str](), 0
    for case in suite.iter("testcase"):
        backend = backend_of(case.get("name", ""))
        if case.find("failure") is not None or case.find("error") is not None:
            failed[backend] += 1
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed[backend] += 1
    for backend in (*BACKENDS, OTHER):
        total = passed[backend] + failed[backend]
        line[backend] = f"{failed[backend]} of {total} FAILED" if failed[backend] else str(total or "-")
    line |= {"skipped": str(skipped), "minutes": f"{float(suite.get('time', 0)) / 60:.1f}"}
    ended = int(code.read_text())
    if ended and not failed:
        line["asyncio"] += f", EXIT {ended}"
    return line, bool(passed) and not failed and not ended


def reasons(facts: Path) -> list[str]:
    """Return a line for each failed test of a cell. If all passed, return the end of the cell's log."""
    report, log = facts.with_suffix(".xml"), facts.with_suffix(".log")
    found = []
    for case in ET.parse(report).getroot().iter("testcase") if report.exists() else ():  # noqa: S314 - our own file
        for problem in (*case.iter("failure"), *case.iter("error")):
            message = (problem.get("message") or "no message").splitlines()[0]
            found.append(f"{case.get('classname')}.{case.get('name')}: {message[:200]}")
    return found or (log.read_text(errors="replace").splitlines()[-LAST:] if log.exists() else [])


def main() -> int:
    cells = sorted(Path(sys.argv[1]).glob("*.json"))
    rows = [row(facts) for facts in cells]
    print("|", " | ".join(COLUMNS), "|")
    print("|", " | ".join("---" for _ in COLUMNS), "|")
    for line, _ in rows:
        print("|", " | ".join(line.get(column, "") for column in COLUMNS), "|")
    for facts, (_, well) in zip(cells, rows, strict=True):
        if not well:
            print(f"\n{facts.stem} failed:", *reasons(facts), sep="\n    ")
    return int(not rows or not all(well for _, well in rows))


if __name__ == "__main__":
    sys.exit(main())
