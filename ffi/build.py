"""Build the two native modules.

The package's build runs `BuildHook`. By hand, call `write_declared` and `compile_bridge` with a directory.

``aiorbd._native._declared`` is Python text that cffi makes from the declarations of librbd and librados. The C
functions are bound when they are called. ``aiorbd._native._compiled`` is the bridge, one C extension for every CPython.
A CPython without the GIL has no stable ABI before 3.15, so each version gets its own extension. Neither module needs a
Ceph header or library.
"""

import pprint
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from cffi import FFI
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).parent
#: Whether this Python has no GIL. cffi declares that the extension needs no GIL: `ffi/README.md` has the reasons.
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
sys.path.insert(0, str(HERE))

import declarations  # noqa: E402 - the module lies beside this file, and the build loads this file by its path


def write_declared(directory: Path) -> Path:
    """Write ``aiorbd/_native/_declared.py``, and return its path."""
    ffi = FFI()
    ffi.cdef(declarations.text())
    ffi.set_source("aiorbd._native._declared", None)
    path = directory / "aiorbd" / "_native" / "_declared.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    ffi.emit_python_code(str(path))
    table = declarations.since("librados") | declarations.since("librbd")
    with path.open("a") as file:
        file.write(f"\n# The Ceph release that brought each function.\nSINCE = {pprint.pformat(table)}\n")
    return path


def compile_bridge(directory: Path) -> Path:
    """Compile ``aiorbd._native._compiled``, and return the path of the extension."""
    header = (HERE / "bridge" / "bridge.h").read_text()
    ffi = FFI()
    ffi.cdef("\n".join(line for line in header.splitlines() if not line.startswith("#")))
    ffi.set_source(
        "aiorbd._native._compiled",
        '#include "bridge.h"',
        sources=[str(path) for part in ("bridge", "table") for path in sorted((HERE / part).glob("*.c"))],
        include_dirs=[str(HERE / "bridge")],
        libraries=["dl", "pthread"],
        define_macros=[("_GNU_SOURCE", None), *([] if FREE_THREADED else [("AIORBD_STABLE_ABI", None)])],
        # -g would add paths of this machine. Without them, the same source gives the same bytes.
        extra_compile_args=["-std=c11", "-O2", "-fvisibility=hidden", "-g0"],
        py_limited_api=not FREE_THREADED,
    )
    return Path(ffi.compile(tmpdir=str(directory)))


class BuildHook(BuildHookInterface[Any]):
    """A build hook that adds the native modules to hatchling's build."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the modules: inside the tree for an editable install, outside the tree for a wheel."""
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        version_tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
        build_data["pure_python"] = False
        build_data["tag"] = f"{version_tag}-{version_tag}t-{platform}" if FREE_THREADED else f"cp311-abi3-{platform}"
        # Both kinds of build compile outside the tree. A wheel takes the results from there.
        self.scratch = tempfile.TemporaryDirectory(prefix="aiorbd-build-")
        for built in (write_declared(Path(self.scratch.name)), compile_bridge(Path(self.scratch.name))):
            target = Path("aiorbd/_native") / built.name
            if version == "editable":
                # Write beside the old file, and then replace it. Processes that have the old file mapped keep it.
                new = Path(self.root) / f"{target}.new"
                new.write_bytes(built.read_bytes())
                new.replace(Path(self.root) / target)
            else:
                build_data["force_include"][str(built)] = str(target)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary directory of the build."""
        self.scratch.cleanup()
