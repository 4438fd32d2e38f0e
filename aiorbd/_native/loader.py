"""Import the two compiled modules, and load librados and librbd at the first use.

`ffi`, `rados()` and `rbd()` reach every C function. A function is bound at its first call. `bridge_ffi` and `bridge()`
reach the compiled bridge. Importing this module loads neither library. So a host without Ceph can import, document and
type-check the package.
"""

import os
import re
import threading
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

from aiorbd._native import _compiled, _declared  # their types: *.pyi
from aiorbd.errors import LibraryNotFoundError, LibraryTooOldError

if TYPE_CHECKING:
    from aiorbd._native.c_functions import Rados, Rbd

ffi: Final[Any] = _declared.ffi
bridge_ffi: Final[Any] = _compiled.ffi
SINCE: Final[dict[str, str]] = _declared.SINCE

_loading: Final = threading.Lock()

#: The name or path of each library. The environment may set another, for hosts with several builds of Ceph.
_PATHS: Final = {
    "librados": os.environ.get("AIORBD_LIBRADOS", "librados.so.2"),
    "librbd": os.environ.get("AIORBD_LIBRBD", "librbd.so.1"),
}


class Library:
    """A library that looks up each function at the first call."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._path = _PATHS[name]
        try:
            self._library = ffi.dlopen(self._path)
        except OSError as error:
            raise _not_found(name, self._path, str(error)) from None

    def __getattr__(self, function: str) -> Any:
        try:
            bound = getattr(self._library, function)
        except (AttributeError, ffi.error):
            if function not in SINCE:
                raise
            found = ".".join(map(str, self.version()))
            raise LibraryTooOldError(function, SINCE[function], self._path, found) from None
        setattr(self, function, bound)  # the next call finds the function without `__getattr__`
        return bound

    def version(self) -> tuple[int, int, int]:
        """Return the library's own version."""
        numbers = [ffi.new("int *") for _ in range(3)]
        getattr(self, {"librbd": "rbd_version", "librados": "rados_version"}[self._name])(*numbers)
        major, minor, extra = (number[0] for number in numbers)
        return major, minor, extra


def _not_found(name: str, path: str, detail: str) -> LibraryNotFoundError:
    package, variable = {"librados": "librados2", "librbd": "librbd1"}[name], f"AIORBD_{name.upper()}"
    chosen = f"set {variable} before importing aiorbd to name another file"
    searched = f"the file {path}"
    if "/" not in path:
        directories = os.environ.get("LD_LIBRARY_PATH") or "not set"
        searched = (
            f"{path} in LD_LIBRARY_PATH ({directories}), the linker's cache (ldconfig -p) and its default directories"
        )
    return LibraryNotFoundError(
        f"{name} cannot be loaded: {detail}. Searched for: {searched}; {chosen}. Install the package {package}: "
        f"'apt-get install {package}' on Debian and Ubuntu, 'dnf install {package}' on Fedora."
    )


@cache
def rados() -> "Rados":
    """Return librados."""
    return cast("Rados", Library("librados"))


@cache
def rbd() -> "Rbd":
    """Return librbd."""
    return cast("Rbd", Library("librbd"))


def library_of(function: str) -> "Rados | Rbd":
    """Return the library of a function, by the name of the function."""
    return rbd() if function.startswith("rbd_") else rados()


def require_function(function: str) -> None:
    """Raise `LibraryTooOldError` if the library lacks a function that a later release has."""
    getattr(library_of(function), function)


@cache
def bridge() -> Any:
    """Return the compiled bridge, bound to librbd and librados."""
    rados(), rbd()  # these calls explain a missing library
    with _loading:  # two threads may load at once, each with its own event loop
        message = _compiled.lib.aiorbd_load(_PATHS["librbd"].encode(), _PATHS["librados"].encode())
        detail = bridge_ffi.string(message).decode() if message else None
    if detail is not None:
        for function in re.findall(r"\b(?:rbd|rados)_\w+", detail):
            getattr(library_of(function), function)  # a loaded library raises for a function that it lacks
        raise _not_found("librbd", _PATHS["librbd"], detail)
    return _compiled.lib


def function_of_bridge(name: str, c_type: str) -> Any:
    """Return one of the bridge's callbacks, cast to Ceph's function type."""
    return ffi.cast(c_type, int(bridge_ffi.cast("uintptr_t", bridge_ffi.addressof(bridge(), name))))
