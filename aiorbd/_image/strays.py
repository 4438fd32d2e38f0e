"""Cancelled writes that librbd still has: none of them may land on top of a later write.

librbd keeps no order among writes in flight. Of two writes to one place that are submitted one after the other, the
first lands last in up to a tenth of the cases, with Ceph's own bindings as well. Writes that a program has in flight
together are unordered, and so the program's affair. A cancelled write is not: its task believes that it is gone, and
may write anew at once. That later write waits until librbd is done with the cancelled one, if both overlap.
"""

from collections.abc import Callable
from typing import NamedTuple


class _Stray(NamedTuple):
    begin: int
    end: int
    is_over: Callable[[], bool]


class Strays:
    """The cancelled writes of one open image."""

    def __init__(self) -> None:
        self._strays: list[_Stray] = []

    def add(self, offset: int, length: int, is_over: Callable[[], bool]) -> None:
        """Note a write that was cancelled; `is_over` tells whether librbd is done with it."""
        self._prune()  # what is over holds its buffer no longer
        self._strays.append(_Stray(offset, offset + length, is_over))

    def __bool__(self) -> bool:
        """Whether librbd still has any."""
        self._prune()
        return bool(self._strays)

    def _prune(self) -> None:
        self._strays = [stray for stray in self._strays if not stray.is_over()]

    def overlap(self, offset: int, length: int) -> bool:
        """Tell whether librbd still has one that overlaps a range."""
        return any(
            stray.begin < offset + length and offset < stray.end and not stray.is_over() for stray in self._strays
        )
