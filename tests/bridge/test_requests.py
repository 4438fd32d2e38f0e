"""A stream's reads alone, against a fake librbd: how extents are cut and begun, what is over sorted, and handed out."""

import textwrap

import pytest

PREAMBLE = """
    from collections import deque
    from aiorbd._table import Reads, Requests

    entered = []

    class Chunk(tuple):
        pass

    class Bridge(Ours):
        def enter(self, requests):
            entered.append("in")

        def leave(self, requests):
            entered.append("out")

    class Row(Reads):
        def read(self, offset, length):
            self.extents, self.extent = iter([(offset, length)]), None
            return self.fill(1)

        def tell_observers(self, number, value):
            told.append((number, value))
            del self.notes[number]

    def make_requests(depth=2, bulk=1, extents=(), ordered=False):
        table, owner = make(kind=Bridge)
        requests = Row()
        requests.extents, requests.ordered, requests.chunk_size = iter(extents), ordered, 1 << 20
        requests.row, requests.chunk = deque(), Chunk
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
        requests, owner, table = make_requests(depth=2, extents=[(0, 64), (64, 32), (128, 16)])
        requests.op_flags = 5
        assert requests.fill(2) == 2 and requests.fill(2) == 1 and requests.exhausted
        assert entered == ["in"]
        assert state(requests, owner) == ([1, 2, 3], 3, 3)
        assert requests.running[3] == (lib.AIORBD_READ, 128, 16, requests.running[3][3], 5)
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
        assert requests.over == {3: ((lib.AIORBD_READ, 128, 16, b"r" * 16, 5), 16)} and not requests.running
        """
    )


def test_extents_are_cut_at_multiples(check):
    check(
        """
        requests, owner, table = make_requests(depth=9, extents=[(1000, 10000), (4096, 8192), (0, 1)], ordered=True)
        requests.chunk_size = 4096
        assert requests.fill(2) == 2
        assert (requests.cut, requests.end, requests.extent) == (8192, 11000, None)
        assert requests.fill(10) == 4 and requests.exhausted and requests.cut == requests.end
        assert [request[1:3] for request in requests.running.values()] == [
            (1000, 3096), (4096, 4096), (8192, 2808), (4096, 4096), (8192, 4096), (0, 1)
        ]
        assert list(requests.row) == [1, 2, 3, 4, 5, 6] == list(requests.running)
        assert requests.fill(10) == 0
        """
    )


def test_what_is_unusual_is_left_where_it_is(check):
    check(
        """
        requests, owner, table = make_requests()
        size = owner.size
        for extent in ((-1, 1), (0, -1), (0, 0), (size, 1), (size - 1, 2), (1 << 64, 1), ("0", 1), (0, 1.0), (0, None),
                       (0, 1, 2), (), [0, 1], Chunk((0, 1)), 5):
            requests.extents, requests.extent = iter([extent, (0, 1)]), None
            assert requests.fill(3) == requests.fill(3) == 0
            assert requests.extent is extent and (requests.cut, requests.end) == (0, 0)
        requests.extents, requests.extent = None, (0, 64)  # Python has awaited it
        assert requests.fill(3) == 1 and requests.extent is None and not requests.exhausted
        """
    )


def test_what_cannot_be_begun_is_left_to_begin(check):
    check(
        """
        requests, owner, table = make_requests()

        def nothing(extent=None):
            entered.clear()
            requests.cut = requests.end = 0
            assert requests.read(0, 64) == requests.fill(1) == 0
            assert (requests.extent, requests.cut, requests.end) == (extent, 0, 0 if extent else 64)
            assert state(requests, owner) == NOTHING
            assert entered in ([], ["in", "out"] * 2)
            assert setting("created").value == setting("released").value

        owner.usable = False
        nothing((0, 64))
        owner.usable, table.dead = True, True
        nothing((0, 64))
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
        requests.abandoned = True
        nothing()
        requests.abandoned = False
        lib.aiorbd_image_changed(image)
        nothing()
        owner.usable = False
        requests.cut, requests.end = 0, 64  # closed, after the extent was looked at
        assert requests.fill(1) == 0 and (requests.cut, requests.end) == (0, 64)
        """
    )


