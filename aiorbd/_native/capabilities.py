"""The installed librbd and librados: versions, functions and features."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from aiorbd._native.loader import SINCE, ffi, rados, rbd, require_function
from aiorbd.enums import Feature
from aiorbd.errors import LibraryTooOldError
from aiorbd.models import Version


def version() -> Version:
    """Return librbd's version: 1.16.0 for Ceph 16.2, 1.20.0 for 20.2.

    Raises:
        LibraryNotFoundError: librbd is not installed.

    Implements: rbd_version
    """
    return Version(*rbd().version())


def rados_version() -> Version:
    """Return librados's version.

    Raises:
        LibraryNotFoundError: librados is not installed.

    Implements: rados_version
    """
    return Version(*rados().version())


@dataclass(frozen=True)
class Capabilities:
    """The functions and features of this host's librbd and librados.

    A call of a missing function raises `LibraryTooOldError`.

    Attributes:
        librbd: librbd's version.
        librados: librados's version.
        functions: The available C functions, each with the Ceph release that introduced it.
        missing: The C functions that only newer releases have, each with its release.
        features: The image features that librbd knows. The oldest release, 16.2, has all features in `Feature`.
    """

    librbd: Version
    librados: Version
    functions: Mapping[str, str]
    missing: Mapping[str, str]
    features: Feature

    def __contains__(self, function: str) -> bool:
        """Return whether a C function is available."""
        return function in self.functions

    def require(self, function: str) -> None:
        """Raise if a C function is not available.

        Raises:
            LibraryTooOldError: The function is missing. The error names the release that has it, and the version found.
            ValueError: No release has such a function.
        """
        if function not in SINCE:
            raise ValueError(f"{function} is no function of librbd or librados that aiorbd knows")
        require_function(function)


@cache
def capabilities() -> Capabilities:
    """Return the functions and features of this host's librbd and librados.

    Raises:
        LibraryNotFoundError: One of the libraries is not installed.

    Implements: rbd_version, rados_version, rbd_features_to_string
    """
    there: dict[str, str] = {}
    missing: dict[str, str] = {}
    for function, since in sorted(SINCE.items()):
        try:
            require_function(function)
        except LibraryTooOldError:
            missing[function] = since
        else:
            there[function] = since
    known = Feature(0)
    for feature in Feature:
        if rbd().rbd_features_to_string(feature.value, ffi.new("char[]", 256), ffi.new("size_t *", 256)) >= 0:
            known |= feature
    return Capabilities(version(), rados_version(), MappingProxyType(there), MappingProxyType(missing), known)
