"""Exit with status 4 and an open or a closed connection.

    python late_handler.py CONF IMAGE HOW

C's last exit handler takes as many seconds as the status. exit() calls it after those of Ceph's libraries.
"""

import ctypes
import sys
import warnings
from typing import Any

libc = ctypes.CDLL(None)
libc.on_exit(libc.sleep, None)  # the handler that is registered first is the last one that exit() calls

import anyio  # noqa: E402

import aiorbd  # noqa: E402

CONF, NAME, HOW = sys.argv[1:]
kept: list[Any] = []


async def main() -> None:
    cluster = await aiorbd.connect(CONF)
    kept.append(cluster)
    if HOW == "closed":
        await cluster.close()
    elif HOW == "image":
        ioctx = await cluster.open_ioctx("rbd")
        await ioctx.create_image(NAME, 1 << 22)
        kept.append(await ioctx.open_image(NAME))


warnings.simplefilter("ignore")
anyio.run(main)
print("exit", flush=True)
sys.exit(4)
