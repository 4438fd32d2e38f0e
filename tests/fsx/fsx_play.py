"""Play schedules: many concurrent operations, then the verification. Find the shortest schedule that still fails."""

import dataclasses
import time
from collections import Counter
from functools import partial
from typing import Any

import anyio
from fsx_data import DATA
from fsx_run import ORDER, UNITS, Run, Stuck
from fsx_schedule import ALONE, Schedule, Step
from fsx_structure import STRUCTURE
from fsx_verify import verify, verify_elsewhere

import aiorbd
from aiorbd.testing import DevCluster

OPERATIONS = {operation.__name__: operation for operation in DATA + STRUCTURE}
WORKERS = 8

Counts = Counter[tuple[str, str]]


async def play(ceph: DevCluster, schedule: Schedule, counts: Counts) -> None:
    """Play one schedule and count the operations by kind and outcome. Raise when the content is wrong."""
    name = f"fsx-{schedule.seed}-{time.monotonic_ns()}"
    run: Run | None = None
    try:
        with anyio.fail_after(300):
            async with aiorbd.connect(ceph.conffile, conf=schedule.conf, timeout=30) as cluster:
                async with cluster.open_ioctx("rbd") as ioctx:
                    run = Run(schedule, ceph, ioctx, name)
                    await _play_on_image(run)
    except aiorbd.CloseTimeout:
        if run is None or not run.stuck:
            raise
    finally:
        counts.update(run.counts if run is not None else {})


async def _play_on_image(run: Run) -> None:
    await run.ioctx.create_image(run.name, UNITS * run.model.unit, order=ORDER)
    run.image = await run.ioctx.open_image(run.name)
    try:
        try:
            await _play_steps(run, list(reversed(run.schedule.steps)))
            await run.quiet()
        except* Stuck as stuck:
            run.stuck = True
            run.counts["schedule", "stuck"] += 1
            print(f"seed {run.schedule.seed}: librbd is stuck in {run.running}, {stuck.exceptions}", flush=True)
        if run.stuck:
            await verify_elsewhere(run)
        else:
            await verify(run)
    finally:
        with anyio.CancelScope(shield=True):
            run.ceph.resume()
            try:
                await run.image.close(timeout=1 if run.stuck else 30)
            except aiorbd.CloseTimeout:
                if not run.stuck:
                    raise


async def _play_steps(run: Run, steps: list[Step]) -> None:
    while steps:
        async with anyio.create_task_group() as tasks:
            for _ in range(WORKERS):
                tasks.start_soon(_work, run, steps, tasks)
        if steps:  # the next step must run alone
            step = steps.pop()
            await run.quiet()
            await _play_step(run, step)


async def _work(run: Run, steps: list[Step], tasks: Any) -> None:
    while steps and steps[-1].kind not in ALONE:
        step = steps.pop()
        if step.fault is not None:
            tasks.start_soon(run.fault, *step.fault)
        await _play_step(run, step)


async def _play_step(run: Run, step: Step) -> None:
    run.running[step.number] = step.kind
    await OPERATIONS[step.kind](run, step)
    del run.running[step.number]  # after an error it stays, so that the message can name it


def failure(ceph: DevCluster, schedule: Schedule) -> BaseException | None:
    """Play one schedule and return its failure, or None."""
    try:
        anyio.run(partial(play, ceph, schedule, Counter()), backend=schedule.backend)
    except Exception as error:  # noqa: BLE001 - any failure is a finding
        return cause(error)
    return None


def cause(error: BaseException) -> BaseException:
    """Return the first of several concurrent failures."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def minimize(ceph: DevCluster, schedule: Schedule, kind: type[BaseException], tries: int = 3) -> Schedule:
    """Leave out as many steps as possible while this kind of failure remains. Another kind is another failure."""
    size = max(1, len(schedule.steps) // 2)
    while size:
        at = 0
        while at < len(schedule.steps):
            shorter = dataclasses.replace(schedule, steps=schedule.steps[:at] + schedule.steps[at + size :])
            if any(type(failure(ceph, shorter)) is kind for _ in range(tries)):
                schedule = shorter
            else:
                at += size
        size //= 2
    return schedule
