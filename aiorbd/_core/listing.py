"""Async iterators over lists that C returns as a whole or page by page."""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Listing(Generic[T]):
    """An async iterator over a list.

    The first request begins at the first step. The iteration may stop at any step.
    """

    def __init__(self, next_page: Callable[[], Awaitable[list[T]]]) -> None:
        """Private. `next_page` returns an empty list at the end."""
        self._next_page = next_page
        self._page: deque[T] = deque()
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if not self._page and not self._ended:
            self._page.extend(await self._next_page())
        if not self._page:
            self._ended = True
            raise StopAsyncIteration
        return self._page.popleft()

    async def aclose(self) -> None:
        """Drop the remaining items. Leaving a loop early has the same effect."""
        self._page.clear()
        self._ended = True
