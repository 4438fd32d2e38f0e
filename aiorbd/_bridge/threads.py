"""Worker threads for the calls of librbd that only block.

They are daemons and belong to one cluster: threads that hang in a dead cluster hold up neither
another cluster nor the end of the process.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from aiorbd._bridge.operation import Job

logger = logging.getLogger("aiorbd")

#: Seconds a thread without work lives on.
IDLE: Final = 10.0


class Workers:
    """Threads, started when there is work for them, that run up to `limit` jobs at once.

    What the library itself needs to go on (asking for a size, closing) is urgent: it goes first and does
    not count, since the jobs may all hang for as long as a cluster is dead. There is at most one such job
    for each open handle, and one for each diff, which waits for its reader.
    """

    def __init__(self, limit: int, done: Callable[[Job[Any]], None]) -> None:
        """`done` is called on the worker thread after each job that is over."""
        self._limit = limit
        self._done = done
        self._changed = threading.Condition()
        self._jobs: deque[Job[Any]] = deque()
        self._urgent: deque[Job[Any]] = deque()
        self._idle = 0  # threads that wait for work, those that are just starting included
        self._threads = 0
        self._running = 0  # jobs that count
        self._stopped = False

    def submit(self, job: Job[Any], *, urgent: bool = False) -> None:
        """Queue a job: any thread."""
        with self._changed:
            jobs = self._urgent if urgent else self._jobs
            jobs.append(job)  # first of all: what a signal handler raises below must not lose it
            if self._idle < len(self._urgent) + min(len(self._jobs), self._limit - self._running):
                self._idle += 1
                self._threads += 1
                try:
                    threading.Thread(target=self._work, name="aiorbd worker", daemon=True).start()
                except RuntimeError:  # "can't start new thread": those that run must do
                    self._idle -= 1
                    self._threads -= 1
                    if not self._threads:
                        jobs.remove(job)
                        raise
            self._changed.notify()

    def load(self) -> tuple[int, int]:
        """Return how many jobs wait, and how many threads there are."""
        with self._changed:
            return len(self._jobs) + len(self._urgent), self._threads

    def stop(self) -> None:
        """Let the threads end when their queue is empty."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _take(self) -> tuple[Job[Any], bool] | None:
        """Return the next job that may run now, and whether it counts."""
        if self._urgent:
            return self._urgent.popleft(), False
        if self._jobs and self._running < self._limit:
            return self._jobs.popleft(), True
        return None

    def _work(self) -> None:
        while True:
            with self._changed:
                taken = self._take()
                if taken is None and not self._stopped:
                    self._changed.wait(IDLE)
                    taken = self._take()
                self._idle -= 1
                if taken is None:
                    self._threads -= 1
                    return
                job, counts = taken
                self._running += counts
            try:
                if job.run():
                    self._done(job)
            except BaseException:  # a defect of ours: the thread, and its place, must not be lost for it
                logger.exception("a worker's job failed")
            del job, taken  # or its buffers would live until the next one
            with self._changed:
                self._running -= counts
                self._idle += 1
