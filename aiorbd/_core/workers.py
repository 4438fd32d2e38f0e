"""Worker threads for the calls of librbd that only block.

They are daemons and belong to one cluster: threads that hang in a dead cluster hold up neither
another cluster nor the end of the process.
"""

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Hashable
from typing import Any, Final

from aiorbd._core.operation import URGENT, Job

logger = logging.getLogger("aiorbd")

#: Jobs of one group that run at once. Each has a thread.
LIMIT: Final = 16

#: Seconds a thread without work lives on.
IDLE: Final = 10.0


class Workers:
    """Threads, started when there is work for them, that run up to `LIMIT` jobs of each group at once.

    The calls of one pool are a group, and so are its opens, the calls of the monitors, and those of each daemon. Calls
    that hang in one group use up that group's threads alone: a dead pool starves no other pool.

    The group `URGENT` has no limit and goes first. Its jobs are those that the library needs to go on. There is at most
    one such job for each open handle that asks for its size or closes, one for each image that is watched, and one for
    each diff, which waits for its reader.
    """

    def __init__(self, done: Callable[[Job[Any]], None]) -> None:
        """`done` is called on the worker thread after each job that is over."""
        self._done = done
        self._changed = threading.Condition()
        self._jobs: dict[Hashable, deque[Job[Any]]] = {}  # that wait, by their groups
        self._running: Counter[Hashable] = Counter()
        self._idle = 0  # threads that wait for work, those that are just starting included
        self._threads = 0
        self._stopped = False

    def submit(self, job: Job[Any]) -> None:
        """Queue a job: any thread."""
        with self._changed:
            jobs = self._jobs.setdefault(job.group, deque())
            jobs.append(job)  # first of all: what a signal handler raises below must not lose it
            if self._idle < sum(map(self._runnable, self._jobs)):
                self._idle += 1
                self._threads += 1
                try:
                    threading.Thread(target=self._work, name="aiorbd worker", daemon=True).start()
                except RuntimeError:  # "can't start new thread": those that run must do
                    self._idle -= 1
                    self._threads -= 1
                    if not self._threads:
                        self._take_from(job.group, jobs.index(job))
                        raise
            self._changed.notify()

    def withdraw(self, job: Job[Any]) -> bool:
        """Take a job back that has not begun; tell whether it had not: any thread."""
        with self._changed:
            jobs = self._jobs.get(job.group, ())
            if job in jobs:
                self._take_from(job.group, jobs.index(job))
                return True
        return False

    def load(self) -> tuple[int, int]:
        """Return how many jobs wait, and how many threads there are."""
        with self._changed:
            return sum(map(len, self._jobs.values())), self._threads

    def stop(self) -> None:
        """Let the threads end when their queue is empty."""
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
        """Return the next job that may run now."""
        for group in (URGENT, *self._jobs):
            if group in self._jobs and self._runnable(group) > 0:
                job = self._take_from(group)
                if group in self._jobs:  # the other groups have their turn first
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
            except BaseException:  # a defect of ours: the thread, and its place, must not be lost for it
                logger.exception("a worker's job failed")
            del job  # or its buffers would live until the next one
            with self._changed:
                self._running[group] -= 1
                if not self._running[group]:
                    del self._running[group]
                self._idle += 1
