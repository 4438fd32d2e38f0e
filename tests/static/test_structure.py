"""The package's shape: who imports whom, how long a file may be, names that must agree."""

import ast
import os
import re
import subprocess
import sys
from enum import Enum
from pathlib import Path

import pytest

import aiorbd
from aiorbd import enums
from aiorbd._native import rados, rbd

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "aiorbd"
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "_declared.py"]

#: Each module may import from those before it, and from its own line.
STOREYS = [
    {"errors", "enums", "models"},
    {"_native"},
    {"_marshal"},
    {"options"},
    {"_bridge.operation", "_bridge.loops"},
    {"_bridge.loop_asyncio", "_bridge.loop_trio", "_bridge.threads"},
    {"_bridge.bridge", "_bridge.current"},
    {"_handle"},
    {"_resource", "_connect"},
    {"_image_handle"},
    {"image"},
    {"ioctx"},
    {"cluster"},
    {"__init__"},
]


def module_name(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imports(path):
    """The package's modules that a module imports when it runs; not those for type checkers only."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "aiorbd":
                yield from (f"aiorbd.{alias.name}" for alias in node.names)
            else:
                yield node.module


def test_imports_go_one_way():
    storey = {name: number for number, names in enumerate(STOREYS) for name in names}
    for path in MODULES:
        name = module_name(path)
        if name.startswith("testing") or name == "_bridge.__init__":
            continue
        for imported in imports(path):
            target = imported.removeprefix("aiorbd.")
            if imported.startswith("aiorbd.") and target not in ("_compiled", "_declared"):
                assert storey[target] < storey[name], f"{name} imports {target}"


def test_public_modules_know_no_event_loop():
    for path in MODULES:
        name = module_name(path)
        if not name.startswith(("_bridge.", "testing")):
            assert not {"asyncio", "trio"} & set(imports(path)), name


def test_only_one_module_imports_the_compiled_ones():
    for path in MODULES:
        if {"aiorbd._compiled", "aiorbd._declared"} & set(imports(path)):
            assert module_name(path) == "_native"


def test_testing_uses_the_public_face():
    for path in (PACKAGE / "testing").glob("*.py"):
        for imported in imports(path):
            if imported.startswith("aiorbd"):
                assert imported == "aiorbd" or imported.startswith("aiorbd.testing"), path.name


def test_no_python_is_handed_to_c_as_a_callback():
    """So none can run on a thread of librbd's. cffi knows three ways; the bridge's C uses no Python either."""
    for path in [*MODULES, *(ROOT / "ffi").rglob("*.py")]:
        assert not re.search(r"\.callback\(|def_extern|extern \"Python|CFUNCTYPE|new_handle", path.read_text()), path
    for path in (ROOT / "ffi/bridge").glob("*.[ch]"):
        assert "Python.h" not in path.read_text(), path


def test_no_module_is_a_giant():
    for path in [*MODULES, *(ROOT / "ffi").rglob("*.[ch]"), *(ROOT / "ffi").rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 400, path


@pytest.mark.parametrize(
    ("enum", "prefix"),
    [
        (enums.OpFlag, "LIBRADOS_OP_FLAG_"),
        (enums.Feature, "RBD_FEATURE_"),
        (enums.ImageOption, "RBD_IMAGE_OPTION_"),
        (enums.MirrorImageMode, "RBD_MIRROR_IMAGE_MODE_"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_enums_have_ceph_s_values(enum, prefix):
    for member in enum:
        assert member.value == getattr(rbd()._library, prefix + member.name)


def test_every_enum_is_compared():
    mine = {value for value in vars(enums).values() if isinstance(value, type) and issubclass(value, Enum)}
    assert {value for value in mine if value.__module__ == enums.__name__} == {
        enums.OpFlag,
        enums.Feature,
        enums.ImageOption,
        enums.MirrorImageMode,
    }


def public_callables():
    for cls in (aiorbd.Cluster, aiorbd.IoCtx, aiorbd.Image):
        for name, value in vars(cls).items():
            function = value.fget if isinstance(value, property) else value
            if not name.startswith("_") and callable(function):
                yield f"{cls.__name__}.{name}", function
    yield "connect", aiorbd.connect


#: What is not a call of Ceph's.
OWN = {"IoCtx.pool", "IoCtx.namespace", "Image.snapshot", "Image.read_only"}


@pytest.mark.parametrize("name", list(dict(public_callables())))
def test_docstrings_name_their_c_functions(name):
    documentation = dict(public_callables())[name].__doc__ or ""
    assert documentation, name
    if name in OWN:
        return
    _, found, rest = documentation.partition("Implements: ")
    assert found, f"{name} does not say which C function it implements"
    for c_function in rest.replace("\n", " ").split(","):
        assert c_function.strip() in aiorbd._native.SINCE, f"{name}: {c_function.strip()}"


def test_functions_are_bound_when_they_are_called():
    """One build serves every release: what this librbd lacks is told by name, when it is asked for."""
    newer = {name: since for name, since in aiorbd._native.SINCE.items() if since != "16.2"}
    assert newer
    missing = {}
    for name in newer:
        library = rbd() if name.startswith("rbd_") else rados()
        try:
            getattr(library, name)
        except aiorbd.NotSupportedError as error:
            missing[name] = error
    from test_declarations import release

    assert set(missing) == {name for name, since in newer.items() if int(since.split(".")[0]) > release()}
    for name, error in missing.items():
        assert (error.function, error.since) == (name, newer[name])
        assert f"{name} needs Ceph {newer[name]} or newer" in str(error)


def test_the_package_imports_without_ceph():
    environment = os.environ | {"AIORBD_LIBRADOS": "missing.so", "AIORBD_LIBRBD": "missing.so"}
    program = "import aiorbd, sys; assert 'trio' not in sys.modules; print(aiorbd.__version__)"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == aiorbd.__version__
