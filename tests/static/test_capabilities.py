"""Compare the reported capabilities of the host's librbd with the library and its headers."""

import ctypes
import re
from pathlib import Path
from typing import Any

import pytest

import aiorbd
from aiorbd import Feature
from aiorbd._native.loader import SINCE

HEADERS = [Path("/usr/include/rbd/librbd.h"), Path("/usr/include/rados/librados.h")]


@pytest.fixture(scope="module")
def capabilities() -> Any:
    return aiorbd.capabilities()


def test_functions_are_those_of_the_libraries(capabilities: Any) -> None:
    libraries = [ctypes.CDLL("librbd.so.1"), ctypes.CDLL("librados.so.2")]
    assert {**capabilities.functions, **capabilities.missing} == SINCE
    for function in SINCE:
        there = hasattr(libraries[not function.startswith("rbd_")], function)
        assert (function in capabilities) is there, function
        assert (function in capabilities.missing) is not there, function


def test_functions_are_those_of_the_headers(capabilities: Any) -> None:
    declared = set().union(*(re.findall(r"\b((?:rbd|rados)_\w+) ?\(", header.read_text()) for header in HEADERS))
    assert capabilities.functions.keys() <= declared
    assert not capabilities.missing.keys() & declared


def test_missing_function_is_reported_before_the_call(capabilities: Any) -> None:
    capabilities.require("rbd_aio_read2")
    for function, since in capabilities.missing.items():
        with pytest.raises(aiorbd.LibraryTooOldError) as caught:
            capabilities.require(function)
        found = ".".join(map(str, capabilities.librbd if function.startswith("rbd_") else capabilities.librados))
        assert (caught.value.function, caught.value.since, caught.value.found) == (function, since, found)
        assert f"{function} needs Ceph {since} or newer" in str(caught.value)
        assert f"version {found}, lacks it" in str(caught.value)
    with pytest.raises(ValueError, match="rbd_fly is no function"):
        capabilities.require("rbd_fly")


def test_library_needs_no_function_newer_than_the_oldest_release() -> None:
    """Calls that need a newer release belong on the page of the releases.

    The library looks three more functions up in `capabilities` before it calls them.
    """
    sources = "".join(path.read_text() for path in Path(aiorbd.__file__).parent.rglob("[!_]*.py"))
    sources += "".join(path.read_text() for path in Path(aiorbd.__file__).parent.glob("_[!d]*.py"))
    named = set(re.findall(r"\b(?:rbd|rados)_\w+", sources))
    assert "rbd_snap_create2" in named or "rbd_snap_create" in named
    optional = {"rbd_clone4", "rbd_diff_iterate3", "rbd_snap_get_trash_namespace2"}
    assert optional <= set(re.findall(r'"(\w+)" in capabilities\(\)', sources))
    page = (Path(__file__).parents[2] / "docs/releases.md").read_text()
    newer = named & {function for function, since in SINCE.items() if since != "16.2"} - optional
    cleanups = {function for function in newer if function.endswith("_cleanup")}
    assert newer - cleanups == (set(re.findall(r"`(\w+)`", page)) & set(SINCE)) - optional


def test_versions_and_features_match_the_library(capabilities: Any) -> None:
    assert capabilities.librbd == aiorbd.version()
    assert capabilities.librados == aiorbd.rados_version()
    assert capabilities.features & aiorbd.FEATURES_DEFAULT == aiorbd.FEATURES_DEFAULT
    assert Feature.MIGRATING in capabilities.features
