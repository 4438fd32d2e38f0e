"""Long blocking calls that report progress and that can be asked to stop."""

import logging
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from aiorbd._core.operation import Job
from aiorbd._native import loader
from aiorbd.errors import OperationCanceled, Target

if TYPE_CHECKING:
    from aiorbd._core.bridge import Bridge
    from aiorbd._core.lifecycle import Lifecycle

T = TypeVar("T")

logger = logging.getLogger("aiorbd")

#: Called on the event loop with the amount of completed work and the amount of all work.
Progress: TypeAlias = Callable[[int, int], object]


class ProgressJob(Job[T]):
    """A function for a worker thread that passes a progress callback and its argument to C.

    librbd's reports go to a slot of the bridge, and from there to `progress` on the event loop, until the function has
    returned. After a cancellation, or an error in `progress`, the C callback returns -ECANCELED. If librbd completes
    the work all the same, the error is logged, because completed work is not reported as failed.
    """

    __slots__ = (
        "_argument", "_bridge", "_callback", "_numbers", "_progress", "_seen", "_slot", "_stoppable",
        "_token", "failure",
    )  # fmt: skip

    def __init__(
        self,
        owner: "Lifecycle",
        name: str,
        function: Callable[[Any, Any], T],
        progress: Progress | None,
        *,
        on: Target | None = None,
        ended: Callable[[], None] | None = None,
        also: "Iterable[Lifecycle]" = (),
        stoppable: bool = True,
        group: Hashable = None,
    ) -> None:
        super().__init__(
            owner, name, lambda: function(self._callback, self._argument), on=on, also=also, ended=ended, group=group
        )
        bridge: Bridge = owner.bridge
        lib, ffi = loader.bridge(), loader.ffi
        self._bridge = bridge
        self._stoppable = stoppable
        self._progress = progress
        self._seen = (-1, 1)
        self._numbers = loader.bridge_ffi.new("uint64_t[2]")
        #: The error that `progress` raised. The error stops the call, and is raised if the work was not done.
        self.failure: BaseException | None = None
        self._token = bridge.listen(self._report)
        self._slot = lib.aiorbd_progress_new(bridge.queue, self._token)
        if not self._slot:
            bridge.unlisten(self._token)
            self._ended = None  # the call has not begun
            super().let_go()
            raise MemoryError
        self._callback = loader.function_of_bridge("aiorbd_on_progress", "librbd_progress_fn_t")
        self._argument = ffi.cast("void *", self._slot)

    def _report(self) -> None:
        """Pass librbd's latest report on. Runs on the event loop."""
        loader.bridge().aiorbd_progress_read(self._slot, self._numbers)
        done, total = self._numbers
        if done > self._seen[0]:
            self._tell(done, total)

    def _tell(self, done: int, total: int) -> None:
        self._seen = done, total
        if self._progress is None or self.abandoned or self.failure is not None:
            return
        try:
            self._progress(done, total)
        except BaseException as error:  # noqa: BLE001 - raised again by the task that waits, or logged
            self.failure = error
            self._stop()

    def _stop(self) -> None:
        if self._stoppable:
            loader.bridge().aiorbd_progress_stop(self._slot)

    def abandon(self) -> None:
        """Ask librbd to stop, if the call is stoppable."""
        super().abandon()
        if self.value is None:
            self._stop()

    def finish(self) -> None:
        """Combine the errors of `progress` and librbd, and release the slot."""
        if self.failure is not None:
            if self.error is None and isinstance(self.failure, Exception):
                logger.error("%s on %s: progress failed, the work is done", self.name, self.on, exc_info=self.failure)
            elif self.error is None or isinstance(self.error, OperationCanceled):
                self.error = self.failure
            else:  # librbd failed for a reason of its own
                self.error.add_note(f"Before that, progress raised {self.failure!r}.")
        self.let_go()

    def let_go(self) -> None:
        """Release the slot. C never had the slot, or no longer uses the slot."""
        self._bridge.unlisten(self._token)
        loader.bridge().aiorbd_progress_release(self._slot)
        super().let_go()
