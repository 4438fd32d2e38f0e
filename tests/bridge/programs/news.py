"""Data from librbd's callbacks through the compiled bridge alone: progress, extents and messages."""

import ctypes
import errno
import select
import threading
from typing import Any

from fake import bridge, callback, drain, ffi, lib


def test_progress_reports_the_latest_numbers_and_can_stop_librbd() -> None:
    report = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p)(callback("progress"))
    slot = lib.aiorbd_progress_new(bridge, -9)
    address = int(ffi.cast("uintptr_t", slot))
    numbers = ffi.new("uint64_t[2]")
    assert report(1, 4, address) == 0
    assert report(2, 4, address) == 0
    assert drain(bridge) == [(-9, 0)]
    lib.aiorbd_progress_read(slot, numbers)
    assert list(numbers) == [2, 4]
    lib.aiorbd_progress_stop(slot)
    assert report(3, 4, address) == -errno.ECANCELED
    lib.aiorbd_progress_release(slot)  # while its record is queued
    assert drain(bridge) == [(-9, 0)]


def test_quiesce_requests_and_their_ends_are_counted() -> None:
    request, end = (ctypes.CFUNCTYPE(None, ctypes.c_void_p)(callback(name)) for name in ("quiesce", "unquiesce"))
    quiesce = lib.aiorbd_quiesce_new(bridge, -9)
    address = int(ffi.cast("uintptr_t", quiesce))
    numbers = ffi.new("uint64_t[2]")
    request(address)
    assert drain(bridge) == [(-9, 0)]
    lib.aiorbd_quiesce_read(quiesce, numbers)
    assert list(numbers) == [1, 0]
    end(address)
    request(address)
    assert drain(bridge) == [(-9, 0)]  # several reports in one record
    lib.aiorbd_quiesce_read(quiesce, numbers)
    assert list(numbers) == [2, 1]
    end(address)
    lib.aiorbd_quiesce_release(quiesce)  # while its record is queued
    assert drain(bridge) == [(-9, 0)]


def test_messages_are_bounded_and_losses_counted() -> None:
    def function(name: str, *types: Any) -> Any:
        return ctypes.CFUNCTYPE(None, ctypes.c_void_p, *types)(callback(name))

    u64 = ctypes.c_uint64
    notify = function("notify", u64, u64, u64, ctypes.c_char_p, ctypes.c_size_t)
    error = function("watch_error", u64, ctypes.c_int)
    log = function("log", *[ctypes.c_char_p] * 4, u64, u64, u64, ctypes.c_char_p, ctypes.c_char_p)
    box = lib.aiorbd_mailbox_new(bridge, -9, 3)
    address = int(ffi.cast("uintptr_t", box))
    numbers, data = ffi.new("uint64_t[]", lib.AIORBD_MESSAGE_NUMBERS), ffi.new("const char **")

    def take() -> Any:
        length = lib.aiorbd_mailbox_take(box, numbers, data)
        return None if length < 0 else (list(numbers), ffi.buffer(data[0], length)[:])

    assert take() is None
    notify(address, 1, 2, 3, b"a\0b", 3)
    notify(address, 4, 5, 6, None, 0)
    assert drain(bridge) == [(-9, 0)]
    assert take() == ([1, 2, 3], b"a\0b")
    log(address, b"line", b"cluster", b"mon.a", None, 7, 8, 9, b"INF", b"text")
    notify(address, 10, 10, 10, b"fits", 4)
    for number in range(5):
        notify(address, number, 0, 0, b"too many", 8)
    assert lib.aiorbd_mailbox_lost(box) == 5
    assert take() == ([4, 5, 6], b"")
    assert take() == ([7, 8, 9], b"cluster\0mon.a\0\0INF\0text\0")
    assert take() == ([10, 10, 10], b"fits")
    assert take() is None
    notify(address, 1, 1, 1, b"x" * (40 << 20), 40 << 20)
    notify(address, 2, 2, 2, b"x" * (40 << 20), 40 << 20)  # more than 64 MiB
    assert lib.aiorbd_mailbox_lost(box) == 6
    assert take()[0] == [1, 1, 1]
    assert take() is None
    notify(address, 3, 3, 3, b"x" * (40 << 20), 40 << 20)
    assert take()[0] == [3, 3, 3]
    assert lib.aiorbd_mailbox_lost(box) == 6
    assert lib.aiorbd_mailbox_error(box) == 0
    drain(bridge)
    error(address, 5, -errno.ENOTCONN)
    assert drain(bridge) == [(-9, 0)]
    assert lib.aiorbd_mailbox_error(box) == errno.ENOTCONN
    notify(address, 1, 2, 3, b"left", 4)
    lib.aiorbd_mailbox_release(box)  # with a message, and while its record is queued
    assert drain(bridge) == [(-9, 0)]


def test_no_wake_up_is_lost_between_threads() -> None:
    many, each = 4, 50_000

    def post(base: Any) -> None:
        for number in range(each):
            lib.aiorbd_bridge_post(bridge, base + number, number)

    threads = [threading.Thread(target=post, args=(base * each,)) for base in range(many)]
    for thread in threads:
        thread.start()
    seen, last = 0, [-1] * many
    while seen < many * each:
        assert select.select([lib.aiorbd_bridge_fd(bridge)], [], [], 10)[0], f"lost after {seen}"
        for token, value in drain(bridge, 100):
            base, number = divmod(token, each)
            assert number == value == last[base] + 1
            last[base] = number
            seen += 1
    for thread in threads:
        thread.join()
    assert drain(bridge) == []
