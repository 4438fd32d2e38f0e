"""The compiled bridge alone: against a fake librbd, which can refuse, and against many threads.

Each test gets a process of its own, since the bridge binds to one librbd for good.
"""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

HERE = Path(__file__).parent

PREAMBLE = """
    import ctypes, errno, os, select, sys, threading
    from aiorbd import _compiled
    ffi, lib = _compiled.ffi, _compiled.lib

    path = sys.argv[1]
    assert lib.aiorbd_load(path.encode(), path.encode()) == ffi.NULL
    fake = ctypes.CDLL(path)
    fake.fake_complete.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t]
    pending = (ctypes.c_void_p * (1 << 16)).in_dll(fake, "fake_pending")

    def setting(name):
        return ctypes.c_int.in_dll(fake, "fake_" + name)

    def readable(bridge):
        return bool(select.select([lib.aiorbd_bridge_fd(bridge)], [], [], 0)[0])

    def drain(bridge, most=64):
        records = ffi.new("int64_t[]", 1 + 2 * most)
        count = lib.aiorbd_bridge_drain(bridge, records, most)
        assert count == records[0]
        return [(records[2 * index + 1], records[2 * index + 2]) for index in range(count)]

    bridge = lib.aiorbd_bridge_new()
    image = lib.aiorbd_image_new(bridge, ffi.cast("void *", 1), -5)
    lib.aiorbd_image_set_known(image, lib.aiorbd_image_generation(image))
    buffer = ffi.new("char[]", 64)
    other = ffi.new("char[]", 64)
    mismatch = ffi.new("uint64_t *")
    opened = ffi.new("void **")
    vectors = ffi.new("void *[]", [buffer, other]), ffi.new("size_t[]", [3, 5]), 2

    SUBMITS = {
        "open": lambda token: lib.aiorbd_open(bridge, token, ffi.NULL, b"name", 0, ffi.NULL, 0, opened),
        "close": lambda token: lib.aiorbd_close(image, token),
        "flush": lambda token: lib.aiorbd_flush(image, token),
        "read": lambda token: lib.aiorbd_read(image, token, 0, 64, buffer, 0),
        "readv": lambda token: lib.aiorbd_readv(image, token, 0, *vectors),
        "write": lambda token: lib.aiorbd_write(image, token, 0, 64, buffer, 0),
        "writev": lambda token: lib.aiorbd_writev(image, token, 0, *vectors),
        "discard": lambda token: lib.aiorbd_discard(image, token, 0, 64),
        "write_zeroes": lambda token: lib.aiorbd_write_zeroes(image, token, 0, 64, 1, 0),
        "write_same": lambda token: lib.aiorbd_write_same(image, token, 0, 64, buffer, 8, 0),
        "compare_and_write": lambda token: lib.aiorbd_compare_and_write(
            image, token, 0, 64, buffer, other, mismatch, 0),
    }
    RESULTS = {"read": 64, "readv": 8, "writev": 8, "write_zeroes": 1, "write_same": 8,
               "compare_and_write": -errno.EILSEQ}
    IO = set(SUBMITS) - {"open", "close", "flush"}
"""


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    """The fake library, compiled."""
    library = tmp_path_factory.mktemp("fake") / "librbd-fake.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-w", "-o", str(library), str(HERE / "fake_librbd.c")], check=True)
    return library


@pytest.fixture
def run(fake):
    """A function that runs a program against the fake."""

    def run(body):
        program = textwrap.dedent(PREAMBLE) + textwrap.dedent(body) + "\nprint('passed')\n"
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", program, str(fake)],
            capture_output=True,
            text=True,
            timeout=120,
            env={"MALLOC_PERTURB_": "165", "PATH": "/usr/bin:/bin"},  # freed memory does not look alive
            check=False,
        )
        assert done.stdout.endswith("passed\n"), done.stderr

    return run


def test_results_arrive_in_order(run):
    run(
        """
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
        """
    )


def test_arguments_reach_librbd(run):
    run(
        """
        lib.aiorbd_read(image, 1, 0, 64, buffer, 0)
        assert ffi.buffer(buffer)[:] == b"r" * 64
        lib.aiorbd_readv(image, 2, 0, *vectors)
        assert ffi.buffer(buffer)[:4] == b"000r" and ffi.buffer(other)[:6] == b"11111" + bytes(1)
        name = (ctypes.c_char * 256).in_dll(fake, "fake_opened")
        for by_id, read_only, how in ((0, 0, b"open"), (1, 0, b"open_by_id"), (0, 1, b"open_read_only"),
                                      (1, 1, b"open_by_id_read_only")):
            lib.aiorbd_open(bridge, 3, ffi.NULL, b"n", by_id, ffi.NULL, read_only, opened)
            assert name.value == how + b":n-"
            lib.aiorbd_open(bridge, 3, ffi.NULL, b"n", by_id, b"@s", read_only, opened)
            assert name.value == how + b":n@s"
        """
    )


