"""Read the C declarations: the plain text under ``librados/`` and ``librbd/``. No other code reads these files."""

import re
from pathlib import Path

HERE = Path(__file__).parent

#: The files that come first, because other files need them. The other files follow by name.
FIRST = {"librados": ("platform", "types"), "librbd": ("types",)}

_SINCE = re.compile(r"/\* since (\d+\.\d+) \*/")
_PROTOTYPE = re.compile(r"^\w[\w *]*?\b((?:rbd|rados)_\w+)\(", re.MULTILINE)


def files(library: str) -> list[Path]:
    """Return the declaration files of one library, in the order in which they must be read."""
    first = [HERE / library / f"{name}.h" for name in FIRST[library]]
    return first + sorted(set((HERE / library).glob("*.h")) - set(first))


def text() -> str:
    """Return all declarations as one text for cffi."""
    return "\n".join(path.read_text() for library in FIRST for path in files(library))


def since(library: str) -> dict[str, str]:
    """Return every function of a library, with the Ceph release that introduced the function."""
    table: dict[str, str] = {}
    for path in files(library):
        # With one group, split() returns the text before the first marker, and then release, text, release, text.
        before, *blocks = _SINCE.split(path.read_text())
        if stray := _PROTOTYPE.search(before):
            raise ValueError(f"{path.name}: {stray[1]} stands above the first 'since'")
        for release, block in zip(blocks[::2], blocks[1::2], strict=True):
            table.update(dict.fromkeys(_PROTOTYPE.findall(block), release))
    return table
