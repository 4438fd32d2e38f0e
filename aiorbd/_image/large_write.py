"""A write with data that is too large to copy on the event loop's thread."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiorbd._core.async_calls import RbdAioCall
from aiorbd._native.requests import FUNCTIONS, STALE_BY_NOW
from aiorbd.errors import Target

if TYPE_CHECKING:
    from aiorbd._image.handle import ImageHandle


class LargeWrite(RbdAioCall):
    """A write that a worker thread submits, because librbd copies the data during the submit.

    `result` is librbd's return value. If `refused` is true, `result` is the bridge's reason for the refusal.
    """

    __slots__ = ("_range",)
    counted_here: bool = False  # the bridge counts the write
    moves_data: bool = True

    def __init__(
        self,
        owner: "ImageHandle",
        kind: int,
        extent: tuple[int, int],
        submit: Callable[[int], int],
        keep: object,
        then: "Callable[[LargeWrite], object] | None" = None,
    ) -> None:
        on = Target("image", owner.requests.describe(*extent))
        after: Any = then
        super().__init__(owner, FUNCTIONS[kind], submit, keep, then=after, on=on, group=("copies", owner.group))
        self._range = extent

    def finish(self) -> None:
        """Tell the observers, unless the write must be submitted again."""
        self.keep_result()
        again = self.result == STALE_BY_NOW or (self.refused and self.result > 0)
        if self.note is not None and not again:
            self.note.tell(self.outcome(), abandoned=self.abandoned)
        super().finish()

    def settle_again(self) -> None:
        """Hand the result over again, after an interrupt in `settle`."""
        self.keep_result()
        if self._then is not None:
            self._then(self)

    def abandon(self) -> None:
        """Note that the cancelled write may still be in flight."""
        super().abandon()
        handle: ImageHandle = self.owner  # type: ignore[assignment]  # an `ImageHandle` created this write
        handle.requests.add_stray(*self._range, lambda: self.value is not None)

    @property
    def offset(self) -> int:
        """Where this write begins in the image."""
        return self._range[0]

    @property
    def length(self) -> int:
        """The number of bytes that this write contains."""
        return self._range[1]
