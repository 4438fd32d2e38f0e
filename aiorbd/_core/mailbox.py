"""Messages that librados sends unasked: the common code of object watches and of the cluster log."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from aiorbd._core.lifecycle import Lifecycle
from aiorbd._core.stream import Source, Stream
from aiorbd._native import loader
from aiorbd._native.loader import bridge_ffi, ffi
from aiorbd.error_codes import error_for

T = TypeVar("T")

#: The number of messages to take at once.
BATCH: Final = 256


class Mailbox:
    """A mailbox of the bridge.

    C keeps the mailbox until `release`, because librados may call back until then.
    """

    def __init__(self, handle: Lifecycle, source: Source, room: int) -> None:
        self._lib = loader.bridge()
        self._bridge = handle.bridge
        self._token = self._bridge.listen(source.notify)
        self._box = self._lib.aiorbd_mailbox_new(self._bridge.queue, self._token, room)
        if not self._box:
            self._bridge.unlisten(self._token)
            raise MemoryError
        self._numbers = bridge_ffi.new("uint64_t[]", self._lib.AIORBD_MESSAGE_NUMBERS)
        self._data = bridge_ffi.new("const char **")

    @property
    def argument(self) -> Any:
        """The argument of the callbacks, for C."""
        return ffi.cast("void *", self._box)

    def function(self, kind: str, c_type: str) -> Any:
        """Return the address of one of the bridge's callbacks, for C."""
        return loader.function_of_bridge(f"aiorbd_on_{kind}", c_type)

    def take(self, convert: Callable[[list[int], bytes], T]) -> list[T]:
        """Take the messages that have arrived, at most `BATCH`."""
        found: list[T] = []
        while self._box is not None and len(found) < BATCH:
            length = self._lib.aiorbd_mailbox_take(self._box, self._numbers, self._data)
            if length < 0:
                break
            found.append(convert(list(self._numbers), bytes(bridge_ffi.buffer(self._data[0], length))))
        return found

    @property
    def lost(self) -> int:
        """The number of messages that did not fit into the mailbox."""
        return int(self._lib.aiorbd_mailbox_lost(self._box)) if self._box is not None else 0

    @property
    def error(self) -> int:
        """The errno of a broken watch; 0 if the watch is intact."""
        return int(self._lib.aiorbd_mailbox_error(self._box)) if self._box is not None else 0

    def release(self) -> None:
        """Release the mailbox. librados does not call back any more."""
        if self._box is not None:
            self._bridge.unlisten(self._token)
            self._lib.aiorbd_mailbox_release(self._box)
            self._box = None


class Messages(Stream[T]):
    """An async iterator over a mailbox."""

    def __init__(
        self, source: Source, handle: Lifecycle, mailbox: Mailbox, convert: Callable[[list[int], bytes], T]
    ) -> None:
        super().__init__(source, handle.check_loop)
        self._target = handle.target
        self._mailbox = mailbox
        self._convert = convert

    def _take(self) -> list[T]:
        taken = self._mailbox.take(self._convert)
        if not taken and (error := self._mailbox.error):
            self._source.end(
                error_for(-error, "rados_aio_watch2", self._target, "the watch has failed: start a new watch")
            )
        return taken

    def _stop(self) -> None:
        """Do nothing: the next loop gets the remaining messages.

        Only closing the owner of the mailbox ends this stream.
        """

    def __del__(self) -> None:
        """Do nothing: the source belongs to the handle."""
