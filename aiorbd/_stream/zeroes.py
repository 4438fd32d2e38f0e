"""Zero bytes, and the question whether data has others."""

from typing import Final

_MOST: Final = 4 << 20
_ZEROES: Final = bytes(_MOST)


def zeroes(length: int) -> bytes:
    """Return zero bytes, at most 4 MiB."""
    return _ZEROES if length == _MOST else _ZEROES[:length]


def is_zero(data: bytes) -> bool:
    """Tell whether all bytes are zero. The comparison stops at the first byte that is not."""
    if len(data) <= _MOST:
        return data == zeroes(len(data))
    view = memoryview(data)
    return all(view[at : at + _MOST] == zeroes(min(_MOST, len(data) - at)) for at in range(0, len(data), _MOST))
