"""A stream's reads alone, against a fake librbd: how extents are cut and begun, and chunks handed out."""


def test_extents_are_cut_at_multiples(check_reads):
    check_reads(
        """
        extents = [(1000, 10000), (4096, 8192), (0, 1)]
        reads, lane, owner, table = make_reads(extents, depth=9, chunk_size=4096, ordered=True)
        assert reads.fill(2) == 2
        assert (reads.cut, reads.end, reads.extent) == (8192, 11000, None)
        assert reads.fill(10) == 4 and reads.exhausted and reads.cut == reads.end
        assert [request[1:3] for request in lane.running.values()] == [
            (1000, 3096), (4096, 4096), (8192, 2808), (4096, 4096), (8192, 4096), (0, 1)
        ]
        assert list(reads.row) == [1, 2, 3, 4, 5, 6] == list(lane.running)
        assert reads.fill(10) == 0
        """
    )


def test_what_is_unusual_is_left_where_it_is(check_reads):
    check_reads(
        """
        _, lane, owner, table = make_reads()
        size, largest = owner.size, (1 << 63) - 1
        for extent in ((-1, 1), (0, -1), (0, 0), (size, 1), (size - 1, 2), (1 << 64, 1), ("0", 1), (0, 1.0), (0, None),
                       (largest, 1), (largest, largest), (0, 1, 2), (), [0, 1], Chunk((0, 1)), 5):
            reads = more(lane, extent, (0, 1))
            assert reads.fill(3) == reads.fill(3) == 0
            assert reads.extent is extent and (reads.cut, reads.end) == (0, 0)
        del reads.extent
        assert reads.fill(3) == 1 and reads.exhausted
        reads = Reads(lane, None, deque(), Chunk, 1 << 20, 0, False)
        assert reads.fill(1) == 0 and not reads.exhausted
        reads.extent = (0, 64)  # Python has awaited it
        assert reads.fill(3) == 1 and reads.extent is None and not reads.exhausted
        """
    )


def test_what_cannot_be_begun_is_left_to_begin(check_reads):
    check_reads(
        """
        _, lane, owner, table = make_reads()

        def nothing(extent=(0, 64)):
            entered.clear()
            reads = more(lane, (0, 64))
            assert reads.fill(1) == reads.fill(1) == 0
            assert (reads.extent, reads.cut, reads.end) == (extent, 0, 0 if extent else 64)
            reads.extent, reads.cut, reads.end = None, 0, 64  # as if all had been well when the extent was looked at
            assert reads.fill(1) == 0 and (reads.cut, reads.end) == (0, 64)
            assert state(lane, owner) == NOTHING
            assert entered == ["in", "out"] * (1 if extent else 3)
            assert setting("created").value == setting("released").value

        owner.usable = False
        nothing()
        owner.usable, table.dead = True, True
        nothing()
        table.dead = False
        table.observers.append(print)
        nothing()
        table.observers.clear()
        lane.lane_address, address = 0, lane.lane_address
        nothing()
        lane.lane_address = address
        lane.abandoned = True
        nothing()
        lane.abandoned = False
        for name in ("refuse", "refuse_create"):
            setting(name).value = -errno.ENOMEM
            nothing(extent=None)
            setting(name).value = 0
        lib.aiorbd_image_changed(image)
        nothing(extent=None)
        """
    )


def test_one_is_refused_while_others_run(check_reads):
    check_reads(
        """
        reads, lane, owner, table = make_reads([(0, 64), (64, 64)], ordered=True)
        assert reads.fill(1) == 1
        setting("refuse").value = -errno.ENOMEM
        assert reads.fill(1) == 0 and (reads.cut, reads.end) == (64, 128)
        assert state(lane, owner) == ([1], 1, 1) and entered == ["in"] and list(reads.row) == [1]
        setting("refuse").value = 0
        complete(0, 64)
        lane.collect()
        assert list(lane.over) == [1]
        """
    )


def test_an_iterator_may_do_anything(check_reads):
    check_reads(
        """
        def extents():
            yield 0, 64
            lane.abandoned = True
            yield 64, 64
            lane.abandoned = False
            try:
                reads.fill(1)
            except RuntimeError as error:
                told.append(str(error))
            yield None

        reads, lane, owner, table = make_reads(extents(), depth=9)
        assert reads.fill(3) == 1
        assert state(lane, owner) == ([1], 1, 1) and reads.extent == (64, 64)
        reads.extent = None
        try:
            reads.fill(3)
        except TypeError as error:
            told.append(str(error))
        assert told == ["the iterator of a stream's extents waits for that stream",
                        "an extent is a pair of offset and length, or an Extent, not None"]
        assert reads.fill(3) == 0 and reads.exhausted and not reads.fetching

        class Broken:
            def __iter__(self):
                return self

            def __next__(self):
                if broken:
                    raise broken.pop()
                return 0, 1

        told.clear()
        broken = [KeyboardInterrupt, ValueError]
        reads = more(lane)
        reads = Reads(lane, Broken(), deque(), Chunk, 1 << 20, 0, True)
        for kind in (ValueError, KeyboardInterrupt):
            try:
                reads.fill(3)
            except kind:
                told.append(reads.fetching)
        assert told == [True, True] and reads.fill(1) == 1 and not reads.fetching
        assert state(lane, owner) == ([1, 2], 2, 2)
        """
    )


