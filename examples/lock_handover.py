"""Two clients hand an image over: who holds its advisory lock may write, the other waits to be told.

The lock says who is the owner; an update of the image, which every client that has it open is told of, says that
it may be worth to try again. Nobody asks again and again.

    examples/lock_handover.py              starts a development cluster for the while
    examples/lock_handover.py ceph.conf    uses a cluster of yours (pool rbd)
"""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

import aiorbd
from aiorbd.testing import DevCluster

MIB = 1 << 20


@asynccontextmanager
async def owned(image: aiorbd.Image, who: str) -> AsyncIterator[None]:
    """Hold the image's lock while the block runs, and wait for it until then."""
    async with image.watch() as updates:
        while True:
            try:
                await image.locks.lock_exclusive(who)
                break
            except aiorbd.LockBusy:
                (holder,) = (await image.locks.list_lockers()).lockers or [None]
                print(f"{who}: waits for {holder.cookie if holder else 'nobody any more'}")
                with anyio.move_on_after(5):  # a holder that died tells nobody
                    await updates.wait()
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await image.flush()
            await image.locks.unlock(who)
            await image.metadata.set("last-owner", who)  # a change that all are told of


async def client(conffile: str, name: str, who: str, offset: int, first: anyio.Event | None) -> None:
    """One of the two, with a connection of its own."""
    async with aiorbd.connect(conffile, timeout=30) as cluster, cluster.open_ioctx("rbd") as ioctx:
        async with ioctx.open_image(name) as image, owned(image, who):
            print(f"{who}: has the image")
            if first is not None:
                first.set()
                await anyio.sleep(0.5)
            await image.write(who.encode(), offset)
            print(f"{who}: gives it up")


async def main(conffile: str) -> None:
    """Let two clients write, one after the other."""
    name = f"lock-handover-{os.getpid()}"
    async with aiorbd.connect(conffile, timeout=30) as cluster, cluster.open_ioctx("rbd") as ioctx:
        # Without librbd's own lock, which is the same one to the cluster: writes would wait for this one to go.
        await ioctx.create_image(name, 16 * MIB, features=aiorbd.Feature.LAYERING)
        try:
            first = anyio.Event()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client, conffile, name, "anna", 0, first)
                await first.wait()
                tasks.start_soon(client, conffile, name, "bert", 4, None)
            async with ioctx.open_image(name, read_only=True) as image:
                print(f"in the image: {(await image.read(0, 8)).decode()}")
        finally:
            with anyio.CancelScope(shield=True):
                await ioctx.remove_image(name)


async def run() -> None:
    """Use the cluster that was named, or a development cluster of its own."""
    if len(sys.argv) > 1:
        await main(sys.argv[1])
    else:
        async with DevCluster() as ceph:
            await main(ceph.conffile)


if __name__ == "__main__":
    anyio.run(run)
