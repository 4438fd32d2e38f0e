"""Compare the declarations and the bridge's own prototypes with the headers that Ceph installs.

The tests declare every function a second time beside the installed header, so that the C compiler refuses a difference.
They compare structs, enumerators and constants one by one.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pycparser import c_ast, c_generator, c_parser

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "ffi"))

import declarations  # noqa: E402 - the builder's module

INCLUDE = Path("/usr/include")
PREFIXES = {"librbd": "rbd_", "librados": "rados_"}

#: Types that pycparser needs declared.
BUILTIN = "".join(
    f"typedef int {name};"
    for name in ("bool", "size_t", "ssize_t", *(f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)))
)


@pytest.fixture(scope="session", autouse=True)
def headers() -> None:
    """Fail rather than skip when the headers are missing: without them the tests compare nothing."""
    assert (INCLUDE / "rbd/librbd.h").exists(), "install librbd-dev and librados-dev"
    assert shutil.which("cc")


def parsed() -> Any:
    """Return all declarations as syntax trees: (node, text)."""
    text = re.sub(r"/\*.*?\*/|^#.*?$", "", declarations.text(), flags=re.DOTALL | re.MULTILINE)
    tree = c_parser.CParser().parse(BUILTIN + text)
    generator = c_generator.CGenerator()
    return [(node, generator.visit(node)) for node in tree.ext[BUILTIN.count(";") :]]


def release() -> Any:
    """Return the installed librbd's release number, as the declarations count it."""
    text = (INCLUDE / "rbd/librbd.h").read_text()
    found = re.search(r"#define LIBRBD_VER_MINOR (\d+)", text)
    assert found
    return int(found[1])


def installed(header: Any) -> Any:
    """Return the functions that an installed header declares."""
    text = subprocess.run(
        ["cc", "-E", "-P", "-xc", "-"], input=f"#include <{header}>\n", capture_output=True, text=True, check=True
    ).stdout
    return set(re.findall(r"\b((?:rbd|rados)_\w+)\s*\((?!\*)", text))


