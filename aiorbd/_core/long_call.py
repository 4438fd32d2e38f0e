"""C functions that report progress, and the hooks around them."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from aiorbd._core.lifecycle import Lifecycle
from aiorbd._core.progress import Progress, ProgressJob
from aiorbd._native import loader
from aiorbd._native.marshal import require_callable
from aiorbd.errors import Target

if TYPE_CHECKING:
    from aiorbd._core.handle import Handle
    from aiorbd._native.c_functions import CFunction


class LongCall:
    """One call of a C function that reports progress. A subclass overrides the hooks that it needs.

    The handle is the first argument of the C function. The progress callback and its argument follow `arguments`, and
    `after` comes last. A call object is used once.

    Attributes:
        handle: The handle that the C function takes.
        function: The C function.
        on: The target that errors name.
    """

    def __init__(
        self,
        handle: "Handle",
        function: "CFunction",
        *arguments: Any,
        on: Target | None = None,
        also: Iterable[Lifecycle] = (),
        after: tuple[Any, ...] = (),
        stoppable: bool = True,
    ) -> None:
        """Create a call.

        Args:
            handle: The handle that the C function takes.
            function: The C function.
            *arguments: The arguments between the handle and the progress callback.
            on: The target that errors name. None means the target of the handle.
            also: Further handles that the C function uses.
            after: The arguments after the progress callback.
            stoppable: Whether librbd is asked to stop after a cancellation or an error in `progress`.
        """
        self.handle = handle
        self.function = function
        self.on = on
        self._arguments = arguments
        self._also = tuple(also)
        self._after = after
        self._stoppable = stoppable

    # -- hooks ---------------------------------------------------------------------------------

    def begin(self) -> None:
        """Act just before the call. Runs on the event loop."""

    def prepare(self) -> None:
        """Act just before the C function, or raise to prevent it. Runs on the worker thread."""

    def explain(self, code: int) -> None:
        """Raise if the reason for the error `code` is known. Runs on the worker thread."""

    def ended(self) -> None:
        """Act after the call, even if no task waits any more or the call could not begin. Runs on the event loop."""

    # -- the call ------------------------------------------------------------------------------

    async def run(self, progress: Progress | None) -> int:
        """Call the C function on a worker thread, and return its result.

        `progress` is called on the event loop. When the waiting task is cancelled, librbd is asked to stop.
        """
        try:
            require_callable(progress, "progress")
            job = await self.handle.start_with(self.function, lambda leave: self._job(progress, leave))
        except BaseException:
            self.ended()
            raise
        self.begin()
        return await self.handle.bridge.call(job)

    def _job(self, progress: Progress | None, leave: Callable[[], None] | None) -> ProgressJob[int]:
        def ended() -> None:
            try:
                self.ended()
            finally:
                if leave is not None:
                    leave()

        return ProgressJob(
            self.handle,
            self.function,
            self._call,
            progress,
            on=self.on,
            ended=ended,
            also=self._also,
            stoppable=self._stoppable,
            group=self.handle.thread_group(self.function, self._also, long=True),
        )

    def _call(self, callback: Any, argument: Any) -> int:
        """Call the C function. Runs on the worker thread."""
        handle, function = self.handle, self.function
        self.prepare()
        c_function = getattr(loader.library_of(function), function)
        code: int = c_function(handle.pointer, *self._arguments, callback, argument, *self._after)
        handle.explain(code, function, self.explain)
        # For a copy to another cluster, the error does not tell which cluster has blocklisted this client.
        elsewhere = any(other.bridge is not handle.bridge for other in self._also)
        (handle.raise_only if elsewhere else handle.raise_for)(code, function, self.on)
        handle.require_place(function)
        return code
