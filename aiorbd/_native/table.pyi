from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any, Self

class Entry:
    owner: Any
    keep: object
    waiter: Any
    value: int | None
    abandoned: bool
    def __await__(self) -> Generator[Any, Any]: ...

class Owner:
    in_flight: int
    awaited: int
    waiting: int
    usable: bool
    size: int
    image_address: int
    @property
    def generation(self) -> int: ...

class Requests(Entry):
    bridge: Any
    over: dict[int, Any]
    lane_address: int
    counted: int
    @property
    def running(self) -> dict[int, Any]: ...
    @property
    def late(self) -> dict[int, Any]: ...
    @property
    def notes(self) -> dict[int, Any]: ...
    def collect(self) -> None: ...

class Reads:
    def __new__(
        cls,
        lane: Requests,
        extents: Iterator[Any] | None,
        row: deque[Any],
        chunk: type[tuple[Any, ...]],
        chunk_size: int,
        op_flags: int,
        ordered: object,
        /,
    ) -> Self: ...
    extent: Any
    cut: int
    end: int
    exhausted: bool
    @property
    def row(self) -> deque[Any]: ...
    @property
    def chunk_size(self) -> int: ...
    @property
    def op_flags(self) -> int: ...
    @property
    def ordered(self) -> int: ...
    @property
    def fetching(self) -> bool: ...
    def fill(self, most: int, /) -> int: ...
    def hand_out(self, batch: deque[Any], /) -> Any: ...

class Table:
    loop: Any
    def __new__(
        cls,
        plain: type[Entry],
        loop: object,
        is_current: Callable[[], object],
        native: object | None,
        numbers: Iterator[int],
    ) -> Self: ...
    @property
    def operations(self) -> dict[int, Any]: ...
    @property
    def listeners(self) -> dict[int, Callable[[], None]]: ...
    @property
    def observers(self) -> list[Any]: ...
    @property
    def numbers(self) -> Iterator[int]: ...
    queue_address: int
    dead: bool
    forked: bool
    ended: bool
    def read(self, owner: Owner, offset: int, length: int, /) -> Any: ...
    def write(self, owner: Owner, data: object, offset: int, /) -> Any: ...
    def drain(self) -> bool: ...
    def submit_pass(self) -> None: ...
