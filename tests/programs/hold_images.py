"""Watch one image, hold the exclusive lock of another, and wait to be killed.

python hold_images.py CONF WATCHED LOCKED
"""

import sys

import anyio

import aiorbd

CONF, WATCHED, LOCKED = sys.argv[1:]


async def main() -> None:
    async with aiorbd.connect(CONF) as cluster, cluster.open_ioctx("rbd") as ioctx:
        async with ioctx.open_image(WATCHED) as watched, ioctx.open_image(LOCKED) as locked:
            await watched.read(0, 1)
            await locked.write(b"x", 0)
            print("open", flush=True)
            await anyio.sleep(60)


anyio.run(main)
