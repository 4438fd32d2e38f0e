"""The possible sizes of an image, now and during an operation."""

from collections.abc import Iterator
from contextlib import contextmanager


class Sizes:
    """The possible sizes in units: more than one while the size is not known."""

    def __init__(self, *sizes: int) -> None:
        self.now = set(sizes)
        self._meanwhile: list[set[int]] = []

    @property
    def known(self) -> int | None:
        """Return the size if only one is possible."""
        return next(iter(self.now)) if len(self.now) == 1 else None

    def become(self, *sizes: int) -> None:
        """Replace the possible sizes."""
        self.now = set(sizes)
        for seen in self._meanwhile:
            seen.update(sizes)

    @contextmanager
    def meanwhile(self) -> Iterator[set[int]]:
        """Yield the sizes that were possible at any time since the block began."""
        seen = set(self.now)
        self._meanwhile.append(seen)
        try:
            yield seen
        finally:
            self._meanwhile = [other for other in self._meanwhile if other is not seen]
