"""Back up an image, and later only its changes, with snapshots, a diff and sparse reads.

examples/snapshot_diff.py              uses a temporary development cluster
examples/snapshot_diff.py ceph.conf    uses your cluster (pool rbd)
"""

import os
import sys
import tempfile
from typing import BinaryIO

import anyio
from anyio import to_thread

import aiorbd
from aiorbd.testing import DevCluster

MIB = 1 << 20
PIECE = 4 * MIB


async def back_up(image: aiorbd.Image, since: str | None, file: BinaryIO) -> int:
    """Bring a backup file up to date with `image`. Return the number of bytes read."""
    read = 0
    async with image.diff(from_snapshot=since) as extents:
        async for extent in extents:
            end = extent.offset + extent.length
            for offset in range(extent.offset, end, PIECE):
                length = min(PIECE, end - offset)
                data = bytes(length)
                if extent.exists:
                    data = await image.read(offset, length)
                    read += length
                await to_thread.run_sync(os.pwrite, file.fileno(), data, offset)
    await to_thread.run_sync(os.truncate, file.fileno(), await image.size())
    return read


async def main(conffile: str) -> None:
    """Make an image, back it up, change it, and back it up again."""
    name = f"snapshot-diff-{os.getpid()}"
    async with aiorbd.connect(conffile, timeout=30) as cluster, cluster.open_ioctx("rbd") as ioctx:
        await ioctx.create_image(name, 64 * MIB)
        try:
            async with ioctx.open_image(name) as image:
                await image.write(b"monday" * 100_000, 0)
                await image.write(b"kept" * 100_000, 40 * MIB)
                await image.create_snapshot("monday")
                await image.write(b"tuesday" * 1000, 8 * MIB)
                await image.discard(40 * MIB, 4 * MIB)
                await image.resize(60 * MIB, allow_shrink=True)
                await image.create_snapshot("tuesday")

            with tempfile.TemporaryFile() as file:
                previous = None
                for day in ("monday", "tuesday"):
                    async with ioctx.open_image(name, snapshot=day) as image:
                        read = await back_up(image, previous, file)
                        same = (
                            await to_thread.run_sync(os.pread, file.fileno(), 64 * MIB, 0) == await image.file().read()
                        )
                    print(f"{day}: {read} bytes read, the backup is {'the same' if same else 'DIFFERENT'}")
                    previous = day
            async with ioctx.open_image(name) as image:
                async for snapshot in image.snapshots():
                    await snapshot.remove()
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
