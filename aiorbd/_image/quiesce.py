"""Answer the requests to quiesce, which clients send before they take a snapshot."""

import errno
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from anyio.lowlevel import checkpoint

from aiorbd._core.handle import Handle
from aiorbd._core.operation import BackgroundJob
from aiorbd._image.gate import mode_of
from aiorbd._native.loader import bridge_ffi, ffi, function_of_bridge, rbd
from aiorbd._native.marshal import invalid, number, seconds
from aiorbd.errors import OperationNotSupported, Target, UsageError

if TYPE_CHECKING:
    from aiorbd._image.handle import ImageHandle


logger = logging.getLogger("aiorbd")

#: The answer of a watch that is closed. Not ESHUTDOWN, which tells the other client that it is blocklisted.
_CLOSED: Final = -errno.ECANCELED


class QuiesceHandle(Handle):
    """librbd's watch for quiesce requests on one open image.

    The watch begins with the first `QuiesceWatch`, and lasts until the image closes. If a watch begins while another
    client takes a snapshot, librbd 16.2 aborts the process. So a watch must not begin more often than needed. Without a
    `QuiesceWatch`, each request succeeds at once.
    """

    closes_with = "rbd_quiesce_unwatch"

    def __init__(self, image: "ImageHandle") -> None:
        super().__init__(image.bridge, image, Target("image", f"quiesce watch of {image.target}"))
        self.image: ImageHandle = image
        #: The open `QuiesceWatch`, unless the program has forgotten it.
        self.watch: Callable[[], QuiesceWatch | None] = _no_watch
        #: The number of requests whose end librbd has reported.
        self.ends: int = 0
        self._seen = 0
        self._stops = False
        self._token = image.bridge.listen(self.news)
        self._counts = bridge_ffi.new("uint64_t[]", 2)
        self._native = image.lib.aiorbd_quiesce_new(image.bridge.queue, self._token)
        if not self._native:
            image.bridge.unlisten(self._token)
            raise MemoryError

    def require_place(self, operation: str) -> None:
        """Raise if the pool was deleted. Any thread may call this."""
        self.image.require_place(operation)

    async def open(self) -> None:
        """Start the watch."""
        image, watch = self.image, ffi.new("uint64_t *")
        quiesce, unquiesce = (
            function_of_bridge(name, "rbd_update_callback_t") for name in ("aiorbd_on_quiesce", "aiorbd_on_unquiesce")
        )
        argument = ffi.cast("void *", int(bridge_ffi.cast("uintptr_t", self._native)))

        def call() -> None:
            code = rbd().rbd_quiesce_watch(image.pointer, quiesce, unquiesce, argument, watch)
            self.raise_for(code, "rbd_quiesce_watch")
            self.take(watch[0])

        await self.run("rbd_quiesce_watch", call, also=[image])

    def news(self) -> None:
        """Take the new requests and ends. Runs on the event loop.

        An answer needs librbd's number of the watch. So requests wait until the number is known.
        """
        if self.pointer is None:
            return
        self.image.lib.aiorbd_quiesce_read(self._native, self._counts)
        requests, self.ends = self._counts[0], self._counts[1]
        while self._seen < requests:
            self._seen += 1
            watch = self.watch()
            if watch is not None and self.usable:
                self._start(watch._add(self._seen))
            else:
                self.answer(0)
        self.wake_waiters()

    def _start(self, request: "QuiesceRequest") -> None:
        """Let a worker thread wait for the answer, and give it to librbd."""
        try:
            self.bridge.start(BackgroundJob(self, "rbd_quiesce_complete", request._give_answer, lambda _: None))
        except RuntimeError:  # no thread can start
            request._decide(-errno.EAGAIN)
            request._give_answer()

    def answer(self, code: int) -> None:
        """Give librbd the answer to the present request. librbd does not wait. Any thread may call this."""
        rbd().rbd_quiesce_complete(self.image.pointer, self.pointer, code)

    def begin_close(self) -> None:
        """Answer the requests that wait, and begin to close."""
        watch = self.watch()
        if watch is not None:
            watch._end()
        super().begin_close()

    async def enter(self, function: str) -> Callable[[], None] | None:
        """Wait until no call of this connection takes a snapshot of the image."""
        return await self.image.pass_gate(mode_of(function))

    def shut(self) -> None:
        """Stop the watch on a worker thread, between two requests.

        If the watch stops before librbd has reported the end of a request, librbd 16.2 answers no further request, and
        the close of the image never returns.
        """
        if self.pointer is None:
            self._gone(0)
        else:
            self.news()  # what came before the end of a cancelled `open`
            self._stops = True
            self._stop_if_quiet()

    def wake_waiters(self) -> None:
        """Wake the waiting tasks, and stop the watch if it has to stop and may stop now."""
        super().wake_waiters()
        self._stop_if_quiet()

    def _stop_if_quiet(self) -> None:
        gate = self.image.gate
        if not self._stops or self.ends < self._seen or gate is None:
            return
        leave = gate.enter_if_free(self, mode_of("rbd_quiesce_unwatch"))
        if leave is None:  # a snapshot is being taken: the gate wakes this handle when the snapshot is complete
            return
        self._stops = False
        gate.forget(self)

        def then(code: int) -> None:
            leave()
            self._gone(code)

        try:
            self.bridge.start_background(self, "rbd_quiesce_unwatch", self._unwatch, then)
        except RuntimeError:  # no thread can start: the next call of `close` tries again
            leave()
            self.shut_failed()
            logger.warning("cannot start a thread that closes %s", self.target)

    def _unwatch(self) -> int:
        code: int = rbd().rbd_quiesce_unwatch(self.image.pointer, self.pointer)
        return code

    def _gone(self, code: int) -> None:
        self.bridge.unlisten(self._token)
        self.image.lib.aiorbd_quiesce_release(self._native)
        self.closed(code, "rbd_quiesce_unwatch")


