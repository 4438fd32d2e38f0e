"""Asynchronous calls that the bridge does not know: Python submits them with a completion of the bridge."""

import errno
from typing import Any

from fake import bridge, drain, fake, ffi, lib, readable, setting


def begin(token: int) -> tuple[int, Any, Any]:
    operation, completion = ffi.new("void **"), ffi.new("void **")
    code = lib.aiorbd_call_begin(bridge, token, operation, completion)
    return code, operation[0], completion[0]


def test_a_completed_call_gives_one_record() -> None:
    for token in (3, 4):
        code, _, completion = begin(token)
        assert code == 0
        fake.fake_complete(int(ffi.cast("uintptr_t", completion)), -token)
    assert drain(bridge) == [(3, -3), (4, -4)]
    assert not readable(bridge)
    assert setting("created").value == setting("released").value == 2


def test_a_refused_call_gives_no_record_and_releases_its_completion_once() -> None:
    code, operation, completion = begin(3)
    assert code == 0
    lib.aiorbd_call_refused(operation, completion)
    assert not readable(bridge)
    assert drain(bridge) == []
    assert setting("created").value == setting("released").value == 1


def test_a_call_without_a_completion_begins_nothing() -> None:
    setting("refuse_create").value = -errno.ENOMEM
    code, _, _ = begin(3)
    assert code == -errno.ENOMEM
    assert drain(bridge) == []
    assert setting("created").value == setting("released").value == 0


def test_a_call_outlives_its_bridge() -> None:
    code, _, completion = begin(3)
    assert code == 0
    lib.aiorbd_bridge_release(bridge)
    fake.fake_complete(int(ffi.cast("uintptr_t", completion)), 0)  # frees the last of the bridge, on librbd's thread
    assert setting("created").value == setting("released").value == 1
