"""Listings without a cluster: pages, cancellation, and a second use."""

from typing import Any

import anyio
import pytest

import aiorbd
from aiorbd._core.listing import Listing, whole

pytestmark = pytest.mark.anyio


def of_pages(*pages: list[int], wait: Any = None) -> Listing[int]:
    """Return a listing of pages. `wait` is awaited before the second page."""
    left = list(pages)

    async def next_page() -> list[int]:
        if wait is not None and len(left) < len(pages):
            await wait()
        return left.pop(0) if left else []

    return Listing("numbers", next_page)


async def test_await_returns_the_remaining_items() -> None:
    listing = of_pages([1, 2], [3])
    assert await anext(listing) == 1
    assert await listing == [2, 3]


async def test_cancelled_await_loses_no_item() -> None:
    held = anyio.Event()
    listing = of_pages([1, 2], [3], wait=held.wait)
    with anyio.move_on_after(0.01) as scope:
        await listing
    assert scope.cancelled_caught
    held.set()
    assert await listing == [1, 2, 3]


async def test_second_await_raises_usage_error() -> None:
    listing = of_pages([1])
    assert await listing == [1]
    with pytest.raises(aiorbd.UsageError, match="call its method again"):
        await listing


async def test_second_task_raises_usage_error_and_gets_no_item_twice() -> None:
    held, got, refused = anyio.Event(), [], []

    async def read() -> list[int]:
        await held.wait()
        return [1, 2]

    listing = whole("numbers", read)

    async def take() -> None:
        try:
            got.extend([item async for item in listing])
        except aiorbd.UsageError as error:
            refused.append(str(error))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take)
        tasks.start_soon(take)
        await anyio.sleep(0.01)
        held.set()
    assert got == [1, 2]
    assert len(refused) == 1
    assert "another task" in refused[0]


async def test_closed_listing_ends() -> None:
    async with of_pages([1, 2]) as listing:
        assert await anext(listing) == 1
    assert [item async for item in listing] == []
