"""Measure the duration of blocks, and how long the event loop was held up.

The figures exclude the time in which other threads used the cores, and the time in which the cores stood still.
But the OSD and librbd's threads also wait for cores. So limits are longer where other tests run meanwhile: `patience`.
"""

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Any

import anyio

#: The limits of seconds are this many times as long. The matrix, which runs several cells at a time, sets the variable.
PATIENCE = float(os.environ.get("AIORBD_TESTS_PATIENCE", "1"))


def patience(seconds: float) -> float:
    """Return the limit for something that takes less than `seconds` on a machine that runs nothing else."""
    return seconds * PATIENCE


def waited_for_a_core() -> float:
    """Return the seconds for which this thread was ready to run while other threads used the cores."""
    with open("/proc/thread-self/schedstat", encoding="ascii") as file:
        return int(file.read().split()[1]) / 1e9


@contextmanager
def took(less_than: float, *, at_least: float = 0, cpu: float = float("inf")) -> Iterator[None]:
    """Check that the block takes between `at_least` and `less_than` seconds, and less than `cpu` seconds of CPU.

    The CPU seconds are those of all threads, and have no `patience`. A timer may be early: libuv counts from the
    start of its loop's pass, and on a busy machine that start is some time ago.
    """
    start, waited, burnt = time.perf_counter(), waited_for_a_core(), time.process_time()
    yield
    seconds = time.perf_counter() - start
    assert seconds >= 0.8 * at_least
    assert seconds - (waited_for_a_core() - waited) < patience(less_than)
    assert time.process_time() - burnt < cpu


@contextmanager
def _witnesses() -> Iterator[list[tuple[float, float]]]:
    """Run a witness process on each core. After the block, the list has the periods in which a core stood still."""
    seen: list[tuple[float, float]] = []
    here, processes = os.path.dirname(__file__), []
    try:
        for core in sorted(os.sched_getaffinity(0)):
            program = [sys.executable, os.path.join(here, "programs/watch_a_core.py"), str(core)]
            processes.append(subprocess.Popen(program, cwd=here, stdout=subprocess.PIPE, text=True))
        for process in processes:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        yield seen
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
            lines = process.communicate()[0].split("\n")[:-1]
            seen += [(float(start), float(end)) for start, end in map(str.split, lines)]


class Lag:
    """The worst delay.

    Attributes:
        worst: Excludes the time for which the machine did not run the loop; set after the block.
        worst_by_the_clock: Includes that time.
    """

    worst = 0.0
    worst_by_the_clock = 0.0


@asynccontextmanager
async def measured_lag(interval: float = 0.005, *, witnessed: bool = True) -> AsyncIterator[Lag]:
    """Measure how late a short sleep wakes up while the block runs.

    With ``witnessed=False``, no witness processes run, and the cores' standstills are not subtracted.
    """
    lag, delays = Lag(), []

    async def measure() -> None:
        while True:
            due, waited = time.perf_counter() + interval, waited_for_a_core()
            await anyio.sleep(interval)
            now = time.perf_counter()
            lag.worst_by_the_clock = max(lag.worst_by_the_clock, now - due)
            delays.append((due, now, now - due - (waited_for_a_core() - waited)))

    witnesses: Any = _witnesses() if witnessed else nullcontext([])
    with witnesses as stood_still:
        _leave_the_heap_alone()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(measure)
            await anyio.sleep(0)
            yield lag
            tasks.cancel_scope.cancel()
    for due, now, late in delays:
        still = max((min(now, end) - max(due, start) for start, end in stood_still), default=0)
        lag.worst = max(lag.worst, late - max(0, still))


class Held:
    """The longest time for which the loop's thread was held up, in its own CPU seconds."""

    worst = 0.0


@asynccontextmanager
async def measured_hold() -> AsyncIterator[Held]:
    """Measure the CPU seconds of this thread between one pass of the loop and the next, while the block runs."""
    held = Held()

    async def watch() -> None:
        while True:
            before = time.thread_time()
            await anyio.sleep(0)
            held.worst = max(held.worst, time.thread_time() - before)

    _leave_the_heap_alone()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        await anyio.sleep(0.01)
        held.worst = 0.0
        yield held
        tasks.cancel_scope.cancel()


def _leave_the_heap_alone() -> None:
    """Freeze the heap, so that garbage collection skips the objects of earlier tests while the clock runs."""
    gc.collect()
    gc.freeze()
