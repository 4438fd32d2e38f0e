"""What the size of an image may be, and what it was meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager


class Sizes:
    """What the size may be, in units: more than one while it is not known."""

    def __init__(self, *sizes: int) -> None:
        self.now = set(sizes)
        self._meanwhile: list[set[int]] = []

    @property
    def known(self) -> int | None:
        """The size, when there is but one that it may be."""
        return next(iter(self.now)) if len(self.now) == 1 else None

    def become(self, *sizes: int) -> None:
        """From now on it is one of these."""
        self.now = set(sizes)
        for seen in self._meanwhile:
            seen.update(sizes)

    @contextmanager
    def meanwhile(self) -> Iterator[set[int]]:
        """Give the sizes that the image may have had since the block began."""
        seen = set(self.now)
        self._meanwhile.append(seen)
        try:
            yield seen
        finally:
            self._meanwhile = [other for other in self._meanwhile if other is not seen]
