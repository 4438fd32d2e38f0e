"""The event loop ends while an operation is in flight: every kind of operation, on every loop."""

import gc
import logging
import multiprocessing
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from fix_cancel import KINDS, new_subject
from helpers import BACKENDS, new_name

import aiorbd
from aiorbd.testing import DevCluster


@pytest.fixture(scope="module", params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def ender(own_cluster: DevCluster, anyio_backend: Any) -> Iterator[Any]:
    """Start a process in which event loops end early. Objects that they leave open live as long as the process."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=end_loops, args=(theirs, own_cluster.conffile, anyio_backend))
    process.start()
    theirs.close()
    try:
        yield ours
        ours.send(None)
        process.join(30)
        assert process.exitcode == 0
    finally:
        process.kill()


def test_the_loop_closes(osd: DevCluster, kind: Any, ender: Any) -> None:
    """Leave the loop with the operation in flight: no crash, no hang, and only warnings about unclosed objects."""

    def answer(question: Any) -> Any:
        ender.send(question)
        assert ender.poll(60), "it hangs"
        return ender.recv()

    assert answer(kind) == "ready"
    osd.pause()
    assert answer("paused") < 3
    osd.resume()
    assert set(answer("running")) == {"ResourceWarning"}


class Complaints(logging.Handler):
    """Logged errors, such as asyncio's error about an exception that was never retrieved."""

    def __init__(self, texts: Any) -> None:
        super().__init__()
        self.texts = texts

    def emit(self, record: Any) -> None:
        self.texts.append(record.getMessage())


def end_loops(pipe: Any, conffile: str, anyio_backend: Any) -> None:
    """In the other process, leave a loop with an operation in flight and start another loop, for each kind."""
    backend, options = anyio_backend
    complaints = []

    def complain(complaint: object) -> None:
        complaints.append(repr(complaint))

    sys.unraisablehook = threading.excepthook = complain
    logging.basicConfig(level=logging.ERROR, handlers=[Complaints(complaints)])
    for kind in iter(pipe.recv, None):
        kept: list[Any]
        kept, name = [], new_name()

        async def main(kind: Any = kind, kept: Any = kept, name: Any = name) -> None:
            cluster = await aiorbd.connect(conffile, timeout=30)
            subject = await new_subject(cluster, await cluster.open_ioctx("rbd"), name)
            await subject.prepare(kind)
            kept.append(subject)
            pipe.send("ready")
            assert pipe.recv() == "paused"
            _, call = KINDS[kind](subject)
            kept.append(time.perf_counter())
            with anyio.move_on_after(0.05):
                await call

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            anyio.run(main, backend=backend, backend_options=options)
            pipe.send(time.perf_counter() - kept[1])
            assert pipe.recv() == "running"
            time.sleep(0.1)  # completions arrive while no loop runs
            kept.clear()
            gc.collect()

        async def again(name: Any = name) -> None:
            async with aiorbd.connect(conffile, timeout=30) as cluster, cluster.open_ioctx("rbd") as ioctx:
                async with ioctx.open_image(name, read_only=True) as image:
                    assert await image.read(4096, 4) == b"aaaa"

        anyio.run(again, backend=backend, backend_options=options)
        pipe.send([*(warning.category.__name__ for warning in caught), *complaints])
    # Skip the interpreter's end: nine connections are open here. faults/test_processes.py tests it with one open
    # connection.
    os._exit(0)
