"""A local file that worker threads read and write."""

import errno
import os
import stat
import threading
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from anyio.to_thread import run_sync

T = TypeVar("T")


class LocalFile:
    """A file descriptor for worker threads.

    A cancelled task may leave a thread behind, so the last user closes the file.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._file = -1
        self._users = 0
        self._closing = False

    async def call(self, function: Callable[..., T], *arguments: Any, abandon: bool = False) -> T:
        """Call a function with the descriptor, on a worker thread.

        With `abandon`, a cancellation does not wait for the thread. A pipe, for example, may never have data.
        """
        result: T = await run_sync(self._call, function, arguments, abandon_on_cancel=abandon)
        return result

    def _call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        with self._mutex:
            if self._closing:
                raise ValueError("the file is closed")
            self._users += 1
        try:
            return function(self._file, *arguments)
        finally:
            self._leave()

    def _leave(self) -> None:
        with self._mutex:
            self._users -= 1
            last = self._closing and self._users < 0
        if last and self._file >= 0:
            os.close(self._file)

    async def open(self, path: str | os.PathLike[str], flags: int, *, abandon: bool = False) -> None:
        """Open a file. If the call was abandoned, the thread closes the file again."""
        await self.call(self._open, path, flags, abandon=abandon)

    def _open(self, _: int, path: str | os.PathLike[str], flags: int) -> None:
        self._file = os.open(path, flags | os.O_CLOEXEC, 0o666)

    def close(self) -> None:
        """Close the file. If a thread still uses the file, the last such thread closes it."""
        with self._mutex:
            if self._closing:
                return
            self._closing = True
        self._leave()  # the owner is a user too

    def __del__(self) -> None:
        if self._file >= 0 and not self._closing:
            warnings.warn(f"a file was not closed: descriptor {self._file}", ResourceWarning, stacklevel=2, source=self)
            self.close()

    @classmethod
    @asynccontextmanager
    async def opened(
        cls,
        path: str | os.PathLike[str],
        flags: int,
        kinds: tuple[Callable[[int], bool], ...],
        invalid: Callable[[str], Exception],
    ) -> AsyncIterator[Self]:
        """Open a file of certain kinds for the block. `invalid` makes the error for a file of another kind."""
        file = cls()
        try:
            await file.call(_require_kind, path, kinds, invalid)
            await file.open(path, flags)
            yield file
        finally:
            file.close()


def _require_kind(
    _: int, path: str | os.PathLike[str], kinds: tuple[Callable[[int], bool], ...], invalid: Callable[[str], Exception]
) -> None:
    """Raise if the file is of another kind. Some kinds have no size or cannot seek, for example a pipe or /dev/zero."""
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not any(is_kind(mode) for is_kind in kinds):
        expected = "regular file" + (" and no block device" if len(kinds) > 1 else "")
        raise invalid(f"{os.fspath(path)!r} is no {expected}")


def write_all(file: int, *parts: bytes) -> None:
    """Write all bytes at the file's position."""
    views = [memoryview(part).cast("B") for part in parts if part]
    while views:
        written = os.writev(file, views[:1024])
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]