def test_offsets_lengths_and_flags_reach_librbd(run):
    run(
        """
        def seen():
            numbers = [ctypes.c_uint64.in_dll(fake, "fake_" + name).value for name in ("offset", "length")]
            return *numbers, setting("flags").value, setting("zero_flags").value

        big = 1 << 62
        assert lib.aiorbd_read(image, 1, big, 64, buffer, 5) == 0 and seen() == (big, 64, 5, 0)
        assert lib.aiorbd_write(image, 1, big, 63, buffer, 6) == 0 and seen() == (big, 63, 6, 0)
        assert lib.aiorbd_readv(image, 1, 11, *vectors) == 0 and seen() == (11, 8, 0, 0)
        assert lib.aiorbd_writev(image, 1, 12, *vectors) == 0 and seen() == (12, 8, 0, 0)
        assert lib.aiorbd_discard(image, 1, 13, big) == 0 and seen() == (13, big, 0, 0)
        assert lib.aiorbd_write_zeroes(image, 1, 14, 62, 1, 7) == 0 and seen() == (14, 62, 7, 1)
        assert lib.aiorbd_write_same(image, 1, 15, 64, buffer, 8, 9) == 0 and seen() == (15, 64, 9, 0)
        assert lib.aiorbd_compare_and_write(image, 1, 16, 61, buffer, other, mismatch, 10) == 0
        assert seen() == (16, 61, 10, 0)
        """
    )


def test_a_refused_submit_leaves_nothing(run):
    run(
        """
        setting("refuse").value = -errno.EINVAL
        for name, submit in SUBMITS.items():
            assert submit(1) == -errno.EINVAL, name
        assert setting("created").value == setting("released").value == len(SUBMITS)
        setting("refuse").value = 0
        setting("refuse_create").value = -errno.ENOMEM
        for name, submit in SUBMITS.items():
            assert submit(1) == -errno.ENOMEM, name
        assert setting("created").value == setting("released").value == len(SUBMITS)
        assert not readable(bridge) and drain(bridge) == []
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
        """
    )


def test_a_callback_before_the_submit_returns(run):
    run(
        """
        setting("early").value = 1
        for token, (name, submit) in enumerate(SUBMITS.items(), 1):
            assert submit(token) == 0, name
            assert readable(bridge)
            ((got, _),) = drain(bridge)
            assert got == token
        assert setting("created").value == setting("released").value == len(SUBMITS)
        """
    )


def test_a_stale_image_refuses_what_depends_on_its_size(run):
    run(
        """
        assert lib.aiorbd_image_watch(image) == 0
        fake.fake_update()
        for name, submit in SUBMITS.items():
            assert submit(1) == (_compiled.lib.AIORBD_STALE if name in IO else 0), name
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
        """
    )


def test_a_watch_that_is_refused(run):
    run(
        """
        setting("refuse").value = -errno.ENOTCONN
        assert lib.aiorbd_image_watch(image) == -errno.ENOTCONN
        assert lib.aiorbd_image_unwatch(image) == 0
        lib.aiorbd_image_release(image)
        """
    )


def test_a_bounded_drain_signals_for_the_rest(run):
    run(
        """
        for token in range(10):
            lib.aiorbd_bridge_post(bridge, token, token * token)
        assert drain(bridge, 4) == [(t, t * t) for t in range(4)]
        lib.aiorbd_bridge_post(bridge, 10, 100)
        assert readable(bridge)
        assert drain(bridge, 4) == [(t, t * t) for t in range(4, 8)]
        assert readable(bridge)
        assert drain(bridge, 4) == [(t, t * t) for t in range(8, 11)]
        assert not readable(bridge)
        """
    )


def test_operations_that_outlive_the_bridge(run):
    run(
        """
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
        """
    )


def test_progress(run):
    run(
        """
        report = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p)(
            int(ffi.cast("uintptr_t", lib.aiorbd_progress_callback())))
        slot = lib.aiorbd_progress_new(bridge, -9)
        address = int(ffi.cast("uintptr_t", slot))
        numbers = ffi.new("uint64_t[2]")
        assert report(1, 4, address) == 0 and report(2, 4, address) == 0
        assert drain(bridge) == [(-9, 0)]
        lib.aiorbd_progress_read(slot, numbers)
        assert list(numbers) == [2, 4]
        lib.aiorbd_progress_stop(slot)
        assert report(3, 4, address) == -errno.ECANCELED
        lib.aiorbd_progress_release(slot)  # while its record is queued
        assert drain(bridge) == [(-9, 0)]
        """
    )


def test_a_completion_of_librados(run):
    run(
        """
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
        """
    )


