"""The worker threads alone: the threads that run the jobs, and the order of the jobs."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from aiorbd._core import workers as threads
from aiorbd._core.operation import URGENT


class Job:
    """A job that waits until the test lets it continue."""

    def __init__(self, group: str = "pool") -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.token = 0
        self.group = group

    def run(self) -> Any:
        self.begun.set()
        assert self.go_on.wait(10)
        return True


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return workers that run at most two jobs of a group at the same time."""
    monkeypatch.setattr(threads, "LIMIT", 2)
    workers = threads.Workers(lambda _job: None)
    yield workers
    workers.stop()


def test_hung_group_of_jobs_holds_up_no_other_group_and_no_urgent_job(workers: Any) -> None:
    hung = [Job() for _ in range(3)]
    others = [Job("other pool"), Job("other pool"), Job("monitors"), *(Job(URGENT) for _ in range(4))]
    for job in (*hung, *others):
        workers.submit(job)
    assert all(job.begun.wait(5) for job in (*hung[:2], *others))
    assert workers.load() == (1, 9)
    for job in others:
        job.go_on.set()
    assert not hung[2].begun.wait(0.05), "a thread of another group does not run it"
    for job in hung:
        job.go_on.set()
    assert hung[2].begun.wait(5)


def test_groups_take_turns(workers: Any) -> None:
    first, began = [Job() for _ in range(2)], []
    for job in first:
        workers.submit(job)
    assert all(job.begun.wait(5) for job in first)

    class Noted(Job):
        def run(self) -> Any:
            began.append(self.group)
            return True

    jobs = [Noted(), Noted(), Noted()]
    for job in jobs:
        workers.submit(job)
    other = Noted("other")
    workers.submit(other)
    deadline = time.monotonic() + 5
    while not began and time.monotonic() < deadline:
        time.sleep(0.001)
    assert began == ["other"]
    for job in first:
        job.go_on.set()
    while len(began) < 4 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert began == ["other", "pool", "pool", "pool"]


def test_job_finds_a_thread_at_once_when_more_than_the_limit_are_idle(workers: Any) -> None:
    """The pool wakes one idle thread. That thread must not leave the job to the others, which sleep on."""
    first = [Job(), Job(), Job(URGENT)]
    for job in first:
        workers.submit(job)
    assert all(job.begun.wait(5) for job in first)
    for job in first:
        job.go_on.set()
    time.sleep(0.1)
    for _ in range(10):
        job = Job()
        job.go_on.set()
        workers.submit(job)
        assert job.begun.wait(1)


def test_job_that_completes_later_is_not_reported_by_the_thread() -> None:
    done: list[Any]
    done, ran = [], threading.Event()

    class RadosAioCall(Job):
        def run(self) -> Any:
            ran.set()
            return False

    workers = threads.Workers(done.append)
    job: Any = RadosAioCall()
    workers.submit(job)
    assert ran.wait(5)
    time.sleep(0.05)
    assert done == []
    workers.stop()


def test_job_is_queued_before_a_thread_is_started_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception of a signal handler during the start of the thread does not lose the job."""
    workers = threads.Workers(lambda _job: None)
    job: Any = Job()
    job.go_on.set()
    start = threading.Thread.start

    def interrupted(thread: Any) -> None:
        start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    try:
        workers.submit(job)
    except KeyboardInterrupt:
        monkeypatch.undo()
    assert job.begun.wait(5)
    workers.stop()
