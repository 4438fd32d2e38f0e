"""Lists that C returns as a whole or page by page: iterate over them, or await them."""

from collections import deque
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, Self, TypeVar

from aiorbd.errors import UsageError

T = TypeVar("T")


class Listing(Generic[T]):
    """A list of things in the cluster.

    ``async for`` takes one item at a time, and may stop at any step. ``await`` returns all items as a list. After
    some steps, the list has the remaining items. The first request begins at the first step or with the ``await``. A
    listing runs once: call its method again for another one.
    """

    def __init__(self, what: str, next_page: Callable[[], Awaitable[list[T]]]) -> None:
        """Private. `next_page` returns an empty list at the end."""
        self._what = what
        self._next_page = next_page
        self._page: deque[T] = deque()
        self._ended = False
        self._asking = False

    def __repr__(self) -> str:
        state = "ended" if self._ended else "open"
        return f"<aiorbd.Listing: {self._what}, {state}>"

    def __await__(self) -> Generator[Any, None, list[T]]:
        """Return the remaining items as a list."""
        return self._rest().__await__()

    async def _rest(self) -> list[T]:
        if self._ended:
            raise UsageError(f"{self!r} was used: call its method again")
        found: list[T] = []
        try:
            while True:
                found.append(await anext(self))
        except StopAsyncIteration:
            return found
        except BaseException:
            self._page.extendleft(reversed(found))  # a later `await` must not miss them
            raise

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if not self._page and not self._ended:
            if self._asking:
                raise UsageError(f"another task iterates over {self!r}")
            self._asking = True
            try:
                self._page.extend(await self._next_page())
            finally:
                self._asking = False
        if not self._page:
            self._ended = True
            raise StopAsyncIteration
        return self._page.popleft()

    async def aclose(self) -> None:
        """Drop the remaining items."""
        self._page.clear()
        self._ended = True

    #: `close` is another name of `aclose`.
    close = aclose

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def whole(what: str, read: Callable[[], Awaitable[list[T]]]) -> Listing[T]:
    """Return a listing of all items that one call of `read` returns."""
    known = False

    async def next_page() -> list[T]:
        nonlocal known
        if known:
            return []
        page = await read()
        known = True
        return page

    return Listing(what, next_page)
