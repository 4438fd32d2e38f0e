"""Print the names of the threads before and after a thousand reads.

python count_threads.py CONF IMAGE BACKEND
"""

import json
import os
import sys
from pathlib import Path

import anyio

import aiorbd

CONF, NAME, BACKEND = sys.argv[1:]


def threads() -> list[str]:
    return sorted(Path(f"/proc/self/task/{task}/comm").read_text().strip() for task in os.listdir("/proc/self/task"))


async def main() -> None:
    async with aiorbd.connect(CONF) as cluster, cluster.open_ioctx("rbd") as ioctx:
        await ioctx.create_image(NAME, 16 << 20)
        async with ioctx.open_image(NAME) as image:
            await image.write(bytes(4096), 0)
            await image.flush()
            before = threads()
            async with anyio.create_task_group() as tasks:
                for number in range(1000):
                    tasks.start_soon(image.read, number * 4096, 4096)
            print(json.dumps([before, threads()]))


anyio.run(main, backend=BACKEND)
