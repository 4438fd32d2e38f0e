"""Worker threads for the calls of librbd that only block.

They are daemons and belong to one cluster: threads that hang in a dead cluster hold up neither
another cluster nor the end of the process.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from aiorbd._bridge.operation import Job

#: Seconds a thread without work lives on.
IDLE: Final = 10.0


class Workers:
    """Up to `limit` threads, started when there is work for them.

    What the library itself needs to go on (asking for a size, closing) is urgent: it goes first, and
    gets a thread beyond the limit when all of them are busy, which may be for as long as a cluster is
    dead. There is at most one such job for each open handle.
    """

    def __init__(self, limit: int, done: Callable[[Job[Any]], None]) -> None:
        """`done` is called on the worker thread after each job."""
        self._limit = limit
        self._done = done
        self._changed = threading.Condition()
        self._jobs: deque[Job[Any]] = deque()
        self._urgent: deque[Job[Any]] = deque()
        self._idle = 0
        self._running = 0
        self._stopped = False

    def submit(self, job: Job[Any], *, urgent: bool = False) -> None:
        """Queue a job: any thread."""
        with self._changed:
            waiting = len(self._jobs) + len(self._urgent)
            if self._idle <= waiting and (urgent or self._running < self._limit):
                try:
                    threading.Thread(target=self._work, name="aiorbd worker", daemon=True).start()
                    self._running += 1
                except RuntimeError:  # "can't start new thread": those that run must do
                    if not self._running:
                        raise
            (self._urgent if urgent else self._jobs).append(job)
            self._changed.notify()

    def stop(self) -> None:
        """Let the threads end when their queue is empty."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                self._changed.wait_for(lambda: self._urgent or self._jobs or self._stopped, IDLE)
                self._idle -= 1
                surplus = self._running > self._limit
                if not self._urgent and (surplus or not self._jobs):
                    self._running -= 1
                    return
                job = (self._urgent or self._jobs).popleft()
            job.run()
            self._done(job)
            del job  # or its buffers would live until the next one
