"""Small reads and writes of one pass of the loop, which a thread of librbd submits, against a fake librbd."""

import errno
from typing import Any

from each import each
from fake import ask, bridge, buffer, drain, fake, image, lib, pending, setting

READ, WRITE = lib.AIORBD_READ, lib.AIORBD_WRITE
created, threads = setting("created"), setting("threads_count")


def submit(token: Any, kind: Any = READ, length: int = 64) -> Any:
    return ask(kind, token, 0, length, buffer, submit=lib.aiorbd_submit_in_pass)


def end(index: Any, value: int = 64) -> None:
    fake.fake_complete(pending[index], value)


def test_requests_of_one_pass_are_submitted_together_by_another_thread() -> None:
    lib.aiorbd_bridge_begin(bridge)
    assert [submit(1), submit(2, WRITE), submit(3)] == [0, 0, 0]
    assert created.value == 0
    lib.aiorbd_bridge_end(bridge)
    assert threads.value == 1
    assert created.value == 1
    fake.fake_run_thread(0)
    assert created.value == 4
    for index in range(3):
        end(index, 0 if index == 1 else 64)
    assert drain(bridge) == [(1, 64), (2, 0), (3, 64)]
    assert setting("released").value == 4


def test_without_a_pass_a_request_is_submitted_at_once() -> None:
    assert submit(1) == 0
    assert created.value == 1
    assert threads.value == 0
    lib.aiorbd_bridge_begin(bridge)
    lib.aiorbd_bridge_end(bridge)
    assert submit(2) == 0
    assert created.value == 2


def test_single_requests_and_large_ones_are_submitted_by_the_loop() -> None:
    lib.aiorbd_bridge_begin(bridge)
    assert submit(1) == submit(2, WRITE, 65537) == 0
    assert created.value == 1  # the large one
    lib.aiorbd_bridge_end(bridge)
    assert created.value == 2
    assert threads.value == 0


def test_interrupted_pass_submits_its_requests() -> None:
    lib.aiorbd_bridge_begin(bridge)
    assert submit(1) == submit(2) == 0
    lib.aiorbd_bridge_wake(bridge)
    fake.fake_run_thread(0)
    assert created.value == 3


@each("refuse_create", "refuse_flush")
def test_loop_submits_when_librados_refuses(refuses: Any) -> None:
    lib.aiorbd_bridge_begin(bridge)
    assert submit(1) == submit(2) == 0
    setting(refuses).value = -errno.ENOMEM
    lib.aiorbd_bridge_end(bridge)
    assert threads.value == 0
    if refuses == "refuse_create":  # librbd's as well
        assert drain(bridge) == [(1, -errno.ENOMEM), (2, -errno.ENOMEM)]
    else:
        assert created.value == 3
        assert setting("released").value == 1


def test_request_that_librbd_refuses_late_has_a_record() -> None:
    lib.aiorbd_bridge_begin(bridge)
    assert submit(1) == submit(2) == 0
    lib.aiorbd_bridge_end(bridge)
    setting("refuse").value = -errno.EINVAL
    fake.fake_run_thread(0)
    assert drain(bridge) == [(1, -errno.EINVAL), (2, -errno.EINVAL)]


@each("changed", "barred")
def test_image_that_changes_before_the_thread_runs_gets_no_request(change: Any) -> None:
    lib.aiorbd_bridge_begin(bridge)
    assert submit(1, WRITE) == submit(2) == 0
    lib.aiorbd_bridge_end(bridge)
    if change == "changed":
        lib.aiorbd_image_changed(image)
    else:
        lib.aiorbd_image_bar(image, 1)
    fake.fake_run_thread(0)
    stale = lib.AIORBD_STALE_BY_NOW
    assert drain(bridge) == [(1, stale), (2, stale)]
    assert created.value == 1
    assert lib.aiorbd_image_writes(image) == 0
    lib.aiorbd_bridge_begin(bridge)
    assert submit(3) == lib.AIORBD_STALE


def test_requests_keep_the_bridge_until_their_thread_has_run() -> None:
    lib.aiorbd_bridge_begin(bridge)
    assert submit(1) == submit(2) == 0
    lib.aiorbd_bridge_end(bridge)
    lib.aiorbd_image_release(image)
    lib.aiorbd_bridge_release(bridge)
    fake.fake_run_thread(0)
    end(0)
    end(1)


def test_tasks_that_run_after_the_drain_are_submitted_after_them() -> None:
    lib.aiorbd_bridge_begin(bridge)
    lib.aiorbd_bridge_rest(bridge)
    assert submit(1) == submit(2) == 0
    assert created.value == 0
    lib.aiorbd_bridge_submit_pass(bridge)
    fake.fake_run_thread(0)
    assert created.value == 3
    assert submit(3) == 0
    assert created.value == 4
