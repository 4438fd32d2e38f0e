"""The common base of clusters, I/O contexts and images: opening and closing."""

import enum
import warnings
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from aiorbd._core.handle import Handle
from aiorbd._core.lifecycle import State
from aiorbd.errors import UsageError

H = TypeVar("H", bound=Handle)


class Default(enum.Enum):
    """A default value that is set elsewhere.

    Attributes:
        CLOSE_TIMEOUT: The `close_timeout` that was given to `connect`.
    """

    CLOSE_TIMEOUT = "close_timeout"

    def __repr__(self) -> str:
        return f"<the connection's {self.value}>"


class Resource(Generic[H]):
    """An open object. Leaving ``async with`` closes the object, and so does `close`."""

    def __init__(self, handle: H, close_timeout: float) -> None:
        """Private."""
        self._handle: H = handle
        self._close_timeout = close_timeout

    def __repr__(self) -> str:
        state = self._handle.state.value + (", blocklisted" if self._handle.bridge.lost else "")
        return f"<aiorbd.{type(self).__name__}: {self._handle.target}, {state}>"

    @property
    def blocklisted(self) -> bool:
        """Whether the cluster is known to have blocklisted this connection for good: see `ConnectionShutdown`.

        The first call that gets this answer from the cluster sets the property. All later calls fail at once with the
        same error, and do not reach Ceph. Closing still works. Continue with a new connection.
        """
        return self._handle.bridge.lost

    @property
    def closed(self) -> bool:
        """Whether this object is closed or closing. No call is possible then."""
        return self._handle.state is not State.OPEN

    @property
    def in_flight(self) -> int:
        """The number of operations in flight on this object alone, abandoned ones included."""
        return self._handle.in_flight

    async def drain(self, timeout: float | None = None) -> None:
        """Wait for all operations that are in flight now, abandoned ones included.

        Operations that begin later do not count, and a diff in iteration does not count either.

        Raises:
            Timeout: Operations are still in flight after `timeout` seconds. None waits without a limit.
        """
        await self._handle.drain(timeout)

    async def close(self, timeout: float | Default | None = Default.CLOSE_TIMEOUT) -> None:
        """Close this object, after all objects that were opened from this object.

        New calls are refused at once. The close waits for the operations in flight, at most `timeout` seconds; None
        waits without a limit. The close itself cannot be cancelled: after a cancelled or overdue wait, the close
        continues in the background. Closing twice is allowed.

        Raises:
            CloseTimeout: Operations are still in flight.
            RbdError: Ceph reported an error while closing. The object is closed all the same.
        """
        await self._handle.close(self._close_timeout if isinstance(timeout, Default) else timeout)

    async def aclose(self) -> None:
        """Close this object like `close`, within the `close_timeout` of the connection.

        `contextlib.aclosing` calls this method.
        """
        await self.close()

    async def __aenter__(self) -> Self:
        self._handle.check()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._handle.leave(error, self._close_timeout)

    def __del__(self) -> None:
        # A close here could block any thread. So only the close of the cluster closes this object.
        handle: Handle | None = getattr(self, "_handle", None)
        if handle is not None and handle.state is State.OPEN and not handle.bridge.forked:
            warnings.warn(f"{self!r} was never closed: use 'async with' or 'await ….close()'", ResourceWarning, 2, self)


class Topic(Generic[H]):
    """One group of the calls on an open object: ``image.advisory_locks``, ``ioctx.trash``."""

    def __init__(self, handle: H) -> None:
        """Private."""
        self._handle: H = handle

    def __repr__(self) -> str:
        return f"<aiorbd.{type(self).__name__} of {self._handle.target}>"


class Block(Protocol):
    """An object whose ``async with`` block gives the object itself."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


R = TypeVar("R", bound=Block)


class Opening(Generic[R]):
    """An object about to be opened: await the opening, or enter it with ``async with``.

    Nothing happens before that.
    """

    def __init__(self, open_it: Callable[[], Coroutine[Any, Any, R]]) -> None:
        """Private."""
        self._open_it = open_it
        self._opened: R
        self._entered = False

    def __repr__(self) -> str:
        return f"<aiorbd.Opening: {'entered' if self._entered else 'nothing opened yet'}>"

    def __await__(self) -> Generator[Any, None, R]:
        """Open the object. The caller must close the object."""
        return self._open_it().__await__()

    async def __aenter__(self) -> R:
        """Open the object. Leaving the block closes the object."""
        if self._entered:
            raise UsageError("this opening was already used: each 'async with' needs a new one")
        self._entered = True
        self._opened = await self._open_it()
        return await self._opened.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the object."""
        await self._opened.__aexit__(kind, error, traceback)
