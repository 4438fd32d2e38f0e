"""Event loops in several threads of one process, each with its own connection.

Without the GIL, the event loops run in parallel.
"""

import gc
import hashlib
import random
import sys
import sysconfig
import threading
import time
from typing import Any

import anyio
import pytest
from helpers import BACKENDS, descriptors, new_name, threads

import aiorbd
from aiorbd.testing import DevCluster

SIZE = 4 << 20
CHUNK = 4096


if sysconfig.get_config_var("Py_GIL_DISABLED"):

    def test_loading_the_bridge_keeps_the_gil_off() -> None:
        """An extension that does not declare itself safe turns the GIL on."""
        assert aiorbd._native.loader.bridge()
        assert not getattr(sys, "_is_gil_enabled")()  # noqa: B009 - Python 3.13 has it


async def use(conffile: str, seed: int) -> Any:
    """Write random data with each kind of write, and read the image with each kind of read.

    Return the digest of the expected data and the digests of the data read.
    """
    chance, wanted, name = random.Random(seed), bytearray(SIZE), new_name()
    async with aiorbd.connect(conffile, timeout=60) as cluster, cluster.open_ioctx("rbd") as ioctx:
        await ioctx.create_image(name, SIZE)
        async with ioctx.open_image(name) as image:

            async def change(offset: int) -> None:
                data = chance.randbytes(CHUNK)
                wanted[offset : offset + CHUNK] = data
                await image.write(data, offset)

            offsets = chance.sample(range(0, SIZE, CHUNK), 384)
            async with anyio.create_task_group() as tasks:
                for offset in offsets[:128]:
                    tasks.start_soon(change, offset)
            async with image.writer() as writer:
                for offset in offsets[128:256]:
                    wanted[offset : offset + CHUNK] = data = chance.randbytes(CHUNK)
                    await writer.write(data, offset)
            await image.create_snapshot("middle")  # runs on a worker thread
            async with anyio.create_task_group() as tasks:
                for offset in offsets[256:]:
                    tasks.start_soon(change, offset)
                for offset in offsets[:64]:  # and cancel some reads
                    with anyio.move_on_after(0):
                        await image.read(offset, CHUNK)
            found = bytearray(SIZE)
            async for chunk in image.read_extents(chunk_size=16 * CHUNK, ordered=False):
                found[chunk.offset : chunk.offset + chunk.length] = chunk.data or bytes(chunk.length)
            one = b"".join([await image.read(offset, SIZE // 16) for offset in range(0, SIZE, SIZE // 16)])
            changed = [extent async for extent in image.diff(from_snapshot="middle")]
            assert sum(extent.length for extent in changed) >= 128 * CHUNK
            await image.drain(30)
            assert image.in_flight == 0
        return [hashlib.sha256(data).hexdigest() for data in (wanted, found, one)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_loop_reads_the_data_that_it_wrote(aiorbd_cluster: DevCluster, backend: Any) -> None:
    digests, errors, begin = {}, [], threading.Barrier(4)

    def run(number: int) -> None:
        try:
            begin.wait(30)
            for turn in range(2):  # connections open and close while other loops work
                name, options = backend
                seed = (number, turn)
                digests[seed] = anyio.run(
                    use, aiorbd_cluster.conffile, hash(seed), backend=name, backend_options=options
                )
        except BaseException as error:  # noqa: BLE001 - the test fails with this error
            errors.append(error)

    before = descriptors()
    loops = [threading.Thread(target=run, args=[number]) for number in range(4)]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join(120)
    assert not errors
    assert len(digests) == 8
    for wanted, found, one in digests.values():
        assert wanted == found == one
    end = time.monotonic() + 10
    while descriptors() > before + 8 and time.monotonic() < end:
        time.sleep(0.05)  # librados's own threads close sockets a moment later
        gc.collect()
    assert descriptors() <= before + 8
    assert threads() < 200