def test_one_is_refused_while_others_run(check):
    check(
        """
        requests, owner, table = make_requests(extents=[(0, 64), (64, 64)], ordered=True)
        assert requests.fill(1) == 1
        setting("refuse").value = -errno.ENOMEM
        assert requests.fill(1) == 0 and (requests.cut, requests.end) == (64, 128)
        assert state(requests, owner) == ([1], 1, 1) and entered == ["in"] and list(requests.row) == [1]
        setting("refuse").value = 0
        complete(0, 64)
        requests.collect()
        assert list(requests.over) == [1]
        """
    )


def test_what_waits_while_the_image_changes_is_late(check):
    check(
        """
        requests, owner, table = make_requests(depth=1, extents=[(0, 64), (64, 64)])
        assert requests.fill(2) == 2
        lib.aiorbd_image_changed(image)
        complete(0, 64)
        requests.collect()
        assert list(requests.over) == [1] and list(requests.late) == [2] and not requests.running
        assert requests.late[2][1:3] == (64, 64)
        """
    )


def test_an_iterator_may_do_anything(check):
    check(
        """
        requests, owner, table = make_requests(depth=9)

        def extents():
            yield 0, 64
            requests.abandoned = True
            yield 64, 64

        requests.extents = extents()
        assert requests.fill(3) == 1
        assert state(requests, owner) == ([1], 1, 1) and (requests.cut, requests.end) == (64, 128)
        requests.abandoned, requests.cut = False, 128

        class Broken:
            def __iter__(self):
                return self

            def __next__(self):
                raise broken.pop()

        requests.extents, broken = Broken(), [KeyboardInterrupt, ValueError]
        for kind in (ValueError, KeyboardInterrupt):
            try:
                requests.fill(3)
            except kind:
                told.append(requests.fetching)
        requests.extents = iter([(0, 1)])
        assert told == [True, True] and requests.fill(3) == 1 and not requests.fetching
        assert state(requests, owner) == ([1, 2], 2, 2)
        """
    )


def test_an_interrupt_loses_nothing(check):
    check(
        """
        requests, owner, table = make_requests(depth=3, extents=[(0, 64), (64, 64), (128, 64)])
        interrupts = [KeyboardInterrupt]

        def tell(number, value):
            if interrupts:
                raise interrupts.pop()
            told.append((number, value))

        requests.tell_observers = tell
        assert requests.fill(3) == 3
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
        requests.exhausted = False
        assert requests.read(0, 64) == 0 and entered == ["in"]
        assert (requests.counted, owner.in_flight) == (3, 3)
        requests.counted = owner.in_flight = 0
        entered.clear()
        table.enter = interrupted
        for _ in range(2):
            try:
                requests.fill(1)
            except KeyboardInterrupt:
                entered.append("caught")
        assert entered == ["out", "caught"] * 2 and state(requests, owner) == NOTHING
        assert (requests.cut, requests.end) == (0, 64)
        """
    )


def test_many_are_taken_in_several_goes(check):
    check(
        """
        setting("early").value = 1
        requests, owner, table = make_requests(depth=400, bulk=200, extents=[(0, 8)] * 300)
        assert requests.fill(1000) == 300
        sizes = []
        while requests.running:
            requests.collect()
            sizes.append(len(requests.over))
        assert sizes == [128, 256, 300]
        assert list(requests.over) == list(range(1, 301))
        """
    )


