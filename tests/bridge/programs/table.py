"""The compiled half of the operation table alone, against a fake librbd: starting and completing operations."""

import asyncio
import errno
import gc
import itertools
import sys
import threading
from typing import Any

from fake import bridge, ffi, image, lib, readable, setting
from own_table import (
    Operation,
    Ours,
    Special,
    complaints,
    complete,
    data,
    drained,
    entry_of,
    make,
    reading,
    settled,
    told,
)

from aiorbd._native.table import Entry, Table


def test_read_and_write_complete() -> None:
    table, owner = make()
    read, write = table.read(owner, 4096, 64), table.write(owner, data, 128)
    assert (owner.in_flight, list(table.operations.values())) == (2, [read, write])
    assert write.keep is data
    assert type(read) is Operation
    assert read.owner is owner
    assert read.value is None
    read.waiter = write.waiter = "task"
    complete(0, 64)
    complete(1, 0)
    assert readable(bridge)
    table.drain()
    assert not readable(bridge)
    assert (read.value, read.keep, write.value) == (64, b"r" * 64, 0)  # type: ignore[comparison-overlap]
    assert (owner.in_flight, table.operations, table.loop.woken) == (0, {}, [64, 0])
    assert not complaints
    assert not settled
    assert not told


def test_unusual_calls_are_not_started() -> None:
    table, owner = make()

    def nothing(*more: Any) -> None:
        for arguments in ((0, 64), *more):
            assert table.read(owner, *arguments) is None, arguments
        assert (owner.in_flight, table.operations, setting("created").value) == (0, {}, setting("released").value)

    size = owner.size
    for arguments in (
        (-1, 1),
        (0, -1),
        (0, 0),
        (size, 1),
        (size - 1, 2),
        (1 << 64, 1),
        (1, 1 << 64),
        (0, 1 << 31),
        (1 << 63, 1 << 63),
        ("0", 1),
        (0.0, 1),
        (None, None),
    ):
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
    failed: list[Any] = []
    threading.excepthook = failed.append
    thread.start()
    thread.join()
    assert not failed
    other, owner = make(is_current=lambda: None)
    assert other.read(owner, 0, 64) is None
    lib.aiorbd_image_changed(image)  # its size is not known any more
    nothing()
    assert table.read(owner, 0, 64) is None


def test_submit_takes_any_request_with_flags_and_any_buffer() -> None:
    table, owner = make()
    into = bytearray(64)
    view = ffi.from_buffer(into)
    address = int(ffi.cast("uintptr_t", view))
    flags, numbers = setting("flags"), {}
    for kind, content, extra in (
        ("READ", address, 0),
        ("READ", None, 0),
        ("WRITE", data, 0),
        ("WRITE_SAME", data, 8),
        ("WRITE_ZEROES", None, 1),
        ("DISCARD", None, 0),
        ("FLUSH", None, 0),
    ):
        entry = entry_of(owner, Special)
        number = getattr(lib, "AIORBD_" + kind)
        assert table.submit(entry, number, 0, 64, content, 5, extra, 0) == 0, kind
        assert entry.number
        assert table.operations[entry.number] is entry
        assert flags.value == (5 if kind not in ("DISCARD", "FLUSH") else 0), kind
        numbers[entry.number] = entry
    assert into == b"r" * 64
    assert owner.in_flight == 7
    assert numbers[2].keep == b"r" * 64  # C made the buffer
    for index in range(7):
        complete(index, index)
    table.drain()
    assert settled == list(range(7))
    assert owner.in_flight == 0
    assert not table.operations


def test_request_that_cannot_be_submitted_is_undone() -> None:
    table, owner = make()
    entry = entry_of(owner)

    def refused(code: Any, offset: int = 0, length: int = 64) -> None:
        assert table.submit(entry, lib.AIORBD_READ, offset, length, None, 0, 0, 0) == code
        assert (owner.in_flight, table.operations, entry.number) == (0, {}, 0)
        assert setting("created").value == setting("released").value

    stale = lib.AIORBD_STALE
    refused(stale, offset=owner.size)  # which shrank since the range was checked
    owner.usable = False
    refused(stale)
    owner.usable, table.dead = True, True
    refused(stale)
    table.dead = False
    for name in ("refuse", "refuse_create"):
        setting(name).value = -errno.ENOMEM
        refused(-errno.ENOMEM)
        setting(name).value = 0
    lib.aiorbd_image_changed(image)
    refused(stale)


def test_request_goes_through_its_lane() -> None:
    table, owner = make()
    lane = ffi.gc(lib.aiorbd_lane_new(image, 1, 1), lib.aiorbd_lane_release)
    address = int(ffi.cast("uintptr_t", lane))
    entries = [entry_of(owner, Special) for _ in range(3)]
    for entry in entries:
        assert table.submit(entry, lib.AIORBD_READ, 0, 64, None, 0, 0, address) == 0
    assert setting("created").value == 1
    assert owner.in_flight == 3
    for index in range(3):
        complete(index, 64)
        table.drain()
    assert settled == [64] * 3
    assert owner.in_flight == 0


def test_request_that_librbd_refuses_is_undone() -> None:
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


def test_wrong_arguments_raise() -> None:
    table, owner = make()

    def fails(error: Any, function: Any, *arguments: Any) -> None:
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
    right = entry_of(owner), lib.AIORBD_READ, 0, 64, None, 0, 0, 0
    for index, error, wrong in (
        (0, TypeError, object()),
        (0, TypeError, Operation()),
        (1, TypeError, "1"),
        (2, TypeError, None),
        (3, TypeError, 1.5),
        (4, TypeError, bytearray(8)),
        (5, OverflowError, 1 << 31),
        (6, OverflowError, 1 << 64),
        (7, TypeError, None),
    ):
        fails(error, table.submit, *right[:index], wrong, *right[index + 1 :])
    fails(TypeError, table.submit)
    assert (owner.in_flight, table.operations) == (0, {})


