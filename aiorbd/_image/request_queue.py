"""Submit the reads and writes of one stream or writer.

librbd has a bounded number of the requests. The other requests wait in C (``lane.c``).
"""

import errno
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from aiorbd._core.observers import Note
from aiorbd._core.operation import Operation
from aiorbd._image.handle import ImageHandle
from aiorbd._image.large_write import LargeWrite
from aiorbd._image.requests import LARGEST_COPY
from aiorbd._native.loader import bridge_ffi
from aiorbd._native.requests import FUNCTIONS, READ, STALE, STALE_BY_NOW, WRITE
from aiorbd.errors import RbdError

#: The event loop wakes up when this fraction of the depth has completed, and not for each request.
_BULK: Final = 0.5

#: The seconds for which a completed request may wait for more requests to complete.
_PATIENCE: Final = 0.005


def _nothing() -> None:
    """Notify no owner, because the queue was abandoned."""


class Request(Operation):
    """One read or write. The operation table holds a request while C has the request.

    Attributes:
        number: The request's place in the table; 0 before C received the request.
        error: The error of the request, if librbd did not report the error through `value`.
        job: The worker thread's job for a large write.
        lent: The user's buffer of a write.
    """

    __slots__ = ("buffer", "error", "job", "kind", "length", "lent", "note", "offset", "op_flags", "queue")

    def __init__(self, queue: "RequestQueue", kind: int, offset: int, length: int, op_flags: int) -> None:
        self.owner = queue.handle
        self.queue = queue
        self.kind = kind
        self.offset = offset
        self.length = length
        self.op_flags = op_flags
        self.buffer: Any = None
        self.error: Exception | None = None
        self.job: LargeWrite | None = None
        self.lent: Any = None
        self.note: Note | None = None

    @property
    def is_over(self) -> bool:
        """Whether the request has completed, or will never reach librbd."""
        return self.value is not None or self.error is not None

    @property
    def is_taken(self) -> bool:
        """Whether C, or a worker thread, has or had the request."""
        return bool(self.number) or self.job is not None

    def settle(self) -> None:
        """Tell the queue that C is done with the request."""
        self.queue.ended(self)

    def settle_again(self) -> None:
        """Repeat `settle` after an interrupt. Each of its steps can be repeated."""
        self.queue.ended(self)

    def pending(self) -> Callable[[], int]:
        """Return a function that tells whether the current submit is still pending."""
        number = self.number
        return lambda: self.value is None and self.number == number

    def abandon(self) -> None:
        """Note that no task wants the result. Runs on the event loop."""
        super().abandon()
        if self.job is not None:
            self.job.abandon()
        elif self.kind != READ and self.number and self.value is None:
            self.queue.handle.requests.add_stray(self.offset, self.length, lambda: self.value is not None)


