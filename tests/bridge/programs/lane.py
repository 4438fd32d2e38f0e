"""A lane alone, against a fake librbd: the number of requests in librbd, and the wake-ups of the loop."""

import errno
import os
from typing import Any

from each import each
from fake import ask, bridge, buffer, drain, fake, ffi, image, lib, pending, readable, setting

created = setting("created")


def make_lane(depth: int = 2, bulk: int = 1) -> Any:
    return ffi.gc(lib.aiorbd_lane_new(image, depth, bulk), lib.aiorbd_lane_release)


def submit(lane: Any, token: Any, kind: Any = lib.AIORBD_READ) -> Any:
    return ask(kind, token, 64 * token, 64, buffer, submit=lib.aiorbd_lane_submit, to=lane)


def end(index: Any, value: int = 64) -> None:
    fake.fake_complete(pending[index], value)


def test_librbd_has_depth_requests_at_a_time() -> None:
    lane = make_lane(depth=2)
    assert [submit(lane, token) for token in range(1, 6)] == [0] * 5
    assert created.value == 2
    end(1)
    assert created.value == 3
    assert drain(bridge) == [(2, 64)]
    for index in (0, 2, 3, 4):
        end(index)
    assert drain(bridge) == [(1, 64), (3, 64), (4, 64), (5, 64)]
    assert created.value == setting("released").value == 5


def test_loop_is_woken_once_for_several_completions() -> None:
    lane = make_lane(depth=4, bulk=3)
    for token in range(10):
        assert submit(lane, token) == 0
    lib.aiorbd_lane_wait(lane)
    end(0)
    end(1)
    assert not readable(bridge)
    end(2)
    assert readable(bridge)
    assert [token for token, _ in drain(bridge)] == [0, 1, 2]
    end(3)
    assert not readable(bridge)
    lib.aiorbd_lane_hurry(lane)
    assert readable(bridge)
    assert drain(bridge) == [(3, 64)]
    lib.aiorbd_lane_hurry(lane)  # nothing is over
    assert not readable(bridge)
    end(4)  # from the alarm on each is told
    assert readable(bridge)
    assert drain(bridge) == [(4, 64)]
    lib.aiorbd_lane_wait(lane)
    end(5)
    assert not readable(bridge)
    end(6)  # nothing waits any more: the loop should bring more
    assert readable(bridge)


def test_drain_for_another_reason_takes_completed_requests() -> None:
    lane = make_lane(depth=4, bulk=4)
    for token in range(10):
        submit(lane, token)
    lib.aiorbd_lane_wait(lane)
    end(0)
    lib.aiorbd_bridge_post(bridge, 99, 1)
    assert drain(bridge) == [(0, 64), (99, 1)]


def test_waiting_requests_of_a_changed_image_come_back_as_stale() -> None:
    lane = make_lane(depth=1)
    assert [submit(lane, token) for token in (1, 2, 3)] == [0] * 3
    lib.aiorbd_image_changed(image)
    assert submit(lane, 4) == lib.AIORBD_STALE
    end(0)
    stale = lib.AIORBD_STALE_BY_NOW
    assert sorted(drain(bridge)) == [(1, 64), (2, stale), (3, stale)]
    assert created.value == 1
    lib.aiorbd_image_set_known(image, lib.aiorbd_image_generation(image))
    assert submit(lane, 5) == 0
    assert created.value == 2


@each("refuse", "refuse_create")
def test_refusal_makes_room_for_the_next_request(refuses: Any) -> None:
    lane = make_lane(depth=1)
    assert submit(lane, 1) == submit(lane, 2) == submit(lane, 3) == 0
    setting(refuses).value = -errno.ENOMEM
    end(0)
    assert sorted(drain(bridge)) == [(1, 64), (2, -errno.ENOMEM), (3, -errno.ENOMEM)]
    assert submit(lane, 4) == -errno.ENOMEM
    assert not readable(bridge)
    setting(refuses).value = 0
    assert submit(lane, 5) == 0
    assert created.value == setting("released").value + 1


def test_cancelled_requests_do_not_reach_librbd() -> None:
    lane = make_lane(depth=1)
    for token in (1, 2, 3):
        submit(lane, token)
    lib.aiorbd_lane_cancel(lane)
    assert drain(bridge) == [(2, -errno.ECANCELED), (3, -errno.ECANCELED)]
    end(0)
    assert drain(bridge) == [(1, 64)]
    assert created.value == 1
    lib.aiorbd_lane_cancel(lane)
    assert not readable(bridge)


def test_requests_keep_their_lane_and_bridge() -> None:
    lane = make_lane(depth=1)
    submit(lane, 1), submit(lane, 2)
    fd = lib.aiorbd_bridge_fd(bridge)
    ffi.release(lane)
    lib.aiorbd_image_release(image)
    lib.aiorbd_bridge_release(bridge)
    end(0)
    os.fstat(fd)
    end(1)
    try:
        os.fstat(fd)
    except OSError:
        pass
    else:
        raise AssertionError("a reference leaked")
