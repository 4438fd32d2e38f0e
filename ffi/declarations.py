"""The one reader of the C declarations: the plain text under ``librados/`` and ``librbd/``."""

import re
from pathlib import Path

HERE = Path(__file__).parent

#: Files that others build on come first; the rest is joined by name.
FIRST = {"librados": ("platform", "types"), "librbd": ("types",)}

_SINCE = re.compile(r"/\* since (\d+\.\d+) \*/")
_PROTOTYPE = re.compile(r"^\w[\w *]*?\b((?:rbd|rados)_\w+)\(", re.MULTILINE)


def files(library: str) -> list[Path]:
    """The declaration files of one library, in the order they must be read."""
    first = [HERE / library / f"{name}.h" for name in FIRST[library]]
    return first + sorted(set((HERE / library).glob("*.h")) - set(first))


def text() -> str:
    """Everything, as cffi reads it."""
    return "\n".join(path.read_text() for library in FIRST for path in files(library))


def since(library: str) -> dict[str, str]:
    """Every function of a library with the Ceph release that brought it."""
    table: dict[str, str] = {}
    for path in files(library):
        # split() with one group: text before the first marker, then release, text, release, text.
        before, *blocks = _SINCE.split(path.read_text())
        if stray := _PROTOTYPE.search(before):
            raise ValueError(f"{path.name}: {stray[1]} stands above the first 'since'")
        for release, block in zip(blocks[::2], blocks[1::2], strict=True):
            table.update(dict.fromkeys(_PROTOTYPE.findall(block), release))
    return table