class RequestQueue:
    """The requests of one stream or writer. C gives librbd at most `depth` of them at a time.

    Use the queue on the event loop only, except `cancel`. A signal handler may raise anywhere in this class. Each step
    can be repeated, so no request is lost or submitted twice.

    Attributes:
        running: The requests that C or a worker thread has.
        stale: The requests that were refused because the image changed: see `submit_stale`.
        over: The completed and failed requests, in the order of their ends, for the owner to remove. Empty if
            `collects` is false.
    """

    def __init__(self, handle: ImageHandle, depth: int, notify: Callable[[], object], *, collects: bool = True) -> None:
        """Create a queue. `notify` is called on the event loop when a request completes, fails or becomes stale."""
        self.handle: Final = handle
        self.running: set[Request] = set()
        self.stale: deque[Request] = deque()
        self.over: dict[Request, None] = {}
        self._notify = notify
        self._collects = collects
        self._abandoned = False
        self._lib = lib = handle.lib
        bulk = max(1, int(depth * _BULK))
        self._in_bulk = bulk > 1
        self._alarmed = False
        lane = lib.aiorbd_lane_new(handle.native, depth, bulk)
        if not lane:
            raise MemoryError
        self._lane: Any = bridge_ffi.gc(lane, lib.aiorbd_lane_release)
        self._address = int(bridge_ffi.cast("uintptr_t", lane))

    def __len__(self) -> int:
        """Return the number of unfinished requests."""
        return len(self.running) + len(self.stale)

    def unfinished(self) -> set[Request]:
        """Return the unfinished requests."""
        return {*self.running, *self.stale}

    def add(self, request: Request) -> None:
        """Submit a request. If the request is refused, keep it for `submit_stale`, or set its error."""
        code = self.submit(request)
        if code > 0:
            self.stale.append(request)
        elif code < 0:
            self._fail(
                request, self.handle.requests.error(code, FUNCTIONS[request.kind], request.offset, request.length)
            )

    def submit(self, request: Request) -> int:
        """Submit a request. Return 0, `STALE` if the image size is not known, or librbd's error code."""
        if request.kind == WRITE and request.length > LARGEST_COPY:
            self._submit_on_thread(request)
            return 0
        bridge = self.handle.bridge
        if bridge.observers and request.note is None:
            offset, length = request.offset, request.length
            about = self.handle.requests.describe(offset, length)
            request.note = Note(bridge.observers, FUNCTIONS[request.kind], about, self.handle, offset, length)
        try:
            self.running.add(request)
            return bridge.submit(
                request,
                request.kind,
                request.offset,
                request.length,
                request.buffer,
                request.op_flags,
                0,
                self._address,
            )
        finally:
            if not request.number:
                self.running.discard(request)

    def _submit_on_thread(self, request: Request) -> None:
        """Let a worker thread submit a large write: librbd copies the data in the submit."""
        operations = self.handle.bridge.operations
        try:
            self.running.add(request)
            request.job = job = self.handle.requests.large_write(
                request.kind,
                request.offset,
                request.length,
                None,
                request.buffer,
                request.op_flags,
                0,
                lane=self._lane,
                then=lambda job: self._copied(request, job),
            )
            job.note = request.note
            self.handle.bridge.start(job)
        except BaseException:
            if request.job is None or request.job.token not in operations:  # no thread has the job
                request.job = None
                self.running.discard(request)
            raise

    def _copied(self, request: Request, job: LargeWrite) -> None:
        """Handle a large write that completed or was refused. Runs on the event loop, twice after an interrupt."""
        if request.job is job:
            request.note = job.note
            if job.error is not None:
                request.error = job.error if isinstance(job.error, Exception) else RuntimeError(str(job.error))
            elif not job.begun or (job.refused and job.result > 0):
                request.value = STALE_BY_NOW
            else:
                request.value = job.result
            request.job = None
        self.ended(request)

    def ended(self, request: Request) -> None:
        """Handle a request that C is done with, or did not submit because the image changed. Runs on the event loop.

        An interrupt may come after each call in here, tasks may run, and then this method runs again.
        """
        value = request.value
        if value == STALE_BY_NOW and not self._abandoned:
            request.number = 0
            request.value = None
            self.stale.append(request)
            self.running.discard(request)
        elif request in self.running and request.is_over:
            if self._collects and not self._abandoned:
                self.over[request] = None
            self.running.discard(request)
        elif not request.is_taken:  # the interrupt came after the first line of stale requests
            self.running.discard(request)
        if request.note is not None and value is not None and (value != STALE_BY_NOW or self._abandoned):
            # A dropped request whose image has changed is not submitted again.
            result = value if value != STALE_BY_NOW else -errno.ECANCELED
            request.note.tell_result(result, abandoned=request.abandoned)
        if self._abandoned:
            return
        self._notify()
        if self._in_bulk and not self._alarmed and self.running:
            self._lib.aiorbd_lane_wait(self._lane)
            self.handle.bridge.loop.later(_PATIENCE, self._hurry)
            self._alarmed = True

    def _hurry(self) -> None:
        """Report the completed requests now, without waiting for more requests to complete."""
        self._alarmed = False
        if not self.handle.bridge.forked and self.handle.native is not None:
            self._lib.aiorbd_lane_hurry(self._lane)

    def _fail(self, request: Request, error: Exception) -> None:
        """End a request with an error that does not come from librbd."""
        request.error = error
        if request.note is not None:
            request.note.tell(error, abandoned=False)
        if self._collects:
            self.over[request] = None
        self._notify()

    async def submit_stale(self) -> None:
        """Submit the stale requests again, as soon as the image size is known."""
        handle, stale = self.handle, self.stale
        while stale:
            request, function = stale[0], FUNCTIONS[stale[0].kind]
            try:
                if not (request.is_taken or request.is_over) and self._lib.aiorbd_image_is_stale(handle.native):
                    await handle.requests.refused(STALE, function, request.offset, request.length)
                if not (request.is_taken or request.is_over):
                    await handle.requests.check_range(function, request.offset, request.length, largest=None)
                while stale and stale[0] is request and not (request.is_taken or request.is_over):
                    if code := self.submit(request):
                        await handle.requests.refused(code, function, request.offset, request.length)
            except RbdError as error:
                self._fail(request, error)
            if stale and stale[0] is request:
                del stale[0]

    def fail_stale(self, error: Exception) -> None:
        """End the stale requests with an error, because they cannot be submitted."""
        while self.stale:
            if not (self.stale[0].is_taken or self.stale[0].is_over):
                self._fail(self.stale[0], error)
            del self.stale[0]

    def cancel(self) -> None:
        """Drop the requests that librbd has not received. Any thread may call this."""
        # A running request keeps this queue reachable. Without a running request, the garbage collector may already
        # have freed the lane.
        if self.running:
            self._lib.aiorbd_lane_cancel(self._lane)

    def abandon(self) -> None:
        """Drop all results, and the requests that librbd has not received."""
        self._abandoned = True
        self._notify = _nothing  # drops the reference to the owner too, and so breaks the reference cycle
        self.over.clear()
        for request in self.stale:
            if request.note is not None:
                request.note.tell_result(-errno.ECANCELED, abandoned=True)
        self.stale.clear()
        for request in tuple(self.running):
            request.abandon()
        self.cancel()
