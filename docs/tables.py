"""Write the two tables of names, `go-ceph.md` and `python-rbd.md`, from the lists beside this file.

    python docs/tables.py            writes them
    python docs/tables.py --check    says whether they are up to date

The C functions are those that the docstrings name.
"""

import argparse
import csv
import inspect
import sys
from pathlib import Path

import aiorbd

HERE = Path(__file__).parent

GO_CEPH = """# What the go-ceph `rbd` package offers, here

Every item of its API, deprecated ones and constants included, with the name here, the C functions behind that
name, and the test that proves it. Made by `docs/tables.py`; a test compares.

| go-ceph | aiorbd | C functions | test |
|---|---|---|---|
"""

PYTHON_RBD = """# Names of Python's `rbd` module, here

Every public name of the module that Ceph 16.2 to 20.2 ship, with the release that first had it where that is a later
one (18.2 and 20.2 were looked at). Methods are awaited, or iterated over with `async for`, unless they are plain facts.
Made by `docs/tables.py`; a test compares.

| rbd | since | aiorbd | |
|---|---|---|---|
"""


def rows(name: str) -> list[dict[str, str]]:
    """Read one of the lists."""
    with (HERE / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def resolve(name: str) -> object:
    """Find what a name of this library means."""
    value: object = aiorbd
    for part in name.split("."):
        value = inspect.getattr_static(value, part)
    return value.fget if isinstance(value, property) else value


def c_functions(names: str) -> list[str]:
    """Return the C functions that the docstrings behind some names name, each once."""
    found: list[str] = []
    for name in filter(None, names.split(", ")):
        documentation = inspect.getdoc(resolve(name)) or ""
        _, _, functions = documentation.partition("Implements: ")
        found += [function.strip() for function in functions.replace("\n", " ").split(",") if function.strip()]
    return list(dict.fromkeys(found))


def code(names: str, separator: str = ", ") -> str:
    """Show names as code."""
    return ", ".join(f"`{name}`" for name in names.split(separator) if name)


def go_ceph() -> str:
    """Make the first table."""
    lines = []
    for row in rows("go_ceph.tsv"):
        item = row["reference"] if row["reference"].startswith("const: ") else code(row["reference"])
        functions = ", ".join(f"`{function}`" for function in c_functions(row["aiorbd"]))
        implementation = "; ".join(filter(None, [functions, row["note"]]))
        path, _, test = row["test"].partition("::")
        lines.append(f"| {item} | {code(row['aiorbd'])} | {implementation} | [`{test}`](../{path}) |\n")
    return GO_CEPH + "".join(lines)


def python_rbd() -> str:
    """Make the second table."""
    return PYTHON_RBD + "".join(
        f"| `{row['rbd']}` | {row['since'].replace('16.2', '')} | {code(row['aiorbd']) or '—'} | {row['note']} |\n"
        for row in rows("python_rbd.tsv")
    )


def main() -> None:
    """Write, or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a table is out of date")
    options = parser.parse_args()
    for name, text in (("go-ceph.md", go_ceph()), ("python-rbd.md", python_rbd())):
        path = HERE / name
        if options.check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            sys.exit(f"docs/{name} is out of date: run docs/tables.py")
        if not options.check:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
