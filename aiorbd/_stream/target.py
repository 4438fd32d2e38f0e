"""Where the bytes of a diff go: a file, or a stream like a pipe, a socket or the body of an HTTP request."""

import errno
import os
import secrets
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Self, TypeAlias

from anyio import to_thread
from anyio.abc import ByteSendStream

from aiorbd._stream.local_file import LocalFile, write_all

#: A path, or an open stream.
StreamTarget: TypeAlias = str | os.PathLike[str] | ByteSendStream

#: Small parts are collected up to this number of bytes.
_ENOUGH: Final = 1 << 16


class ByteTarget:
    """Writes bytes in order."""

    def __init__(self, out: LocalFile | ByteSendStream, *, abandon: bool = False) -> None:
        self._out = out
        self._abandon = abandon  # whether a cancellation does not wait for a write
        self._parts: list[bytes] = []
        self._pending = 0

    async def write(self, *parts: bytes) -> None:
        """Write all parts, now or with later ones."""
        self._parts += parts
        self._pending += sum(map(len, parts))
        if self._pending >= _ENOUGH:
            await self._send()

    async def _send(self) -> None:
        parts, self._parts, self._pending = self._parts, [], 0
        if isinstance(self._out, LocalFile):
            await self._out.call(write_all, *parts, abandon=self._abandon)
            return
        small: list[bytes] = []
        for part in parts:  # small parts go together, and large ones without a copy
            if len(part) < _ENOUGH:
                small.append(part)
                continue
            if small:
                await self._out.send(b"".join(small))
                small = []
            await self._out.send(part)
        if small:
            await self._out.send(b"".join(small))

    @classmethod
    @asynccontextmanager
    async def opened(cls, target: StreamTarget) -> AsyncIterator[Self]:
        """Write to a target for the block.

        A file appears under its name at the end of the block, complete and durable. Until then, the data is in a file
        beside it. If the block fails, that file is removed, and a file that had the name is kept. The new file has the
        permissions of that file. A symbolic link is followed. Pipes and devices are written directly. A stream stays
        open.
        """
        if isinstance(target, ByteSendStream):
            out = cls(target)
            yield out
            await out._send()
        elif isinstance(target, str | os.PathLike):
            path = Path(await to_thread.run_sync(os.path.realpath, target))
            mode = await to_thread.run_sync(_mode, path)
            direct = mode is not None and not stat.S_ISREG(mode)
            beside = path if direct else path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
            file = LocalFile()
            try:
                await file.open(beside, os.O_WRONLY | (0 if direct else os.O_CREAT | os.O_EXCL), abandon=direct)
                if mode is not None and not direct:
                    await file.call(os.fchmod, stat.S_IMODE(mode))
                out = cls(file, abandon=direct)
                yield out
                await out._send()
                if not direct:
                    await file.call(_finish, beside, path)
            except BaseException:
                if not direct:
                    with suppress(OSError):
                        beside.unlink(missing_ok=True)
                raise
            finally:
                file.close()
        else:
            raise TypeError(f"a target is a path or a ByteSendStream, not {type(target).__name__}")


def _mode(path: Path) -> int | None:
    """Return the kind and the permissions of a file; None without the file."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    return mode


def _finish(file: int, beside: Path, path: Path) -> None:
    """Make the data durable, and give the file its name."""
    os.fsync(file)
    beside.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
