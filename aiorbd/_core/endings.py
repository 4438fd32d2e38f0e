"""The time limit for closing, which consecutive blocks of one connection share."""

from typing import TYPE_CHECKING, Final
from weakref import WeakSet

if TYPE_CHECKING:
    from aiorbd._core.lifecycle import Lifecycle

#: The time that all blocks share after an overdue block, as a fraction of their `close_timeout`.
_REST: Final = 0.25

#: The least time in seconds for each of these blocks. On a live cluster, a close takes some milliseconds.
_LEAST: Final = 0.05


class Endings:
    """The time that an ``async with`` block may take to close its handle.

    The first handle that a dead cluster delays has its whole `close_timeout`. Until that handle is closed, all other
    handles share a quarter of their `close_timeout`. So leaving many blocks takes little longer than leaving one block.
    """

    def __init__(self) -> None:
        self._overdue: WeakSet[Lifecycle] = WeakSet()
        self._rest = 0.0

    def allowance(self, timeout: float) -> float:
        """Return the time in seconds that a block has to close its handle."""
        if any(handle.is_open_or_closing for handle in self._overdue):
            return min(timeout, max(_LEAST, self._rest))
        self._overdue.clear()
        return timeout

    def took(self, seconds: float) -> None:
        """Subtract a block's time from the time that all blocks share."""
        self._rest -= seconds

    def overdue(self, handle: "Lifecycle", timeout: float) -> None:
        """Note that a handle was not closed within its time limit."""
        if not self._overdue:
            self._rest = _REST * timeout
        self._overdue.add(handle)
