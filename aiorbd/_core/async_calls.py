"""Asynchronous calls that are submitted on a worker thread. Their completions go the way of all others.

librbd's opening and closing take milliseconds to be submitted. librados bounds how many requests of a client are
on their way, and whoever submits one more waits; these calls can be cancelled.
"""

import errno
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from aiorbd._core.operation import Job
from aiorbd._native import loader
from aiorbd.errors import Target, error_for

if TYPE_CHECKING:
    from aiorbd._core.lifecycle import Lifecycle


class RbdAioCall(Job[int]):
    """One call of librbd's whose submit takes long; `result` is what it returned.

    Args:
        owner: The handle of the image.
        name: The C function.
        submit: Gets the token, on the worker thread; returns 0 when a record will come.
        keep: Out-parameters.
        then: Called on the loop when it is over or was refused, whoever still waits.
    """

    __slots__ = ("_submit", "_then", "refused")
    error: BaseException | None
    result: int

    def __init__(
        self,
        owner: "Lifecycle",
        name: str,
        submit: Callable[[int], int],
        keep: object = None,
        *,
        then: "Callable[[RbdAioCall], None] | None" = None,
        on: Target | None = None,
        group: Hashable = None,
    ) -> None:
        super().__init__(owner, name, lambda: 0, on=on, group=group)
        self.keep = keep
        self.refused: bool = True
        self.result = 0
        self._submit = submit
        self._then = then

    def run(self) -> bool:
        """On the worker thread: submit. It is over when the record comes, except if not begun or refused."""
        if self.abandoned:
            return True
        self.begun = True
        self.refused = False  # before the submit: the record may be faster than its return
        code = 0
        try:
            code = self._submit(self.token)
        except BaseException as error:  # noqa: BLE001 - raised again by the task that waits
            self.error = error
        if not code and self.error is None:
            return False
        self.refused, self.result = True, code
        return True

    def refusal(self) -> BaseException | None:
        """What it returned, as an error."""
        return error_for(self.result, self.name, self.on) if self.result < 0 else None

    def keep_result(self) -> None:
        """On the loop: keep what it returned."""
        if not self.refused:
            self.result = self.value or 0

    def finish(self) -> None:
        """Keep what it returned, and go on."""
        super().finish()
        self.keep_result()
        if self._then is not None:
            self._then(self)


class RadosAioCall(Job[int]):
    """One call of a ``rados_aio_...`` function; `result` is what its completion says.

    Args:
        owner: The handle of the I/O context or cluster.
        name: The C function.
        submit: Gets a ``rados_completion_t``, on the worker thread; returns librados's return value.
        keep: Buffers and out-parameters.
        on: What it is about.
        cancel: Takes back what was submitted, by its completion; None when that is not possible.
        ended: Called on the loop with the completion's value, whoever still waits.
    """

    __slots__ = ("_cancel", "_completion", "_late", "_on_value", "_pointer", "_queue", "_submit")

    def __init__(
        self,
        owner: "Lifecycle",
        name: str,
        submit: Callable[[Any], int],
        keep: object = None,
        *,
        on: Target,
        cancel: Callable[[Any], object] | None = None,
        ended: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__(owner, name, lambda: 0, on=on)
        self.keep = keep
        self._submit = submit
        self._cancel = cancel
        self._on_value = ended
        self._completion: Any = None
        self._pointer: Any = None
        self._late: int | None = None
        self._queue = owner.bridge.queue

    def run(self) -> bool:
        """On the worker thread: submit. It is over when the completion's record comes, except if not begun."""
        if self.abandoned:
            return True
        self.begun = True
        lib, bridge_ffi = loader.bridge(), loader.bridge_ffi
        try:
            completion = lib.aiorbd_completion_new(self.owner.bridge.queue, self.token)
            if not completion:
                raise MemoryError
            # The completion, and with it the bridge's C side, lives as long as this does.
            self._completion = bridge_ffi.gc(completion, lib.aiorbd_completion_release)
            pointer = lib.aiorbd_completion_begin(completion)
        except BaseException as error:  # noqa: BLE001 - raised again by the task that waits
            self.error = error
            return True
        try:
            code = self._submit(pointer)
        except BaseException as error:  # noqa: BLE001 - raised again by the task that waits
            self.error = error
            code = -errno.EINVAL
        if code < 0:
            lib.aiorbd_completion_refused(completion, code)
            return False
        self._pointer = pointer
        # Abandoned meanwhile: `abandon` did not see the pointer, or cancels too. It is for the loop to cancel,
        # since the I/O context may be gone by now.
        if self._late is not None:
            lib.aiorbd_bridge_post(self._queue, self._late, 0)
        return False

    def _take_back(self) -> None:
        """On the loop: cancel it, if it is still running, which keeps its I/O context open."""
        if self.value is None and self._pointer is not None and self._cancel is not None:
            self._cancel(self._pointer)

    def abandon(self) -> None:
        """Cancel it, where librados can."""
        if self.value is None and self._late is None:
            self._late = self.owner.bridge.listen(self._take_back)
        super().abandon()
        self._take_back()

    def refusal(self) -> BaseException | None:
        """What the completion says, as an error."""
        return error_for(self.result, self.name, self.on) if self.result < 0 else None

    def finish(self) -> None:
        """Keep what the completion says."""
        super().finish()
        if self._late is not None:
            self.owner.bridge.unlisten(self._late)
        self.owner.wake_waiters()
        self.result = self.value or 0
        if self._on_value is not None and self._completion is not None:
            self._on_value(self.result)
