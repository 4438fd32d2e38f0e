"""The package's shape: who imports whom, how long a file may be, names that must agree."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from enum import Enum
from inspect import getattr_static, isfunction
from pathlib import Path
from typing import Any

import pytest

import aiorbd
from aiorbd import enums
from aiorbd._native import _compiled
from aiorbd._native.loader import rados, rbd

ROOT = Path(__file__).parents[2]
PACKAGE = Path(aiorbd.__file__).parent
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "_declared.py"]


def module_name(path: Any) -> Any:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imports(path: Any) -> Iterator[Any]:
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


def test_public_modules_know_no_event_loop() -> None:
    for path in MODULES:
        name = module_name(path)
        if not name.startswith(("_core.", "testing")):
            assert not {"asyncio", "trio"} & set(imports(path)), name


def test_who_imports_the_compiled_ones() -> None:
    for path in MODULES:
        if {"aiorbd._native._compiled", "aiorbd._native._declared"} & set(imports(path)):
            assert module_name(path) in ("_native.loader", "_native.table")


def test_no_python_is_handed_to_c_as_a_callback() -> None:
    """So none can run on a thread of librbd's: cffi knows three ways.

    The bridge's C uses no Python either; the table's does, and hands nothing to Ceph.
    """
    for path in [*MODULES, *(ROOT / "ffi").rglob("*.py")]:
        assert not re.search(r"\.callback\(|def_extern|extern \"Python|CFUNCTYPE|new_handle", path.read_text()), path
    for path in (ROOT / "ffi/bridge").glob("*.[ch]"):
        assert "Python.h" not in path.read_text(), path
    for path in (ROOT / "ffi/table").glob("*.c"):
        assert not re.search(r"(?<!\w)(rbd|rados)_\w+ *\(|aiorbd_librbd", path.read_text()), path


def test_no_module_is_a_giant() -> None:
    modules = [path for path in MODULES if path != PACKAGE / "__init__.py"]  # which lists the public names
    for path in [*modules, *(ROOT / "ffi").rglob("*.[ch]"), *(ROOT / "ffi").rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 400, path


ENUMS = {
    enums.OpFlag: "LIBRADOS_OP_FLAG_",
    enums.Feature: "RBD_FEATURE_",
    enums.OperationFeature: "RBD_OPERATION_FEATURE_",
    enums.ImageFlag: "RBD_FLAG_",
    enums.ImageOption: "RBD_IMAGE_OPTION_",
    enums.MirrorImageMode: "RBD_MIRROR_IMAGE_MODE_",
    enums.SnapshotNamespaceType: "RBD_SNAP_NAMESPACE_TYPE_",
    enums.SnapshotCreateFlag: "RBD_SNAP_CREATE_",
    enums.SnapshotRemoveFlag: "RBD_SNAP_REMOVE_",
    enums.LockMode: "RBD_LOCK_MODE_",
    enums.TrashImageSource: "RBD_TRASH_IMAGE_SOURCE_",
    enums.PoolStatOption: "RBD_POOL_STAT_OPTION_",
    enums.GroupImageState: "RBD_GROUP_IMAGE_STATE_",
    enums.GroupSnapshotState: "RBD_GROUP_SNAP_STATE_",
    enums.GroupSnapshotNamespaceType: "RBD_GROUP_SNAP_NAMESPACE_TYPE_",
    enums.ConfigSource: "RBD_CONFIG_SOURCE_",
    enums.MigrationState: "RBD_IMAGE_MIGRATION_STATE_",
    enums.EncryptionFormat: "RBD_ENCRYPTION_FORMAT_",
    enums.EncryptionAlgorithm: "RBD_ENCRYPTION_ALGORITHM_",
    enums.MirrorMode: "RBD_MIRROR_MODE_",
    enums.MirrorPeerDirection: "RBD_MIRROR_PEER_DIRECTION_",
    enums.MirrorImageState: "RBD_MIRROR_IMAGE_",
    enums.MirrorStatusState: "MIRROR_IMAGE_STATUS_STATE_",
    enums.MirrorSnapshotState: "RBD_SNAP_MIRROR_STATE_",
}


@pytest.mark.parametrize("enum", ENUMS, ids=lambda enum: enum.__name__)
def test_enums_have_ceph_s_values(enum: Any) -> None:
    for name, member in enum.__members__.items():
        if name != "NONE":
            assert member.value == getattr(rbd()._library, ENUMS[enum] + name)


def test_every_enum_is_compared() -> None:
    mine = {value for value in vars(enums).values() if isinstance(value, type) and issubclass(value, Enum)}
    assert {value for value in mine if value.__module__ in ("aiorbd", enums.__name__)} == set(ENUMS)
    assert {value.__name__ for value in ENUMS} <= set(aiorbd.__all__)


def test_sets_and_names_of_features_are_ceph_s() -> None:
    for name in ("DEFAULT", "INCOMPATIBLE", "RW_INCOMPATIBLE", "MUTABLE", "SINGLE_CLIENT"):
        assert getattr(enums, f"FEATURES_{name}") == getattr(rbd()._library, f"RBD_FEATURES_{name}")
    assert list(enums.FEATURE_NAMES) == list(enums.Feature)
    header = Path("/usr/include/rbd/features.h").read_text()
    names = dict(re.findall(r'#define RBD_FEATURE_NAME_(\w+)\s+"(.+)"', header))
    assert {feature.name: name for feature, name in enums.FEATURE_NAMES.items()} == names


def public_classes() -> Iterator[Any]:
    """The classes that do something: no exceptions, enums and results."""
    for name in aiorbd.__all__:
        value = getattr(aiorbd, name)
        plain = isinstance(value, type) and not issubclass(value, (BaseException, Enum, dict, tuple))
        if plain and not is_dataclass(value) and name != "ImageKeywords":
            yield value


def public_callables() -> Iterator[Any]:
    """(name, what it is) of every public function and method, inherited ones included."""
    for cls in public_classes():
        for name in dir(cls):
            value = getattr_static(cls, name)
            function = value.fget if isinstance(value, property) else value
            mine = (getattr(function, "__module__", None) or "").startswith("aiorbd")
            if mine and (not name.startswith("_") or "Implements:" in (function.__doc__ or "")):
                yield f"{cls.__name__}.{name}", function
    for name in aiorbd.__all__:
        if isfunction(getattr(aiorbd, name)):
            yield name, getattr(aiorbd, name)


#: What is not a call of Ceph's, but a fact of our own, a way to others, or a file's position.
OWN = {
    *(
        f"{cls}.{name}"
        for cls in ("Cluster", "IoCtx", "Image", "ObjectWatch", "ClusterLog")
        for name in ("aclose", "blocklisted", "closed", "drain", "in_flight")
    ),
    "BlockingImageFile.readable",
    "BlockingImageFile.seek",
    "BlockingImageFile.seekable",
    "BlockingImageFile.tell",
    "BlockingImageFile.writable",
    "Cluster.add_observer",
    "Cluster.remove_observer",
    "Cluster.stats",
    "SharedConnection.stats",
    "ClusterLog.lost",
    "Diff.aclose",
    "Diff.close",
    "DiffReader.aclose",
    "DiffReader.close",
    "merge_diff",
    "read_diff",
    "Encryption.loaded",
    "Groups.get",
    "Image.advisory_locks",
    "Image.config",
    "Image.encryption",
    "Image.mirror",
    "IoCtx.config",
    "IoCtx.groups",
    "IoCtx.migration",
    "IoCtx.mirror",
    "Mirror.peers",
    "Image.exclusive_lock",
    "Image.metadata",
    "Image.namespace",
    "Image.pool",
    "Image.read_only",
    "Image.snapshot",
    "ImageFile.aclose",
    "ImageFile.close",
    "ImageFile.closed",
    "ImageFile.seek",
    "QuiesceRequest.answered",
    "QuiesceRequest.released",
    "QuiesceWatch.aclose",
    "QuiesceWatch.close",
    "ReadStream.aclose",
    "ReadStream.close",
    "Writer.pending_bytes",
    "ImageFile.tell",
    "IoCtx.metadata",
    "IoCtx.namespace",
    "IoCtx.namespaces",
    "IoCtx.objects",
    "IoCtx.pool",
    "IoCtx.trash",
    "Listing.aclose",
    "Listing.close",
    "ObjectWatch.lost",
    "Updates.aclose",
    "Updates.close",
    "Updates.wait",
}


def test_what_is_our_own_is_there() -> None:
    assert set(dict(public_callables())) >= OWN


@pytest.mark.parametrize("name", list(dict(public_callables())))
def test_docstrings_name_their_c_functions(name: Any) -> None:
    documentation = dict(public_callables())[name].__doc__ or ""
    assert documentation, name
    if name in OWN:
        assert "Implements:" not in documentation
        return
    _, found, rest = documentation.partition("Implements: ")
    assert found, f"{name} does not say which C function it implements"
    for c_function in rest.replace("\n", " ").split(","):
        assert c_function.strip() in aiorbd._native.loader.SINCE, f"{name}: {c_function.strip()}"


def test_functions_are_bound_when_they_are_called() -> None:
    """One build serves every release: what this librbd lacks is told by name, when it is asked for."""
    newer = {name: since for name, since in aiorbd._native.loader.SINCE.items() if since != "16.2"}
    assert newer
    missing = {}
    for name in newer:
        library = rbd() if name.startswith("rbd_") else rados()
        try:
            getattr(library, name)
        except aiorbd.LibraryTooOldError as error:
            missing[name] = error
    from test_declarations import release

    assert set(missing) == {name for name, since in newer.items() if int(since.split(".")[0]) > release()}
    for name, caught in missing.items():
        assert (caught.function, caught.since) == (name, newer[name])
        assert f"{name} needs Ceph {newer[name]} or newer" in str(caught)


def test_the_extension_is_linked_with_no_library_of_ceph() -> None:
    """Also where it was compiled for one Python alone."""
    dynamic = subprocess.run(
        ["readelf", "--dynamic", _compiled.__file__], capture_output=True, text=True, check=True
    ).stdout
    needed = re.findall(r"\(NEEDED\).*\[(.*?)\]", dynamic)
    assert needed
    assert all(name.startswith(("libc.so", "libdl.so", "libpthread.so", "ld-linux")) for name in needed), needed


def test_the_package_imports_without_ceph() -> None:
    environment = os.environ | {"AIORBD_LIBRADOS": "missing.so", "AIORBD_LIBRBD": "missing.so"}
    program = "import aiorbd, sys; assert 'trio' not in sys.modules; print(aiorbd.__version__)"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == aiorbd.__version__


def test_the_text_of_each_room_names_its_modules() -> None:
    for room in ("_stream", "_native", "_core", "_image", "_pool", "_cluster"):
        directory = PACKAGE / room
        text = (directory / "__init__.py").read_text()
        modules = {path.stem for path in directory.glob("*.py")} - {"__init__", "_declared"}
        assert not [name for name in sorted(modules) if f"`{name}`" not in text], room
