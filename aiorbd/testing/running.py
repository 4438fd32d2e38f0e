"""What starts and stops: with an event loop or without one, as a context manager of both kinds."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from anyio import CancelScope, to_thread


class Running(ABC):
    """Processes that run as long as a ``with`` or ``async with`` block."""

    @abstractmethod
    def start_blocking(self) -> None:
        """Start without an event loop, and wait until all is ready."""

    @abstractmethod
    def stop_blocking(self) -> None:
        """Stop without an event loop. Stopping twice is allowed."""

    async def start(self) -> None:
        """Start, and wait until all is ready. This takes a few seconds."""
        await to_thread.run_sync(self.start_blocking)

    async def stop(self) -> None:
        """Kill the daemons and remove their directories. Stopping twice is allowed."""
        await to_thread.run_sync(self.stop_blocking)

    def __enter__(self) -> Self:
        self.start_blocking()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop_blocking()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with CancelScope(shield=True):  # killing takes only a moment
            await self.stop()
