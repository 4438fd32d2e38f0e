"""The gate of an image alone: calls that wait for each other, their order, and the effects of a cancelled wait."""

import asyncio
from typing import Any

import pytest

from aiorbd._image.gate import COPY_TARGET, RULES, Gate, Mode, gate_of, mode_of
from aiorbd._native._declared import SINCE

SHARED, LONG, HEADER, OBJECTS, ALONE = Mode.SHARED, Mode.LONG, Mode.HEADER, Mode.OBJECTS, Mode.ALONE


class Handle:
    """The part of an image's handle that the gate uses."""

    def __init__(self, gate: Any) -> None:
        self.gate, self.usable, self.barred, self.data = gate, True, False, 0
        self.maintenance = self
        self.changed = asyncio.Event()
        gate.add(self)

    def bar(self, *, barred: Any) -> None:
        self.barred = barred

    def wake_waiters(self) -> None:
        self.changed.set()

    def check(self) -> None:
        if not self.usable:
            raise RuntimeError("closed")

    async def wait_while_usable(self, reached: Any) -> None:
        while self.usable and not reached():
            self.changed.clear()
            await self.changed.wait()
        self.check()

    async def wait_for_data(self, waiting: Any) -> None:
        while self.data:
            self.changed.clear()
            await self.changed.wait()
        waiting.check()

    def finish_data(self) -> None:
        self.data = 0
        self.wake_waiters()

    def enter(self, mode: Any) -> Any:
        return asyncio.create_task(self.gate.enter(self, mode))


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def is_waiting(task: Any) -> Any:
    await settled()
    return not task.done()


BESIDE = [
    (SHARED, SHARED, True),
    (SHARED, LONG, True),
    (SHARED, HEADER, True),
    (SHARED, OBJECTS, True),
    (SHARED, ALONE, False),
    (LONG, LONG, True),
    (LONG, HEADER, True),
    (LONG, OBJECTS, True),
    (LONG, ALONE, False),
    (HEADER, HEADER, False),
    (HEADER, OBJECTS, True),
    (HEADER, HEADER | OBJECTS, False),
    (HEADER, ALONE, False),
    (OBJECTS, OBJECTS, False),
    (OBJECTS, HEADER | OBJECTS, False),
    (OBJECTS, ALONE, False),
    (ALONE, ALONE, False),
]


@pytest.mark.parametrize(("one", "other", "together"), [*BESIDE, *((b, a, t) for a, b, t in BESIDE if a != b)])
def test_modes_run_together_or_exclude_each_other(one: Any, other: Any, together: Any) -> None:
    async def main() -> None:
        handle = Handle(Gate())
        leave = await handle.enter(one)
        second = handle.enter(other)
        assert await is_waiting(second) is not together
        leave()
        (await asyncio.wait_for(second, 5))()

    asyncio.run(main())


def test_calls_that_exclude_each_other_run_in_order_of_arrival() -> None:
    async def main() -> None:
        handle = Handle(Gate())
        leave = await handle.enter(HEADER)
        tasks = [handle.enter(mode) for mode in (HEADER, ALONE, HEADER)]
        for number, task in enumerate(tasks):
            await settled()
            assert not any(later.done() for later in tasks[number:])
            leave()
            leave = await asyncio.wait_for(task, 5)
        leave()

    asyncio.run(main())


def test_cancelled_wait_holds_up_no_call() -> None:
    async def main() -> None:
        handle = Handle(Gate())
        handle.data = 1
        for mode in (HEADER, ALONE):
            leave = await handle.enter(HEADER)
            waiting = handle.enter(mode)
            await settled()
            waiting.cancel()
            await settled()
            assert waiting.cancelled()
            leave()
        draining = handle.enter(ALONE)
        assert await is_waiting(draining)
        assert handle.barred
        draining.cancel()
        await settled()
        assert not handle.barred
        (await asyncio.wait_for(handle.enter(OBJECTS), 5))()

    asyncio.run(main())


