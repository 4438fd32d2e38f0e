"""What clusters, I/O contexts and images have in common for their user: opening and closing."""

import warnings
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from aiorbd._core.handle import Handle
from aiorbd._core.lifecycle import State
from aiorbd.errors import UsageError

H = TypeVar("H", bound=Handle)


class Resource(Generic[H]):
    """Something open, which is closed by leaving ``async with`` or by `close`."""

    def __init__(self, handle: H, close_timeout: float) -> None:
        """Private."""
        self._handle: H = handle
        self._close_timeout = close_timeout

    def __repr__(self) -> str:
        state = self._handle.state.value + (", blocklisted" if self._handle.bridge.lost else "")
        return f"<aiorbd.{type(self).__name__}: {self._handle.target}, {state}>"

    @property
    def blocklisted(self) -> bool:
        """Whether the cluster is known to have cut this connection off for good, as `ConnectionShutdown` says.

        A call that the cluster answers so is the first to know. All that follow fail at once with the same error
        and do not reach Ceph; closing works. Go on with a new connection.
        """
        return self._handle.bridge.lost

    @property
    def closed(self) -> bool:
        """Whether it is closed, or being closed, so that no call is possible any more."""
        return self._handle.state is not State.OPEN

    @property
    def in_flight(self) -> int:
        """How many operations on this very object are running, abandoned ones counted."""
        return self._handle.in_flight

    async def drain(self, timeout: float | None = None) -> None:
        """Wait until all operations that are in flight now are done, abandoned ones included.

        What begins meanwhile is not waited for, nor is a diff that somebody iterates over.

        Raises:
            Timeout: Some still are after `timeout` seconds (None waits for ever).
        """
        await self._handle.drain(timeout)

    async def close(self, timeout: float | None = None) -> None:
        """Close, and before that whatever was opened from here.

        New calls are refused at once; operations in flight are waited for, at most `timeout` seconds
        (None: the `close_timeout` given to `connect`). The close itself cannot be taken back: when the
        wait is cancelled or overdue it goes on in the background. Closing twice is allowed.

        Raises:
            CloseTimeout: Something is still in flight.
            RbdError: Ceph reported an error while closing; it is closed all the same.
        """
        await self._handle.close(self._close_timeout if timeout is None else timeout)

    async def __aenter__(self) -> Self:
        self._handle.check()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._handle.leave(error, self._close_timeout)

    def __del__(self) -> None:
        # Nothing is closed here, which could block any thread: that is left to the cluster's close.
        handle: Handle | None = getattr(self, "_handle", None)
        if handle is not None and handle.state is State.OPEN and not handle.bridge.forked:
            warnings.warn(f"{self!r} was never closed: use 'async with' or 'await ….close()'", ResourceWarning, 2, self)


class Topic(Generic[H]):
    """A part of what can be done with something open: ``image.locks``, ``ioctx.trash``."""

    def __init__(self, handle: H) -> None:
        """Private."""
        self._handle: H = handle

    def __repr__(self) -> str:
        return f"<aiorbd.{type(self).__name__} of {self._handle.target}>"


R = TypeVar("R", bound=Resource[Any])


class Opening(Generic[R]):
    """Something about to be opened: await it, or enter it with ``async with``. Until then nothing happens."""

    def __init__(self, open_it: Callable[[], Coroutine[Any, Any, R]]) -> None:
        """Private."""
        self._open_it = open_it
        self._opened: R
        self._entered = False

    def __await__(self) -> Generator[Any, None, R]:
        """Open it; the caller closes it."""
        return self._open_it().__await__()

    async def __aenter__(self) -> R:
        """Open it; leaving the block closes it."""
        if self._entered:
            raise UsageError("entered before: each 'async with' needs an opening of its own")
        self._entered = True
        self._opened = await self._open_it()
        return await self._opened.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        await self._opened.__aexit__(kind, error, traceback)
