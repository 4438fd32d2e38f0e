"""Keep cancelled writes that are still in flight from overwriting later writes.

librbd does not order writes in flight. Of two writes to one place that are submitted one after the other, the first
lands last in up to a tenth of the cases. Ceph's own bindings behave the same way. A program must therefore order its
own overlapping writes.

A cancelled write is different. Its task assumes that the write has ended, and may write again at once. If both writes
overlap, the later write waits until librbd has completed the cancelled write.
"""

from collections.abc import Callable
from typing import NamedTuple


class _Stray(NamedTuple):
    begin: int
    end: int
    is_over: Callable[[], bool]


class Strays:
    """The cancelled writes of one open image that may still be in flight."""

    def __init__(self) -> None:
        self._strays: list[_Stray] = []

    def add(self, offset: int, length: int, is_over: Callable[[], bool]) -> None:
        """Record a cancelled write. `is_over` tells whether librbd has completed the write."""
        self._prune()  # release the buffers of completed writes
        self._strays.append(_Stray(offset, offset + length, is_over))

    def __bool__(self) -> bool:
        """Tell whether a cancelled write is still in flight."""
        self._prune()
        return bool(self._strays)

    def _prune(self) -> None:
        self._strays = [stray for stray in self._strays if not stray.is_over()]

    def overlap(self, offset: int, length: int) -> bool:
        """Tell whether a cancelled write that is still in flight overlaps a range."""
        return any(
            stray.begin < offset + length and offset < stray.end and not stray.is_over() for stray in self._strays
        )
