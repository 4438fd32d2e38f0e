"""The compiled bridge alone: operations against a fake librbd that can refuse requests."""

import ctypes
import errno
import os
from typing import Any

from fake import (
    IO,
    RESULTS,
    SUBMITS,
    ask,
    bridge,
    buffer,
    checksum,
    digits,
    drain,
    fake,
    ffi,
    image,
    lib,
    mismatch,
    opened,
    other,
    pending,
    pieces,
    pointers,
    readable,
    setting,
    vectors,
)


def test_results_arrive_in_order_of_completion() -> None:
    for token, (name, submit) in enumerate(SUBMITS.items(), 1):
        assert submit(token) == 0, name
    assert not readable(bridge)
    for index, name in enumerate(SUBMITS):
        fake.fake_complete(pending[index], RESULTS.get(name, 0))
    assert readable(bridge)
    assert drain(bridge) == [(t, RESULTS.get(name, 0)) for t, name in enumerate(SUBMITS, 1)]
    assert not readable(bridge)
    assert drain(bridge) == []
    assert setting("created").value == setting("released").value == len(SUBMITS)
    assert mismatch[0] == 7


def test_arguments_reach_librbd() -> None:
    SUBMITS["read"](1)
    assert ffi.buffer(buffer)[:] == b"r" * 64
    SUBMITS["readv"](2)
    assert ffi.buffer(buffer)[:4] == b"000r"
    assert ffi.buffer(other)[:6] == b"11111" + bytes(1)
    name = (ctypes.c_char * 256).in_dll(fake, "fake_opened")
    for by_id, read_only, how in (
        (0, 0, b"open"),
        (1, 0, b"open_by_id"),
        (0, 1, b"open_read_only"),
        (1, 1, b"open_by_id_read_only"),
    ):
        lib.aiorbd_open(bridge, 3, ffi.NULL, b"n", by_id, ffi.NULL, read_only, opened)
        assert name.value == how + b":n-"
        lib.aiorbd_open(bridge, 3, ffi.NULL, b"n", by_id, b"@s", read_only, opened)
        assert name.value == how + b":n@s"


def test_offsets_lengths_and_flags_reach_librbd() -> None:
    def seen() -> Any:
        numbers = [ctypes.c_uint64.in_dll(fake, "fake_" + name).value for name in ("offset", "length")]
        return *numbers, setting("flags").value, setting("zero_flags").value

    big = 1 << 62
    assert ask(lib.AIORBD_READ, 1, big, 64, buffer, flags=5) == 0
    assert seen() == (big, 64, 5, 0)
    assert ask(lib.AIORBD_WRITE, 1, big, 63, buffer, flags=6) == 0
    assert seen() == (big, 63, 6, 0)
    assert ask(lib.AIORBD_READV, 1, 11, 8, pieces, 2) == 0
    assert seen() == (11, 8, 0, 0)
    assert ask(lib.AIORBD_WRITEV, 1, 12, 8, pieces, 2) == 0
    assert seen() == (12, 8, 0, 0)
    assert ask(lib.AIORBD_DISCARD, 1, 13, big) == 0
    assert seen() == (13, big, 0, 0)
    assert ask(lib.AIORBD_WRITE_ZEROES, 1, 14, 62, extra=1, flags=7) == 0
    assert seen() == (14, 62, 7, 1)
    assert ask(lib.AIORBD_WRITE_SAME, 1, 15, 64, buffer, 8, 9) == 0
    assert seen() == (15, 64, 9, 0)
    assert ask(lib.AIORBD_COMPARE_AND_WRITE, 1, 16, 61, pointers, flags=10) == 0
    assert seen() == (16, 61, 10, 0)
    assert ask(lib.AIORBD_COMPARE_AND_WRITEV, 1, 17, 5, vectors, 2 << 32 | 1, 11) == 0
    assert seen() == (17, 5, 11, 8)  # the fake returns how many bytes it was given to compare
    assert ask(lib.AIORBD_WRITE_WITH_CRC32C, 1, 18, 9, digits, checksum, 12) == 0
    numbers = seen()  # librbd takes the checksum without the last step of the standard
    assert (*numbers[:3], numbers[3] & 0xFFFFFFFF) == (18, 9, 12, checksum ^ 0xFFFFFFFF)


def test_data_with_another_checksum_is_refused() -> None:
    for wrong in (0, checksum ^ 1, checksum ^ 0xFFFFFFFF):
        assert ask(lib.AIORBD_WRITE_WITH_CRC32C, 1, 18, 9, digits, wrong) == -errno.EBADMSG
    assert ask(lib.AIORBD_WRITE_WITH_CRC32C, 1, 18, 8, digits, checksum) == -errno.EBADMSG
    assert setting("created").value == setting("released").value == 4
    assert drain(bridge) == []


def test_unknown_kind_is_refused() -> None:
    for kind in (-1, lib.AIORBD_KINDS, lib.AIORBD_KINDS + 1):
        assert ask(kind) == -errno.EINVAL
    assert setting("created").value == setting("released").value
    assert lib.aiorbd_image_writes(image) == 0