class QuiesceRequest:
    """A request to quiesce, from a client that is about to take a snapshot.

    Stop the writes, and then call `complete`; or call `fail`. Without an answer, the request fails after the `timeout`
    of the watch. After the answer, `released` waits until the writes may continue.

    The snapshot contains all writes that have returned. The other client may hold the exclusive lock already. Then a
    write or flush of this client waits until the request has ended. So flush before `complete` only if the image lacks
    the feature ``EXCLUSIVE_LOCK``.
    """

    def __init__(self, handle: QuiesceHandle, request_number: int, timeout: float | None) -> None:
        """Private."""
        self._handle = handle
        self._number = request_number
        self._timeout = timeout
        self._decided = threading.Event()
        self._code: int | None = None

    def __repr__(self) -> str:
        state = "open" if self._code is None else "completed" if not self._code else "failed"
        return f"<aiorbd.QuiesceRequest {self._number}: {self._handle.image.target}, {state}>"

    @property
    def answered(self) -> bool:
        """Whether the request has its answer: from the program, or because the time was over."""
        return self._code is not None

    async def complete(self) -> None:
        """Report success: the writes have stopped. The other client then takes the snapshot.

        Raises:
            UsageError: The request has its answer already, for example because the time was over.

        Implements: rbd_quiesce_complete
        """
        await self._reply(0)

    async def fail(self, error_number: int = errno.EBUSY) -> None:
        """Report an error. The other client takes no snapshot, unless it ignores such errors.

        Args:
            error_number: The errno for the other client.

        Raises:
            InvalidArgument: `error_number` is not between 1 and 4095, or is ESHUTDOWN. That errno would tell the other
                client that it is blocklisted.
            UsageError: The request has its answer already.

        Implements: rbd_quiesce_complete
        """
        function: Final = "rbd_quiesce_complete"
        code = number(error_number, "error number", function, self._handle.target, bits=12)
        if code in (0, errno.ESHUTDOWN):
            raise invalid(f"error number {code} cannot be the answer", function, self._handle.target)
        await self._reply(-code)

    async def released(self) -> None:
        """Wait until the snapshot is taken or was given up, or the image is closed: the writes may continue.

        Raises:
            ClosedError: The image was closed before the call.
        """
        handle = self._handle
        handle.check()
        await handle.wait_until(lambda: handle.ends >= self._number or not handle.usable, None)
        await checkpoint()

    async def _reply(self, code: int) -> None:
        self._handle.check()
        await checkpoint()
        if not self._decide(code):
            raise UsageError(f"{self!r} has its answer already")

    def _decide(self, code: int) -> bool:
        """Choose the answer, and let the worker thread give it to librbd. Any thread may call this."""
        with _deciding:
            if self._code is not None:
                return False
            self._code = code
        self._decided.set()
        return True

    def _give_answer(self) -> int:
        """Wait for the answer until the time is over, and give it to librbd. Runs on a worker thread."""
        if not self._decided.wait(self._timeout):
            self._decide(-errno.ETIMEDOUT)
        assert self._code is not None
        self._handle.answer(self._code)
        return 0


