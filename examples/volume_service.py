"""Serve volumes over HTTP: the images of a pool, their snapshots and clones.

    python examples/volume_service.py --pool rbd --port 8080

    GET    /volumes                               names
    POST   /volumes                               {"name": "vm-1", "size": 1073741824}
                                                  {"name": "vm-2", "source": {"volume": "vm-1", "snapshot": "monday"}}
    GET    /volumes/vm-1                          size, snapshots, parent
    DELETE /volumes/vm-1                          a job
    PUT    /volumes/vm-1/size                     {"size": 2147483648}: a job
    POST   /volumes/vm-1/snapshots                {"name": "monday"}
    DELETE /volumes/vm-1/snapshots/monday
    POST   /volumes/vm-1/flatten                  a job
    POST   /volumes/vm-1/snapshots/monday/copy    {"name": "vm-3"}: a job
    GET    /jobs, /jobs/ID, /jobs/ID/events       the last sends progress as server-sent events
    DELETE /jobs/ID                               cancels
    GET    /healthz, /readyz, /metrics

The description for clients is at /docs. A request that takes longer than ``--deadline`` seconds gets status 504. The
outcome of its change is then unknown. ``/healthz`` never asks the cluster, ``/readyz`` does.

SIGINT and SIGTERM cancel the jobs and close all images, within ``--stop-timeout`` seconds.
"""

import argparse
import logging
import math
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any

import anyio
import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Path, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from volume_jobs import BusyError, Job, Jobs, UnknownJobError
from volumes import NAME, NewName, NewSize, NewVolume, RefusedError, Volumes

import aiorbd

logger = logging.getLogger("volume_service")

#: The HTTP status for an error. The first class that matches counts.
STATUS: dict[type[Exception], int] = {
    aiorbd.PoolNotFound: 503,
    aiorbd.ConfigFileNotFound: 503,
    aiorbd.KeyringNotFound: 503,
    aiorbd.ObjectNotFound: 404,
    UnknownJobError: 404,
    aiorbd.ObjectExists: 409,
    aiorbd.ObjectBusy: 409,
    aiorbd.ImageHasSnapshots: 409,
    aiorbd.ImageMemberOfGroup: 409,
    BusyError: 409,
    RefusedError: 400,
    aiorbd.InvalidArgument: 400,
    aiorbd.NoSpace: 507,
    aiorbd.DiskQuotaExceeded: 507,
    aiorbd.ConnectionShutdown: 503,
    aiorbd.Timeout: 504,
}


#: The requests that have no deadline.
EVENTS = re.compile(r"/jobs/[^/]+/events")


