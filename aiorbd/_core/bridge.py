"""The operation table of one cluster, and the path from a completion to the waiting task.

All methods run on the event loop's thread, unless their docstrings say otherwise.
"""

import atexit
import ctypes
import errno
import itertools
import logging
import os
import time
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, Any, Self, TypeVar

from aiorbd._core.async_calls import RadosAioCall
from aiorbd._core.loops import Loop
from aiorbd._core.observers import Note, Tally
from aiorbd._core.operation import BackgroundJob, Job, Operation
from aiorbd._core.workers import Workers
from aiorbd._native import loader
from aiorbd._native.requests import FUNCTIONS, READS, WRITE_ZEROES, WRITES
from aiorbd._native.table import Table
from aiorbd.error_codes import error_for
from aiorbd.stats import ClusterStats

if TYPE_CHECKING:
    from aiorbd._core.lifecycle import Lifecycle

T = TypeVar("T")

logger = logging.getLogger("aiorbd")

#: All bridges that have a C side. This set keeps their tables alive while librbd may still write to buffers.
_live: "set[Bridge]" = set()


class Bridge(Table):
    """One completion queue with its operation table, attached to one event loop.

    Attributes:
        operations: The operations in flight, by positive token.
        listeners: The functions that C's recurring events call, by negative token.
        numbers: The source of all tokens.
        observers: The functions to call after each completed call.
        dead: Whether calls must not reach C any more: see `forked` and `lost`.
        forked: Whether this process is a forked child. The connection belongs to the parent process.
        ended: Whether the next drain is the last: see `release`.
    """

    dead: bool
    forked: bool
    ended: bool
    queue_address: int

    def __new__(cls, loop: Loop) -> Self:
        """Create the table, which is a C object."""
        return super().__new__(cls, Operation, loop, loop.running, loop.native, itertools.count(1))

    def __init__(self, _loop: Loop) -> None:
        #: Whether the cluster has blocklisted this client. The first call that gets this answer sets the flag, on any
        #: thread.
        self.lost: bool = False
        #: The thread of the event loop.
        self.loop_thread: int = get_ident()
        self._tally = Tally()
        self._lib = loader.bridge()
        self._queue = self._lib.aiorbd_bridge_new()
        if not self._queue:
            number = loader.bridge_ffi.errno
            raise OSError(number, f"cannot make the completion queue's eventfd: {os.strerror(number)}")
        self.queue_address = int(loader.bridge_ffi.cast("uintptr_t", self._queue))
        self._workers = Workers(self._job_done)
        #: A record with this token only makes the event loop drain.
        self._nudge: int = -next(self.numbers)
        self._lost_token = self.listen(self._tell_lost)
        #: The cluster's handle, from which all other handles were opened.
        self.root: Lifecycle | None = None
        _live.add(self)
        self.loop.attach(self._lib.aiorbd_bridge_fd(self._queue), self.drain, self.submit_pass)

    @property
    def queue(self) -> Any:
        """The bridge's C side, as an argument for C functions."""
        return self._queue

    def listen(self, listener: Callable[[], None]) -> int:
        """Return a token for a source of many records. Each record calls `listener` on the event loop."""
        token = -next(self.numbers)
        self.listeners[token] = listener
        return token

    def unlisten(self, token: int) -> None:
        """Forget a listener. Queued records for this token are dropped."""
        del self.listeners[token]

    def _forget(self, token: int) -> None:
        """Remove a job from the table, because no worker thread took the job."""
        self.operations.pop(token).owner.in_flight -= 1

    def lose(self) -> None:
        """Note that the cluster has blocklisted this client.

        The event loop's thread may call this, and any thread that has a call in flight.
        """
        if not self.lost:
            self.lost = self.dead = True
            logger.error("the cluster has blocklisted this client: connect again")
            if self.queue_address:
                self._lib.aiorbd_bridge_post(self._queue, self._lost_token, 0)

    def _tell_lost(self) -> None:
        """End every stream, watch and log with an error, because no more data will come."""
        if self.root is not None:
            self.root.end_sources(lambda handle: error_for(-errno.ESHUTDOWN, "", handle.target))

    async def wait(self, operation: Operation) -> None:
        """Wait for an operation in flight. Cancellation abandons a running operation and withdraws a queued job."""
        try:
            await self.loop.park(operation)
        except BaseException:
            operation.abandon()
            if isinstance(operation, Job) and self._workers.withdraw(operation):
                self._job_done(operation)  # the withdrawn job is completed, and delays nothing any more
            logger.debug("abandoned: a call on %s goes on without its task", operation.owner.target)
            raise

    def submissions(self, owner: "Lifecycle") -> list[RadosAioCall]:
        """Return the librados requests of one handle that are not completed."""
        return [operation for operation in self.running(owner) if isinstance(operation, RadosAioCall)]

    def running(self, owner: "Lifecycle") -> list[Operation]:
        """Return the operations in flight that belong to one handle or use the handle."""
        return [op for op in self.operations.values() if op.owner is owner or op.uses(owner)]

    def start(self, job: Job[Any]) -> None:
        """Hand a job to a worker thread."""
        if self.observers and job.note is None:
            try:
                job.note = Note(self.observers, job.name, str(job.on), job.owner, job.offset, job.length)
            except BaseException:  # an interrupt in an observer
                job.let_go()
                raise
        job.token = token = next(self.numbers)
        self.operations[token] = job
        job.owner.in_flight += 1
        try:
            self._workers.submit(job)
        except RuntimeError as error:  # no thread can start
            self._forget(token)
            job.let_go()
            if job.note is not None:
                job.note.tell(error, abandoned=False)
            raise

    async def call(self, job: Job[T]) -> T:
        """Run a job on a worker thread and wait for its result."""
        self.start(job)
        await self.wait(job)
        try:
            if job.error is not None:
                raise job.error
            return job.result
        finally:
            del job  # breaks a cycle: the error's traceback holds this frame, which holds the job and its error

    def start_background(
        self, owner: "Lifecycle", name: str, function: Callable[[], int], then: Callable[[int], None]
    ) -> None:
        """Run a function on a worker thread before all other jobs, and then call `then` on the event loop."""
        self.start(BackgroundJob(owner, name, function, then))

    def _job_done(self, job: Job[Any]) -> None:
        """Post the record of a completed job to the queue of librbd's completions. Any thread may call this."""
        while self._lib.aiorbd_bridge_post(self._queue, job.token, 0) < 0:
            time.sleep(0.1)  # out of memory: try again, because the waiting task needs the record

    def _complain(self, number: int, error: Exception) -> None:
        """Log a defect of aiorbd in the handling of one completion. `drain` calls this and continues the batch."""
        logger.error("handling completion %d failed", number, exc_info=error)

    def count(self, job: Any) -> None:
        """Count a call that a worker thread made, and notify the observers."""
        error = self._tally.add(job)
        if job.note is not None:
            job.note.tell(error, abandoned=job.abandoned)
            job.note = None

    def stats(self) -> ClusterStats:
        """Return the statistics of this connection."""
        operations = self._tally.read(self._queue)
        drained = loader.bridge_ffi.new("uint64_t[2]")
        self._lib.aiorbd_bridge_drained(self._queue, drained)
        moved = {name: figures.bytes for name, figures in operations.items()}
        queued, threads = self._workers.load()
        return ClusterStats(
            sum(operation.count for operation in self.operations.values()),
            sum(operation.count for operation in self.operations.values() if operation.abandoned),
            queued,
            threads,
            drained[0],
            drained[1],
            sum(moved.get(FUNCTIONS[kind], 0) for kind in READS),
            sum(moved.get(FUNCTIONS[kind], 0) for kind in WRITES | {WRITE_ZEROES}),
            operations,
        )

    def release(self) -> None:
        """Release the C side after the current batch. No operation is in flight any more."""
        self.ended = True
        # A running drain finishes first. If no drain runs, this empty record starts one.
        self._lib.aiorbd_bridge_post(self._queue, self._nudge, 0)

    def _release(self) -> None:
        """Release the C side. The last `drain` calls this.

        After an interrupt, another `drain` calls this again, unless the C side is already released.
        """
        self._workers.stop()
        try:
            self.loop.detach()
        except BaseException:
            self.loop.detach()  # the event loop must not keep a closed descriptor
            raise
        finally:
            self.queue_address = 0
            self._lib.aiorbd_bridge_release(self._queue)
            self.ended = False
            _live.discard(self)

    def leak(self) -> None:
        """Never free the table's buffers, because librbd still uses them when the interpreter exits."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.operations))

    @property
    def busy(self) -> bool:
        """Whether any operation is in flight."""
        return bool(self.operations)


@atexit.register
def _at_exit() -> None:
    """Let the threads of open connections live until the process ends.

    Neither the buffers nor the global objects of Ceph's libraries may go before these threads.
    """
    connected = False
    for bridge in list(_live):  # a copy: event loops in other threads may still add and remove bridges
        if bridge.busy:
            bridge.leak()
        connected |= not (bridge.ended or bridge.forked)
    if connected:
        loader.bridge().aiorbd_exit_at_once()


def _after_fork() -> None:
    for bridge in _live:
        bridge.forked = bridge.dead = True


os.register_at_fork(after_in_child=_after_fork)
