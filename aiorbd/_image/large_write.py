"""One write whose data is too large to be copied on the event loop's thread."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from aiorbd._core.async_calls import RbdAioCall
from aiorbd.errors import Target

if TYPE_CHECKING:
    from aiorbd._image.handle import ImageHandle


class LargeWrite(RbdAioCall):
    """One write whose data librbd copies on a worker thread: the event loop would be late by the copy."""

    __slots__ = ("_range",)
    counted_here: bool = False  # the bridge counts it
    moves_data: bool = True

    def __init__(
        self,
        owner: "ImageHandle",
        name: str,
        submit: Callable[[int], int],
        keep: object,
        on: Target,
        extent: tuple[int, int],
    ) -> None:
        super().__init__(owner, name, submit, keep, on=on, group=("copies", owner.group))
        self._range = extent

    def settle(self) -> None:
        """Tell the observers, unless it is to be submitted again."""
        super().settle()
        if self.note is not None and self.begun and (self.refused, self.result > 0) != (True, True):
            self.note.tell(self.owner.bridge.observers, self.outcome(), abandoned=self.abandoned)

    def abandon(self) -> None:
        """Note that librbd may still have it."""
        super().abandon()
        handle: ImageHandle = self.owner  # type: ignore[assignment]  # it was made by one
        handle.add_stray(*self._range, lambda: self.over)

    @property
    def over(self) -> bool:
        """Whether librbd is done with it, or never had it."""
        return self.value is not None

    @property
    def length(self) -> int:
        """How many bytes it writes."""
        return self._range[1]
