"""A table of operations with its compiled half, over the fake librbd."""

import asyncio
import functools
import itertools

from fake import bridge, fake, ffi, image, pending

from aiorbd._native.table import Entry, ImageOwner, Table

complaints, settled, told = [], [], []


class Mine(ImageOwner):
    def on_idle(self):
        told.append(self.in_flight)


class Operation(Entry):
    __slots__ = ()


class Special(Operation):
    def settle(self):
        settled.append(self.value)

    def settle_again(self):
        settled.append(("again", self.value))


class Ours(Table):
    def _complain(self, number, error):
        complaints.append((number, type(error)))


class Adapter:
    def __init__(self):
        self.woken = []

    def wake(self, entry):
        self.woken.append(entry.value)


def make(native=None, is_current=None, kind=Ours):
    is_current = is_current or (functools.partial(asyncio.current_task, native) if native else lambda: True)
    table = kind(Operation, Adapter(), is_current, native, itertools.count(1))
    table.queue_address = int(ffi.cast("uintptr_t", bridge))
    owner = Mine()
    owner.usable, owner.size = True, 1 << 20
    owner.image_address = int(ffi.cast("uintptr_t", image))
    return table, owner


def complete(index, value):
    fake.fake_complete(pending[index], value)


async def until(reached):
    async with asyncio.timeout(10):
        while not reached():
            await asyncio.sleep(0)


async def drained(table):
    asyncio.get_running_loop().call_soon(table.drain)  # where the loop calls it: in no task
    await asyncio.sleep(0)


def reading(table, owner):
    async def read():
        await table.read(owner, 0, 64)

    return asyncio.create_task(read())


def entry_of(owner, kind=Operation):
    entry = kind()
    entry.owner = owner
    return entry


data = b"w" * 64
