"""One bound for the endings of a connection: blocks that are left one after the other share it."""

from typing import TYPE_CHECKING, Final
from weakref import WeakSet

if TYPE_CHECKING:
    from aiorbd._core.lifecycle import Lifecycle

#: What the blocks that are left after an overdue one have together, as a part of their `close_timeout`.
_REST: Final = 0.25

#: Seconds that each of them has at least: closing takes some milliseconds where the cluster is alive.
_LEAST: Final = 0.05


class Endings:
    """How long a block may take to close what it opened.

    The first handle that a dead cluster holds up has its whole `close_timeout`. Until that handle is closed, all the
    others share a quarter of theirs, so that leaving many blocks takes little longer than leaving one.
    """

    def __init__(self) -> None:
        self._overdue: WeakSet[Lifecycle] = WeakSet()
        self._rest = 0.0

    def allowance(self, timeout: float) -> float:
        """Return the seconds that a block has to close what it opened."""
        if any(handle.is_open_or_closing for handle in self._overdue):
            return min(timeout, max(_LEAST, self._rest))
        self._overdue.clear()
        return timeout

    def took(self, seconds: float) -> None:
        """Take the time of a block from the rest that all blocks share."""
        self._rest -= seconds

    def overdue(self, handle: "Lifecycle", timeout: float) -> None:
        """Note that a handle was not closed within its bound."""
        if not self._overdue:
            self._rest = _REST * timeout
        self._overdue.add(handle)
