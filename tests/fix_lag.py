"""How long things take, and how long the event loop was held up.

What the machine's cores did for others meanwhile does not count.
"""

import gc
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

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


class Lag:
    """The worst delay seen: `worst` is without the time for which the machine had no core to run the loop on."""

    worst = 0.0
    worst_by_the_clock = 0.0


@asynccontextmanager
async def measured_lag(interval: float = 0.005) -> AsyncIterator[Lag]:
    """Measure how late a short sleep wakes up while the block runs."""
    lag = Lag()

    async def measure() -> None:
        while True:
            start, waited = time.perf_counter(), waited_for_a_core()
            await anyio.sleep(interval)
            late = time.perf_counter() - start - interval
            lag.worst_by_the_clock = max(lag.worst_by_the_clock, late)
            lag.worst = max(lag.worst, late - (waited_for_a_core() - waited))

    _leave_the_heap_alone()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(measure)
        await anyio.sleep(0)
        yield lag
        tasks.cancel_scope.cancel()


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
