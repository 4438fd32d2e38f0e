"""Conversion between Python values and C values: names, buffers, and results of unknown size."""

import ctypes
import errno
import math
import numbers
import os
import sys
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from operator import index
from typing import Any, Final, TypeVar

from aiorbd._native.loader import bridge_ffi, ffi
from aiorbd.errors import InvalidArgument

T = TypeVar("T")

#: The largest size of a result. A larger result means a defect.
LARGEST = 1 << 26

#: From this size in bytes, clearing a buffer takes longer than allocating a buffer without clearing.
LARGE: Final = 32 << 10

_new_bytes: Final = ctypes.pythonapi.PyBytes_FromStringAndSize
_new_bytes.argtypes = (ctypes.c_char_p, ctypes.c_ssize_t)
_new_bytes.restype = ctypes.py_object


def invalid(message: str, operation: str, target: object) -> InvalidArgument:
    """Return the error for an argument that must not reach C."""
    return InvalidArgument(errno.EINVAL, message, operation, str(target))


def as_integer(value: int, what: str) -> int:
    """Return the value as Python's own integer."""
    try:
        return index(value)
    except TypeError:
        raise TypeError(f"{what} must be an integer, not {type(value).__name__}") from None


def number(value: int, what: str, operation: str, target: object, bits: int = 63) -> int:
    """Return an integer that C can take, or raise.

    The default limit is 63 bits, because librbd often uses its 64-bit counts as signed numbers. Integers of other
    types, for example numpy's, become Python integers, because numpy's integers wrap around in a sum.
    """
    value = as_integer(value, what)
    if not 0 <= value < 1 << bits:
        shown = value if abs(value) < 1 << 128 else f"of {value.bit_length()} bits"
        raise invalid(f"{what} {shown} is out of range", operation, target)
    return value


def encode_name(name: str, what: str, operation: str, *, may_be_empty: bool = False) -> bytes:
    """Encode the name of an object that may exist already."""
    if not isinstance(name, str):
        raise TypeError(f"{what} must be str, not {type(name).__name__}")
    if not name and not may_be_empty:
        raise invalid(f"{what} must not be empty", operation, what)
    if "\0" in name:
        raise invalid(f"{what} must not contain NUL", operation, f"{what} {name!r}")
    return encode_text(name, what, operation)


def encode_text(text: str, what: str, operation: str) -> bytes:
    """Encode a text. The only rule is that the text can be encoded."""
    try:
        return os.fsencode(text)
    except UnicodeEncodeError as error:
        raise invalid(f"{what} cannot be encoded: {error.reason}", operation, f"{what} {text!r}") from None


def encode_secret(text: str, what: str, operation: str, on: object) -> bytes:
    """Encode a text that may contain a secret. So no error shows the text; the error names `on` instead."""
    if not isinstance(text, str):
        raise TypeError(f"{what} must be str, not {type(text).__name__}")
    if "\0" in text:
        raise invalid(f"{what} must not contain NUL", operation, on)
    try:
        return os.fsencode(text)
    except UnicodeEncodeError as error:
        raise invalid(f"{what} cannot be encoded: {error.reason}", operation, on) from None


def seconds(value: float, what: str, operation: str, target: object) -> float:
    """Return a time in seconds. Raise if the value is not a number, not finite, or negative."""
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{what} must be a number of seconds, not {type(value).__name__}")
    if not math.isfinite(value) or value < 0:
        raise invalid(f"{what} {value} is not a valid number of seconds", operation, target)
    return float(value)


H = TypeVar("H")

#: The public classes of the handles that arguments may have.
_PUBLIC: Final = {"PoolHandle": "IoCtx", "ImageHandle": "Image"}


def handle_of(thing: object, kind: type[H], what: str) -> H:
    """Return the handle of an I/O context or image that was given as an argument."""
    handle = getattr(thing, "_handle", None)
    if not isinstance(handle, kind):
        raise TypeError(f"{what} must be an {_PUBLIC[kind.__name__]}, not {type(thing).__name__}")
    return handle


def require_callable(function: object, what: str) -> None:
    """Raise if an argument is not callable, before the call begins."""
    if function is not None and not callable(function):
        raise TypeError(f"{what} must be a function, not {type(function).__name__}")


