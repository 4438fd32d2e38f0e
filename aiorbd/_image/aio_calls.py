"""Rare asynchronous calls of librbd on an open image."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiorbd._core.async_calls import RbdAioCall
from aiorbd._image.handle import ImageHandle
from aiorbd._native.loader import bridge_ffi, ffi, rbd
from aiorbd.errors import Target

if TYPE_CHECKING:
    from aiorbd._native.c_functions import CFunction


async def call_aio(
    handle: ImageHandle, function: "CFunction", *arguments: Any, on: Target | None = None, keep: object = None
) -> int:
    """Submit one call of librbd, wait for the completion, and return its value.

    The image is the first argument of the C function, and the completion is the last one. `keep` has the
    out-parameters, which live until librbd is done with them, even if no task waits any more.
    """
    c_function = getattr(rbd(), function)

    def submit(token: int) -> int:
        operation, completion = bridge_ffi.new("void **"), bridge_ffi.new("void **")
        code: int = handle.lib.aiorbd_call_begin(handle.bridge.queue, token, operation, completion)
        if code < 0:
            return code
        pointer = ffi.cast("rbd_completion_t", int(bridge_ffi.cast("uintptr_t", completion[0])))
        try:
            code = c_function(handle.pointer, *arguments, pointer)
        except BaseException:  # librbd did not get the call
            handle.lib.aiorbd_call_refused(operation[0], completion[0])
            raise
        if code < 0:
            handle.lib.aiorbd_call_refused(operation[0], completion[0])
        return min(code, 0)

    def make(leave: Callable[[], None] | None) -> RbdAioCall:
        return RbdAioCall(
            handle,
            function,
            submit,
            keep,
            on=on,
            then=None if leave is None else lambda _: leave(),
        )

    code = await handle.bridge.call(await handle.start_with(function, make))
    if code < 0:
        await handle.find_place(code)
    handle.raise_for(code, function, on)
    await handle.ioctx.confirm_place(handle, function)  # without the pool, some calls look successful
    return code
