"""The arguments of a program that runs once for each of them."""

from collections.abc import Callable
from typing import Any


def each(*arguments: str) -> Callable[[Any], Any]:
    """Mark a program that runs once for each argument, in its own process."""
    assert arguments

    def mark(program: Any) -> Any:
        return program

    return mark
