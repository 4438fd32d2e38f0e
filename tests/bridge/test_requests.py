"""A lane's requests alone, against a fake librbd: how what is over is sorted."""


def test_reads_are_begun_and_sorted(check_reads):
    check_reads(
        """
        reads, lane, owner, table = make_reads([(0, 64), (64, 32), (128, 16)], flags=5)
        assert reads.fill(2) == 2 and reads.fill(2) == 1 and reads.exhausted
        assert entered == ["in"]
        assert state(lane, owner) == ([1, 2, 3], 3, 3)
        assert lane.running[3] == (lib.AIORBD_READ, 128, 16, lane.running[3][3], 5)
        assert setting("created").value == 2  # the third waits
        complete(0, 64)
        assert setting("created").value == 3
        complete(1, -errno.EIO)
        assert not lane.over
        lane.collect()
        assert list(lane.over) == [1, 2]  # in order of their end
        assert lane.over[1] == ((lib.AIORBD_READ, 0, 64, b"r" * 64, 5), 64)
        assert lane.over[2][1] == -errno.EIO
        assert sorted(lane.running) == [3] and lane.counted == 3  # for the lane to bring up to date
        complete(2, 16)
        lane.over = {}
        lane.collect()
        assert lane.over == {3: ((lib.AIORBD_READ, 128, 16, b"r" * 16, 5), 16)} and not lane.running
        """
    )


def test_what_waits_while_the_image_changes_is_late(check_reads):
    check_reads(
        """
        reads, lane, owner, table = make_reads([(0, 64), (64, 64)], depth=1)
        assert reads.fill(2) == 2
        lib.aiorbd_image_changed(image)
        complete(0, 64)
        lane.collect()
        assert list(lane.over) == [1] and list(lane.late) == [2] and not lane.running
        assert lane.late[2][1:3] == (64, 64)
        """
    )


def test_an_interrupt_loses_nothing(check_reads):
    check_reads(
        """
        reads, lane, owner, table = make_reads([(0, 64), (64, 64), (128, 64)], depth=3)
        interrupts = [KeyboardInterrupt]

        def tell(number, value):
            if interrupts:
                raise interrupts.pop()
            told.append((number, value))

        lane.tell_observers = tell
        assert reads.fill(3) == 3
        lane.notes[1] = "note"
        for index in (1, 0, 2):
            complete(index, index)
        try:
            lane.collect()
        except KeyboardInterrupt:
            assert not lane.over and len(lane.running) == 3
        else:
            raise AssertionError
        assert drain(bridge) == [(-9, 0)]  # told once for the three, and once more; both lie in one record
        lane.collect()
        assert {number: value for number, (_, value) in lane.over.items()} == {2: 1, 1: 0, 3: 2}
        assert told == [(2, 1), (1, 0), (3, 2)]  # who has no note of a number knows what to do

        def interrupted(_):
            raise KeyboardInterrupt

        # What is over is not counted yet: the lane stays in the table until it is.
        entered.clear()
        setting("refuse").value = -errno.ENOMEM
        reads = more(lane, (0, 64))
        assert reads.fill(1) == 0 and entered == ["in"]
        assert (lane.counted, owner.in_flight) == (3, 3)
        lane.counted = owner.in_flight = 0
        entered.clear()
        table.enter = interrupted
        for _ in range(2):
            try:
                reads.fill(1)
            except KeyboardInterrupt:
                entered.append("caught")
        assert entered == ["out", "caught"] * 2 and state(lane, owner) == NOTHING
        assert (reads.cut, reads.end) == (0, 64) and not reads.fetching
        """
    )


def test_many_are_taken_in_several_goes(check_reads):
    check_reads(
        """
        setting("early").value = 1
        reads, lane, owner, table = make_reads([(0, 8)] * 300, depth=400, bulk=200)
        assert reads.fill(1000) == 300
        sizes = []
        while lane.running:
            lane.collect()
            sizes.append(len(lane.over))
        assert sizes == [128, 256, 300]
        assert list(lane.over) == list(range(1, 301))
        """
    )


def test_nothing_leaks(check_reads):
    check_reads(
        """
        setting("early").value = 1

        def some():
            extents = [(0, 64), (-1, 64)] * 50
            reads, lane, owner, table = make_reads(extents, depth=64, ordered=True)
            batch = deque()
            for count in range(100):
                reads.fill(2)
                reads.extent = None
                if count % 3:
                    lane.collect()
                    reads.hand_out(batch)
            reads.row.append(ValueError())
            reads.hand_out(batch)
            assert len(batch) == 50
            lane.reads = lane, reads

        for _ in range(3):
            some()
        gc.collect()
        before = sys.getallocatedblocks()
        for _ in range(50):
            some()
        gc.collect()
        assert sys.getallocatedblocks() - before < 1000, sys.getallocatedblocks() - before
        assert not any(isinstance(object, (Requests, Reads)) for object in gc.get_objects())
        """
    )
