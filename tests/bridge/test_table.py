"""The table's busy half alone, against a fake librbd: what it begins, and what becomes of what is over."""

import textwrap

import pytest

PREAMBLE = """
    import asyncio, contextvars, functools, gc, itertools, sys
    from aiorbd._table import Entry, Owner, Table

    complaints, settled, told = [], [], []

    class Mine(Owner):
        def on_idle(self):
            told.append(self.in_flight)

    class Operation(Entry):
        __slots__ = ()

    class Special(Operation):
        pass

    class Ours(Table):
        def _settle(self, entry):
            settled.append(entry.value)

        def _complain(self, number, error):
            complaints.append((number, type(error)))

    class Adapter:
        woken = []

        def wake(self, entry):
            self.woken.append(entry.value)

    def make(native=None, is_current=None):
        is_current = is_current or (functools.partial(asyncio.current_task, native) if native else lambda: True)
        table = Ours(Operation, Adapter(), is_current, native, itertools.count(1))
        table.queue_address = int(ffi.cast("uintptr_t", bridge))
        owner = Mine()
        owner.usable, owner.size = True, 1 << 20
        owner.image_address = int(ffi.cast("uintptr_t", image))
        return table, owner

    def complete(index, value):
        fake.fake_complete(pending[index], value)

    async def until(reached):
        async with asyncio.timeout(10):
            while not reached():
                await asyncio.sleep(0)

    async def drained(table):
        asyncio.get_running_loop().call_soon(table.drain)  # where the loop calls it: in no task
        await asyncio.sleep(0)

    data = b"w" * 64
"""


@pytest.fixture
def check(run):
    """A function that runs a program which has a table and an owner to make."""
    return lambda body: run(textwrap.dedent(PREAMBLE) + textwrap.dedent(body))


def test_a_read_and_a_write(check):
    check(
        """
        table, owner = make()
        read, write = table.read(owner, 4096, 64), table.write(owner, data, 128)
        assert (owner.in_flight, list(table.operations.values())) == (2, [read, write])
        assert write.keep is data and type(read) is Operation and read.owner is owner and read.value is None
        read.waiter = write.waiter = "task"
        complete(0, 64)
        complete(1, 0)
        assert readable(bridge)
        table.drain()
        assert not readable(bridge)
        assert (read.value, read.keep, write.value) == (64, b"r" * 64, 0)
        assert (owner.in_flight, table.operations, table.loop.woken) == (0, {}, [64, 0])
        assert not (complaints or settled or told)
        """
    )


def test_what_is_unusual_is_not_begun(check):
    check(
        """
        table, owner = make()

        def nothing(*more):
            for arguments in ((0, 64), *more):
                assert table.read(owner, *arguments) is None, arguments
            assert (owner.in_flight, table.operations, setting("created").value) == (0, {}, setting("released").value)

        size = owner.size
        for arguments in ((-1, 1), (0, -1), (0, 0), (size, 1), (size - 1, 2), (1 << 64, 1), (1, 1 << 64), (0, 1 << 31),
                          (1 << 63, 1 << 63), ("0", 1), (0.0, 1), (None, None)):
            assert table.read(owner, *arguments) is None, arguments
        for arguments in ((bytearray(8), 0), (b"", 0), (b"ab", size - 1), (b"ab", -1), (b"ab", 1 << 65), (5, 5)):
            assert table.write(owner, *arguments) is None, arguments
        owner.usable = False
        nothing()
        owner.usable, owner.image_address = True, 0
        nothing()
        owner.image_address = int(ffi.cast("uintptr_t", image))
        table.dead = True
        nothing()
        table.dead = False
        table.observers.append(print)
        nothing()
        table.observers.clear()
        thread = threading.Thread(target=nothing)
        failed = []
        threading.excepthook = failed.append
        thread.start()
        thread.join()
        assert not failed
        other, owner = make(is_current=lambda: None)
        assert other.read(owner, 0, 64) is None
        lib.aiorbd_image_changed(image)  # its size is not known any more
        nothing()
        assert table.read(owner, 0, 64) is None
        """
    )


def test_what_librbd_refuses_is_undone(check):
    check(
        """
        table, owner = make()
        references = sys.getrefcount(data)
        for name in ("refuse", "refuse_create"):
            setting(name).value = -errno.EINVAL
            assert table.read(owner, 0, 64) is None
            assert table.write(owner, data, 0) is None
            assert (owner.in_flight, table.operations) == (0, {})
            setting(name).value = 0
        assert setting("created").value == setting("released").value == 2
        assert sys.getrefcount(data) == references
        assert not readable(bridge)
        """
    )


