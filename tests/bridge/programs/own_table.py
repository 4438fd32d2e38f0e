"""A table of operations with its compiled half, over the fake librbd."""

import asyncio
import functools
import itertools
from typing import Any

from fake import bridge, fake, ffi, image, pending

from aiorbd._native.table import Entry, ImageOwner, Table

complaints: list[Any] = []
settled: list[Any] = []
told: list[Any] = []


class Mine(ImageOwner):
    def on_idle(self) -> None:
        told.append(self.in_flight)


class Operation(Entry):
    __slots__ = ()


class Special(Operation):
    def settle(self) -> None:
        settled.append(self.value)

    def settle_again(self) -> None:
        settled.append(("again", self.value))


class Ours(Table):
    def _complain(self, number: int, error: Any) -> None:
        complaints.append((number, type(error)))


class Adapter:
    def __init__(self) -> None:
        self.woken: list[Any] = []

    def wake(self, entry: Any) -> None:
        self.woken.append(entry.value)


def make(native: Any = None, is_current: Any = None, kind: Any = Ours) -> Any:
    is_current = is_current or (functools.partial(asyncio.current_task, native) if native else lambda: True)
    table = kind(Operation, Adapter(), is_current, native, itertools.count(1))
    table.queue_address = int(ffi.cast("uintptr_t", bridge))
    owner = Mine()
    owner.usable, owner.size = True, 1 << 20
    owner.image_address = int(ffi.cast("uintptr_t", image))
    return table, owner


def complete(index: Any, value: Any) -> None:
    fake.fake_complete(pending[index], value)


async def until(reached: Any) -> None:
    async with asyncio.timeout(10):
        while not reached():
            await asyncio.sleep(0)


async def drained(table: Any) -> None:
    asyncio.get_running_loop().call_soon(table.drain)  # where the loop calls it: in no task
    await asyncio.sleep(0)


def reading(table: Any, owner: Any) -> Any:
    async def read() -> None:
        await table.read(owner, 0, 64)

    return asyncio.create_task(read())


def entry_of(owner: Any, kind: Any = Operation) -> Any:
    entry = kind()
    entry.owner = owner
    return entry


data = b"w" * 64
