"""Move the diff up to the snapshot "end" from one image to another: ``client_diff.py SOURCE TARGET``.

Prints the seconds from the connection to its close. The start of Python does not count.
"""

import sys
import time

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

import aiorbd


class Sender(ByteSendStream):
    """The end of a pipe to write to."""

    def __init__(self, queue: MemoryObjectSendStream[bytes]) -> None:
        self._queue = queue

    async def send(self, item: bytes) -> None:
        await self._queue.send(item)

    async def aclose(self) -> None:
        await self._queue.aclose()


class Receiver(ByteReceiveStream):
    """The end of a pipe to read from."""

    def __init__(self, queue: MemoryObjectReceiveStream[bytes]) -> None:
        self._queue = queue
        self._rest = memoryview(b"")

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if not self._rest:
            item = await self._queue.receive()
            if len(item) <= max_bytes:
                return item  # without a copy
            self._rest = memoryview(item)
        part, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return bytes(part)

    async def aclose(self) -> None:
        await self._queue.aclose()


async def export(name: str, target: Sender) -> None:
    async with aiorbd.connect() as cluster, cluster.open_ioctx("rbd") as ioctx, target:
        async with ioctx.open_image(name, snapshot="end") as image:
            await aiorbd.export_diff(image, target)


async def main(source: str, target: str) -> None:
    """Export and import at the same time, each with a connection of its own, as the tool's two processes have.

    On one connection, the small replies that the import waits for would queue behind the data of the export.
    """
    begin = time.perf_counter()
    send, receive = anyio.create_memory_object_stream[bytes](16)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(export, source, Sender(send))
        async with aiorbd.connect() as cluster, cluster.open_ioctx("rbd") as ioctx, ioctx.open_image(target) as copy:
            await aiorbd.import_diff(copy, Receiver(receive))
    print(time.perf_counter() - begin)


anyio.run(main, sys.argv[1], sys.argv[2])