def test_wrong_callers_are_told(check):
    check(
        """
        table, owner = make()

        def fails(error, function, *arguments):
            try:
                function(*arguments)
            except error:
                return
            raise AssertionError(arguments)

        fails(TypeError, table.read, object(), 0, 64)
        fails(TypeError, table.read, owner, 0)
        fails(TypeError, table.write, None, data, 0)
        fails(TypeError, Table, object, None, None, None, itertools.count())
        fails(TypeError, Table, Entry, None, None, None, 5)
        fails(TypeError, Table)
        fails(ZeroDivisionError, make(is_current=lambda: 1 / 0)[0].read, owner, 0, 64)
        fails(AttributeError, setattr, table, "operations", {})
        assert (owner.in_flight, table.operations) == (0, {})
        """
    )


def test_who_is_told(check):
    check(
        """
        table, owner = make()
        for count in range(4):
            table.read(owner, 0, 64)
        complete(0, 64)
        table.drain()
        assert told == []
        owner.awaited = 1  # somebody waits for some of them
        complete(1, 64)
        table.drain()
        assert told == [2]
        owner.awaited, owner.waiting = 0, 1  # somebody waits for its state
        complete(2, 64)
        table.drain()
        assert told == [2]
        complete(3, 64)
        table.drain()
        assert told == [2, 0]
        owner.waiting, owner.usable = 0, True
        table.read(owner, 0, 64)
        owner.usable = False  # it closes
        complete(4, 64)
        table.drain()
        assert told == [2, 0, 0]
        entry = Special()
        entry.owner, table.operations[99] = owner, entry
        owner.in_flight += 1
        lib.aiorbd_bridge_post(bridge, 99, 7)
        table.drain()
        assert settled == [7] and owner.in_flight == 0
        """
    )


def test_defects_are_told_and_cost_no_other(check):
    check(
        """
        table, owner = make()
        table.listeners[-1] = lambda: 1 / 0
        table.listeners[-2] = lambda: told.append("news")
        table.operations[50], table.operations[51] = object(), Operation()
        for token in (-1, 77, 50, 51, -3, -2):
            lib.aiorbd_bridge_post(bridge, token, 0)
        read = table.read(owner, 0, 64)
        read.waiter = "task"
        complete(0, 64)
        table.drain()
        assert complaints == [(-1, ZeroDivisionError), (77, KeyError), (50, TypeError), (51, TypeError)]
        assert told == ["news"] and table.loop.woken == [64]
        assert not readable(bridge)
        """
    )


def test_an_interrupt_makes_the_next_pass_sure(check):
    check(
        """
        table, owner = make()
        interrupts = []

        def interrupted(*_):
            if len(interrupts) % 2 == 0:
                interrupts.append(1)
                raise KeyboardInterrupt
            interrupts.append(0)

        def passes():
            count = 0
            while readable(bridge):
                count += 1
                try:
                    table.drain()
                except KeyboardInterrupt:
                    assert readable(bridge)
            return count

        table.listeners[-1] = interrupted
        lib.aiorbd_bridge_post(bridge, -1, 0)
        lib.aiorbd_bridge_post(bridge, -2, 0)
        assert passes() == 2 and interrupts == [1, 0]
        reads = [table.read(owner, 0, 64) for _ in range(3)]
        wake, woken = table.loop.wake, table.loop.woken

        def interrupted_wake(entry):
            wake(entry)
            interrupted()

        table.loop.wake = interrupted_wake
        for index, read in enumerate(reads):
            read.waiter = read
            complete(index, index)
        interrupts.clear()
        assert passes() >= 2 and owner.in_flight == 0
        assert sorted(set(woken)) == [0, 1, 2]
        assert all(read.value == index for index, read in enumerate(reads))
        """
    )


def test_at_most_a_batch_a_pass(check):
    check(
        """
        table, owner = make()
        table.listeners[-1] = lambda: (told.append(1), lib.aiorbd_bridge_post(bridge, -1, 0))
        lib.aiorbd_bridge_post(bridge, -1, 0)
        table.drain()
        assert len(told) == 16 and readable(bridge)
        table.drain()
        assert len(told) == 32 and readable(bridge)
        table.queue_address = 0
        table.drain()
        assert len(told) == 32
        """
    )


def test_a_task_awaits_an_entry(check):
    check(
        """
        variable = contextvars.ContextVar("variable")

        async def main():
            table, owner = make(asyncio.get_running_loop())

            async def read(number):
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
            assert entry.done() and entry.result() is None and not entry.cancel()

        asyncio.run(main())
        """
    )


def test_a_drain_within_a_task(check):
    check(
        """
        async def main():
            table, owner = make(asyncio.get_running_loop())

            async def read():
                await table.read(owner, 0, 64)

            task = asyncio.create_task(read())
            await until(lambda: owner.in_flight)
            complete(0, 64)
            table.drain()  # as loops do that are made to nest
            assert not task.done() and owner.in_flight == 0 and not task.cancelled()
            await task
            assert not complaints

        asyncio.run(main())
        """
    )


