"""Write the tables of names, `go-ceph.md`, `python-rbd.md` and `c-functions.md`, from the lists beside this file.

Also write the tree of errors into the reference.

    python docs/tables.py            writes the tables
    python docs/tables.py --check    fails when a table is out of date

The C functions in the tables come from the docstrings.
"""

import argparse
import csv
import inspect
import sys
from pathlib import Path

import aiorbd
from aiorbd._native.loader import SINCE

HERE = Path(__file__).parent

GO_CEPH = """# The go-ceph `rbd` package and aiorbd

Two tables compare aiorbd with go-ceph's `rbd` package. `docs/tables.py` makes them, and a test compares.

## go-ceph v0.7.0: all 144 items

Each item of the API, with deprecated ones and constants: the name in aiorbd, the C functions, and the test of the name.

| go-ceph | aiorbd | C functions | test |
|---|---|---|---|
"""

GO_CEPH_LATEST = """
## go-ceph v0.40.0: all 192 functions and methods

The exported functions and methods of the newest release. A call that aiorbd lacks has its topic instead.

| go-ceph | aiorbd | |
|---|---|---|
"""

PYTHON_RBD = """# The names of Python's `rbd` module in aiorbd

Each public name of the module in Ceph 16.2 to 20.2. The second column has the first release, if that is later than
16.2 (18.2 and 20.2 were compared). Methods are awaited, or iterated over with `async for`, unless they are properties.
`docs/tables.py` makes this table, and a test compares.

| rbd | since | aiorbd | |
|---|---|---|---|
"""


C_FUNCTIONS = """# The C functions of librbd in aiorbd

Each function of librbd 16.2 to 20.2. The second column has the first release, if that is later than 16.2. The third
column has the calls of aiorbd that use the function, or the reason why aiorbd has no such call. `docs/tables.py` makes
this table, and a test compares it with the headers.

| function | since | aiorbd |
|---|---|---|
"""


#: The lines around the tree of errors in the reference.
_TREE = ("```text\n", "```\n")


def error_tree(cls: type = aiorbd.Error, depth: int = 0) -> str:
    """Return the tree of the library's errors, one line for each class."""
    own = [base.__name__ for base in cls.__bases__ if base.__module__ == "builtins" and base is not Exception]
    tree = "    " * depth + cls.__name__ + (f" ({', '.join(own)})" if own else "") + "\n"
    for child in sorted(cls.__subclasses__(), key=lambda child: child.__name__):
        if child.__name__ in aiorbd.__all__:
            tree += error_tree(child, depth + 1)
    return tree


def with_error_tree(page: str) -> str:
    """Return the page of errors with the present tree."""
    before, _, rest = page.partition(_TREE[0])
    return before + _TREE[0] + error_tree() + _TREE[1] + rest.partition(_TREE[1])[2]


def rows(name: str) -> list[dict[str, str]]:
    """Return the rows of one list."""
    with (HERE / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def resolve(name: str) -> object:
    """Return the object with this name in the library."""
    value: object = aiorbd
    for part in name.split("."):
        value = inspect.getattr_static(value, part)
    return value.fget if isinstance(value, property) else value


def c_functions(names: str) -> list[str]:
    """Return the C functions that the docstrings of these names list, without duplicates."""
    found: list[str] = []
    for name in filter(None, names.split(", ")):
        documentation = inspect.getdoc(resolve(name)) or ""
        _, _, functions = documentation.partition("Implements: ")
        found += [function.strip() for function in functions.replace("\n", " ").split(",") if function.strip()]
    return list(dict.fromkeys(found))


def public_calls() -> dict[str, list[str]]:
    """Return the public calls that use each C function, as their docstrings tell."""
    calls: dict[str, list[str]] = {}
    for name in aiorbd.__all__:
        value = getattr(aiorbd, name)
        members = dir(value) if isinstance(value, type) else []
        for full in [name, *(f"{name}.{member}" for member in members)]:
            for function in c_functions(full):
                calls.setdefault(function, []).append(full)
    return calls


def code(names: str, separator: str = ", ") -> str:
    """Format names as code."""
    return ", ".join(f"`{name}`" for name in names.split(separator) if name)


def go_ceph() -> str:
    """Return the text of `go-ceph.md`."""
    lines = []
    for row in rows("go_ceph.tsv"):
        item = row["reference"] if row["reference"].startswith("const: ") else code(row["reference"])
        functions = ", ".join(f"`{function}`" for function in c_functions(row["aiorbd"]))
        implementation = "; ".join(filter(None, [functions, row["note"]]))
        path, _, test = row["test"].partition("::")
        lines.append(f"| {item} | {code(row['aiorbd'])} | {implementation} | [`{test}`](../{path}) |\n")
    latest = [
        f"| `{row['reference']}` | {code(row['aiorbd']) or '—'} | {row['note']} |\n"
        for row in rows("go_ceph_latest.tsv")
    ]
    return GO_CEPH + "".join(lines) + GO_CEPH_LATEST + "".join(latest)


def python_rbd() -> str:
    """Return the text of `python-rbd.md`."""
    return PYTHON_RBD + "".join(
        f"| `{row['rbd']}` | {row['since'].replace('16.2', '')} | {code(row['aiorbd']) or '—'} | {row['note']} |\n"
        for row in rows("python_rbd.tsv")
    )


def c_functions_page() -> str:
    """Return the text of `c-functions.md`."""
    calls = public_calls()
    reasons = {row["function"]: row["reason"] for row in rows("c_functions.tsv")}
    return C_FUNCTIONS + "".join(
        f"| `{function}` | {since.replace('16.2', '')} | {code(', '.join(calls.get(function, [])))}"
        f"{'' if function in calls else '— ' + reasons.get(function, '')} |\n"
        for function, since in sorted(SINCE.items())
        if function.startswith("rbd_")
    )


def main() -> None:
    """Write the tables, or check them with ``--check``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a table is out of date")
    options = parser.parse_args()
    errors = with_error_tree((HERE / "reference/errors.md").read_text(encoding="utf-8"))
    pages = {
        "go-ceph.md": go_ceph(),
        "python-rbd.md": python_rbd(),
        "c-functions.md": c_functions_page(),
        "reference/errors.md": errors,
    }
    for name, text in pages.items():
        path = HERE / name
        if options.check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            sys.exit(f"docs/{name} is out of date: run docs/tables.py")
        if not options.check:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