def test_chunks_are_handed_out_as_they_come_or_in_order(check):
    check(
        """
        for ordered in (False, True):
            pending_before = setting("created").value
            extents = [(0, 64), (64, 32), (128, 16), (256, 8)]
            requests, owner, table = make_requests(depth=9, extents=extents, ordered=ordered)
            assert requests.fill(9) == 4
            hole, end = Chunk((512, 512, None)), ValueError("the end")
            requests.row += hole, end
            batch = deque(["before"])
            for index, value in ((1, 32), (2, 16)):
                complete(pending_before + index, value)
            requests.collect()
            second, third = Chunk((64, 32, b"r" * 32)), Chunk((128, 16, b"r" * 16))
            if ordered:
                assert requests.hand_out(batch) is None and list(batch) == ["before"]
                assert list(requests.over) == [2, 3] and len(requests.row) == 6
            else:
                assert requests.hand_out(batch) is end and list(batch) == ["before", second, third, hole]
                assert not requests.over and list(requests.row) == [end]
            complete(pending_before, 64)
            requests.collect()
            batch.clear()
            first = Chunk((0, 64, b"r" * 64))
            assert requests.hand_out(batch) is (None if ordered else end)
            assert list(batch) == ([first, second, third] if ordered else [first])
            assert all(type(chunk) is Chunk and hash(chunk) == hash(tuple(chunk)) for chunk in batch)
            complete(pending_before + 3, 7)  # librbd clipped it
            requests.collect()
            batch.clear()
            for _ in range(2):  # it stays what it is
                request, value = requests.hand_out(batch)
                assert request is requests.over[4][0] and request[1:3] == (256, 8) and value == 7
            assert not batch and list(requests.over) == [4] and len(requests.row) == (3 if ordered else 1)
            requests.over[4] = requests.over[4][0], end  # it was late, and not begun again
            assert requests.hand_out(batch)[1] is end
        """
    )


def test_wrong_callers_are_told(check):
    check(
        """
        requests, owner, table = make_requests()

        def fails(kind, function, *arguments):
            try:
                function(*arguments)
            except kind:
                return
            raise AssertionError(arguments)

        fails(TypeError, requests.fill), fails(TypeError, requests.fill, "1"), fails(TypeError, requests.fill, -1)
        for name, wrong in (("owner", None), ("owner", object()), ("bridge", None), ("bridge", object()),
                            ("chunk_size", 0), ("chunk_size", 1 << 31)):
            right = getattr(requests, name)
            setattr(requests, name, wrong)
            fails(TypeError, requests.read, 0, 64)
            setattr(requests, name, right)
        requests.cut, requests.end = -64, 0
        assert requests.fill(1) == 0
        requests.cut = 0
        for name, wrong in (("extents", 5), ("extents", [(0, 64)])):
            setattr(requests, name, wrong)
            fails(TypeError, requests.fill, 1)
        for name in ("extents", "extent", "row", "chunk"):
            requests.extents, requests.extent = iter([(0, 64)]), None
            delattr(requests, name)
            if name.startswith("extent"):
                fails(TypeError, requests.fill, 1)
            else:
                fails(TypeError, requests.hand_out, deque())
        requests.row, requests.chunk = deque(), Chunk
        requests.read(0, 64)
        complete(0, 64)
        requests.collect()
        fails(AttributeError, requests.hand_out, ()), fails(TypeError, requests.hand_out)
        for name in ("row", "chunk"):
            right = getattr(requests, name)
            for wrong in (None, int):
                setattr(requests, name, wrong)
                fails(TypeError, requests.hand_out, deque())
            setattr(requests, name, right)
        fails(AttributeError, setattr, requests, "running", {})
        """
    )


def test_nothing_leaks(check):
    check(
        """
        setting("early").value = 1

        def some():
            extents = [(0, 64), (-1, 64)] * 50
            requests, owner, table = make_requests(depth=64, extents=extents, ordered=True)
            batch = deque()
            for count in range(100):
                requests.fill(2)
                requests.extent = None
                if count % 3:
                    requests.collect()
                    requests.hand_out(batch)
            requests.row.append(ValueError())
            requests.hand_out(batch)
            assert len(batch) == 50
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
