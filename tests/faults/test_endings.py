"""Programs end on a dead cluster, each in its own process. The tests count seconds, descriptors and threads."""

import json
import signal
import time
from typing import Any

import pytest
from fix_programs import finish

from aiorbd.testing import DevCluster


def go_on(process: Any, osd: DevCluster) -> None:
    """Pause the OSD, and let the program continue."""
    osd.pause()
    process.stdin.write("\n")
    process.stdin.flush()


def last_line(output: Any) -> Any:
    return json.loads(output.strip().splitlines()[-1])


@pytest.mark.parametrize("what", ["image", "cluster"])
def test_close_with_a_timeout(start: Any, osd: DevCluster, what: str) -> None:
    """`close` returns in time. Once the cluster works again, the rest is closed and nothing is left."""
    process = start(
        f"""
        import json

        async def main():
            before = count()
            cluster, ioctx, image = await opened()
            await paused()
            for _ in range(32):
                with anyio.move_on_after(0.001):
                    await image.read(0, 4096)
            with anyio.move_on_after(0.05):
                await image.metadata.set("key", "value")
            begin = time.perf_counter()
            try:
                await {what}.close(timeout=0.5)
            except aiorbd.CloseTimeout as error:
                seconds = time.perf_counter() - begin
                assert "33 operations in flight" in str(error) or what == "cluster", error
            print("waiting", flush=True)
            await cluster.close(timeout=20)
            # asyncio keeps the thread that it looked up names with, anyio the one that read the line.
            clean = down_to([number + 1 for number in before])
            print(json.dumps([seconds, clean, count(), before]), flush=True)

        what = "{what}"
        run(main)
        """
    )
    go_on(process, osd)
    assert process.stdout.readline() == "waiting\n", process.communicate()[1]
    osd.resume()
    code, output, errors = finish(process, 20)
    assert code == 0, errors
    seconds, clean, now, before = last_line(output)
    assert 0.5 <= seconds < 0.8
    assert clean, (now, before)


def test_hundred_connections_leave_no_descriptor_and_no_thread(start: Any) -> None:
    process = start(
        """
        import json

        async def once():
            cluster, ioctx, image = await opened()
            await cluster.close()

        async def main():
            print("ready", flush=True)
            for _ in range(5):
                await once()
            await anyio.sleep(0.5)
            before = count()
            begin = time.perf_counter()
            for _ in range(100):
                await once()
            seconds = time.perf_counter() - begin
            print(json.dumps([seconds, down_to(before), count(), before]), flush=True)

        run(main)
        """
    )
    code, output, errors = finish(process, 60)
    assert code == 0, errors
    seconds, clean, now, before = last_line(output)
    assert clean, (now, before)
    assert seconds < 30


def test_sigterm_that_is_handled(start: Any, osd: DevCluster) -> None:
    """Act as a service: the signal cancels its work, and everything is closed within its timeout."""
    process = start(
        """
        async def main():
            async with anyio.create_task_group() as tasks:
                async def serve():
                    async with aiorbd.connect(CONF, close_timeout=0.5) as cluster, cluster.open_ioctx("rbd") as ioctx:
                        await ioctx.create_image(NAME, 1 << 24)
                        async with ioctx.open_image(NAME) as image:
                            await image.write(b"x" * 4096, 0)
                            await image.flush()
                            await paused()
                            async with anyio.create_task_group() as work:
                                for number in range(64):
                                    work.start_soon(image.read, number * 4096, 4096)

                tasks.start_soon(serve)
                with anyio.open_signal_receiver(signal.SIGTERM) as signals:
                    async for _ in signals:
                        print("stopping", flush=True)
                        tasks.cancel_scope.cancel()
                        break
            print("stopped", flush=True)

        run(main)
        """
    )
    go_on(process, osd)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    code, output, errors = finish(process, 2.5)
    assert code == 0, errors
    assert output == "stopping\nstopped\n"
    assert "64 operations in flight" in errors  # in the log


def test_forgotten_objects_block_nobody(start: Any, osd: DevCluster) -> None:
    """Garbage collection of open images on a dead cluster warns for each, without network access or a wait."""
    process = start(
        """
        import json

        async def main():
            cluster, ioctx, image = await opened(close_timeout=0.2)
            others = [await ioctx.open_image(NAME, read_only=True) for _ in range(20)]
            await paused()
            with anyio.move_on_after(0.01):
                await image.read(0, 4096)
            begin = time.perf_counter()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                del others, image, ioctx
                gc.collect()
            seconds = time.perf_counter() - begin
            try:
                await cluster.close()
            except aiorbd.CloseTimeout:
                pass
            print(json.dumps([seconds, len(caught)]), flush=True)

        run(main)
        """
    )
    go_on(process, osd)
    code, output, errors = finish(process, 3)
    assert code == 0, errors
    seconds, warned = last_line(output)
    assert seconds < 1  # a wait for the network would never end
    assert warned >= 21


def test_fork_in_a_connected_process(start: Any, osd: DevCluster) -> None:
    """The child is refused at once and ends at once, also on a dead cluster. The parent continues."""
    process = start(
        """
        async def main():
            cluster, ioctx, image = await opened()
            await paused()
            with anyio.move_on_after(0.01):
                await image.read(0, 4096)
            pid = os.fork()
            if not pid:
                try:
                    image.read(0, 1).send(None)
                except aiorbd.ForkedError:
                    os._exit(0)
                os._exit(9)
            begin = time.perf_counter()
            while True:
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    break
                assert time.perf_counter() - begin < 3
                time.sleep(0.01)
            print("child", os.waitstatus_to_exitcode(status), flush=True)
            await image.drain(timeout=20)
            assert await image.read(0, 1) == b"x"
            await cluster.close(timeout=10)
            print("parent fine", flush=True)

        run(main)
        """
    )
    go_on(process, osd)
    assert process.stdout.readline() == "child 0\n", process.communicate()[1]
    osd.resume()
    code, output, errors = finish(process, 20)
    assert code == 0, errors
    assert output == "parent fine\n"
