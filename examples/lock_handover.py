"""Two clients hand over an image: only the holder of its advisory lock writes.

The other client waits for an update of the image, then tries to take the lock again. Ceph sends updates to every client
that has the image open, so no client has to poll.

    examples/lock_handover.py              uses a temporary development cluster
    examples/lock_handover.py ceph.conf    uses your cluster (pool rbd)
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
    """Wait for the image's lock, and hold it while the block runs."""
    async with image.watch() as updates:
        while True:
            try:
                await image.advisory_locks.lock_exclusive(who)
                break
            except aiorbd.LockBusy:
                holders = await image.advisory_locks.lockers()
                print(f"{who}: waits for {holders[0].cookie if holders else 'nobody any more'}")
                with anyio.move_on_after(5):  # a holder that died sends no update
                    await updates.wait()
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await image.flush()
            await image.advisory_locks.unlock(who)
            await image.metadata.set("last-owner", who)  # a change, of which Ceph informs the other client


async def client(conffile: str, name: str, who: str, offset: int, first: anyio.Event | None) -> None:
    """Run one of the two clients on its own connection."""
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
        # Do not enable librbd's exclusive lock: to the cluster it is the same lock, so writes would wait for the
        # advisory lock.
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
    """Use the cluster of the argument, or a development cluster."""
    if len(sys.argv) > 1:
        await main(sys.argv[1])
    else:
        async with DevCluster() as ceph:
            await main(ceph.conffile)


if __name__ == "__main__":
    anyio.run(run)
