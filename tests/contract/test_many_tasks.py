"""Many tasks at one image: librbd has each request when its submit returns, whatever happens meanwhile."""

import json
import os

import anyio
import pytest
from fix_faults import opened

import aiorbd

pytestmark = pytest.mark.anyio

TASKS, BLOCK = 64, 4096


async def in_tasks(work):
    """Let each task do its work ten times."""

    async def task(number):
        for turn in range(10):
            await work(number, turn)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for number in range(TASKS):
                tasks.start_soon(task, number)


async def test_what_many_tasks_write_is_what_they_read(image, witness):
    contents = bytearray(await image.size())

    async def write(number, _turn):
        contents[number * BLOCK : (number + 1) * BLOCK] = data = os.urandom(BLOCK)
        assert await image.write(data, number * BLOCK) == BLOCK

    async def read(number, _turn):
        assert await image.read(number * BLOCK, BLOCK) == contents[number * BLOCK : (number + 1) * BLOCK]

    for work in (write, read):
        await in_tasks(work)
    await image.flush()
    assert await witness.export(image.name) == contents


async def test_no_request_waits_for_the_completion_of_another_one(osd, tmp_path):
    """With the OSD stopped nothing is completed, and librados has all of many requests all the same."""
    socket = tmp_path / "client.asok"

    stopped = False

    async def read(image, number):
        while not stopped:
            await image.read(number * 512, 512)

    async with opened(osd, admin_socket=str(socket)) as image:
        async with anyio.create_task_group() as tasks:
            for number in range(500):
                tasks.start_soon(read, image, number)
            await anyio.sleep(0.3)
            osd.pause()
            await anyio.sleep(0.5)  # what the OSD has answered comes, and its tasks read once more
            stopped = True
            waiting = image.in_flight
            requests = json.loads(await osd.run("ceph", "--admin-daemon", str(socket), "objecter_requests"))
            osd.resume()
    assert waiting > 100
    assert len(requests["ops"]) >= waiting


@pytest.mark.parametrize("kind", ["read", "write"])
async def test_an_image_that_changes_meanwhile(image, kind):
    handle = image._handle
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

    await in_tasks(work)
    assert handle.in_flight == 0


async def test_cancelled_reads(image):
    data = os.urandom(TASKS * BLOCK)
    await image.write(data, 0)

    async def read(number, turn):
        with anyio.CancelScope() as scope:
            if turn % 3 == 1:
                scope.deadline = anyio.current_time() + 0.0005
            got = await image.read(number * BLOCK, BLOCK)
            assert got == data[number * BLOCK : (number + 1) * BLOCK]

    await in_tasks(read)
    await image.drain()
    assert image.in_flight == 0


async def test_closing_while_many_tasks_read(ioctx, make_image):
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