#: Held while one of two threads chooses the answer to a request.
_deciding = threading.Lock()


def _no_watch() -> "QuiesceWatch | None":
    """Return None: no `QuiesceWatch` is open."""
    return None


class QuiesceWatch:
    """The requests to quiesce, made by `Image.quiesce_watch`. Iterate with ``async for``.

    A client, which may be this one, waits for the answer before it takes a snapshot, but no longer than its own librbd
    allows. If no task answers a request, the request fails after the `timeout` of the watch. After the watch is closed,
    requests succeed at once.
    """

    def __init__(self, handle: QuiesceHandle, timeout: float | None) -> None:
        """Private: use `Image.quiesce_watch`."""
        self._handle = handle
        self._timeout = timeout
        self._source = handle.new_source(endless=True)
        self._requests: deque[QuiesceRequest] = deque()  # those that no task has taken yet
        self._given: weakref.WeakSet[QuiesceRequest] = weakref.WeakSet()
        handle.watch = weakref.ref(self)

    def __repr__(self) -> str:
        return f"<aiorbd.QuiesceWatch: {self._handle.image.target}, {'closed' if self._source.ended else 'open'}>"

    def _add(self, request_number: int) -> QuiesceRequest:
        request = QuiesceRequest(self._handle, request_number, self._timeout)
        self._given.add(request)
        self._requests.append(request)
        self._source.notify()
        return request

    def _end(self) -> None:
        """Stop the iteration, and answer the requests that wait."""
        if self._handle.watch() is self:
            self._handle.watch = _no_watch
        for request in tuple(self._given):
            request._decide(_CLOSED)
        self._source.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> QuiesceRequest:
        source = self._source
        self._handle.check_loop()
        await checkpoint()
        while not self._requests and not source.ended:
            await source.wait()
        if source.error is not None:
            raise source.error
        if source.ended:
            raise StopAsyncIteration
        return self._requests.popleft()

    async def aclose(self) -> None:
        """Stop the iteration. Requests without an answer fail (ECANCELED), and later ones succeed at once."""
        self._end()
        await checkpoint()

    #: `close` is another name of `aclose`.
    close = aclose

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()


async def open_quiesce_watch(image: "ImageHandle", timeout: float | None) -> QuiesceWatch:
    """Listen for quiesce requests: see `Image.quiesce_watch`."""
    image.check()
    if timeout is not None:
        timeout = min(seconds(timeout, "timeout", "rbd_quiesce_watch", image.target), threading.TIMEOUT_MAX)
    if image.image_size.may_refuse_writes:
        message = "Ceph sends no requests to a client that has the image open for reading only"
        raise OperationNotSupported(errno.EOPNOTSUPP, message, "rbd_quiesce_watch", str(image.target))
    async with image.starting_quiesce:  # only one task starts librbd's watch
        if image.quiesce is None:
            handle = QuiesceHandle(image)
            try:
                await handle.open()
            except BaseException:
                handle.begin_close()
                raise
            image.quiesce = handle
        if image.quiesce.watch() is not None:
            image.require_place("rbd_quiesce_watch")
            raise UsageError(f"{image.target} has a quiesce watch already: close it first")
        watch = QuiesceWatch(image.quiesce, timeout)
        image.quiesce.news()  # what came while librbd's watch began
        return watch