def test_refused_submit_leaves_no_reference_and_no_record() -> None:
    setting("refuse").value = -errno.EINVAL
    for name, submit in SUBMITS.items():
        assert submit(1) == -errno.EINVAL, name
    assert setting("created").value == setting("released").value == len(SUBMITS)
    setting("refuse").value = 0
    setting("refuse_create").value = -errno.ENOMEM
    for name, submit in SUBMITS.items():
        assert submit(1) == -errno.ENOMEM, name
    assert setting("created").value == setting("released").value == len(SUBMITS)
    assert not readable(bridge)
    assert drain(bridge) == []
    # Only the creator's and the image's references are left: the descriptor closes with them.
    fd = lib.aiorbd_bridge_fd(bridge)
    lib.aiorbd_image_release(image)
    os.fstat(fd)
    lib.aiorbd_bridge_release(bridge)
    try:
        os.fstat(fd)
    except OSError:
        pass
    else:
        raise AssertionError("a reference leaked")


def test_callback_before_submit_returns_is_delivered() -> None:
    setting("early").value = 1
    for token, (name, submit) in enumerate(SUBMITS.items(), 1):
        assert submit(token) == 0, name
        assert readable(bridge)
        ((got, _),) = drain(bridge)
        assert got == token
    assert setting("created").value == setting("released").value == len(SUBMITS)


def test_stale_image_refuses_operations_that_depend_on_its_size() -> None:
    assert lib.aiorbd_image_watch(image) == 0
    fake.fake_update()
    for name, submit in SUBMITS.items():
        assert submit(1) == (lib.AIORBD_STALE if name in IO else 0), name
    assert setting("created").value == len(SUBMITS) - len(IO)
    # Told once, however often it changed before somebody looked.
    fake.fake_update()
    assert drain(bridge) == [(-5, 0)]
    fake.fake_update()
    assert drain(bridge) == [(-5, 0)]
    generation = lib.aiorbd_image_generation(image)
    fake.fake_update()  # after somebody began to ask
    lib.aiorbd_image_set_known(image, generation)
    assert lib.aiorbd_image_is_stale(image)
    assert SUBMITS["read"](2) == lib.AIORBD_STALE
    lib.aiorbd_image_set_known(image, lib.aiorbd_image_generation(image))
    assert SUBMITS["read"](2) == 0
    assert drain(bridge) == [(-5, 0)]
    fake.fake_update()
    assert lib.aiorbd_image_unwatch(image) == 0
    assert lib.aiorbd_image_unwatch(image) == 0
    lib.aiorbd_image_release(image)  # while its record is queued
    assert drain(bridge) == [(-5, 0)]


def test_refused_watch_returns_the_error() -> None:
    setting("refuse").value = -errno.ENOTCONN
    assert lib.aiorbd_image_watch(image) == -errno.ENOTCONN
    assert lib.aiorbd_image_unwatch(image) == 0
    lib.aiorbd_image_release(image)


def test_bounded_drain_signals_for_the_remaining_records() -> None:
    for token in range(10):
        lib.aiorbd_bridge_post(bridge, token, token * token)
    assert drain(bridge, 4) == [(t, t * t) for t in range(4)]
    lib.aiorbd_bridge_post(bridge, 10, 100)
    assert readable(bridge)
    assert drain(bridge, 4) == [(t, t * t) for t in range(4, 8)]
    assert readable(bridge)
    assert drain(bridge, 4) == [(t, t * t) for t in range(8, 11)]
    assert not readable(bridge)


def test_operations_outlive_the_bridge() -> None:
    for token in range(100):
        assert SUBMITS["read"](token) == 0
    fd = lib.aiorbd_bridge_fd(bridge)
    lib.aiorbd_image_release(image)
    lib.aiorbd_bridge_release(bridge)
    for index in range(99):
        fake.fake_complete(pending[index], 64)
    os.fstat(fd)
    fake.fake_complete(pending[99], 64)
    try:
        os.fstat(fd)
    except OSError:
        pass
    else:
        raise AssertionError("a reference leaked")


def test_completion_of_librados_gives_one_record() -> None:
    completion = lib.aiorbd_completion_new(bridge, 7)
    pointer = lib.aiorbd_completion_begin(completion)
    fake.fake_complete(int(ffi.cast("uintptr_t", pointer)), 42)
    lib.aiorbd_completion_release(completion)  # the holder first, then the record
    assert setting("released").value == 0
    assert drain(bridge) == [(7, 42)]
    assert setting("released").value == 1

    completion = lib.aiorbd_completion_new(bridge, 8)
    pointer = lib.aiorbd_completion_begin(completion)
    fake.fake_complete(int(ffi.cast("uintptr_t", pointer)), -5)
    assert drain(bridge) == [(8, -5)]
    assert setting("released").value == 1  # it may still be cancelled, without effect
    lib.aiorbd_completion_release(completion)
    assert setting("released").value == 2

    completion = lib.aiorbd_completion_new(bridge, 9)
    lib.aiorbd_completion_begin(completion)
    lib.aiorbd_completion_refused(completion, -errno.EINVAL)
    lib.aiorbd_completion_release(completion)
    assert drain(bridge) == [(9, -errno.EINVAL)]
    lib.aiorbd_completion_release(lib.aiorbd_completion_new(bridge, 10))  # never begun
    assert setting("released").value == setting("created").value == 4
    setting("refuse_create").value = -errno.ENOMEM
    assert lib.aiorbd_completion_new(bridge, 11) == ffi.NULL
