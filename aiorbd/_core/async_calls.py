"""Asynchronous calls that a worker thread submits. Their completions reach the event loop like all others.

librbd needs milliseconds to submit an open or a close. librados limits a client's requests in flight, and a submit
beyond the limit blocks. Requests to librados can be cancelled.
"""

import errno
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from aiorbd._core.operation import Job
from aiorbd._native import loader
from aiorbd.error_codes import error_for
from aiorbd.errors import Target

if TYPE_CHECKING:
    from aiorbd._core.lifecycle import Lifecycle


class RbdAioCall(Job[int]):
    """An asynchronous librbd call that takes long to submit. `result` is librbd's return value.

    Args:
        owner: The handle of the image.
        name: The C function.
        submit: Takes the token and returns 0 if a record will come. Runs on the worker thread.
        keep: Out-parameters.
        then: Called on the event loop after the completion or the refusal, even if no task waits any more.
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
        """Submit the call, and return whether the job has ended. Runs on the worker thread.

        A job has ended if it was abandoned before it began, or if the submit was refused. Otherwise the completion's
        record ends the job.
        """
        if self.abandoned:
            return True
        self.begun = True
        self.refused = False  # set before the submit: the record may arrive before the submit returns
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
        """Return librbd's negative result as an error, or None."""
        return error_for(self.result, self.name, self.on) if self.result < 0 else None

    def keep_result(self) -> None:
        """Store librbd's return value, unless the submit was refused. Runs on the event loop."""
        if not self.refused:
            self.result = self.value or 0

    def finish(self) -> None:
        """Store librbd's return value, and call `then`."""
        super().finish()
        self.keep_result()
        if self._then is not None:
            self._then(self)


class RadosAioCall(Job[int]):
    """A call of a ``rados_aio_...`` function. `result` is the completion's return value.

    Args:
        owner: The handle of the I/O context or cluster.
        name: The C function.
        submit: Takes a ``rados_completion_t`` and returns librados's return value. Runs on the worker thread.
        keep: Buffers and out-parameters.
        on: The target that errors name.
        cancel: Takes the completion and cancels the submitted request. None if the request cannot be cancelled.
        ended: Called on the event loop with the completion's return value, even if no task waits any more.
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
        """Submit the request, and return whether the job has ended. Runs on the worker thread.

        A job has ended if it was abandoned before it began, or if there is no memory for a completion. Otherwise the
        completion's record ends the job.
        """
        if self.abandoned:
            return True
        self.begun = True
        lib, bridge_ffi = loader.bridge(), loader.bridge_ffi
        try:
            completion = lib.aiorbd_completion_new(self.owner.bridge.queue, self.token)
            if not completion:
                raise MemoryError
            # The completion lives as long as this job, and keeps the bridge's C side alive.
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
        # The job was abandoned meanwhile. `abandon` did not see the pointer, or cancels the request as well. Only the
        # event loop may cancel, because the I/O context may be gone by now.
        if self._late is not None:
            lib.aiorbd_bridge_post(self._queue, self._late, 0)
        return False

    def _take_back(self) -> None:
        """Cancel the request if it is still in flight. Runs on the event loop.

        A request in flight keeps its I/O context open.
        """
        if self.value is None and self._pointer is not None and self._cancel is not None:
            self._cancel(self._pointer)

    def abandon(self) -> None:
        """Cancel the request, if librados can."""
        if self.value is None and self._late is None:
            self._late = self.owner.bridge.listen(self._take_back)
        super().abandon()
        self._take_back()

    def refusal(self) -> BaseException | None:
        """Return the completion's negative return value as an error, or None."""
        return error_for(self.result, self.name, self.on) if self.result < 0 else None

    def finish(self) -> None:
        """Store the completion's return value, and call `ended`."""
        super().finish()
        if self._late is not None:
            self.owner.bridge.unlisten(self._late)
        self.owner.wake_waiters()
        self.result = self.value or 0
        if self._on_value is not None and self._completion is not None:
            self._on_value(self.result)
