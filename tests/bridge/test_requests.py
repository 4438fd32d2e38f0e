"""A lane's requests alone, against a fake librbd: what it begins in bulk, and how what is over is sorted."""

import textwrap

import pytest

PREAMBLE = """
    from aiorbd._table import Requests

    entered = []

    class Bridge(Ours):
        def enter(self, requests):
            entered.append("in")

        def leave(self, requests):
            entered.append("out")

    class Row(Requests):
        def tell_observers(self, number, value):
            told.append((number, value))
            del self.notes[number]

    def make_requests(depth=2, bulk=1):
        table, owner = make(kind=Bridge)
        requests = Row()
        requests.owner, requests.bridge = owner, table
        requests.pointer = ffi.gc(lib.aiorbd_lane_new(image, -9, depth, bulk), lib.aiorbd_lane_release)
        requests.lane_address = int(ffi.cast("uintptr_t", requests.pointer))
        return requests, owner, table

    def state(requests, owner):
        return sorted(requests.running), requests.counted, owner.in_flight

    NOTHING = [], 0, 0
"""


@pytest.fixture
def check(check):
    """A function that runs a program which has requests to make."""
    return lambda body: check(textwrap.dedent(PREAMBLE) + textwrap.dedent(body))


def test_reads_are_begun_and_sorted(check):
    check(
        """
        requests, owner, table = make_requests(depth=2)
        assert [requests.read(0, 64, 5), requests.read(64, 32, 0), requests.read(128, 16, 0)] == [1, 2, 3]
        assert entered == ["in"] and requests.last == 3
        assert state(requests, owner) == ([1, 2, 3], 3, 3)
        assert requests.running[3] == (lib.AIORBD_READ, 128, 16, requests.running[3][3], 0)
        assert setting("created").value == 2  # the third waits
        complete(0, 64)
        assert setting("created").value == 3
        complete(1, -errno.EIO)
        assert not requests.over
        requests.collect()
        assert list(requests.over) == [1, 2]  # in order of their end
        assert requests.over[1] == ((lib.AIORBD_READ, 0, 64, b"r" * 64, 5), 64)
        assert requests.over[2][1] == -errno.EIO
        assert sorted(requests.running) == [3] and requests.counted == 3  # for the lane to bring up to date
        complete(2, 16)
        requests.over = {}
        requests.collect()
        assert requests.over == {3: ((lib.AIORBD_READ, 128, 16, b"r" * 16, 0), 16)} and not requests.running
        """
    )


def test_what_is_unusual_is_not_begun(check):
    check(
        """
        requests, owner, table = make_requests()

        def nothing(*arguments):
            entered.clear()
            assert requests.read(*(arguments or (0, 64, 0))) is None, arguments
            assert state(requests, owner) == NOTHING and requests.last == 0
            assert entered in ([], ["in", "out"])
            assert setting("created").value == setting("released").value

        size = owner.size
        for arguments in ((-1, 1, 0), (0, -1, 0), (size, 1, 0), (size - 1, 2, 0), (1 << 64, 1, 0), (0, 1 << 31, 0),
                          (0, 1, 1 << 31), (0, 1, -1), ("0", 1, 0), (0, 1.0, 0), (0, 1, None)):
            nothing(*arguments)
        owner.usable = False
        nothing()
        owner.usable, table.dead = True, True
        nothing()
        table.dead = False
        table.observers.append(print)
        nothing()
        table.observers.clear()
        for name in ("refuse", "refuse_create"):
            setting(name).value = -errno.ENOMEM
            nothing()
            setting(name).value = 0
        requests.lane_address, address = 0, requests.lane_address
        nothing()
        requests.lane_address = address
        lib.aiorbd_image_changed(image)
        nothing()
        """
    )


def test_one_is_refused_while_others_run(check):
    check(
        """
        requests, owner, table = make_requests()
        assert requests.read(0, 64, 0) == 1
        setting("refuse").value = -errno.ENOMEM
        assert requests.read(64, 64, 0) is None
        assert state(requests, owner) == ([1], 1, 1) and entered == ["in"]
        setting("refuse").value = 0
        complete(0, 64)
        requests.collect()
        assert list(requests.over) == [1]
        """
    )