class Metrics:
    """What /metrics shows."""

    def __init__(self) -> None:
        """Register everything that is counted."""
        self.registry = CollectorRegistry()
        self.seconds = Histogram(
            "rbd_operation_seconds", "The durations of Ceph's functions", ["pool", "operation"], registry=self.registry
        )
        self.failures = Counter(
            "rbd_operation_failures", "Failed functions", ["pool", "operation", "error"], registry=self.registry
        )
        self.usage: list[aiorbd.ImageDiskUsage] = []
        self.usage_from = math.nan
        self.registry.register(self)

    def observe(self, done: aiorbd.CompletedOperation) -> None:
        """Count an operation of Ceph."""
        pool = done.pool or ""
        self.seconds.labels(pool, done.operation).observe(done.seconds)
        if done.error is not None:
            self.failures.labels(pool, done.operation, type(done.error).__name__).inc()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the bytes of the volumes, as they were when they were last counted."""
        provisioned = GaugeMetricFamily("rbd_volume_provisioned_bytes", "The sizes of the volumes", labels=["volume"])
        used = GaugeMetricFamily("rbd_volume_used_bytes", "Used bytes, including snapshots", labels=["volume"])
        for one in self.usage:
            provisioned.add_metric([one.name], one.usage.provisioned)
            used.add_metric([one.name], one.usage.used)
        age = time.monotonic() - self.usage_from
        yield from (provisioned, used, GaugeMetricFamily("rbd_usage_age_seconds", "The age of these bytes", value=age))


class Deadline:
    """Middleware: end each request at its deadline, with status 504."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        """Wrap an application."""
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http" or EVENTS.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        answering = False

        async def watched(message: Message) -> None:
            nonlocal answering
            answering = True
            await send(message)

        with anyio.move_on_after(self._seconds) as limit:
            await self._app(scope, receive, watched)
        if limit.cancelled_caught and not answering:
            late = {"detail": f"no answer within {self._seconds:g} s; whether a change happened is unknown"}
            await JSONResponse(late, 504)(scope, receive, send)


async def refuse(_: Request, error: Exception) -> JSONResponse:
    """Answer with the status for an error."""
    status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), 500)
    if status == 500:
        logger.error("a request fails: %s", error)
    return JSONResponse({"detail": str(error)}, status)


async def volumes_of(request: Request) -> Volumes:
    """Return the volumes that this application serves."""
    volumes: Volumes = request.app.state.volumes
    return volumes


async def metrics_of(request: Request) -> Metrics:
    """Return the metrics of this application."""
    metrics: Metrics = request.app.state.metrics
    return metrics


router = APIRouter()
Name = Annotated[str, Path(pattern=NAME)]
Pool = Annotated[Volumes, Depends(volumes_of)]
Figures = Annotated[Metrics, Depends(metrics_of)]


def accepted(job: Job) -> JSONResponse:
    """Answer that a job has begun."""
    return JSONResponse(job.show(), 202, {"Location": f"/jobs/{job.id}"})


@router.get("/volumes")
async def names(volumes: Pool) -> list[str]:
    """List the names of all volumes."""
    return await volumes.names()


@router.post("/volumes", status_code=201)
async def create(volumes: Pool, new: NewVolume) -> dict[str, Any]:
    """Create an empty volume, or a clone of a snapshot."""
    await volumes.create(new)
    return await volumes.show(new.name)


@router.get("/volumes/{name}")
async def show(volumes: Pool, name: Name) -> dict[str, Any]:
    """Describe a volume."""
    return await volumes.show(name)


@router.delete("/volumes/{name}")
async def remove(volumes: Pool, name: Name) -> JSONResponse:
    """Remove a volume."""
    return accepted(await volumes.remove(name))


@router.put("/volumes/{name}/size")
async def resize(volumes: Pool, name: Name, new: NewSize) -> JSONResponse:
    """Change the size of a volume."""
    return accepted(await volumes.resize(name, new))


@router.post("/volumes/{name}/flatten")
async def flatten(volumes: Pool, name: Name) -> JSONResponse:
    """Copy the parent's data into a clone."""
    return accepted(await volumes.flatten(name))


@router.post("/volumes/{name}/snapshots", status_code=201)
async def create_snapshot(volumes: Pool, name: Name, new: NewName) -> dict[str, Any]:
    """Create a snapshot."""
    await volumes.create_snapshot(name, new.name)
    return await volumes.show(name)


@router.delete("/volumes/{name}/snapshots/{snapshot}", status_code=204)
async def remove_snapshot(volumes: Pool, name: Name, snapshot: Name) -> None:
    """Remove a snapshot."""
    await volumes.remove_snapshot(name, snapshot)


@router.post("/volumes/{name}/snapshots/{snapshot}/copy")
async def copy(volumes: Pool, name: Name, snapshot: Name, new: NewName) -> JSONResponse:
    """Copy a snapshot to a new volume."""
    return accepted(await volumes.copy(name, snapshot, new.name))


@router.get("/jobs")
async def all_jobs(volumes: Pool) -> list[dict[str, Any]]:
    """List the jobs, also those that ended lately."""
    return [job.show() for job in volumes.jobs]


