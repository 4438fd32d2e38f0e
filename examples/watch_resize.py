"""Notice without polling that another process resized an image.

examples/watch_resize.py              uses a temporary development cluster
examples/watch_resize.py ceph.conf    uses your cluster (pool rbd)
"""

import os
import sys

import anyio

import aiorbd
from aiorbd.testing import DevCluster

MIB = 1 << 20


async def resize_elsewhere(conffile: str, name: str) -> None:
    """Resize the image three times, each time in a separate process."""
    for size in (20, 40, 10):
        command = ["rbd", "--conf", conffile, "resize", "--no-progress", "--allow-shrink", name, "--size", f"{size}M"]
        await anyio.run_process(command)


async def main(conffile: str) -> None:
    """Print each new size, up to the last one."""
    name = f"watch-resize-{os.getpid()}"
    async with aiorbd.connect(conffile, timeout=30) as cluster, cluster.open_ioctx("rbd") as ioctx:
        await ioctx.create_image(name, 16 * MIB)
        try:
            async with ioctx.open_image(name) as image, anyio.create_task_group() as tasks:
                async with image.watch() as updates:
                    tasks.start_soon(resize_elsewhere, conffile, name)
                    size = await image.size()
                    async for _ in updates:  # one update may cover several changes, also other ones than a resize
                        if await image.size() != size:
                            size = await image.size()
                            print(f"{name} has {size // MIB} MiB now")
                        if size == 10 * MIB:
                            break
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