def compiles(source: Any, *flags: Any) -> None:
    done = subprocess.run(
        ["cc", "-std=gnu11", "-fsyntax-only", "-Wall", "-Werror", "-Wno-deprecated-declarations", *flags, "-xc", "-"],
        input=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[:4000]


def expected(library: Any) -> Any:
    """Return the functions that the installed release should have."""
    return {name for name, since in declarations.since(library).items() if int(since.split(".")[0]) <= release()}


def test_every_function_of_librbd_is_declared() -> None:
    assert {name for name in installed("rbd/librbd.h") if name.startswith("rbd_")} == expected("librbd")


def test_every_function_of_librados_is_declared_or_left_out() -> None:
    lines = (ROOT / "ffi/librados/left_out.txt").read_text().splitlines()
    left_out = {line for line in lines if not line.startswith("#")}
    assert not left_out & set(declarations.since("librados"))
    assert expected("librados") <= installed("rados/librados.h") <= expected("librados") | left_out


def prototypes() -> Any:
    return {
        node.name: text
        for node, text in parsed()
        if isinstance(node, c_ast.Decl) and isinstance(node.type, c_ast.FuncDecl)
    }


def test_table_and_prototypes_have_the_same_functions() -> None:
    assert set(prototypes()) == set(declarations.since("librbd")) | set(declarations.since("librados"))


def with_headers(*lines: Any) -> Any:
    return "\n".join(["#include <stddef.h>", "#include <rados/librados.h>", "#include <rbd/librbd.h>", *lines, ""])


def test_prototypes_match_the_headers() -> None:
    wanted = expected("librbd") | expected("librados")
    compiles(with_headers(*(f"{text};" for name, text in prototypes().items() if name in wanted)))


def test_wrong_prototype_is_noticed() -> None:
    """The comparison can fail."""
    with pytest.raises(AssertionError, match="conflicting types"):
        compiles(with_headers("int rbd_flush(rbd_image_t image, int wrong);"))


def struct_fields() -> Iterator[Any]:
    """Yield every struct: its name in C, and its fields."""
    for node, _ in parsed():
        if isinstance(node, c_ast.Typedef) and isinstance(node.type.type, c_ast.Struct):
            name, struct = node.name, node.type.type
        elif isinstance(node, c_ast.Decl) and isinstance(node.type, c_ast.Struct):
            name, struct = f"struct {node.type.name}", node.type
        else:
            continue
        yield name, [field.name for field in struct.decls or []]


#: Names that later releases added. All other declared names exist in every release.
LATER_TYPES = {
    "rbd_encryption_luks_format_options_t": 17,
    "rbd_encryption_spec_t": 18,
    "rbd_group_image_snap_info_t": 20,
    "rbd_group_snap_info2_t": 20,
    "rbd_group_snap_namespace_type_t": 20,
    "rbd_snap_trash_namespace_t": 19,
}
LATER_CONSTANTS = {
    "LIBRADOS_ALLOC_HINT_FLAG_LOG": 20,
    "RBD_DIFF_ITERATE_FLAG_INCLUDE_PARENT": 18,
    "RBD_DIFF_ITERATE_FLAG_WHOLE_OBJECT": 18,
    "RBD_ENCRYPTION_FORMAT_LUKS": 18,
    "RBD_GROUP_SNAP_NAMESPACE_TYPE_USER": 20,
    "RBD_LOCK_MODE_EXCLUSIVE_TRANSIENT": 20,
    "RBD_MIRROR_IMAGE_CREATING": 20,
    "RBD_MIRROR_MODE_INIT_ONLY": 20,
}


def test_structs_match_the_headers() -> None:
    """Compare cffi's layout with the headers' layout: each struct's size, and each field's offset and size."""
    from aiorbd._native._declared import ffi

    lines = []
    for name, fields in struct_fields():
        if LATER_TYPES.get(name, 0) > release():
            continue
        lines.append(f'_Static_assert(sizeof({name}) == {ffi.sizeof(name)}, "{name}");')
        kinds = dict(ffi.typeof(name).fields)
        for field in fields:
            place, size = kinds[field].offset, ffi.sizeof(kinds[field].type)
            lines.append(f'_Static_assert(offsetof({name}, {field}) == {place}, "{name}.{field}");')
            lines.append(f'_Static_assert(sizeof((({name} *)0)->{field}) == {size}, "{name}.{field}");')
    assert len(lines) > 150
    compiles(with_headers("#include <time.h>", "#include <sys/time.h>", "#include <sys/uio.h>", *lines))


def test_constants_match_the_headers() -> None:
    from aiorbd._native.loader import rbd

    names = set(re.findall(r"\b((?:RBD|LIBRADOS|EVENT_TYPE|MIRROR_IMAGE)_\w+)", declarations.text()))
    lines = []
    for name in sorted(names):
        if LATER_CONSTANTS.get(name, 0) <= release():
            value = getattr(rbd()._library, name)
            lines.append(f'_Static_assert((long long)({name}) == {value}LL, "{name}");')
    assert len(lines) > 120
    compiles(with_headers(*lines))


def test_bridge_declares_its_symbols_as_the_headers_do() -> None:
    check = """
#include "symbols.h"
#define CHECK(result, name, arguments) \\
    _Static_assert(__builtin_types_compatible_p(__typeof__(&name), result(*) arguments), #name);
AIORBD_LIBRBD_SYMBOLS(CHECK)
AIORBD_LIBRADOS_SYMBOLS(CHECK)
"""
    compiles(with_headers(check), f"-I{ROOT}/ffi/bridge")


def test_bridge_compiles_without_a_warning(tmp_path: Path) -> None:
    sources = sorted((ROOT / "ffi/bridge").glob("*.c"))
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror"]
    subprocess.run(["cc", *flags, "-c", *map(str, sources)], check=True, cwd=tmp_path)
