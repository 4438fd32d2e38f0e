"""Many tasks use one image at once. librbd has each request when the submit call of the request returns."""

import json
import os
from pathlib import Path
from typing import Any

import anyio
import pytest
from fix_faults import opened
from fix_witness import Witness
from helpers import MakeImage
from inside import handle_of

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio

TASKS, BLOCK = 64, 4096


async def in_tasks(work: Any) -> None:
    """Run `work` ten times in each task."""

    async def task(number: int) -> None:
        for turn in range(10):
            await work(number, turn)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for number in range(TASKS):
                tasks.start_soon(task, number)


async def test_many_tasks_read_back_the_data_that_they_wrote(image: aiorbd.Image, witness: Witness) -> None:
    contents = bytearray(await image.size())

    async def write(number: int, _turn: Any) -> None:
        contents[number * BLOCK : (number + 1) * BLOCK] = data = os.urandom(BLOCK)
        assert await image.write(data, number * BLOCK) == BLOCK

    async def read(number: int, _turn: Any) -> None:
        assert await image.read(number * BLOCK, BLOCK) == contents[number * BLOCK : (number + 1) * BLOCK]

    for work in (write, read):
        await in_tasks(work)
    await image.flush()
    assert await witness.export(image.name) == contents


async def test_requests_are_submitted_without_a_wait_for_earlier_completions(osd: DevCluster, tmp_path: Path) -> None:
    """No request completes while the OSD is paused, and librados still has every request."""
    socket = tmp_path / "client.asok"

    stopped = False

    async def read(image: aiorbd.Image, number: int) -> None:
        while not stopped:
            await image.read(number * 512, 512)

    async with opened(osd, admin_socket=str(socket)) as image:
        async with anyio.create_task_group() as tasks:
            for number in range(500):
                tasks.start_soon(read, image, number)
            await anyio.sleep(0.3)
            osd.pause()
            await anyio.sleep(0.5)  # replies sent before the pause arrive, and their tasks read once more
            stopped = True
            waiting = image.in_flight
            requests = json.loads(await osd.run("ceph", "--admin-daemon", str(socket), "objecter_requests"))
            osd.resume()
    assert waiting > 100
    assert len(requests["ops"]) >= waiting


@pytest.mark.parametrize("kind", ["read", "write"])
async def test_requests_of_many_tasks_succeed_while_the_image_changes(image: aiorbd.Image, kind: str) -> None:
    handle = handle_of(image)
    await image.write(b"r" * TASKS * BLOCK, 0)

    async def work(number: int, turn: Any) -> None:
        if kind == "read":
            assert await image.read(number * BLOCK, BLOCK) == b"r" * BLOCK
        else:
            data = bytes([number, turn % 256]) * (BLOCK // 2)
            assert await image.write(data, number * BLOCK) == BLOCK
            assert await image.read(number * BLOCK, BLOCK) == data
        if not (number + turn) % 16:
            handle.lib.aiorbd_image_changed(handle.native)  # as after another client's resize

    await in_tasks(work)
    assert handle.in_flight == 0


async def test_cancelled_reads_of_many_tasks_leave_no_operation_in_flight(image: aiorbd.Image) -> None:
    data = os.urandom(TASKS * BLOCK)
    await image.write(data, 0)

    async def read(number: int, turn: Any) -> None:
        with anyio.CancelScope() as scope:
            if turn % 3 == 1:
                scope.deadline = anyio.current_time() + 0.0005
            got = await image.read(number * BLOCK, BLOCK)
            assert got == data[number * BLOCK : (number + 1) * BLOCK]

    await in_tasks(read)
    await image.drain()
    assert image.in_flight == 0


async def test_closing_an_image_raises_closed_error_in_the_tasks_that_read(
    ioctx: aiorbd.IoCtx, make_image: MakeImage
) -> None:
    image = await ioctx.open_image(await make_image())
    done = 0

    async def read() -> None:
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