@router.get("/jobs/{job}")
async def one_job(volumes: Pool, job: str) -> dict[str, Any]:
    """Return the state of a job."""
    return volumes.jobs.get(job).show()


@router.delete("/jobs/{job}")
async def cancel(volumes: Pool, job: str) -> JSONResponse:
    """Cancel a job."""
    return accepted(volumes.jobs.cancel(job))


@router.get("/jobs/{job}/events")
async def events(volumes: Pool, job: str) -> StreamingResponse:
    """Follow a job until it ends."""
    return StreamingResponse(volumes.jobs.events(volumes.jobs.get(job)), media_type="text/event-stream")


@router.get("/healthz")
async def health() -> dict[str, str]:
    """Tell that the service runs."""
    return {"status": "ok"}


@router.get("/readyz")
async def ready(volumes: Pool) -> dict[str, str]:
    """Tell whether the cluster answers."""
    async with volumes.ioctx() as ioctx:
        await ioctx.pool_stats()
    return {"status": "ok"}


@router.get("/metrics")
async def show_metrics(metrics: Figures) -> Response:
    """Return the metrics."""
    return Response(generate_latest(metrics.registry), media_type="text/plain; version=0.0.4")


async def count_usage(volumes: Volumes, metrics: Metrics, interval: float) -> None:
    """Count the bytes of all volumes, for ever."""
    while True:
        with anyio.move_on_after(10 * interval):
            try:
                async with volumes.ioctx() as ioctx:
                    metrics.usage = await ioctx.disk_usage()
                metrics.usage_from = time.monotonic()
            except aiorbd.Error as error:
                logger.warning("the bytes of the volumes are unknown: %s", error)
        await anyio.sleep(interval)


async def clean(volumes: Volumes) -> None:
    """Remove what a killed service left."""
    try:
        await volumes.remove_leftovers()
    except aiorbd.Error as error:
        logger.warning("incomplete copies may be left: %s", error)


def serve(options: argparse.Namespace) -> None:
    """Serve until a signal arrives."""
    bound = options.stop_timeout / 3  # for the requests, for the images of cancelled jobs, and for all other images
    metrics = Metrics()

    connect = partial(aiorbd.connect, options.conf, close_timeout=bound, observer=metrics.observe)

    async def stop_jobs(jobs: Jobs) -> None:
        while not server.should_exit:  # noqa: ASYNC110 - uvicorn has no event for it
            await anyio.sleep(0.1)
        jobs.stop()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with aiorbd.SharedConnection(connect, idle_timeout=5) as shared, anyio.create_task_group() as tasks:
            volumes = Volumes(options.pool, shared, Jobs(tasks), cleanup_timeout=bound / 2)
            app.state.volumes, app.state.metrics = volumes, metrics
            tasks.start_soon(count_usage, volumes, metrics, options.usage_interval)
            tasks.start_soon(stop_jobs, volumes.jobs)
            tasks.start_soon(clean, volumes)
            yield
            tasks.cancel_scope.cancel()

    app = FastAPI(title="Volumes", lifespan=lifespan)
    app.include_router(router)
    for kind in (aiorbd.Error, BusyError, RefusedError, UnknownJobError):
        app.add_exception_handler(kind, refuse)
    app.add_middleware(Deadline, seconds=options.deadline)
    config = uvicorn.Config(
        app, host=options.host, port=options.port, timeout_graceful_shutdown=max(1, int(bound)), access_log=False
    )
    server = uvicorn.Server(config)
    server.run()  # after a signal, it ends the process by the same signal


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conf", default=aiorbd.DEFAULT_CONF_FILES)
    parser.add_argument("--pool", default="rbd")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--deadline", type=float, default=10, help="the longest time of a request, in seconds")
    parser.add_argument("--usage-interval", type=float, default=60, help="seconds between two counts of used bytes")
    parser.add_argument("--stop-timeout", type=float, default=20, help="the longest time to stop, in seconds")
    return parser.parse_args()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    serve(arguments())
