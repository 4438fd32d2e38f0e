"""Table entries that an asyncio task awaits directly."""

import asyncio
import contextlib
import contextvars
from typing import Any

from fake import bridge, ffi, lib, setting
from own_table import Operation, complaints, complete, drained, make, reading, told, until


def test_task_awaits_an_entry() -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")

    async def main() -> None:
        table, owner = make(asyncio.get_running_loop())

        async def read(number: int) -> Any:
            variable.set(number)
            entry = table.read(owner, 0, 64)
            await entry
            assert variable.get() == number
            return entry.keep

        tasks = [asyncio.create_task(read(number)) for number in range(3)]
        await until(lambda: owner.in_flight == 3)
        for index in range(3):
            complete(index, 64)
        await drained(table)
        assert all(task.done() for task in tasks)  # they went on in there
        assert [await task for task in tasks] == [b"r" * 64] * 3
        setting("early").value = 1
        entry = table.read(owner, 0, 64)
        await drained(table)
        await entry  # what is over is not waited for
        assert entry.done()
        assert entry.result() is None
        assert not entry.cancel()

    asyncio.run(main())


def test_drain_within_a_task_leaves_resuming_to_the_loop() -> None:
    async def main() -> None:
        table, owner = make(asyncio.get_running_loop())

        task = reading(table, owner)
        await until(lambda: owner.in_flight)
        complete(0, 64)
        table.drain()  # as loops do that are made to nest
        assert not task.done()
        assert owner.in_flight == 0
        assert not task.cancelled()
        await task
        assert not complaints

    asyncio.run(main())


def test_cancelled_task_raises_once_and_its_operation_goes_on() -> None:
    async def main() -> None:
        table, owner = make(asyncio.get_running_loop())
        entries = []

        async def read() -> None:
            entries.append(table.read(owner, 0, 64))
            await entries[-1]

        task = asyncio.create_task(read())
        await until(lambda: owner.in_flight)
        task.cancel("why")
        try:
            await task
        except asyncio.CancelledError as error:
            assert error.args == ("why",)
        else:
            raise AssertionError
        assert owner.in_flight == 1
        assert entries[0].done()
        assert not entries[0].cancel()
        complete(0, 64)
        await drained(table)
        assert owner.in_flight == 0
        assert not complaints

        # Cancelled when it is over: nothing is left to cancel.
        task = asyncio.create_task(read())
        await until(lambda: owner.in_flight)
        complete(1, 64)
        await drained(table)
        assert not task.cancel()
        await task

        # Over in the pass in which its task is to hear of the cancellation.
        task = asyncio.create_task(read())
        await until(lambda: owner.in_flight)
        task.cancel()
        complete(2, 64)
        await drained(table)
        await asyncio.wait([task])
        assert task.cancelled()
        assert owner.in_flight == 0

        # Nobody has awaited it yet.
        entry = table.read(owner, 0, 64)
        assert entry.cancel("unseen")
        try:
            await entry
        except asyncio.CancelledError as error:
            assert error.args == ("unseen",)
        else:
            raise AssertionError
        complete(3, 64)
        await drained(table)

        # An abandoned one wakes nobody.
        task = asyncio.create_task(read())
        await until(lambda: owner.in_flight)
        entries[-1].abandoned = True
        complete(4, 64)
        await drained(table)
        assert not task.done()
        task.cancel()

    asyncio.run(main())


def test_second_cancel_during_the_first_raises_once() -> None:
    """Cancel as a signal handler does that runs in `call_soon`: the task gets one cancellation."""

    class Loop(asyncio.SelectorEventLoop):
        again = None

        def call_soon(self, *arguments: Any, **keywords: Any) -> Any:  # type: ignore[override]
            handle = super().call_soon(*arguments, **keywords)
            if self.again is not None:
                again, self.again = self.again, None
                again()
            return handle

    async def main() -> None:
        loop = asyncio.get_running_loop()
        table, owner = make(loop)
        woken = []

        async def read() -> None:
            try:
                await table.read(owner, 0, 64)
            except asyncio.CancelledError:
                woken.append(1)
            try:
                await loop.create_future()
            except asyncio.CancelledError:
                woken.append(2)

        task = asyncio.create_task(read())
        await until(lambda: owner.in_flight)
        loop.again = task.cancel  # type: ignore[attr-defined]
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert woken == [1]  # as with a future: nothing ends the next wait
        task.cancel()
        await task
        assert woken == [1, 2]
        complete(0, 64)
        await drained(table)
        assert owner.in_flight == 0
        assert not complaints

    Loop().run_until_complete(main())


def test_nested_loop_resumes_tasks_outside_the_drain() -> None:
    class Nesting(asyncio.SelectorEventLoop):
        _nest_patched = True

    async def main() -> None:
        table, owner = make(asyncio.get_running_loop())

        task = reading(table, owner)
        await until(lambda: owner.in_flight)
        complete(0, 64)
        asyncio.get_running_loop().call_soon(lambda: (table.drain(), told.append(task.done())))  # type: ignore[func-returns-value]
        await asyncio.sleep(0)
        assert told == [False]
        await task

    Nesting().run_until_complete(main())


def test_one_pass_with_eight_completions_is_counted_once() -> None:
    async def main() -> None:
        table, owner = make(asyncio.get_running_loop())
        setting("early").value = 1

        tasks = [reading(table, owner) for _ in range(8)]
        await asyncio.sleep(0)
        await drained(table)
        await asyncio.gather(*tasks)
        figures = ffi.new("uint64_t[2]")
        lib.aiorbd_bridge_drained(bridge, figures)
        assert list(figures) == [1, 8]

    asyncio.run(main())


def test_second_task_cannot_await_an_entry() -> None:
    async def main() -> None:
        table, owner = make(asyncio.get_running_loop())
        entry = table.read(owner, 0, 64)

        async def wait() -> None:
            await entry

        first = asyncio.create_task(wait())
        await asyncio.sleep(0)
        for function in (wait, lambda: asyncio.wait_for(wait(), 1)):
            try:
                await function()
            except RuntimeError as error:
                assert "one task" in str(error)
            else:
                raise AssertionError
        with contextlib.suppress(asyncio.InvalidStateError):
            entry.result()
        complete(0, 64)
        await drained(table)
        await first
        try:
            await Operation()
        except TypeError as error:
            assert "not awaited itself" in str(error)

    asyncio.run(main())