def test_long_call_delays_an_excluding_call_but_no_write() -> None:
    async def main() -> None:
        handle = Handle(Gate())
        copying = await handle.enter(LONG)
        alone = handle.enter(ALONE)
        assert await is_waiting(alone)
        assert not handle.barred
        (await asyncio.wait_for(handle.enter(SHARED), 5))()
        copying()
        leave = await asyncio.wait_for(alone, 5)
        assert handle.barred
        leave()
        assert not handle.barred

    asyncio.run(main())


def test_excluding_call_waits_for_the_data_of_all_handles() -> None:
    async def main() -> None:
        gate = Gate()
        one, other = Handle(gate), Handle(gate)
        other.data = 1
        alone = one.enter(ALONE)
        assert await is_waiting(alone)
        assert one.barred
        assert other.barred
        other.finish_data()
        (await asyncio.wait_for(alone, 5))()
        assert not (one.barred)
        assert not (other.barred)

    asyncio.run(main())


def test_snapshot_change_holds_up_the_data_of_other_handles_only() -> None:
    async def main() -> None:
        gate = Gate()
        one, other = Handle(gate), Handle(gate)
        one.data = 1
        leave = await asyncio.wait_for(one.enter(HEADER), 5)
        assert other.barred
        assert not one.barred
        late = Handle(gate)
        assert late.barred
        leave()
        assert not (other.barred)
        assert not (late.barred)

    asyncio.run(main())


def test_closed_handle_stops_waiting() -> None:
    async def main() -> None:
        gate = Gate()
        one, other = Handle(gate), Handle(gate)
        leave = await one.enter(HEADER)
        waiting = other.enter(HEADER)
        assert await is_waiting(waiting)
        other.usable = False
        other.wake_waiters()
        with pytest.raises(RuntimeError, match="closed"):
            await asyncio.wait_for(waiting, 5)
        leave()
        (await asyncio.wait_for(one.enter(ALONE), 5))()

    asyncio.run(main())


def test_each_rule_names_a_function_of_librbd_and_a_fault() -> None:
    assert not set(RULES) - set(SINCE)
    for function, (mode, fault) in RULES.items():
        assert mode is not SHARED, function
        assert fault, function
    assert mode_of("rbd_get_size") is SHARED
    assert mode_of("rbd_update_features") is ALONE
    assert COPY_TARGET is OBJECTS


def test_image_has_one_gate_while_a_handle_keeps_it() -> None:
    class Connection:
        pass

    one, other = Connection(), Connection()
    first = gate_of(one, (1, "", "a"))
    assert gate_of(one, (1, "", "a")) is first
    assert gate_of(one, (1, "", "b")) is not first
    assert gate_of(other, (1, "", "a")) is not first


def test_calls_that_may_break_a_lock_run_while_an_excluding_call_waits_for_writes() -> None:
    async def main() -> None:
        handle = Handle(Gate())
        handle.data = 1  # a write that waits for the lock
        alone = handle.enter(ALONE)
        assert await is_waiting(alone)
        unlock = await asyncio.wait_for(handle.enter(SHARED), 5)
        handle.finish_data()
        assert await is_waiting(alone)
        unlock()
        leave = await asyncio.wait_for(alone, 5)
        late = handle.enter(SHARED)
        assert await is_waiting(late)
        leave()
        (await asyncio.wait_for(late, 5))()

    asyncio.run(main())


def test_nested_call_overtakes_a_call_that_waits_for_its_first_part() -> None:
    async def main() -> None:
        gate = Gate()
        handle: Any = Handle(gate)
        leave = await gate.enter(handle, OBJECTS)
        alone = handle.enter(ALONE)
        assert await is_waiting(alone)
        copy = await asyncio.wait_for(gate.enter(handle, LONG, nested=True), 5)
        copy()
        leave()
        (await asyncio.wait_for(alone, 5))()

    asyncio.run(main())
