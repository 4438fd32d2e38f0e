"""Have a call refused, and collect the memoryview that it was given, with the frames of its error.

python collected_memoryviews.py CONF IMAGE CALL
"""

import gc
import sys
from typing import Any

import anyio

import aiorbd

CONF, NAME, CALL = sys.argv[1:]


async def write_through_a_writer(image: aiorbd.Image) -> None:
    async with image.writer() as writer:
        await writer.write(memoryview(bytes(512)), 4096)


CALLS: dict[str, Any] = {
    "write": lambda ioctx, image: image.write(memoryview(bytes(512)), 4096),
    "writev": lambda ioctx, image: image.writev([memoryview(bytes(512)), memoryview(bytes(512))], 4096),
    "write_same": lambda ioctx, image: image.write_same(memoryview(bytes(512)), 4096, 1024),
    "compare_and_write": lambda ioctx, image: image.compare_and_write(memoryview(bytes(9)), memoryview(bytes(9)), 4096),
    "read_into": lambda ioctx, image: image.read_into(memoryview(bytearray(512)), 4096),
    "readv": lambda ioctx, image: image.readv([memoryview(bytearray(512))], 4096),
    "writer": lambda ioctx, image: write_through_a_writer(image),
    "objects": lambda ioctx, image: ioctx.objects.write("o", memoryview(bytes(512)), 1 << 63),
}


async def main() -> None:
    async with aiorbd.connect(CONF) as cluster, cluster.open_ioctx("rbd") as ioctx:
        await ioctx.create_image(NAME, 4096)
        async with ioctx.open_image(NAME) as image:
            for _ in range(3):
                try:
                    await CALLS[CALL](ioctx, image)
                except aiorbd.InvalidArgument as error:
                    cycle: list[Any] = [error]  # and with its traceback the frames, and what they have
                    cycle.append(cycle)
                    del cycle
                else:
                    sys.exit("it is not refused")
                gc.collect()
        await ioctx.remove_image(NAME)
    print("alive")


gc.disable()  # or it might come when all is in order
anyio.run(main)
