"""The compiled bridge alone, bound to a fake librbd that can refuse requests: the first argument is its path."""

import ctypes
import errno
import select
import sys
from typing import Any

from aiorbd._native import _compiled

ffi, lib = _compiled.ffi, _compiled.lib

path = sys.argv[1]
assert lib.aiorbd_load(path.encode(), path.encode()) == ffi.NULL
fake = ctypes.CDLL(path)
fake.fake_complete.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t]
pending = (ctypes.c_void_p * (1 << 16)).in_dll(fake, "fake_pending")


def setting(name: str) -> Any:
    return ctypes.c_int.in_dll(fake, "fake_" + name)


def callback(name: str) -> Any:
    return int(ffi.cast("uintptr_t", ffi.addressof(lib, "aiorbd_on_" + name)))


def readable(bridge: Any) -> Any:
    return bool(select.select([lib.aiorbd_bridge_fd(bridge)], [], [], 0)[0])


def drain(bridge: Any, most: int = 64) -> Any:
    records = ffi.new("int64_t[]", 1 + 2 * most)
    lib.aiorbd_bridge_begin(bridge)
    count = lib.aiorbd_bridge_take(bridge, records, most)
    lib.aiorbd_bridge_end(bridge)
    assert count == records[0]
    return [(records[2 * index + 1], records[2 * index + 2]) for index in range(count)]


bridge = lib.aiorbd_bridge_new()
image = lib.aiorbd_image_new(bridge, ffi.cast("void *", 1), ffi.cast("void *", 2), -5)
lib.aiorbd_image_set_known(image, lib.aiorbd_image_generation(image))
buffer = ffi.new("char[]", 64)
other = ffi.new("char[]", 64)
mismatch = ffi.new("uint64_t *")
opened = ffi.new("void **")
pieces = ffi.new("aiorbd_piece[]", [(buffer, 3), (other, 5)])
pointers = ffi.new("void *[3]", [buffer, other, mismatch])
vectors = ffi.new("void *[3]", [pieces, pieces + 1, mismatch])
digits, checksum = ffi.new("char[]", b"123456789"), 0xE3069283


def ask(
    kind: Any,
    token: int = 1,
    offset: int = 0,
    length: int = 64,
    data: Any = ffi.NULL,
    extra: int = 0,
    flags: int = 0,
    submit: Any = lib.aiorbd_submit,
    to: Any = image,
) -> Any:
    request = ffi.new("aiorbd_request *", (kind, flags, offset, length, ffi.cast("void *", data), extra))
    return submit(to, token, request)


SUBMITS: dict[str, Any] = {
    "open": lambda token: lib.aiorbd_open(bridge, token, ffi.NULL, b"name", 0, ffi.NULL, 0, opened),
    "close": lambda token: lib.aiorbd_close(image, token),
    "flush": lambda token: ask(lib.AIORBD_FLUSH, token),
    "read": lambda token: ask(lib.AIORBD_READ, token, 0, 64, buffer),
    "readv": lambda token: ask(lib.AIORBD_READV, token, 0, 8, pieces, 2),
    "write": lambda token: ask(lib.AIORBD_WRITE, token, 0, 64, buffer),
    "writev": lambda token: ask(lib.AIORBD_WRITEV, token, 0, 8, pieces, 2),
    "discard": lambda token: ask(lib.AIORBD_DISCARD, token),
    "write_zeroes": lambda token: ask(lib.AIORBD_WRITE_ZEROES, token, extra=1),
    "write_same": lambda token: ask(lib.AIORBD_WRITE_SAME, token, 0, 64, buffer, 8),
    "compare_and_write": lambda token: ask(lib.AIORBD_COMPARE_AND_WRITE, token, 0, 64, pointers),
    "compare_and_writev": lambda token: ask(lib.AIORBD_COMPARE_AND_WRITEV, token, 0, 5, vectors, 2 << 32 | 1),
    "write_with_crc32c": lambda token: ask(lib.AIORBD_WRITE_WITH_CRC32C, token, 0, 9, digits, checksum),
}
RESULTS = {
    "read": 64, "readv": 8, "writev": 8, "write_zeroes": 1, "write_same": 8, "compare_and_write": -errno.EILSEQ,
    "compare_and_writev": -errno.EILSEQ,
}  # fmt: skip
IO = set(SUBMITS) - {"open", "close", "flush"}