def test_the_lane_enters_before_anything_is_begun(check_reads):
    check_reads(
        """
        reads, lane, owner, table = make_reads([(0, 64)])

        def enter(_):
            entered.append("in")
            lane.abandoned = True  # a signal handler has closed the stream

        table.enter = enter
        assert reads.fill(1) == 0 and (reads.cut, reads.end) == (0, 64)
        assert state(lane, owner) == NOTHING and entered == ["in", "out"] and not setting("created").value
        """
    )


def test_wrong_callers_are_told(check_reads):
    check_reads(
        """
        reads, lane, owner, table = make_reads([(0, 64)])

        def fails(kind, function, *arguments):
            try:
                function(*arguments)
            except kind:
                return
            raise AssertionError(arguments)

        right = lane, iter(()), deque(), Chunk, 4096, 0, True
        for index, wrong in ((0, object()), (1, 5), (1, [(0, 64)]), (2, None), (3, int), (3, 5), (4, 0), (4, -1),
                             (4, 1 << 31), (4, "1"), (5, None)):
            fails(TypeError, Reads, *right[:index], wrong, *right[index + 1 :])
        fails(TypeError, Reads, *right[:-1]), fails(OverflowError, Reads, *right[:5], 1 << 31, True)
        assert Reads(*right[:-1], 5).ordered == 1

        fails(TypeError, reads.fill), fails(TypeError, reads.fill, "1"), fails(TypeError, reads.fill, -1)
        for name in ("owner", "bridge"):
            before = getattr(lane, name)
            for wrong in (None, object()):
                setattr(lane, name, wrong)
                fails(TypeError, reads.fill, 1)
            setattr(lane, name, before)
        reads.cut, reads.end = -64, 0
        assert reads.fill(1) == 0
        reads.cut = 0
        assert reads.fill(1) == 1
        complete(0, 64)
        lane.collect()
        fails(AttributeError, reads.hand_out, ()), fails(TypeError, reads.hand_out)
        assert list(lane.over) == [2]  # a number went to what was not submitted
        lane.over = None
        fails(SystemError, reads.hand_out, deque())
        fails(AttributeError, setattr, lane, "running", {}), fails(AttributeError, setattr, reads, "row", [])
        """
    )


def test_chunks_are_handed_out_as_they_come_or_in_order(check_reads):
    check_reads(
        """
        for ordered in (False, True):
            before = setting("created").value
            extents = [(0, 64), (64, 32), (128, 16), (256, 8)]
            reads, lane, owner, table = make_reads(extents, depth=9, ordered=ordered)
            assert reads.fill(9) == 4
            hole, end = Chunk((512, 512, None)), ValueError("the end")
            reads.row.extend((hole, end))
            batch = deque(["before"])
            for index, value in ((1, 32), (2, 16)):
                complete(before + index, value)
            lane.collect()
            second, third = Chunk((64, 32, b"r" * 32)), Chunk((128, 16, b"r" * 16))
            if ordered:
                assert reads.hand_out(batch) is None and list(batch) == ["before"]
                assert list(lane.over) == [2, 3] and len(reads.row) == 6
            else:
                assert reads.hand_out(batch) is end and list(batch) == ["before", second, third, hole]
                assert not lane.over and list(reads.row) == [end]
            complete(before, 64)
            lane.collect()
            batch.clear()
            first = Chunk((0, 64, b"r" * 64))
            assert reads.hand_out(batch) is (None if ordered else end)
            assert list(batch) == ([first, second, third] if ordered else [first])
            assert all(type(chunk) is Chunk and hash(chunk) == hash(tuple(chunk)) for chunk in batch)
            complete(before + 3, 7)  # librbd clipped it
            lane.collect()
            batch.clear()
            for _ in range(2):  # it stays what it is
                request, value = reads.hand_out(batch)
                assert request is lane.over[4][0] and request[1:3] == (256, 8) and value == 7
            assert not batch and list(lane.over) == [4] and len(reads.row) == (3 if ordered else 1)
            lane.over[4] = lane.over[4][0], end  # it was late, and not begun again
            assert reads.hand_out(batch)[1] is end
        """
    )


def test_a_finalizer_may_close_the_stream(check_reads):
    check_reads(
        """
        reads, lane, owner, table = make_reads([(0, 64)] * 2, depth=9)
        assert reads.fill(2) == 2
        complete(0, 64), complete(1, 64)
        lane.collect()

        class Last:
            def __del__(self):
                lane.over.clear()
                told.append("closed")

        gc.collect()
        before = gc.get_threshold()
        last = Last()
        last.itself = last
        del last
        batch = deque()
        gc.set_threshold(1, 1, 1)
        failed = reads.hand_out(batch)
        gc.set_threshold(*before)
        assert failed is None and len(batch) <= 2 and not lane.over
        assert told == ["closed"] or sys.version_info >= (3, 12)  # which collect between two steps, if at all by then
        """
    )