DIFF = """
        report = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint64, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p)(
            int(ffi.cast("uintptr_t", lib.aiorbd_diff_callback())))
        diff = lib.aiorbd_diff_new(bridge, -9, 8)
        address = int(ffi.cast("uintptr_t", diff))
        numbers = ffi.new("uint64_t[]", 3 * 100)
        codes = []

        def take(most=100):
            count = lib.aiorbd_diff_take(diff, numbers, most)
            return [tuple(numbers[3 * i : 3 * i + 3]) for i in range(count)]

        def walk(count):
            for number in range(count):
                codes.append(report(number * 10, 5, number % 2, address))
                if codes[-1]:
                    break

        def start(count):
            thread = threading.Thread(target=walk, args=(count,))
            thread.start()
            return thread

        def wait_for(count):
            while len(codes) < count:
                time.sleep(0.001)
            time.sleep(0.02)
            assert len(codes) == count
"""


def test_extents_of_a_diff_are_bounded(run):
    run(
        DIFF
        + """
        import time
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
        assert codes == [0] * 30 and take() == []
        lib.aiorbd_diff_release(diff)
        """
    )


def test_a_diff_is_stopped_while_it_waits(run):
    run(
        DIFF
        + """
        import time
        thread = start(30)
        wait_for(8)
        lib.aiorbd_diff_stop(diff)
        thread.join(10)
        assert codes == [0] * 8 + [-errno.ECANCELED]
        lib.aiorbd_diff_release(diff)  # with extents, and while its record is queued
        assert drain(bridge) == [(-9, 0)]
        """
    )


def test_messages(run):
    run(
        r"""
        def function(name, *types):
            return ctypes.CFUNCTYPE(None, ctypes.c_void_p, *types)(
                int(ffi.cast("uintptr_t", getattr(lib, f"aiorbd_mailbox_{name}_callback")())))

        u64 = ctypes.c_uint64
        notify = function("notify", u64, u64, u64, ctypes.c_char_p, ctypes.c_size_t)
        error = function("error", u64, ctypes.c_int)
        log = function("log", *[ctypes.c_char_p] * 4, u64, u64, u64, ctypes.c_char_p, ctypes.c_char_p)
        box = lib.aiorbd_mailbox_new(bridge, -9, 3)
        address = int(ffi.cast("uintptr_t", box))
        numbers, data = ffi.new("uint64_t[]", lib.AIORBD_MESSAGE_NUMBERS), ffi.new("const char **")

        def take():
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
        assert take()[0] == [1, 1, 1] and take() is None
        notify(address, 3, 3, 3, b"x" * (40 << 20), 40 << 20)
        assert take()[0] == [3, 3, 3] and lib.aiorbd_mailbox_lost(box) == 6
        assert lib.aiorbd_mailbox_error(box) == 0
        drain(bridge)
        error(address, 5, -errno.ENOTCONN)
        assert drain(bridge) == [(-9, 0)]
        assert lib.aiorbd_mailbox_error(box) == errno.ENOTCONN
        notify(address, 1, 2, 3, b"left", 4)
        lib.aiorbd_mailbox_release(box)  # with a message, and while its record is queued
        assert drain(bridge) == [(-9, 0)]
        """
    )


def test_no_wake_up_is_lost_between_threads(run):
    run(
        """
        THREADS, EACH = 4, 50_000

        def post(base):
            for number in range(EACH):
                lib.aiorbd_bridge_post(bridge, base + number, number)

        threads = [threading.Thread(target=post, args=(base * EACH,)) for base in range(THREADS)]
        for thread in threads:
            thread.start()
        seen, last = 0, [-1] * THREADS
        while seen < THREADS * EACH:
            assert select.select([lib.aiorbd_bridge_fd(bridge)], [], [], 10)[0], f"lost after {seen}"
            for token, value in drain(bridge, 100):
                base, number = divmod(token, EACH)
                assert number == value == last[base] + 1
                last[base] = number
                seen += 1
        for thread in threads:
            thread.join()
        assert drain(bridge) == []
        """
    )


def test_a_library_that_is_not_there():
    program = """
from aiorbd import _compiled
message = _compiled.lib.aiorbd_load(b"/no/such/librbd.so.1", b"librados.so.2")
assert b"/no/such/librbd.so.1" in _compiled.ffi.string(message)
message = _compiled.lib.aiorbd_load(b"libc.so.6", b"libc.so.6")
assert b"rbd_aio_create_completion" in _compiled.ffi.string(message)
message = _compiled.lib.aiorbd_load(b"librbd.so.1", b"libc.so.6")
assert b"rados_aio_create_completion2" in _compiled.ffi.string(message)
message = _compiled.lib.aiorbd_load(b"librbd.so.1", b"/no/such/librados.so.2")
assert b"/no/such/librados.so.2" in _compiled.ffi.string(message)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
