"""Write ``aiorbd/_native/c_functions.pyi``: the types of librbd's and librados's functions, made of the declarations.

    python ffi/stubs.py            writes the stub
    python ffi/stubs.py --check    tells whether the stub is up to date

Integers are `int`, and everything else of C is `Any`: cffi checks the rest when a function is called.
"""

import argparse
import re
import sys
from pathlib import Path

from pycparser import c_ast, c_parser

sys.path.insert(0, str(Path(__file__).parent))

import declarations

STUB = Path(__file__).parents[1] / "aiorbd" / "_native" / "c_functions.pyi"

HEADER = '''"""The functions of librbd and librados. Made by ``ffi/stubs.py`` of the declarations in ``ffi/``."""

from typing import Any, Literal, Protocol, TypeAlias

'''

#: Types that pycparser must have heard of.
INTEGERS = {"size_t", "ssize_t", "bool"} | {f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)}
BUILTIN = "".join(f"typedef int {name};" for name in sorted(INTEGERS))

#: Python's keywords among the names of C's parameters.
RENAMED = {"from": "from_", "in": "in_", "lambda": "lambda_"}


def type_of(node: c_ast.Node, typedefs: dict[str, c_ast.Node]) -> str:
    """Return the Python type of a C type."""
    if isinstance(node, c_ast.TypeDecl):
        node = node.type
    if isinstance(node, c_ast.IdentifierType):
        name = " ".join(node.names)
        if name == "void":
            return "None"
        if name in INTEGERS or name in typedefs:
            return "int" if name in INTEGERS else type_of(typedefs[name], typedefs)
        return "float" if name in {"double", "float"} else "int"
    return "int" if isinstance(node, c_ast.Enum) else "Any"


def signature(function: c_ast.FuncDecl, typedefs: dict[str, c_ast.Node]) -> str:
    """Return a method's parameters and result, positional ones as C has them."""
    parameters = ["self"]
    for number, parameter in enumerate(function.args.params if function.args else []):
        kind = type_of(parameter.type, typedefs)
        if kind != "None":
            name = parameter.name or f"argument_{number}"
            parameters.append(f"{RENAMED.get(name, name)}: {kind}")
    if len(parameters) > 1:
        parameters.append("/")
    return f"({', '.join(parameters)}) -> {type_of(function.type, typedefs)}"


def constants(text: str, tree: c_ast.FileAST) -> list[str]:
    """Return the names of the constants: enumerators, and what is defined."""

    class Enumerators(c_ast.NodeVisitor):  # type: ignore[misc]  # pycparser has no types
        def __init__(self) -> None:
            self.names: list[str] = []

        def visit_Enumerator(self, node: c_ast.Enumerator) -> None:  # noqa: N802 - pycparser's name
            self.names.append(node.name)

    found = Enumerators()
    found.visit(tree)
    return sorted({*found.names, *re.findall(r"^#define (\w+)", text, re.MULTILINE)})


def stub() -> str:
    """Make the stub's text."""
    text = declarations.text()
    plain = re.sub(r"/\*.*?\*/|^#.*?$", "", text, flags=re.DOTALL | re.MULTILINE)
    tree = c_parser.CParser().parse(BUILTIN + plain)
    typedefs = {node.name: node.type for node in tree.ext if isinstance(node, c_ast.Typedef)}
    functions = {
        node.name: signature(node.type, typedefs)
        for node in tree.ext
        if isinstance(node, c_ast.Decl) and isinstance(node.type, c_ast.FuncDecl)
    }
    lines = [HEADER, "CFunction: TypeAlias = Literal[\n"]
    lines += [f'    "{name}",\n' for name in sorted(functions)]
    lines.append(
        "]\n\nclass Library(Protocol):\n    _library: Any\n    def version(self) -> tuple[int, int, int]: ...\n"
    )
    lines += [f"    {constant}: int\n" for constant in constants(text, tree)]
    for prefix, name in (("rados_", "Rados"), ("rbd_", "Rbd")):
        lines.append(f"\nclass {name}(Library, Protocol):\n")
        lines += [
            f"    def {function}{functions[function]}: ...\n" for function in functions if function.startswith(prefix)
        ]
    return "".join(lines)


def main() -> None:
    """Write the stub, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if not options.check:
        STUB.write_text(stub())
    elif STUB.read_text() != stub():
        sys.exit("the stub of the C functions is not what the declarations say: run python ffi/stubs.py")


if __name__ == "__main__":
    main()
