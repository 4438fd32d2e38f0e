"""The extents of a diff, between the thread that walks and the loop: at most eight wait."""

import ctypes
import errno
import threading
import time
from typing import Any

from fake import bridge, callback, drain, ffi, lib

report = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint64, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p)(
    callback("extent")
)
diff = lib.aiorbd_diff_new(bridge, -9, 8)
address = int(ffi.cast("uintptr_t", diff))
numbers = ffi.new("uint64_t[]", 3 * 100)
codes: list[int] = []


def take(most: int = 100) -> Any:
    count = lib.aiorbd_diff_take(diff, numbers, most)
    return [tuple(numbers[3 * i : 3 * i + 3]) for i in range(count)]


def walk(count: int) -> None:
    for number in range(count):
        codes.append(report(number * 10, 5, number % 2, address))
        if codes[-1]:
            break


def start(count: int) -> Any:
    thread = threading.Thread(target=walk, args=(count,))
    thread.start()
    return thread


def wait_for(count: int) -> None:
    while len(codes) < count:
        time.sleep(0.001)
    time.sleep(0.02)
    assert len(codes) == count


def test_extents_of_a_diff_are_bounded() -> None:
    thread = start(30)
    wait_for(8)  # the ring is full: the walk waits
    assert drain(bridge) == [(-9, 0)]
    assert take(3) == [(0, 5, 0), (10, 5, 1), (20, 5, 0)]
    wait_for(8)  # not for each single one
    assert take(2) == [(30, 5, 1), (40, 5, 0)]
    wait_for(13)
    assert drain(bridge) == [(-9, 0)]
    seen = 5
    while seen < 30:
        for extent in take():
            assert extent == (seen * 10, 5, seen % 2)
            seen += 1
    thread.join()
    assert codes == [0] * 30
    assert take() == []
    lib.aiorbd_diff_release(diff)


def test_diff_can_be_stopped_while_it_waits() -> None:
    thread = start(30)
    wait_for(8)
    lib.aiorbd_diff_stop(diff)
    thread.join(10)
    assert codes == [0] * 8 + [-errno.ECANCELED]
    lib.aiorbd_diff_release(diff)  # with extents, and while its record is queued
    assert drain(bridge) == [(-9, 0)]
