"""Memoryviews that become garbage while C uses them.

Python before 3.12.4 crashes on such a memoryview, unless another reference keeps the memoryview alive.
"""

import subprocess
import sys
import textwrap
from typing import Any

import pytest
from helpers import new_name

from aiorbd.testing import DevCluster

PROGRAM = """
    import gc, sys
    import anyio, aiorbd

    CONF, NAME, CALL = sys.argv[1:]

    async def write_through_a_writer(image):
        async with image.writer() as writer:
            await writer.write(memoryview(bytes(512)), 4096)

    CALLS = {
        "write": lambda image: image.write(memoryview(bytes(512)), 4096),
        "writev": lambda image: image.writev([memoryview(bytes(512)), memoryview(bytes(512))], 4096),
        "write_same": lambda image: image.write_same(memoryview(bytes(512)), 4096, 1024),
        "compare_and_write": lambda image: image.compare_and_write(memoryview(bytes(9)), memoryview(bytes(9)), 4096),
        "read_into": lambda image: image.read_into(memoryview(bytearray(512)), 4096),
        "readv": lambda image: image.readv([memoryview(bytearray(512))], 4096),
        "writer": write_through_a_writer,
        "objects": lambda image: image.objects.write("o", memoryview(bytes(512)), 1 << 63),
    }

    async def main():
        async with aiorbd.connect(CONF) as cluster, cluster.open_ioctx("rbd") as ioctx:
            await ioctx.create_image(NAME, 4096)
            async with ioctx.open_image(NAME) as image:
                image.objects = ioctx.objects
                for _ in range(3):
                    try:
                        await CALLS[CALL](image)
                    except aiorbd.InvalidArgument as error:
                        cycle = [error]  # and with its traceback the frames, and what they have
                        cycle.append(cycle)
                        del cycle
                    else:
                        sys.exit("it is not refused")
                    gc.collect()
            await ioctx.remove_image(NAME)
        print("alive")

    gc.disable()  # or it might come when all is in order
    anyio.run(main)
"""


CALLS = ["write", "writev", "write_same", "compare_and_write", "read_into", "readv", "writer", "objects"]


@pytest.mark.parametrize("call", CALLS)
def test_garbage_collection_of_a_memoryview_in_use_by_c_does_not_crash(aiorbd_cluster: DevCluster, call: Any) -> None:
    program = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(aiorbd_cluster.conffile), new_name(), call]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("alive\n", "", 0)
