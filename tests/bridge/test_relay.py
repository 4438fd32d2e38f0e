"""Reads and writes that are left to librbd's threads to submit, against a fake librbd."""

import textwrap

import pytest

PREAMBLE = """
    READ, WRITE = lib.AIORBD_READ, lib.AIORBD_WRITE
    created = setting("created")

    def submit(token, kind=READ, offset=0):
        return lib.aiorbd_relay_submit(image, token, kind, offset, 64, buffer)

    def end(index, value=64):
        fake.fake_complete(pending[index], value)

    def busy(most=16):
        '''Three are over in this pass, and more are with librbd.'''
        for token in range(most):
            assert submit(token) == 0
        assert created.value == most and not lib.aiorbd_relay_wants_alarm(image)
        for index in range(3):
            end(index)
        assert len(drain(bridge)) == 3

    def set_alarm():
        assert lib.aiorbd_relay_wants_alarm(image)
        lib.aiorbd_relay_set_alarm(image)
"""


@pytest.fixture
def relay(run):
    """A function that runs a program in which many are with librbd."""
    return lambda body: run(textwrap.dedent(PREAMBLE) + textwrap.dedent(body))


def test_what_waits_is_submitted_when_another_ends(relay):
    relay(
        """
        busy()
        set_alarm()
        assert submit(20, WRITE, 4096) == submit(21) == 0
        assert created.value == 16  # both wait
        end(3)
        assert created.value == 18
        assert drain(bridge) == [(3, 64)]
        for index, value in ((16, 0), (17, 64)):
            end(index, value)
        assert drain(bridge) == [(20, 0), (21, 64)]
        assert setting("released").value == 6
        """
    )


def test_nothing_waits_without_an_alarm(relay):
    relay(
        """
        busy()
        assert submit(20) == 0 and created.value == 17
        set_alarm()
        assert submit(21) == 0 and created.value == 17
        lib.aiorbd_relay_hurry(image)
        assert created.value == 18
        assert submit(22) == 0 and created.value == 19
        set_alarm()
        assert submit(23) == 0 and created.value == 19
        time.sleep(0.02)  # it is overdue: an exception may have kept it from ringing
        assert lib.aiorbd_relay_wants_alarm(image)
        assert submit(24) == 0 and created.value == 21
        """
    )


def test_little_does_not_wait(relay):
    relay(
        """
        busy(14)  # eleven are left
        assert not lib.aiorbd_relay_wants_alarm(image)
        for token in range(20, 22):
            assert submit(token) == 0
        assert created.value == 16
        set_alarm()  # thirteen are
        drain(bridge), drain(bridge)  # nothing is over in this pass and the one before
        assert submit(22) == 0 and created.value == 17
        """
    )


def test_what_others_that_are_stuck_hold_up(relay):
    relay(
        """
        busy()
        for turn, rest in enumerate((0.005, 0.01, 0.02)):
            set_alarm()
            assert submit(20) == 0 and created.value == 16 + turn
            time.sleep(0.003)
            began = time.monotonic()
            lib.aiorbd_relay_hurry(image)
            assert created.value == 17 + turn
            while not lib.aiorbd_relay_wants_alarm(image):
                time.sleep(0.001)
            assert time.monotonic() - began >= rest  # for so long nothing waits
        set_alarm()
        assert submit(23) == 0 and created.value == 19
        end(3)
        lib.aiorbd_relay_hurry(image)
        assert created.value == 20 and lib.aiorbd_relay_wants_alarm(image)  # all is well again
        """
    )


def test_much_does_not_wait_and_few_go_with_one(relay):
    relay(
        """
        busy()
        set_alarm()
        for token in range(20, 26):
            assert submit(token) == 0
        assert created.value == 16
        end(3)
        assert created.value == 20
        end(4)
        assert created.value == 22
        assert lib.aiorbd_relay_submit(image, 30, READ, 0, 65537, ffi.new("char[]", 65537)) == 0
        assert created.value == 23
        """
    )


def test_what_waited_and_is_refused_has_a_record(relay):
    relay(
        """
        busy()
        set_alarm()
        assert submit(20) == submit(21) == 0
        setting("refuse").value = -errno.EINVAL
        end(3)
        assert drain(bridge) == [(3, 64), (20, -errno.EINVAL), (21, -errno.EINVAL)]
        setting("refuse").value = 0
        assert created.value == 18 and setting("released").value == 6
        # They are with librbd no more: twelve are, and eleven after the next.
        assert submit(22) == 0 and created.value == 18
        end(4)
        end(5)
        assert created.value == 19 and drain(bridge)
        assert submit(23) == 0 and created.value == 20
        """
    )


def test_what_is_refused_at_once_has_none(relay):
    relay(
        """
        busy()
        for name in ("refuse", "refuse_create"):
            setting(name).value = -errno.ENOMEM
            assert submit(20) == -errno.ENOMEM
            setting(name).value = 0
        lib.aiorbd_image_changed(image)
        assert submit(20) == lib.AIORBD_STALE
        assert drain(bridge) == [] and created.value == 17 and setting("released").value == 4
        """
    )


def test_an_image_that_changes_while_something_waits(relay):
    relay(
        """
        busy()
        set_alarm()
        assert submit(20) == 0
        lib.aiorbd_image_changed(image)
        end(3)
        assert drain(bridge) == [(3, 64), (20, lib.AIORBD_STALE_BY_NOW)]
        assert created.value == 16
        """
    )


def test_the_table_sets_the_alarm(check):
    check(
        """
        table, owner = make()
        alarms = []
        table.loop.later = lambda seconds, ring, image: alarms.append((seconds, functools.partial(ring, image)))
        reads = [table.read(owner, 0, 64) for _ in range(16)]
        for index in range(3):
            complete(index, 64)
        table.drain()
        assert not alarms
        late = table.read(owner, 0, 64)
        ((seconds, ring),) = alarms
        assert seconds == 0.005 and setting("created").value == 16
        table.write(owner, data, 0)
        assert owner.in_flight == 15
        ring()
        assert setting("created").value == 18
        complete(16, 64)
        table.drain()
        assert (late.value, late.keep) == (64, b"r" * 64)
        table.forked = True
        ring()
        """
    )


def test_an_alarm_that_cannot_be_set(check):
    check(
        """
        table, owner = make()

        def later(seconds, ring, image):
            raise KeyboardInterrupt

        table.loop.later = later
        reads = [table.read(owner, 0, 64) for _ in range(16)]
        for index in range(3):
            complete(index, 64)
        table.drain()
        try:
            table.read(owner, 0, 64)
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError
        assert owner.in_flight == len(table.operations) == 13 and setting("created").value == 16
        table.loop.later = lambda *arguments: None
        assert table.read(owner, 0, 64) and setting("created").value == 16  # it waits
        """
    )
