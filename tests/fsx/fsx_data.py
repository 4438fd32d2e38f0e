"""The operations on data: reads, which the model checks, and changes, which the model records."""

from collections.abc import Callable
from typing import Any

from fsx_model import ZERO, Change, Discrepancy
from fsx_run import Extent, Run
from fsx_schedule import Step

import aiorbd

SECTOR = 512
GRANULARITY = 4096  # of discards: librbd rounds to this size, and may leave smaller ranges as they were

# -- reads -------------------------------------------------------------------------------------


async def look(run: Run, step: Step, call: Callable[[int, int], Any]) -> None:
    """Read an extent with `call`, which gets the offset and the size."""
    at, begun = run.extent(step), run.model.begin_look()
    label = f"#{step.number} {step.kind} {at}"
    try:
        with run.sizes.meanwhile() as sizes:
            outcome, data = await run.attempt(step, lambda: call(at.offset, at.size), aiorbd.PastEndOfImage)
        if outcome == "done":
            run.model.check(label, data, at.first, [run.model.allowed(unit, begun) for unit in at.units])
        elif outcome == "error" and at.units[-1] < min(sizes):
            raise Discrepancy(f"{label}: {data}, but the size is {sizes}")
    finally:
        run.model.end_look(begun)


async def read(run: Run, step: Step) -> None:
    await look(run, step, run.image.read)


async def read_into(run: Run, step: Step) -> None:
    async def call(offset: int, size: int) -> bytearray:
        buffer = bytearray(b"?" * size)
        await run.image.read_into(buffer, offset)
        return buffer

    await look(run, step, call)


async def readv(run: Run, step: Step) -> None:
    async def call(offset: int, size: int) -> bytes:
        buffers = bytearray(size // 3), bytearray(size - size // 3)
        await run.image.readv([buffer for buffer in buffers if buffer], offset)
        return b"".join(buffers)

    await look(run, step, call)


# -- changes -----------------------------------------------------------------------------------


async def change(
    run: Run, step: Step, at: Extent, value: int, call: Callable[[], Any], *, sure: bool = True, note: str = ""
) -> Change:
    """Give an extent a value. A change that is not sure may leave the old content, even when it succeeds."""
    label = f"#{step.number} {step.kind} {at}{note}"
    begun = run.model.begin(label, dict.fromkeys(at.units, frozenset([value])))
    with run.sizes.meanwhile() as sizes:
        outcome, error = await run.attempt(step, call, aiorbd.PastEndOfImage, aiorbd.CompareMismatch)
    if outcome == "done" and sure:
        run.model.done(begun)
    elif outcome == "cancelled":
        run.model.perhaps(begun, over=False)
    elif isinstance(error, aiorbd.CompareMismatch):
        run.model.refused(begun)
        raise error
    elif outcome == "error" and at.units[-1] < min(sizes):
        raise Discrepancy(f"{label}: {error}, but the size is {sizes}")
    else:
        run.model.perhaps(begun, over=True)
    return begun


def pattern(run: Run, step: Step, at: Extent) -> bytes:
    return b"".join(run.model.pattern(step.number, unit) for unit in at.units)


async def write(run: Run, step: Step) -> None:
    at = run.extent(step)
    data = pattern(run, step, at)
    await change(run, step, at, step.number, lambda: run.image.write(data, at.offset))


async def writev(run: Run, step: Step) -> None:
    at = run.extent(step)
    data = pattern(run, step, at)
    await change(run, step, at, step.number, lambda: run.image.writev([data[:7], data[7:]], at.offset))


async def write_same(run: Run, step: Step) -> None:
    at = run.extent(step)
    run.model.same.add(step.number)
    data = run.model.pattern(step.number, at.first)
    await change(run, step, at, step.number, lambda: run.image.write_same(data, at.offset, at.size))


async def discard(run: Run, step: Step) -> None:
    at = run.extent(step)
    exact = at.unit % GRANULARITY == 0
    await change(run, step, at, ZERO, lambda: run.image.discard(at.offset, at.size), sure=exact)


async def write_zeroes(run: Run, step: Step) -> None:
    at, thick = run.extent(step), step.where < 0.3
    await change(run, step, at, ZERO, lambda: run.image.write_zeroes(at.offset, at.size, thick=thick))


async def compare_and_write(run: Run, step: Step) -> None:
    at = Extent(run.extent(step).first, 1, run.model.unit)
    if at.offset % SECTOR + at.size > SECTOR:
        return  # librbd compares within one sector
    conf = run.schedule.conf
    if conf["rbd_cache"] == "true" and conf["rbd_cache_policy"] != "writearound":
        return  # refused, since librbd's cache would not notice the write
    model, unit = run.model, at.first
    guess = max(model.allowed(unit, model.clock))
    compare, data = model.pattern(guess, unit), model.pattern(step.number, unit)
    begun = model.begin_look()
    try:
        changed = await change(
            run, step, at, step.number, lambda: run.image.compare_and_write(compare, data, at.offset),
            note=f" if it holds {guess}",
        )  # fmt: skip
    except aiorbd.CompareMismatch as error:
        if model.allowed(unit, begun) == {guess}:
            raise Discrepancy(f"#{step.number}: {error}, but only {guess} can be there") from None
    else:
        if changed.outcome == "done" and guess not in model.allowed(unit, begun):
            raise Discrepancy(f"#{step.number}: {guess} was found in unit {unit}, and cannot have been there")
    finally:
        model.end_look(begun)


async def flush(run: Run, step: Step) -> None:
    await run.attempt(step, run.image.flush)


async def drain(run: Run, step: Step) -> None:
    await run.attempt(step, run.image.drain)


DATA = (
    read, read_into, readv, write, writev, write_same, discard, write_zeroes, compare_and_write, flush, drain,
)  # fmt: skip
