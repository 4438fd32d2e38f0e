"""The kinds of requests that the bridge submits, each with its C function."""

from collections.abc import Sequence
from typing import Any, Final

from aiorbd._native import _compiled

READ: Final[int] = _compiled.lib.AIORBD_READ
READV: Final[int] = _compiled.lib.AIORBD_READV
WRITE: Final[int] = _compiled.lib.AIORBD_WRITE
WRITEV: Final[int] = _compiled.lib.AIORBD_WRITEV
DISCARD: Final[int] = _compiled.lib.AIORBD_DISCARD
WRITE_ZEROES: Final[int] = _compiled.lib.AIORBD_WRITE_ZEROES
WRITE_SAME: Final[int] = _compiled.lib.AIORBD_WRITE_SAME
COMPARE_AND_WRITE: Final[int] = _compiled.lib.AIORBD_COMPARE_AND_WRITE
COMPARE_AND_WRITEV: Final[int] = _compiled.lib.AIORBD_COMPARE_AND_WRITEV
WRITE_WITH_CRC32C: Final[int] = _compiled.lib.AIORBD_WRITE_WITH_CRC32C
FLUSH: Final[int] = _compiled.lib.AIORBD_FLUSH

FUNCTIONS: Final = {
    READ: "rbd_aio_read2",
    READV: "rbd_aio_readv",
    WRITE: "rbd_aio_write2",
    WRITEV: "rbd_aio_writev",
    DISCARD: "rbd_aio_discard",
    WRITE_ZEROES: "rbd_aio_write_zeroes",
    WRITE_SAME: "rbd_aio_writesame",
    COMPARE_AND_WRITE: "rbd_aio_compare_and_write",
    COMPARE_AND_WRITEV: "rbd_aio_compare_and_writev",
    WRITE_WITH_CRC32C: "rbd_aio_write_with_crc32c",
    FLUSH: "rbd_aio_flush",
}

#: The kinds of requests that fill the caller's memory.
READS: Final = frozenset({READ, READV})

#: The kinds of requests with data that librbd copies during the submit.
WRITES: Final = frozenset({WRITE, WRITEV, WRITE_SAME, COMPARE_AND_WRITE, COMPARE_AND_WRITEV, WRITE_WITH_CRC32C})

#: The result of a submit while the image's size is unknown, or while a call that excludes I/O runs.
STALE: Final[int] = _compiled.lib.AIORBD_STALE

#: The value of a request if the image changed after the submit and before librbd got the request.
STALE_BY_NOW: Final[int] = _compiled.lib.AIORBD_STALE_BY_NOW


def pieces(views: Sequence[Any]) -> Any:
    """Return the array of buffers that the vector functions of C take."""
    return _compiled.ffi.new("aiorbd_piece[]", [(view, len(view)) for view in views])
