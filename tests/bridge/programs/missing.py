"""The error texts of a library or a function that is missing."""

from aiorbd._native import _compiled


def test_missing_library_or_function_is_named() -> None:
    ffi, lib = _compiled.ffi, _compiled.lib
    assert b"/no/such/librbd.so.1" in ffi.string(lib.aiorbd_load(b"/no/such/librbd.so.1", b"librados.so.2"))
    assert b"rbd_aio_create_completion" in ffi.string(lib.aiorbd_load(b"libc.so.6", b"libc.so.6"))
    assert b"rados_aio_create_completion2" in ffi.string(lib.aiorbd_load(b"librbd.so.1", b"libc.so.6"))
    assert b"/no/such/librados.so.2" in ffi.string(lib.aiorbd_load(b"librbd.so.1", b"/no/such/librados.so.2"))
