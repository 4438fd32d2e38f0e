"""Long jobs of a service: they run beside the requests, have progress, and can be cancelled."""

import json
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import TaskGroup

import aiorbd

logger = logging.getLogger("volume_service")

#: Carries out a job, and reports its progress.
Work = Callable[[aiorbd.Progress], Awaitable[None]]

#: How many ended jobs the service remembers.
REMEMBERED = 1000

#: The shortest time between two messages about the progress of a job, in seconds.
PACE = 0.1


class BusyError(Exception):
    """The volume is in use, or the name is taken."""


class UnknownJobError(Exception):
    """No job has this id."""


@dataclass
class Job:
    """A long job on a volume."""

    action: str
    volume: str
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    state: str = "running"  # and then "succeeded", "failed" or "cancelled"
    done: int = 0
    total: int = 0
    error: str | None = None
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope, repr=False)
    changed: anyio.Event = field(default_factory=anyio.Event, repr=False)

    def report(self, done: int, total: int) -> None:
        """Tell the progress."""
        self.done, self.total = done, total
        self.wake()

    def wake(self) -> None:
        """Let those who follow the job look again."""
        self.changed.set()
        self.changed = anyio.Event()

    def show(self) -> dict[str, Any]:
        """Return what clients see."""
        return {name: getattr(self, name) for name in ("id", "action", "volume", "state", "done", "total", "error")}


class Jobs:
    """The jobs of a service."""

    def __init__(self, tasks: TaskGroup) -> None:
        """Prepare to run jobs in this task group."""
        self._tasks = tasks
        self._jobs: dict[str, Job] = {}

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    def get(self, job_id: str) -> Job:
        """Return the job with an id."""
        try:
            return self._jobs[job_id]
        except KeyError:
            raise UnknownJobError(f"no job {job_id}") from None

    def require_idle(self, volume: str) -> None:
        """Raise if a job works on a volume."""
        for job in self:
            if job.state == "running" and job.volume == volume:
                raise BusyError(f"job {job.id} works on volume {volume}: {job.action}")

    def start(self, action: str, volume: str, work: Work) -> Job:
        """Start a job. Only one job at a time works on a volume."""
        self.require_idle(volume)
        job = Job(action, volume)
        self._jobs[job.id] = job
        self._tasks.start_soon(self._run, job, work)
        ended = [one.id for one in self if one.state != "running"]
        for one in ended[:-REMEMBERED]:
            del self._jobs[one]
        return job

    async def _run(self, job: Job, work: Work) -> None:
        try:
            with job.scope:
                await work(job.report)
                job.state, job.done = "succeeded", job.total
        except (aiorbd.Error, BusyError) as error:
            job.state, job.error = "failed", str(error)
        except Exception as error:  # the service goes on
            logger.exception("job %s", job.id)
            job.state, job.error = "failed", repr(error)
        finally:
            if job.state == "running":
                job.state = "cancelled"
            job.wake()
            logger.info("job %s: %s of %s %s %s", job.id, job.action, job.volume, job.state, job.error or "")

    def cancel(self, job_id: str) -> Job:
        """Cancel a job. A job that has ended stays as it is."""
        job = self.get(job_id)
        job.scope.cancel()
        return job

    async def events(self, job: Job) -> AsyncIterator[str]:
        """Yield the state of a job as server-sent events, now and after each change, until it ends."""
        while True:
            changed = job.changed
            yield f"event: {job.state}\ndata: {json.dumps(job.show())}\n\n"
            if job.state != "running":
                return
            with anyio.move_on_after(15):  # a message now and then shows that the connection lives
                await changed.wait()
                await anyio.sleep(PACE)

    def stop(self) -> None:
        """Cancel all jobs. Their events end with them."""
        for job in self:
            job.scope.cancel()
