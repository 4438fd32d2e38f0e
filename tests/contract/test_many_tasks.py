"""Many tasks at one image: what they leave to librbd's threads to submit arrives, whatever happens meanwhile."""

import os
from itertools import count

import anyio
import pytest

import aiorbd

pytestmark = pytest.mark.anyio

TASKS, BLOCK = 32, 4096


@pytest.fixture
def left(image, monkeypatch):
    """Entries of the table that were begun, and the alarms that were set for those that wait."""
    bridge = image._handle.bridge
    entries, alarms = [], []

    def noting(begin):
        def noted(*arguments):
            entry = begin(*arguments)
            if entry is not None:
                entries.append(entry)
            return entry

        return noted

    def later(seconds, callback, *arguments, real=bridge.loop.later):
        alarms.append(callback)
        real(seconds, callback, *arguments)

    monkeypatch.setattr(bridge, "read", noting(bridge.read), raising=False)
    monkeypatch.setattr(bridge, "write", noting(bridge.write), raising=False)
    monkeypatch.setattr(bridge.loop, "later", later)
    return entries, alarms


async def in_tasks(work, until):
    """Let each task do its work again and again, at least ten times and until that is so."""

    async def task(number):
        for turn in count():
            if turn >= 10 and until():
                return
            await work(number, turn)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for number in range(TASKS):
                tasks.start_soon(task, number)


async def test_what_is_left_to_others_to_submit_arrives(image, left, witness):
    _, alarms = left
    contents = bytearray(await image.size())

    async def write(number, _turn):
        contents[number * BLOCK : (number + 1) * BLOCK] = data = os.urandom(BLOCK)
        assert await image.write(data, number * BLOCK) == BLOCK

    async def read(number, _turn):
        assert await image.read(number * BLOCK, BLOCK) == contents[number * BLOCK : (number + 1) * BLOCK]

    for work in (write, read):
        alarms.clear()
        await in_tasks(work, lambda: alarms)
        assert image._handle.bridge.hurry in alarms
    await image.flush()
    assert await witness.export(image.name) == contents


@pytest.mark.parametrize("kind", ["read", "write"])
async def test_an_image_that_changes_before_what_waits_is_submitted(image, left, kind):
    entries, _ = left
    handle = image._handle
    stale = handle.lib.AIORBD_STALE_BY_NOW
    await image.write(b"r" * TASKS * BLOCK, 0)

    async def work(number, turn):
        if kind == "read":
            assert await image.read(number * BLOCK, BLOCK) == b"r" * BLOCK
        else:
            data = bytes([number, turn % 256]) * (BLOCK // 2)
            assert await image.write(data, number * BLOCK) == BLOCK
            assert await image.read(number * BLOCK, BLOCK) == data
        if not (number + turn) % 16:
            handle.lib.aiorbd_image_changed(handle.native)  # as another client's resize does

    await in_tasks(work, lambda: any(entry.value == stale for entry in entries))
    assert handle.in_flight == 0


async def test_cancelling_what_waits(image, left):
    _, alarms = left
    data = os.urandom(TASKS * BLOCK)
    await image.write(data, 0)

    async def read(number, turn):
        with anyio.CancelScope() as scope:
            if turn % 3 == 1:
                scope.deadline = anyio.current_time() + 0.0005
            got = await image.read(number * BLOCK, BLOCK)
            assert got == data[number * BLOCK : (number + 1) * BLOCK]

    await in_tasks(read, lambda: alarms)
    await image.drain()
    assert image.in_flight == 0


async def test_closing_while_something_waits(ioctx, make_image):
    image = await ioctx.open_image(await make_image())
    done = 0

    async def read():
        nonlocal done
        with pytest.raises(aiorbd.ClosedError):
            while True:
                assert await image.read(0, BLOCK) == bytes(BLOCK)
                done += 1

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for _ in range(TASKS):
                tasks.start_soon(read)
            while done < 100 * TASKS:
                await anyio.sleep(0.001)
            await image.close()
    assert image.in_flight == 0
