"""The worker threads alone: who runs what, and when."""

import threading
import time

from aiorbd._bridge.threads import Workers


class Job:
    """A job that waits until it is told to go on."""

    def __init__(self):
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.token = 0

    def run(self):
        self.begun.set()
        assert self.go_on.wait(10)
        return True


def test_urgent_jobs_have_a_thread_beyond_the_limit():
    done = []
    workers = Workers(2, done.append)
    jobs = [Job() for _ in range(3)]
    urgent = Job()
    for job in jobs:
        workers.submit(job)
    workers.submit(urgent, urgent=True)
    assert all(job.begun.wait(5) for job in (*jobs[:2], urgent))
    assert not jobs[2].begun.wait(0.05)
    urgent.go_on.set()
    assert not jobs[2].begun.wait(0.05), "beyond the limit, nothing but what is urgent runs"
    for job in jobs:
        job.go_on.set()
    assert jobs[2].begun.wait(5)
    workers.stop()


def test_a_job_finds_a_thread_at_once_when_more_than_the_limit_are_idle():
    """One of them is woken, and it must not leave the job to the others, who sleep on."""
    workers = Workers(2, lambda _job: None)
    first = [Job() for _ in range(3)]
    for number, job in enumerate(first):
        workers.submit(job, urgent=number == 2)
    assert all(job.begun.wait(5) for job in first)
    for job in first:
        job.go_on.set()
    time.sleep(0.1)
    for _ in range(10):
        job = Job()
        job.go_on.set()
        workers.submit(job)
        assert job.begun.wait(1)
    workers.stop()


def test_what_is_over_later_is_not_told_by_the_thread():
    done, ran = [], threading.Event()

    class Submission(Job):
        def run(self):
            ran.set()
            return False

    workers = Workers(1, done.append)
    workers.submit(Submission())
    assert ran.wait(5)
    time.sleep(0.05)
    assert done == []
    workers.stop()


def test_a_job_is_queued_before_a_thread_is_started_for_it(monkeypatch):
    """What a signal handler raises while the thread starts does not lose it."""
    workers = Workers(1, lambda _job: None)
    job = Job()
    job.go_on.set()
    start = threading.Thread.start

    def interrupted(thread):
        start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    try:
        workers.submit(job)
    except KeyboardInterrupt:
        monkeypatch.undo()
    assert job.begun.wait(5)
    workers.stop()
