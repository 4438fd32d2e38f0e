"""Tasks, task groups, timeouts and ``gather`` of asyncio, on asyncio's event loop and on uvloop."""

import asyncio
import contextlib
import time
from typing import Any

import pytest
from fix_faults import opened
from fix_lag import took
from inside import bridge_of, handle_of

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.asyncio


async def test_gather_returns_the_data_of_every_read(osd: DevCluster) -> None:
    async with opened(osd) as image:
        parts = await asyncio.gather(*(image.read(offset, 4096) for offset in range(0, 65536, 4096)))
        assert b"".join(parts) == b"a" * 65536


async def test_cancelled_task_ends_at_once_and_its_read_stays_in_flight(osd: DevCluster) -> None:
    async with opened(osd) as image:
        osd.pause()
        task = asyncio.create_task(image.read(0, 4096))
        await asyncio.sleep(0.05)
        with took(0.2), pytest.raises(asyncio.CancelledError):
            task.cancel()
            await task
        assert image.in_flight == 1


async def test_task_can_be_cancelled_twice_and_before_it_starts(osd: DevCluster) -> None:
    async with opened(osd) as image:
        osd.pause()
        task = asyncio.create_task(image.read(0, 4096))
        task.cancel()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        task = asyncio.create_task(image.read(0, 4096))
        await asyncio.sleep(0.05)
        task.cancel()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        osd.resume()
        await image.drain(timeout=20)


async def test_asyncio_timeouts_end_a_read_on_time(osd: DevCluster) -> None:
    async with opened(osd) as image:
        osd.pause()
        with took(0.6, at_least=0.4):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await image.read(0, 4096)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(image.read(0, 4096), 0.2)


async def test_failed_read_cancels_the_other_reads_of_its_task_group(osd: DevCluster) -> None:
    async with opened(osd) as image:
        osd.pause()
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                for _ in range(8):
                    group.create_task(image.read(0, 4096))
                await asyncio.sleep(0.05)
                group.create_task(image.read(16 << 20, 1))
        (error,) = caught.value.exceptions
        assert isinstance(error, aiorbd.PastEndOfImage)


async def test_cancellation_in_the_pass_of_the_completion_leaves_nothing_in_flight(osd: DevCluster) -> None:
    """The future is done, and the task has not run yet. asyncio then throws into a finished wait."""
    async with opened(osd) as image:
        cancelled, buffer = 0, bytearray(512)
        for _ in range(200):
            task = asyncio.create_task(image.read_into(buffer, 0))
            while image.in_flight == 0 and not task.done():
                await asyncio.sleep(0)
            while image.in_flight:
                await asyncio.sleep(0)
            task.cancel()
            try:
                assert await task == 512
            except asyncio.CancelledError:
                cancelled += 1
        assert cancelled
        assert image.in_flight == 0
        assert await image.read(0, 1) == b"a"


async def test_completion_of_a_read_finishes_its_task_in_the_same_pass(osd: DevCluster) -> None:
    """The completion itself resumes the task, so a cancellation cannot come between the two."""
    async with opened(osd) as image:
        for _ in range(200):
            task = asyncio.create_task(image.read(0, 512))
            while image.in_flight == 0 and not task.done():
                await asyncio.sleep(0)
            while image.in_flight:
                await asyncio.sleep(0)
            assert task.done()
            assert task.result() == b"a" * 512


async def test_interrupt_after_submit_keeps_the_buffer_until_the_completion(osd: DevCluster) -> None:
    """A signal handler raises just after the C call. librbd has the buffer, so the operation table keeps the buffer."""
    async with opened(osd) as image:
        bridge: Any = bridge_of(image)
        submit = bridge.submit

        def interrupted(*arguments: Any) -> None:
            assert submit(*arguments) == 0
            raise KeyboardInterrupt

        osd.pause()
        bridge.submit = interrupted
        buffer = bytearray(65536)
        with pytest.raises(KeyboardInterrupt):
            await image.read_into(buffer, 0)
        del bridge.submit
        assert image.in_flight == 1
        with pytest.raises(BufferError):
            buffer.append(0)
        osd.resume()
        await image.drain(timeout=20)
        assert buffer == b"a" * 65536


async def test_interrupt_after_a_refused_submit_leaves_no_operation_in_flight(osd: DevCluster) -> None:
    async with opened(osd) as image:
        handle = handle_of(image)
        submit = handle.bridge.submit

        def interrupted(*arguments: Any) -> None:
            handle.lib.aiorbd_image_changed(handle.native)
            assert submit(*arguments) == handle.lib.AIORBD_STALE
            raise KeyboardInterrupt

        handle.bridge.submit = interrupted
        with pytest.raises(KeyboardInterrupt):
            await image.read_into(bytearray(512), 0)
        del handle.bridge.submit
        assert image.in_flight == 0
        assert await image.read(0, 2) == b"aa"


def guarded(bridge: Any) -> None:
    """Suppress a `KeyboardInterrupt` that the bridge's callback raises, so that the event loop survives."""

    def drain() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            bridge.drain()

    bridge.loop.detach()
    bridge.loop.attach(bridge._lib.aiorbd_bridge_fd(bridge.queue), drain, bridge.submit_pass)


