"""With ten thousand snapshots or a hundred thousand extents, the loop stays free and memory bounded."""

import time
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from fix_lag import measured_hold
from fix_snapshots import add_snapshots
from helpers import new_name, resident_bytes

import aiorbd
from aiorbd import Feature
from aiorbd.testing import DevCluster

SNAPSHOTS, EXTENTS = 10_000, 100_000
MIB = 1 << 20


@pytest.fixture(scope="module")
def prepared() -> Iterator[Any]:
    """Start a cluster with an image of very many snapshots, and an image of very many extents."""
    names = new_name(), new_name()

    async def prepare(conffile: str) -> None:
        async with aiorbd.connect(conffile) as connection, connection.open_ioctx("rbd") as ioctx:
            await ioctx.create_image(names[0], 0, features=Feature.LAYERING)
            await add_snapshots(ioctx, names[0], SNAPSHOTS)
            await ioctx.create_image(names[1], EXTENTS * 8192, order=12)  # every other object has data
            async with ioctx.open_image(names[1]) as image:
                for start in range(0, EXTENTS, 500):
                    async with anyio.create_task_group() as tasks:
                        for number in range(start, start + 500):
                            tasks.start_soon(image.write, b"x" * 512, number * 8192)
                await image.flush()

    with DevCluster() as cluster:
        anyio.run(prepare, cluster.conffile)
        yield cluster, names


async def measured(iterate: Any) -> Any:
    """Return the number of items, the longest time the loop was held, and the memory growth: the least of three runs.

    Code that blocks the loop or keeps memory does so in each run.
    """
    worst, memory = [], []
    for _ in range(3):
        async with measured_hold() as held:
            start, before = time.perf_counter(), resident_bytes()
            count = 0
            async for _ in iterate():
                count += 1
            seconds = time.perf_counter() - start
            memory.append(resident_bytes() - before)
            worst.append(held.worst)
        print(f"{count} in {seconds:.2f} s, the loop held for {worst[-1] * 1000:.2f} ms, {memory[-1] >> 10} KiB more")
    return count, min(worst), min(memory)


@pytest.mark.slow
@pytest.mark.anyio
async def test_ten_thousand_snapshots_hold_the_loop_under_5_ms(prepared: Any) -> None:
    cluster, (name, _) = prepared
    async with aiorbd.connect(cluster.conffile) as connection, connection.open_ioctx("rbd") as ioctx:
        async with ioctx.open_image(name) as image:
            count, worst, _ = await measured(image.snapshots)
            assert count == SNAPSHOTS
            assert worst < 0.005
            last = await image.get_snapshot(f"snapshot-{SNAPSHOTS - 1:06}")
            assert last.name == f"snapshot-{SNAPSHOTS - 1:06}"


@pytest.mark.slow
@pytest.mark.anyio
async def test_hundred_thousand_extents_hold_the_loop_under_5_ms_and_use_little_memory(prepared: Any) -> None:
    cluster, (_, name) = prepared
    async with aiorbd.connect(cluster.conffile) as connection, connection.open_ioctx("rbd") as ioctx:
        async with ioctx.open_image(name) as image:
            count, worst, memory = await measured(lambda: image.diff(whole_object=True))
            assert count == EXTENTS
            assert worst < 0.005
            assert memory < 2 * MIB  # all extents would take 24 bytes each in C, and a hundred in Python
