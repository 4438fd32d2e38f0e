"""Programs that have a stream's reads to make, alone, against a fake librbd."""

import textwrap

import pytest

PREAMBLE = """
    from collections import deque
    from aiorbd._native.table import Reads, Requests

    entered = []

    class Chunk(tuple):
        pass

    class Bridge(Ours):
        def enter(self, requests):
            entered.append("in")

        def leave(self, requests):
            entered.append("out")

    class Lane(Requests):
        def tell_observers(self, number, value):
            told.append((number, value))
            del self.notes[number]

    def make_reads(extents=(), depth=2, bulk=1, chunk_size=1 << 20, flags=0, ordered=False):
        table, owner = make(kind=Bridge)
        lane = Lane()
        lane.owner, lane.bridge = owner, table
        lane.pointer = ffi.gc(lib.aiorbd_lane_new(image, -9, depth, bulk), lib.aiorbd_lane_release)
        lane.lane_address = int(ffi.cast("uintptr_t", lane.pointer))
        return Reads(lane, iter(extents), deque(), Chunk, chunk_size, flags, ordered), lane, owner, table

    def more(lane, *extents):
        return Reads(lane, iter(extents), deque(), Chunk, 1 << 20, 0, False)

    def state(lane, owner):
        return sorted(lane.running), lane.counted, owner.in_flight

    NOTHING = [], 0, 0
"""


@pytest.fixture
def check_reads(check):
    """A function that runs a program which has reads to make."""
    return lambda body: check(textwrap.dedent(PREAMBLE) + textwrap.dedent(body))