async def test_interrupt_in_a_resumed_task_costs_no_other_task_its_completion(osd: DevCluster) -> None:
    """Tasks resume while the bridge delivers completions. One task raises an exception through the event loop."""
    async with opened(osd) as image:
        interrupts = []

        async def read(number: int) -> Any:
            data = await image.read(0, 512)
            if number % 8 == 0:
                interrupts.append(number)
                raise KeyboardInterrupt
            return data

        guarded(bridge_of(image))
        tasks = [asyncio.create_task(read(number)) for number in range(64)]
        await asyncio.sleep(0)
        assert image.in_flight == 64
        time.sleep(0.2)  # all reads complete before the next pass, and no other pass would follow
        async with asyncio.timeout(20):
            done = [await asyncio.wait([task]) and task for task in tasks]
        assert len(interrupts) == 8
        assert sum(task.exception() is None and task.result() == b"a" * 512 for task in done) == 56
        assert image.in_flight == 0
        assert await image.read(0, 1) == b"a"


async def test_interrupt_while_waiting_tasks_are_woken_still_resumes_the_read(osd: DevCluster) -> None:
    async with opened(osd) as image:
        interrupts: list[Any]
        handle, interrupts = handle_of(image), []
        on_idle = handle.on_idle

        def interrupted() -> None:
            if len(interrupts) < 3:
                interrupts.append(1)
                raise KeyboardInterrupt
            on_idle()

        handle.on_idle = interrupted
        guarded(handle.bridge)
        reading = asyncio.create_task(image.read(0, 512))
        await asyncio.sleep(0)
        assert image.in_flight == 1
        async with asyncio.timeout(20):
            await image.drain()
            assert await reading == b"a" * 512
        assert len(interrupts) == 3


async def test_interrupt_during_delivery_leaves_the_other_completions_for_the_next_pass(osd: DevCluster) -> None:
    async with opened(osd) as image:
        bridge = bridge_of(image)
        wake = bridge.loop.wake
        interrupts: list[Any] = []

        def interrupted(parked: Any) -> None:
            wake(parked)
            if len(interrupts) < 3:
                interrupts.append(parked)
                raise KeyboardInterrupt

        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
        bridge.loop.wake = interrupted
        guarded(bridge)
        parts = [bytearray(512) for _ in range(64)]
        reading = asyncio.gather(*(image.read_into(part, 0) for part in parts))
        await asyncio.sleep(0)
        assert image.in_flight == 64
        time.sleep(0.2)  # all reads complete before the next pass, and no other pass would follow
        await reading
        assert len(interrupts) == 3
        assert parts == [b"a" * 512] * 64
        assert image.in_flight == 0


async def test_interrupt_in_a_listener_makes_the_bridge_call_the_listener_again(osd: DevCluster) -> None:
    """Nothing else reports the single change of the image, so the bridge must repeat the call."""
    async with opened(osd) as image:
        interrupts: list[Any]
        handle, interrupts = handle_of(image), []

        def updated() -> None:
            if len(interrupts) < 3:
                interrupts.append(1)
                raise KeyboardInterrupt
            handle._updated()

        guarded(handle.bridge)
        handle.bridge.listeners[handle._token] = updated
        async with image.watch() as updates, asyncio.timeout(20):
            osd.run_blocking("rbd", "snap", "create", "--no-progress", f"rbd/{image.name}@one")
            await updates.wait()
        assert len(interrupts) == 3


async def test_native_cancel_of_close_leaves_the_close_running(osd: DevCluster) -> None:
    async with opened(osd) as image:
        osd.pause()
        reading = asyncio.create_task(image.read(0, 4096))
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(image.close(timeout=30))
        await asyncio.sleep(0.05)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        osd.resume()
        assert len(await reading) == 4096
        await image.close(timeout=20)


async def test_native_cancel_of_the_flush_at_the_end_of_a_block_closes_the_image(osd: DevCluster) -> None:
    """asyncio's timeouts pass through anyio's shield."""
    async with opened(osd) as other:
        ioctx = handle_of(other).ioctx
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as limit:
                async with aiorbd.connect(osd.conffile) as cluster, cluster.open_ioctx("rbd") as pool:
                    async with pool.open_image(handle_of(other).image_name or "") as image:
                        await image.flush()
                        osd.pause()
                        await image.write(b"x" * 4096, 1 << 20)
                        limit.reschedule(asyncio.get_running_loop().time() + 0.5)
        assert not handle_of(image).usable
        osd.resume()
        for closed in (image, pool, cluster):
            await closed.close(timeout=20)
            assert closed.closed
        assert ioctx.usable


async def test_cancelled_tasks_leave_no_unretrieved_exception(osd: DevCluster) -> None:
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    async with opened(osd) as image:
        osd.pause()
        tasks = [asyncio.create_task(image.read(0, 4096)) for _ in range(16)]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        osd.resume()
        await image.drain(timeout=20)
    assert complaints == []
