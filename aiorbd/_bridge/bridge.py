"""The operation table of one cluster, and the path of its completions back to tasks.

All methods run on the event loop's thread unless they say otherwise.
"""

import atexit
import ctypes
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aiorbd import _native
from aiorbd._bridge.loops import Loop
from aiorbd._bridge.observation import READS, WRITES, ZEROES, Note, NotedOperation, Tally
from aiorbd._bridge.operation import BackgroundJob, Job, Operation
from aiorbd._bridge.submission import Submission
from aiorbd._bridge.threads import Workers
from aiorbd.stats import ClusterStats, Observer

if TYPE_CHECKING:
    from aiorbd._bridge.lane import Lane
    from aiorbd._lifecycle import Lifecycle

T = TypeVar("T")

logger = logging.getLogger("aiorbd")

#: Records taken in one pass of the loop; what is more waits for the next pass, and lets others go first. More of them
#: gain nothing: with 256 reads in flight the loop was twice as late, and no read sooner.
BATCH: Final = 16

#: Threads for blocking calls of the user's, per cluster.
WORKERS: Final = 16

#: Every bridge whose C side exists: keeps tables alive while librbd may still write to buffers.
_live: "set[Bridge]" = set()


class Bridge:
    """One completion queue with its table, attached to one event loop."""

    def __init__(self, loop: Loop) -> None:
        self.loop: Final = loop
        #: No call may reach C any more: see `forked` and `lost`.
        self.dead: bool = False
        self.forked: bool = False
        #: The cluster cut this client off; it is said by whichever call hears of it, on any thread.
        self.lost: bool = False
        self.observers: list[Observer] = []
        self._tally = Tally()
        self._lib = _native.bridge()
        self._queue = self._lib.aiorbd_bridge_new()
        if not self._queue:
            number = _native.bridge_ffi.errno
            raise OSError(number, f"cannot make the completion queue's eventfd: {os.strerror(number)}")
        self._records = _native.bridge_ffi.new("int64_t[]", 1 + 2 * BATCH)
        self._view = memoryview(_native.bridge_ffi.buffer(self._records)).cast("B").cast("q")
        #: Of operations; those of listeners are negative.
        self.numbers: Iterator[int] = itertools.count(1)
        self._operations: dict[int, Operation] = {}
        self._listeners: dict[int, Callable[[], None]] = {}
        self._workers = Workers(WORKERS, self._job_done)
        self._rest: list[int] = []
        self._interrupted: Operation | None = None
        #: What is posted under it only makes the loop drain.
        self._nudge: int = -next(self.numbers)
        self._release_due = False
        _live.add(self)
        loop.attach(self._lib.aiorbd_bridge_fd(self._queue), self._drain)

    @property
    def queue(self) -> Any:
        """The C side, for calls that take it."""
        return self._queue

    def listen(self, listener: Callable[[], None]) -> int:
        """Return a token for a source of many records; `listener` is called on the loop at each."""
        token = -next(self.numbers)
        self._listeners[token] = listener
        return token

    def unlisten(self, token: int) -> None:
        """Forget a listener. Records that are still queued go nowhere."""
        del self._listeners[token]

    def submit(self, operation: Operation, function: Callable[..., int], first: Any, *arguments: Any) -> int:
        """Call one of the bridge's submitting functions; return 0 when librbd took it."""
        token = next(self.numbers)
        self._operations[token] = operation
        operation.owner.in_flight += 1
        try:
            code = function(first, token, *arguments)
        except BaseException:
            # An argument that does not fit its C type, or a signal handler, which may have come after C
            # took the operation: then it stays in the table.
            if not self.has_taken(token):
                self._forget(token)
            raise
        if code:
            self._forget(token)
        return code

    def has_taken(self, number: int) -> bool:
        """Tell whether C took what was submitted last, under that number."""
        taken: int = self._lib.aiorbd_bridge_submitted(self._queue)
        return taken == number

    def enter(self, lane: "Lane") -> None:
        """Put a lane into the table: it has something on its way."""
        self._operations[lane.token] = lane
        self._listeners[-lane.token] = lane.take

    def leave(self, lane: "Lane") -> None:
        """Nothing of the lane's is on its way any more."""
        self._operations.pop(lane.token, None)
        self._listeners.pop(-lane.token, None)

    def _forget(self, token: int) -> None:
        """Undo the registration of what C or the threads refused."""
        self._operations.pop(token).owner.in_flight -= 1

    def lose(self) -> None:
        """Any thread: the cluster said that it has blocklisted this client."""
        if not self.lost:
            self.lost = self.dead = True
            logger.error("the cluster has blocklisted this client: connect anew")

    def operation(self, owner: "Lifecycle", keep: object, name: str, target: str, length: int = 0) -> Operation:
        """Make the table's entry of a call, which observers are told of."""
        return NotedOperation(owner, keep, name, target, length) if self.observers else Operation(owner, keep)

    async def wait(self, operation: Operation) -> None:
        """Wait for an operation that is in flight. Cancellation leaves it running, abandoned."""
        try:
            await self.loop.park(operation)
        except BaseException:
            operation.abandon()
            logger.debug("abandoned: a call on %s goes on without its task", operation.owner.target)
            raise

    def submissions(self, owner: "Lifecycle") -> list[Submission]:
        """Return what one handle has asked librados for, and is not done."""
        return [operation for operation in self.running(owner) if isinstance(operation, Submission)]

    def running(self, owner: "Lifecycle") -> list[Operation]:
        """Return what is in flight for one handle."""
        return [op for op in self._operations.values() if op.owner is owner or op.uses(owner)]

    def start(self, job: Job[Any], *, urgent: bool = False) -> None:
        """Hand a job to a worker thread; what is urgent waits for no other job."""
        job.token = token = next(self.numbers)
        self._operations[token] = job
        job.owner.in_flight += 1
        if self.observers:
            job.note = Note(job.name, str(job.on), 0)
        try:
            self._workers.submit(job, urgent=urgent)
        except RuntimeError:  # no thread can be started
            self._forget(token)
            job.let_go()
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
            del job  # its error's traceback would hold this frame, and the frame the error

    def start_background(
        self, owner: "Lifecycle", name: str, function: Callable[[], int], then: Callable[[int], None]
    ) -> None:
        """Run a function on a worker thread, first of all, and go on with `then` on the loop."""
        self.start(BackgroundJob(owner, name, function, then), urgent=True)

    def _job_done(self, job: Job[Any]) -> None:
        """On a worker thread: send the news the way librbd's completions go."""
        while self._lib.aiorbd_bridge_post(self._queue, job.token, 0) < 0:
            time.sleep(0.1)  # out of memory: whoever waits for this job must hear of it

    def _drain(self) -> None:
        """Take what was completed, at most one batch; the eventfd stays readable for the rest.

        What a signal handler raises in here goes to the loop, and the next pass takes up what is left.
        Handlers run only after a call: so the number of records stands beside them until they are in
        `_rest`, nothing is called between taking an operation from the table and counting it as done,
        and nothing but the C function that makes the next pass sure once something was raised. A listener
        may be called once too often, and an operation's task woken.
        """
        if self.forked:  # a child that runs its parent's loop must not take its parent's records
            return
        view, operations, wake = self._view, self._operations, self.loop.wake
        records: Iterator[int] | None = None
        operation = self._interrupted
        telling = 0
        try:
            if operation is not None:
                self._rouse(operation)
                self._interrupted = None
            if not view[0]:
                self._lib.aiorbd_bridge_drain(self._queue, self._records, BATCH)
            self._rest += view[1 : 1 + 2 * view[0]].tolist()
            view[0] = 0
            records = iter(self._rest)
            for token, value in zip(records, records, strict=True):
                try:
                    if token < 0:
                        if (listener := self._listeners.get(token)) is not None:
                            telling = token
                            listener()
                            telling = 0
                        continue
                    operation = operations[token]
                    del operations[token]
                    operation.value = value
                    owner = operation.owner
                    owner.in_flight -= 1
                    if operation.settles:
                        operation.settle()
                        if operation.counted_here:
                            self._count(operation)
                    if operation.waiter is not None:
                        wake(operation)
                    if not owner.in_flight or owner.awaited:
                        owner.on_idle()
                except Exception:
                    # A defect of ours: the rest of the batch must not pay for it.
                    logger.exception("handling completion %d failed", token)
            self._rest = []
        except BaseException:
            if records is not None:
                self._rest = [telling, 0, *records] if telling else [*records]
            self._interrupted = operation
            self._lib.aiorbd_bridge_post(self._queue, self._nudge, 0)
            raise
        if self._release_due:
            self._release()

    def _rouse(self, operation: Operation) -> None:
        """Wake whoever waits for what is done and counted; nothing happens the second time."""
        try:
            if operation.waiter is not None:
                self.loop.wake(operation)
            if not operation.owner.in_flight or operation.owner.awaited:
                operation.owner.on_idle()
        except Exception:  # a defect of ours, which must not come again in each pass
            logger.exception("waking who waits on %s failed", operation.owner.target)

    def _count(self, job: Any) -> None:
        error = self._tally.add(job)
        if job.note is not None:
            job.note.tell(self.observers, error, abandoned=job.abandoned)
            job.note = None

    def stats(self) -> ClusterStats:
        """Return the figures of this connection."""
        operations = self._tally.read(self._queue)
        drained = _native.bridge_ffi.new("uint64_t[2]")
        self._lib.aiorbd_bridge_drained(self._queue, drained)
        moved = {name: figures.bytes for name, figures in operations.items()}
        queued, threads = self._workers.load()
        return ClusterStats(
            sum(operation.count for operation in self._operations.values()),
            sum(operation.count for operation in self._operations.values() if operation.abandoned),
            queued,
            threads,
            drained[0],
            drained[1],
            sum(moved.get(name, 0) for name in READS),
            sum(moved.get(name, 0) for name in WRITES | ZEROES),
            operations,
        )

    def release(self) -> None:
        """Give up the C side once the current batch is done: nothing is in flight any more."""
        self._release_due = True
        # The drain that is running, if one is, finishes first; otherwise an empty record starts one.
        self._lib.aiorbd_bridge_post(self._queue, self._nudge, 0)

    def _release(self) -> None:
        self.loop.detach()
        self._workers.stop()
        self._lib.aiorbd_bridge_release(self._queue)
        self._release_due = False
        _live.discard(self)

    def leak(self) -> None:
        """Keep the table's buffers for ever: the interpreter ends while librbd still has them."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._operations))

    @property
    def busy(self) -> bool:
        """Whether anything is in flight."""
        return bool(self._operations)


@atexit.register
def _at_exit() -> None:
    for bridge in list(_live):  # loops in other threads may still come and go
        if bridge.busy:
            bridge.leak()


def _after_fork() -> None:
    for bridge in _live:
        bridge.forked = bridge.dead = True


os.register_at_fork(after_in_child=_after_fork)
