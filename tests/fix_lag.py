"""How long the event loop was held up."""

import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio


class Lag:
    """The worst delay seen."""

    worst = 0.0


@asynccontextmanager
async def measured_lag(interval: float = 0.005) -> AsyncIterator[Lag]:
    """Measure how late a short sleep wakes up while the block runs."""
    lag = Lag()

    async def measure() -> None:
        while True:
            start = time.perf_counter()
            await anyio.sleep(interval)
            lag.worst = max(lag.worst, time.perf_counter() - start - interval)

    # What the tests before this left on the heap is not looked through while the clock runs.
    gc.collect()
    gc.freeze()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(measure)
            await anyio.sleep(0)
            yield lag
            tasks.cancel_scope.cancel()
    finally:
        gc.unfreeze()


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

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        await anyio.sleep(0.01)
        held.worst = 0.0
        yield held
        tasks.cancel_scope.cancel()
