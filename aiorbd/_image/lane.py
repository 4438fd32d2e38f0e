"""Reads and writes of one image that are handed to C in number, and come back in bulk: see ``lane.c``."""

import errno
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from aiorbd._core.observers import Note
from aiorbd._core.operation import CopyJob, Operation
from aiorbd._native import loader
from aiorbd._native.table import Requests
from aiorbd.errors import RbdError

if TYPE_CHECKING:
    from aiorbd._core.bridge import Bridge
    from aiorbd._image.handle import ImageHandle

#: The loop is told when this part of the depth is over, and not of each: it wakes up less often.
_BULK: Final = 0.5

#: No longer than so many seconds, though: others may take very long.
_PATIENCE: Final = 0.005

#: Bytes that are copied on the event loop's thread: librbd copies a mebibyte in a millisecond.
LARGEST_COPY: Final = 1 << 20

#: What is asked of C: the kind, where in the image and how much, the buffer, and flags. A tuple: there are many.
Request: TypeAlias = tuple[int, int, int, Any, int]

#: What is over: with librbd's return value, or why it was not handed over again.
Over: TypeAlias = tuple[Request, int | Exception]


class Lane(Operation, Requests):
    """What C has of a lane. It is in the operation table, and holds the requests, while any of them is on its way.

    Attributes:
        running: The requests that C has, by the numbers they were submitted with.
        over: Those that are done, in order of their end, for whoever made the lane.
        late: Those that waited while the image's size became unknown: see `submit_late`.
        numbers: Where the next request gets its number.
        functions: The C functions of the kinds, for errors and observers.
    """

    owner: "ImageHandle"
    bridge: "Bridge"
    over: "dict[int, Over]"
    counted: int
    lane_address: int

    def __init__(self, handle: "ImageHandle", depth: int, told: Callable[[], object]) -> None:
        """`told` is called on the loop when something is over. What it knows lives as long as anything is running."""
        super().__init__(handle)
        self._lib = lib = loader.bridge()
        self.kind_read: int = lib.AIORBD_READ
        self.kind_write: int = lib.AIORBD_WRITE
        self.kind_write_zeroes: int = lib.AIORBD_WRITE_ZEROES
        self.functions: dict[int, str] = {
            self.kind_read: "rbd_aio_read2",
            self.kind_write: "rbd_aio_write2",
            self.kind_write_zeroes: "rbd_aio_write_zeroes",
        }
        self.bridge = handle.bridge
        self.numbers: Iterator[int] = handle.bridge.numbers
        self.token: int = next(self.numbers)
        self._told = told
        self._stale: int = lib.AIORBD_STALE_BY_NOW
        self._submit: Callable[..., int] = lib.aiorbd_lane_submit
        bulk = max(1, int(depth * _BULK))
        self._in_bulk = bulk > 1
        self._alarmed = False
        lane = lib.aiorbd_lane_new(handle.native, -self.token, depth, bulk)
        if not lane:
            raise MemoryError
        self.pointer: Any = loader.bridge_ffi.gc(lane, lib.aiorbd_lane_release)
        self.lane_address = int(loader.bridge_ffi.cast("uintptr_t", lane))

    # -- submitting ----------------------------------------------------------------------------

    def submit(self, number: int, request: Request) -> int:
        """Hand a request to C; return 0 when it has it, like `Bridge.submit`."""
        self._enter(number, request)
        taken = False
        try:
            code = self._submit(self.pointer, number, *request)
            taken = not code
        except BaseException:
            taken = self.bridge.has_taken(number)
            raise
        finally:
            if not taken:
                self._leave(number)
        if taken:
            self._note(number, request)
        return code

    def submit_on_thread(self, number: int, request: Request) -> None:
        """Hand a large write to C on a worker thread, which copies its data. A refusal comes like a late one."""
        generation = self.owner.generation

        def submit() -> int:
            if self.abandoned:
                return -errno.ECANCELED
            if self.owner.generation != generation:  # the range was checked against another size
                return int(self._lib.AIORBD_STALE)
            return int(self._submit(self.pointer, number, *request))

        self._enter(number, request)
        self._note(number, request)
        try:
            self.bridge.start(CopyJob(self.owner, self.functions[request[0]], submit, partial(self._submitted, number)))
        except BaseException:
            self._leave(number)
            self.notes.pop(number, None)
            raise

    def _submitted(self, number: int, code: int) -> None:
        """On the loop: the worker thread has handed a request to C, which took it if `code` is 0."""
        if not code or number not in self.running:
            return
        request = self.running.pop(number)
        self.notes.pop(number, None)
        if self.abandoned:
            pass
        elif code > 0:
            self.late[number] = request
        else:
            self.over[number] = request, code
        try:
            self._told()
        finally:
            self._count()

    def _enter(self, number: int, request: Request) -> None:
        """Register a request: C may be done with it before the submit returns."""
        if not self.running:
            self.bridge.enter(self)
        self.running[number] = request
        self.counted += 1
        self.owner.in_flight += 1

    def _leave(self, number: int) -> None:
        """Undo the registration of a request that C has not taken."""
        del self.running[number]
        self.counted -= 1
        self.owner.in_flight -= 1
        if not (self.running or self.counted):  # else what is over has yet to be counted
            self.bridge.leave(self)

    def _note(self, number: int, request: Request) -> None:
        if self.bridge.observers:
            kind, offset, length, _, _ = request
            self.notes[number] = Note(self.functions[kind], self.owner.describe(offset, length), length)

    def _is_over(self, number: int) -> bool:
        return number not in self.running

    def is_large(self, request: Request) -> bool:
        """Tell whether the event loop would be late by the copy of the data."""
        return request[0] == self.kind_write and request[2] > LARGEST_COPY

    async def submit_refused(self, number: int, request: Request, check: Callable[[], object]) -> None:
        """Submit what was refused once, because of the image's size: `check` whether it is still wanted by then."""
        kind, offset, length, _, _ = request
        while code := self.submit(number, request):
            await self.owner.refused(code, self.functions[kind], offset, length)
            check()

    async def submit_late(self) -> None:
        """What waited in the lane while somebody changed the image is submitted once its size is known."""
        while self.late:
            number, request = next(iter(self.late.items()))
            kind, offset, length, _, _ = request
            try:
                await self.owner.check_range(self.functions[kind], offset, length, largest=None)
                if self.is_large(request):
                    if self._lib.aiorbd_image_is_stale(self.owner.native):
                        await self.owner.refused(self._lib.AIORBD_STALE, self.functions[kind], offset, length)
                    if number in self.late:
                        self.submit_on_thread(number, request)
                        self.late.pop(number, None)
                    continue
                while number in self.late and (code := self._submit_late(number, request)):
                    await self.owner.refused(code, self.functions[kind], offset, length)
            except RbdError as error:
                self.over[number] = request, error
                self.late.pop(number, None)
                self._told()

    def _submit_late(self, number: int, request: Request) -> int:
        """Submit one of those in `late`, where it stays unless C has it: nobody must miss it."""
        try:
            return self.submit(number, request)
        finally:
            if number in self.running:
                del self.late[number]

    def fail_late(self, error: Exception) -> None:
        """It cannot be submitted."""
        self.over.update({number: (request, error) for number, request in self.late.items()})
        self.late.clear()

    # -- what is over --------------------------------------------------------------------------

    def take(self) -> None:
        """On the loop: C says that something is over. After an interrupt in here the bridge calls it again."""
        try:
            self.collect()
            if self._in_bulk and not self._alarmed:
                self.bridge.loop.later(_PATIENCE, self._hurry)
                self._alarmed = True
        finally:
            try:
                if self.abandoned:
                    self.over.clear()
                    self.late.clear()
                self._told()
            finally:
                self._count()

    def _hurry(self) -> None:
        """What is over waits no longer for others, until it was taken."""
        self._alarmed = False
        if not self.bridge.forked:
            self._lib.aiorbd_lane_hurry(self.pointer)

    def _count(self) -> None:
        """Bring the owner's count up to what is running, tell it, and leave the table when that is nothing."""
        running, owner = len(self.running), self.owner
        owner.in_flight += running - self.counted
        self.counted = running
        if not owner.in_flight or owner.awaited:
            owner.on_idle()
        if not running:
            self.bridge.leave(self)

    def tell_observers(self, number: int, value: int) -> None:
        """From `collect`, when there are any."""
        note = self.notes.pop(number, None)
        if note is not None and value != self._stale:
            note.tell_result(self.bridge.observers, value, abandoned=self.abandoned)

    def pending(self) -> Callable[[], int]:
        """Return what tells how many of those that run now are not over yet."""
        now = set(self.running)
        return lambda: len(now & self.running.keys())

    @property
    def count(self) -> int:
        """How many calls it stands for."""
        return len(self.running)

    # -- the end -------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Any thread: give up what has not reached librbd."""
        # What runs keeps this reachable. Without it the collector, of a cycle, may have freed the lane before.
        if self.running:
            self._lib.aiorbd_lane_cancel(self.pointer)

    def abandon(self) -> None:
        """Nobody wants what comes: give up what has not reached librbd."""
        super().abandon()
        self.over.clear()
        self.late.clear()
        for number, (kind, offset, length, _, _) in self.running.items():
            if kind != self.kind_read:
                self.owner.add_stray(offset, length, partial(self._is_over, number))
        self.cancel()
