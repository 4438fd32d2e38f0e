"""Print the names of the threads that begin during a thousand reads, and how many threads there are.

python count_threads.py CONF IMAGE BACKEND
"""

import contextlib
import json
import os
import sys
from pathlib import Path

import anyio

import aiorbd

CONF, NAME, BACKEND = sys.argv[1:]


def threads() -> dict[str, str]:
    """Return the name of each thread by its id. A thread that has just begun may still have its parent's name."""
    found = {}
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError):  # it has ended meanwhile
            found[task] = Path(f"/proc/self/task/{task}/comm").read_text().strip()
    return found


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
            after = threads()
            print(json.dumps([[name for task, name in after.items() if task not in before], len(after)]))


anyio.run(main, backend=BACKEND)
