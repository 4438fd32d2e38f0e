from collections.abc import Callable, Generator, Iterator
from typing import Any, Self

class Entry:
    owner: Any
    keep: object
    waiter: Any
    value: int | None
    abandoned: bool
    number: int
    def __await__(self) -> Generator[Any, Any]: ...

class Owner:
    in_flight: int
    awaited: int
    waiting: int
    usable: bool

class ImageOwner(Owner):
    size: int
    image_address: int
    strays: bool
    @property
    def generation(self) -> int: ...

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
    def read(self, owner: ImageOwner, offset: int, length: int, /) -> Any: ...
    def write(self, owner: ImageOwner, data: object, offset: int, /) -> Any: ...
    def submit(
        self,
        entry: Entry,
        kind: int,
        offset: int,
        length: int,
        buffer: bytes | int | None,
        op_flags: int,
        extra: int,
        lane: int,
        /,
    ) -> int: ...
    def drain(self) -> bool: ...
    def submit_pass(self) -> None: ...