def encode_new_name(name: str, what: str, operation: str) -> bytes:
    """Encode the name of a new object. Raise for '@' and '/': librbd accepts them, but every tool stumbles."""
    encoded = encode_name(name, what, operation)
    for character in "@/":
        if character in name:
            raise invalid(f"{what} must not contain {character!r}", operation, f"{what} {name!r}")
    return encoded


def decode(text: Any) -> str:
    """Decode a ``char *`` that ends with NUL."""
    return os.fsdecode(ffi.string(text))


def split(buffer: Any, length: int) -> list[str]:
    """Decode consecutive strings that each end with NUL."""
    text = bytes(ffi.buffer(buffer, length))
    return [os.fsdecode(part) for part in text.split(b"\0")[:-1]]


def utc(seconds: int, nanoseconds: int = 0) -> datetime:
    """Return a C time as an aware datetime, to the microsecond."""
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanoseconds // 1000)


def take_buffer(pointer: Any, length: Any, free: Callable[[Any], object]) -> bytes:
    """Copy and free a buffer that C allocated. `pointer` and `length` are out-parameters."""
    if not pointer[0]:
        return b""
    try:
        return bytes(ffi.buffer(pointer[0], length[0]))
    finally:
        free(pointer[0])


def grow_string(call: Callable[[Any, int], int], check: Callable[[int], int], first: int = 256) -> str:
    """Let C fill a buffer with a string that ends with NUL. Enlarge the buffer until the string fits.

    Args:
        call: Takes the buffer and its size, and returns C's return value.
        check: Raises if that return value is an error.
        first: The first size to try.
    """

    def read(size: int) -> tuple[int, str]:
        buffer = ffi.new("char[]", size)
        code = call(buffer, size)
        if code != -errno.ERANGE:
            check(code)
        return code, decode(buffer)

    return grow(read, first)


def grow(call: Callable[[int], tuple[int, T]], first: int) -> T:
    """Call with larger and larger sizes until C accepts the size.

    `call` takes a size. It returns C's return value, and the result for any value except -ERANGE. `call` handles all
    other errors itself.
    """
    size = first
    while size <= LARGEST:
        code, result = call(size)
        if code != -errno.ERANGE:
            return result
        size *= 4
    raise MemoryError(f"a result of more than {LARGEST} entries")


def large_bytes(length: int) -> bytes:
    """Return bytes for C to fill. C must fill all of them before any other code reads them.

    The bytes are not cleared, because clearing `LARGE` bytes or more takes noticeable time.
    """
    unfilled: bytes = _new_bytes(None, length)
    return unfilled


def writable_bytes(data: bytes) -> "memoryview[int]":
    """Return a writable buffer over bytes that no other code has read yet, for C to fill."""
    return memoryview(bridge_ffi.buffer(bridge_ffi.from_buffer("char[]", data), len(data)))


def readable(data: Any, what: str, operation: str, target: object) -> Any:
    """Return a C view of a buffer that C reads. The view keeps the buffer exported."""
    return _view(data, what, operation, target, writable=False)


def writable(buffer: Any, what: str, operation: str, target: object) -> Any:
    """Return a C view of a buffer that C writes to. The view keeps the buffer exported."""
    return _view(buffer, what, operation, target, writable=True)


def _view(buffer: Any, what: str, operation: str, target: object, *, writable: bool) -> Any:
    try:
        view = bridge_ffi.from_buffer("char[]", buffer, require_writable=writable)
    except (BufferError, ValueError) as error:
        raise invalid(f"{what}: {error}", operation, target) from None
    except TypeError:
        raise TypeError(f"{what} must be a bytes-like object, not {type(buffer).__name__}") from None
    if _FRAGILE and isinstance(buffer, memoryview):
        _keep(buffer, view)
    return view


#: Python before 3.12.4 crashes when the garbage collector finds an exported memoryview.
_FRAGILE: Final = sys.version_info < (3, 12, 4)

#: Memoryviews, by the id of C's view of each memoryview.
_exported: Final[dict[int, tuple["memoryview[Any]", "weakref.ref[Any]"]]] = {}


def _keep(buffer: "memoryview[Any]", view: Any) -> None:
    """Hide a memoryview from the garbage collector as long as C's view of it lives."""
    key = id(view)
    _exported[key] = buffer, weakref.ref(view, lambda _: _exported.pop(key, None))
