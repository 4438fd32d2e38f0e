"""How long things take, and how long the event loop was held up.

What the machine's cores did for others meanwhile does not count, nor when they stood still.
"""

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext

import anyio


def waited_for_a_core() -> float:
    """How many seconds this thread was ready to run while the cores ran others."""
    with open("/proc/thread-self/schedstat", encoding="ascii") as file:
        return int(file.read().split()[1]) / 1e9


@contextmanager
def took(less_than: float, *, at_least: float = 0, cpu: float = float("inf")) -> Iterator[None]:
    """See to it that the block takes so many seconds, and less than so many of all threads' CPU.

    A timer may be early: libuv counts from when its loop's pass began, which a busy machine makes some time ago.
    """
    start, waited, burnt = time.perf_counter(), waited_for_a_core(), time.process_time()
    yield
    seconds = time.perf_counter() - start
    assert seconds >= 0.8 * at_least
    assert seconds - (waited_for_a_core() - waited) < less_than
    assert time.process_time() - burnt < cpu


#: What notices that a core stood still, as those of a virtual machine do when its host has others to serve: it sleeps,
#: on that core, and prints from when to when it was asleep for longer, but for its own waiting for the core.
_WITNESS = """
import os, sys, time
from fix_lag import waited_for_a_core
parent = os.getppid()
os.sched_setaffinity(0, {int(sys.argv[1])})
print("ready", flush=True)
while os.getppid() == parent:
    start, waited = time.perf_counter() + 0.005, waited_for_a_core()
    time.sleep(0.005)
    end = time.perf_counter() - (waited_for_a_core() - waited)
    if end - start > 0.01:
        print(start, end, flush=True)
"""


@contextmanager
def _witnesses() -> Iterator[list[tuple[float, float]]]:
    """A process on each core; what they saw is in the list when the block is over."""
    seen: list[tuple[float, float]] = []
    here, processes = os.path.dirname(__file__), []
    try:
        for core in sorted(os.sched_getaffinity(0)):
            program = [sys.executable, "-c", _WITNESS, str(core)]
            processes.append(subprocess.Popen(program, cwd=here, stdout=subprocess.PIPE, text=True))
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        yield seen
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
            lines = process.communicate()[0].split("\n")[:-1]
            seen += [(float(start), float(end)) for start, end in map(str.split, lines)]


class Lag:
    """The worst delay seen: `worst`, known after the block, is without the time for which the machine ran no loop."""

    worst = 0.0
    worst_by_the_clock = 0.0


@asynccontextmanager
async def measured_lag(interval: float = 0.005, *, witnessed: bool = True) -> AsyncIterator[Lag]:
    """Measure how late a short sleep wakes up while the block runs; by the clock alone, if not witnessed."""
    lag, delays = Lag(), []

    async def measure() -> None:
        while True:
            due, waited = time.perf_counter() + interval, waited_for_a_core()
            await anyio.sleep(interval)
            now = time.perf_counter()
            lag.worst_by_the_clock = max(lag.worst_by_the_clock, now - due)
            delays.append((due, now, now - due - (waited_for_a_core() - waited)))

    with _witnesses() if witnessed else nullcontext([]) as stood_still:
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
    """How long the loop's thread was held up in one go, by its own count: what others did on the cores is not its."""

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
    """What the tests before this left on the heap is not looked through while the clock runs."""
    gc.collect()
    gc.freeze()