def test_owner_is_notified_only_while_tasks_wait_or_it_closes() -> None:
    table, owner = make()
    for _ in range(4):
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
    assert settled == [7]
    assert owner.in_flight == 0


def test_defects_are_reported_and_cost_no_other_operation() -> None:
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
    assert told == ["news"]
    assert table.loop.woken == [64]
    assert not readable(bridge)


def test_interrupt_guarantees_another_pass() -> None:
    table, owner = make()
    interrupts: list[Any] = []

    def interrupted(*_: Any) -> None:
        if len(interrupts) % 2 == 0:
            interrupts.append(1)
            raise KeyboardInterrupt
        interrupts.append(0)

    def passes() -> Any:
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
    assert passes() == 2
    assert interrupts == [1, 0]
    reads = [table.read(owner, 0, 64) for _ in range(3)]
    wake, woken = table.loop.wake, table.loop.woken

    def interrupted_wake(entry: Any) -> None:
        wake(entry)
        interrupted()

    table.loop.wake = interrupted_wake
    for index, read in enumerate(reads):
        read.waiter = read
        complete(index, index)
    interrupts.clear()
    assert passes() >= 2
    assert owner.in_flight == 0
    assert sorted(set(woken)) == [0, 1, 2]
    assert all(read.value == index for index, read in enumerate(reads))


def test_interrupt_while_an_operation_is_settled_settles_it_again() -> None:
    table, owner = make()
    interrupts = [KeyboardInterrupt]

    class Interrupted(Special):
        def settle(self) -> None:
            if interrupts:
                raise interrupts.pop()
            super().settle()

    entries = [entry_of(owner, Interrupted) for _ in range(2)]
    for entry in entries:
        assert table.submit(entry, lib.AIORBD_READ, 0, 64, None, 0, 0, 0) == 0
    complete(0, 3)
    complete(1, 4)
    try:
        table.drain()
    except KeyboardInterrupt:
        assert readable(bridge)  # the next pass is sure
    table.drain()
    assert settled == [("again", 3), 4]
    assert owner.in_flight == 0


def test_last_pass_releases_the_queue() -> None:
    table, _owner = make()

    def release() -> None:
        told.append("released")
        if len(told) == 1:
            raise KeyboardInterrupt
        table.queue_address, table.ended = 0, False

    table._release = release
    lib.aiorbd_bridge_post(bridge, -1, 0)
    table.drain()
    assert not told
    table.ended = True
    try:
        table.drain()
    except KeyboardInterrupt:
        assert readable(bridge)  # another pass is sure
    table.drain()
    table.drain()
    assert told == ["released"] * 2
    table, _owner = make()
    table.forked = True  # a child, which must leave its parent's records alone
    lib.aiorbd_bridge_post(bridge, -1, 0)
    table.drain()
    assert readable(bridge)


def test_pass_takes_at_most_one_batch() -> None:
    table, _owner = make()
    table.listeners[-1] = lambda: (told.append(1), lib.aiorbd_bridge_post(bridge, -1, 0))  # type: ignore[func-returns-value]
    lib.aiorbd_bridge_post(bridge, -1, 0)
    table.drain()
    assert len(told) == 16
    assert readable(bridge)
    table.drain()
    assert len(told) == 32
    assert readable(bridge)
    table.queue_address = 0
    table.drain()
    assert len(told) == 32


def test_image_that_closes_while_a_read_starts_submits_nothing() -> None:
    """Any code may run in a finalizer, also a close."""

    class Closing:
        def __next__(self) -> Any:
            owner.usable = False
            return 7

        def __iter__(self) -> Any:
            return self

    table, owner = make()
    table = Ours(Operation, table.loop, lambda: True, None, Closing())
    assert table.read(owner, 0, 64) is None
    assert (owner.in_flight, table.operations, setting("created").value) == (0, {}, 0)

    def gone() -> Any:
        owner.image_address = 0
        return True

    owner.usable = True
    table = Ours(Operation, table.loop, gone, None, itertools.count(1))
    assert table.read(owner, 0, 64) is None
    assert (owner.in_flight, table.operations, setting("created").value) == (0, {}, 0)


def test_reloaded_module_keeps_its_types() -> None:
    import importlib

    import aiorbd._native.table

    table, owner = make()
    read = table.read(owner, 0, 64)
    again = importlib.reload(aiorbd._native.table)
    assert again.Table is Table
    assert again._module is not None
    complete(0, 64)
    table.drain()
    assert (read.value, owner.in_flight, complaints) == (64, 0, [])


def test_operations_and_tasks_leak_no_memory() -> None:
    async def main() -> None:
        table, owner = make(asyncio.get_running_loop())
        setting("early").value = 1

        async def some(table: Any) -> None:
            for turn in range(200):
                task = reading(table, owner)
                await asyncio.sleep(0)
                if turn % 3 == 0:
                    task.cancel()
                await drained(table)
                await asyncio.wait([task])
                table.write(owner, data, 0)
                await drained(table)

        await some(table)
        gc.collect()
        blocks, references = sys.getallocatedblocks(), sys.getrefcount(data)
        for _ in range(20):
            await some(table)
        gc.collect()
        assert sys.getallocatedblocks() - blocks < 1000, sys.getallocatedblocks() - blocks
        assert sys.getrefcount(data) == references
        setting("early").value = 0
        entry = table.read(owner, 0, 64)  # refers to the table, which has it
        del table, entry

    asyncio.run(main())
    gc.collect()
    assert not any(isinstance(one, (Table, Entry)) for one in gc.get_objects())