def test_a_task_that_is_cancelled(check):
    check(
        """
        async def main():
            table, owner = make(asyncio.get_running_loop())
            entries = []

            async def read():
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
            assert owner.in_flight == 1 and entries[0].done() and not entries[0].cancel()
            complete(0, 64)
            await drained(table)
            assert owner.in_flight == 0 and not complaints

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
            assert task.cancelled() and owner.in_flight == 0

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
        """
    )


def test_cancelled_again_while_it_is_cancelled(check):
    """As by a signal handler that runs in `call_soon`: the task hears of it once."""
    check(
        """
        class Loop(asyncio.SelectorEventLoop):
            again = None

            def call_soon(self, *arguments, **keywords):
                handle = super().call_soon(*arguments, **keywords)
                if self.again is not None:
                    again, self.again = self.again, None
                    again()
                return handle

        async def main():
            loop = asyncio.get_running_loop()
            table, owner = make(loop)
            woken = []

            async def read():
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
            loop.again = lambda: task.cancel()
            task.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
            assert woken == [1]  # as with a future: nothing ends the next wait
            task.cancel()
            await task
            assert woken == [1, 2]
            complete(0, 64)
            await drained(table)
            assert owner.in_flight == 0 and not complaints

        Loop().run_until_complete(main())
        """
    )


def test_an_image_that_closes_while_a_read_begins(check):
    """Anybody's code may run in a finalizer."""
    check(
        """
        class Closing:
            def __next__(self):
                owner.usable = False
                return 7

            def __iter__(self):
                return self

        table, owner = make()
        table = Ours(Operation, table.loop, lambda: True, None, Closing())
        assert table.read(owner, 0, 64) is None
        assert (owner.in_flight, table.operations, setting("created").value) == (0, {}, 0)
        """
    )


def test_the_module_is_executed_once_more(check):
    check(
        """
        import importlib
        import aiorbd._table
        table, owner = make()
        read = table.read(owner, 0, 64)
        again = importlib.reload(aiorbd._table)
        assert again.Table is Table and again._module is not None
        complete(0, 64)
        table.drain()
        assert (read.value, owner.in_flight, complaints) == (64, 0, [])
        """
    )


def test_a_loop_that_was_made_to_nest(check):
    check(
        """
        class Nesting(asyncio.SelectorEventLoop):
            _nest_patched = True

        async def main():
            table, owner = make(asyncio.get_running_loop())

            async def read():
                await table.read(owner, 0, 64)

            task = asyncio.create_task(read())
            await until(lambda: owner.in_flight)
            complete(0, 64)
            asyncio.get_running_loop().call_soon(lambda: (table.drain(), told.append(task.done())))
            await asyncio.sleep(0)
            assert told == [False]
            await task

        Nesting().run_until_complete(main())
        """
    )


def test_a_pass_is_counted_once(check):
    check(
        """
        async def main():
            table, owner = make(asyncio.get_running_loop())
            setting("early").value = 1

            async def read():
                for _ in range(8):
                    await table.read(owner, 0, 64)

            task = asyncio.create_task(read())
            await asyncio.sleep(0)
            await drained(table)
            await task
            figures = ffi.new("uint64_t[2]")
            lib.aiorbd_bridge_drained(bridge, figures)
            assert list(figures) == [1, 8]

        asyncio.run(main())
        """
    )


def test_one_task_awaits(check):
    check(
        """
        async def main():
            table, owner = make(asyncio.get_running_loop())
            entry = table.read(owner, 0, 64)

            async def wait():
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
            try:
                entry.result()
            except asyncio.InvalidStateError:
                pass
            complete(0, 64)
            await drained(table)
            await first
            try:
                await Operation()
            except TypeError as error:
                assert "not awaited itself" in str(error)

        asyncio.run(main())
        """
    )


def test_nothing_leaks(check):
    check(
        """
        async def main():
            table, owner = make(asyncio.get_running_loop())
            setting("early").value = 1

            async def read():
                await table.read(owner, 0, 64)

            async def some():
                for _ in range(200):
                    task = asyncio.create_task(read())
                    await asyncio.sleep(0)
                    if _ % 3 == 0:
                        task.cancel()
                    await drained(table)
                    await asyncio.wait([task])
                    table.write(owner, data, 0)
                    await drained(table)

            await some()
            gc.collect()
            blocks, references = sys.getallocatedblocks(), sys.getrefcount(data)
            for _ in range(20):
                await some()
            gc.collect()
            assert sys.getallocatedblocks() - blocks < 1000, sys.getallocatedblocks() - blocks
            assert sys.getrefcount(data) == references
            setting("early").value = 0
            entry = table.read(owner, 0, 64)  # refers to the table, which has it
            del table, entry, read, some

        asyncio.run(main())
        gc.collect()
        assert not any(isinstance(object, (Table, Entry)) for object in gc.get_objects())
        """
    )
