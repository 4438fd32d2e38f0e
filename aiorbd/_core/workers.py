"""Worker threads for librbd's blocking calls.

The threads are daemons and belong to one cluster. Threads that hang in a dead cluster delay neither another cluster nor
the end of the process.
"""

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Hashable
from typing import Any, Final

from aiorbd._core.operation import URGENT, Job

logger = logging.getLogger("aiorbd")

#: The number of jobs of one group that may run at once, each on its own thread.
LIMIT: Final = 16

#: Seconds after which an idle thread ends.
IDLE: Final = 10.0


class Workers:
    """Threads, started on demand, that run up to `LIMIT` jobs of each group at once.

    The calls of one pool are a group. So are the opens of one pool, the calls of the monitors, and the calls of each
    daemon. Hung calls of one group use up only the threads of that group, so a dead pool starves no other pool.

    The group `URGENT` has no limit and runs first. These are the jobs that the library itself needs to continue. There
    is at most one such job for each open handle that asks for its size or closes, one for each watched image, and one
    for each diff. The job of a diff waits for the reader of the diff.
    """

    def __init__(self, done: Callable[[Job[Any]], None]) -> None:
        """Create the workers. `done` is called on the worker thread after each completed job."""
        self._done = done
        self._changed = threading.Condition()
        self._jobs: dict[Hashable, deque[Job[Any]]] = {}  # the waiting jobs, by group
        self._running: Counter[Hashable] = Counter()
        self._idle = 0  # threads that wait for work, starting threads included
        self._threads = 0
        self._stopped = False

    def submit(self, job: Job[Any]) -> None:
        """Queue a job. Any thread may call this."""
        with self._changed:
            jobs = self._jobs.setdefault(job.group, deque())
            jobs.append(job)  # first, because an exception of a signal handler below must not lose the job
            if self._idle < sum(map(self._runnable, self._jobs)):
                self._idle += 1
                self._threads += 1
                try:
                    threading.Thread(target=self._work, name="aiorbd worker", daemon=True).start()
                except RuntimeError:  # "can't start new thread": the running threads must do
                    self._idle -= 1
                    self._threads -= 1
                    if not self._threads:
                        self._take_from(job.group, jobs.index(job))
                        raise
            self._changed.notify()

    def withdraw(self, job: Job[Any]) -> bool:
        """Remove a job from the queue. Return whether the job was still queued. Any thread may call this."""
        with self._changed:
            jobs = self._jobs.get(job.group, ())
            if job in jobs:
                self._take_from(job.group, jobs.index(job))
                return True
        return False

    def load(self) -> tuple[int, int]:
        """Return the number of waiting jobs and the number of threads."""
        with self._changed:
            return sum(map(len, self._jobs.values())), self._threads

    def stop(self) -> None:
        """End the threads when the queue is empty."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _runnable(self, group: Hashable) -> int:
        """Return how many waiting jobs of a group may run now."""
        waiting = len(self._jobs[group])
        return waiting if group == URGENT else min(waiting, LIMIT - self._running[group])

    def _take_from(self, group: Hashable, index: int = 0) -> Job[Any]:
        jobs = self._jobs[group]
        job = jobs[index]
        del jobs[index]
        if not jobs:
            del self._jobs[group]
        return job

    def _take(self) -> Job[Any] | None:
        """Return the next job that may run now, or None."""
        for group in (URGENT, *self._jobs):
            if group in self._jobs and self._runnable(group) > 0:
                job = self._take_from(group)
                if group in self._jobs:  # the other groups go first now
                    self._jobs[group] = self._jobs.pop(group)
                return job
        return None

    def _work(self) -> None:
        while True:
            with self._changed:
                job = self._take()
                if job is None and not self._stopped:
                    self._changed.wait(IDLE)
                    job = self._take()
                self._idle -= 1
                if job is None:
                    self._threads -= 1
                    return
                group = job.group
                self._running[group] += 1
            try:
                if job.run():
                    self._done(job)
            except BaseException:  # a defect of aiorbd must not cost the thread and its place
                logger.exception("a worker's job failed")
            del job  # otherwise the job's buffers live until the next job
            with self._changed:
                self._running[group] -= 1
                if not self._running[group]:
                    del self._running[group]
                self._idle += 1