def test_what_waits_while_the_image_changes_is_late(check):
    check(
        """
        requests, owner, table = make_requests(depth=1)
        requests.read(0, 64, 0), requests.read(64, 64, 0)
        lib.aiorbd_image_changed(image)
        complete(0, 64)
        requests.collect()
        assert list(requests.over) == [1] and list(requests.late) == [2] and not requests.running
        assert requests.late[2][1:3] == (64, 64)
        """
    )


def test_an_interrupt_loses_nothing(check):
    check(
        """
        requests, owner, table = make_requests(depth=3)
        interrupts = [KeyboardInterrupt]

        def tell(number, value):
            if interrupts:
                raise interrupts.pop()
            told.append((number, value))

        requests.tell_observers = tell
        for offset in (0, 64, 128):
            requests.read(offset, 64, 0)
        requests.notes[1] = "note"
        for index in (1, 0, 2):
            complete(index, index)
        try:
            requests.collect()
        except KeyboardInterrupt:
            assert not requests.over and len(requests.running) == 3
        else:
            raise AssertionError
        assert drain(bridge) == [(-9, 0)]  # told once for the three, and once more; both lie in one record
        requests.collect()
        assert {number: value for number, (_, value) in requests.over.items()} == {2: 1, 1: 0, 3: 2}
        assert told == [(2, 1), (1, 0), (3, 2)]  # who has no note of a number knows what to do

        def interrupted(_):
            raise KeyboardInterrupt

        # What is over is not counted yet: the lane stays in the table until it is.
        entered.clear()
        setting("refuse").value = -errno.ENOMEM
        assert requests.read(0, 64, 0) is None and entered == ["in"]
        assert (requests.counted, owner.in_flight) == (3, 3)
        requests.counted = owner.in_flight = 0
        entered.clear()
        table.enter = interrupted
        for _ in range(2):
            try:
                requests.read(0, 64, 0)
            except KeyboardInterrupt:
                entered.append("caught")
        assert entered == ["out", "caught"] * 2 and state(requests, owner) == NOTHING
        """
    )


def test_many_are_taken_in_several_goes(check):
    check(
        """
        setting("early").value = 1
        requests, owner, table = make_requests(depth=400, bulk=200)
        for _ in range(300):
            requests.read(0, 8, 0)
        sizes = []
        while requests.running:
            requests.collect()
            sizes.append(len(requests.over))
        assert sizes == [128, 256, 300]
        assert list(requests.over) == list(range(1, 301))
        """
    )


def test_wrong_callers_are_told(check):
    check(
        """
        requests, owner, table = make_requests()

        def fails(*arguments):
            try:
                requests.read(*arguments)
            except TypeError:
                return
            raise AssertionError(arguments)

        fails(), fails(0, 1), fails(0, 1, 0, 0)
        for name in ("owner", "bridge"):
            right = getattr(requests, name)
            for wrong in (None, object()):
                setattr(requests, name, wrong)
                fails(0, 64, 0)
            setattr(requests, name, right)
        try:
            requests.running = {}
        except AttributeError:
            told.append("read-only")
        assert told == ["read-only"] and state(requests, owner) == NOTHING
        """
    )


def test_nothing_leaks(check):
    check(
        """
        setting("early").value = 1

        def some():
            requests, owner, table = make_requests(depth=64)
            for count in range(50):
                requests.read(0, 64, 0)
                requests.read(-1, 64, 0)
                if count % 3:
                    requests.collect()
                    requests.over.clear()
            requests.itself = requests

        for _ in range(3):
            some()
        gc.collect()
        before = sys.getallocatedblocks()
        for _ in range(50):
            some()
        gc.collect()
        assert sys.getallocatedblocks() - before < 1000, sys.getallocatedblocks() - before
        assert not any(isinstance(object, Requests) for object in gc.get_objects())
        """
    )
