"""The gate of an image: keep apart the calls that librbd does not survive together.

librbd 16.2 aborts, crashes or hangs if certain calls run on one image at the same time. Each call of an open image
enters the gate in a mode. `RULES` states the mode of each call, and the fault of librbd that requires the mode. All
`Image` objects of one image on one connection share the gate.

Reads and writes do not enter the gate. The compiled bridge refuses a read or write while its handle is barred. This
check costs one load from memory. After a refusal, the handle waits for the gate and submits the request again.
"""

import enum
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

if TYPE_CHECKING:
    from aiorbd._core.handle import Handle
    from aiorbd._image.handle import ImageHandle


class Mode(enum.Flag):
    """The other calls that may run beside a call."""

    #: Runs beside every call that is not `ALONE`. A `SHARED` call must be short: an `ALONE` call lets no further
    #: `SHARED` call begin.
    SHARED = 0
    #: Like `SHARED`, but may last for hours. An `ALONE` call waits for all `LONG` calls before it holds up any call.
    LONG = enum.auto()
    #: Runs beside no other `HEADER` call: one change of snapshots or of the size at a time.
    HEADER = enum.auto()
    #: Runs beside no other `OBJECTS` call: one walk over all objects at a time.
    OBJECTS = enum.auto()
    #: Runs beside no other call, read or write.
    ALONE = enum.auto()
    #: Runs beside no read, write or flush of any handle, and beside no `LONG` call. It runs beside `SHARED` calls, as
    #: librbd may wait for the exclusive lock: a `SHARED` call releases the advisory lock that is in the way.
    NO_DATA = enum.auto()


class Rule(NamedTuple):
    """The mode of a call, and the fault of librbd that requires the mode."""

    mode: Mode
    fault: str


_SNAPSHOTS: Final = "two changes of snapshots at once: SIGABRT, or both threads of librados wait for each other"
_WALKS: Final = "two walks over all objects at once: SIGABRT, or a call that never returns"
_VIEW: Final = "beside writes, flushes, and changes of snapshots, features, size or metadata: SIGSEGV, SIGABRT, a hang"
_FEATURES: Final = "beside snapshot changes, walks, writes and lock changes: SIGABRT, or a call that never returns"

_QUIESCE: Final = "while a snapshot is taken: SIGABRT, or a close that never returns"
_MIRROR: Final = "as snapshot changes, rollbacks and feature changes, which librbd makes in this call"
_ENCRYPTION: Final = "none; reads and writes beside it would see the old offsets in part"

#: No reads, writes, copies, and changes of snapshots, size or objects.
_QUIET: Final = Mode.HEADER | Mode.OBJECTS | Mode.NO_DATA

#: The mode of each C function that is not `SHARED`.
RULES: Final[dict[str, Rule]] = {
    "rbd_snap_create2": Rule(Mode.HEADER, _SNAPSHOTS),
    "rbd_snap_remove2": Rule(Mode.HEADER, _SNAPSHOTS),
    "rbd_snap_remove_by_id": Rule(Mode.HEADER, _SNAPSHOTS),
    "rbd_snap_rename": Rule(Mode.HEADER, _SNAPSHOTS),
    "rbd_snap_protect": Rule(Mode.HEADER, _SNAPSHOTS),
    "rbd_snap_unprotect": Rule(Mode.HEADER, _SNAPSHOTS),
    "rbd_snap_set_limit": Rule(Mode.HEADER, _SNAPSHOTS),
    "rbd_snap_get_timestamp": Rule(Mode.HEADER, "beside the removal of that snapshot: SIGABRT"),
    "rbd_snap_rollback_with_progress": Rule(
        Mode.HEADER | Mode.OBJECTS, "beside snapshot creation or removal: SIGABRT or SIGSEGV; beside walks: SIGABRT"
    ),
    "rbd_resize2": Rule(Mode.HEADER | Mode.OBJECTS, f"{_WALKS}; a shrink beside writes of another handle: SIGABRT"),
    "rbd_flatten_with_progress": Rule(Mode.OBJECTS, _WALKS),
    "rbd_sparsify_with_progress": Rule(Mode.OBJECTS, _WALKS),
    "rbd_rebuild_object_map": Rule(Mode.OBJECTS, _WALKS),
    "rbd_copy_with_progress4": Rule(Mode.LONG, "none; an ALONE call must not hold up writes until a copy ends"),
    "rbd_deep_copy_with_progress": Rule(Mode.LONG, "none; an ALONE call must not hold up writes until a copy ends"),
    "rbd_copy_with_progress2": Rule(Mode.LONG, "none; an ALONE call must not hold up writes until a copy ends"),
    "rbd_lock_acquire": Rule(Mode.LONG, "none; it may wait for another client as long as that client likes"),
    "rbd_snap_set": Rule(Mode.ALONE, _VIEW),
    "rbd_snap_set_by_id": Rule(Mode.ALONE, _VIEW),
    "rbd_update_features": Rule(Mode.ALONE, _FEATURES),
    "rbd_quiesce_watch": Rule(Mode.HEADER, _QUIESCE),
    "rbd_quiesce_unwatch": Rule(Mode.HEADER, _QUIESCE),
    "rbd_mirror_image_enable2": Rule(Mode.HEADER | Mode.OBJECTS, _MIRROR),
    "rbd_mirror_image_disable": Rule(Mode.HEADER | Mode.OBJECTS, _MIRROR),
    "rbd_mirror_image_resync": Rule(Mode.HEADER, _MIRROR),
    "rbd_aio_mirror_image_promote": Rule(_QUIET, _MIRROR),
    "rbd_aio_mirror_image_demote": Rule(_QUIET, _MIRROR),
    "rbd_aio_mirror_image_create_snapshot": Rule(Mode.HEADER, _SNAPSHOTS),
    "rbd_encryption_format": Rule(_QUIET, _ENCRYPTION),
    "rbd_encryption_load": Rule(Mode.ALONE, _ENCRYPTION),
    "rbd_encryption_load2": Rule(Mode.ALONE, _ENCRYPTION),
}

#: The mode in which `rbd_copy_with_progress2` enters the gate of its target, which must not shrink during the copy.
COPY_TARGET: Final = Mode.OBJECTS

#: The mode in which a change of a group's snapshots enters the gates of all members. librbd opens each member itself.
#: Beside a copy of a member, librbd 16.2 hangs.
GROUP: Final = _QUIET

#: C functions that enter a gate after the gate of their target image was entered.
NESTED: Final = {"rbd_copy_with_progress2"}

_EXCLUSIVE: Final = Mode.HEADER | Mode.OBJECTS


def mode_of(function: str) -> Mode:
    """Return the mode of a C function."""
    rule = RULES.get(function)
    return Mode.SHARED if rule is None else rule.mode


class _Ticket:
    """A call that waits for the gate."""

    __slots__ = ("mode",)

    def __init__(self, mode: Mode) -> None:
        self.mode = mode


def _exclude(one: Mode, other: Mode) -> bool:
    both = one | other
    copies = Mode.NO_DATA in both and Mode.LONG in both
    return Mode.ALONE in both or copies or bool(one & other & _EXCLUSIVE)


class Gate:
    """The gate of one image. Use the gate on the event loop only."""

    def __init__(self) -> None:
        self._held: list[tuple[Handle, Mode]] = []  # the running calls that are not `SHARED`
        self._shared = 0  # number of running `SHARED` calls
        self._closed = False  # no new `SHARED` calls: an `ALONE` call runs, or waits only for `SHARED` calls
        self._waiting: list[_Ticket] = []
        self._outside: list[Handle] = []  # handles of pools, whose calls wait for this gate
        self.handles: WeakSet[ImageHandle] = WeakSet()

    async def enter(self, handle: "ImageHandle", mode: Mode, *, nested: bool = False) -> Callable[[], None]:
        """Wait until a call may run in `mode`, and return a function that leaves the gate.

        Run the returned function once, when the call has ended. Calls that exclude each other run in the order of
        their arrival. A cancelled wait leaves nothing behind. A `nested` call has already entered another gate or this
        gate, so a `nested` call does not wait for waiting calls.

        Raises:
            ClosedError: The handle was closed during the wait.
        """
        if mode is Mode.SHARED:
            if self._closed:
                await handle.wait_while_usable(lambda: not self._closed)
            self._shared += 1
            return self._leave_shared
        holder = await self._wait_for_turn(handle, mode, nested=nested)
        try:
            await self._drain(handle, mode)
        except BaseException:
            self._leave(holder)
            raise
        return lambda: self._leave(holder)

    def enter_now(self) -> Callable[[], None] | None:
        """Enter for a `SHARED` call without a wait. Return None if the call would have to wait."""
        if self._closed:
            return None
        self._shared += 1
        return self._leave_shared

    def enter_if_free(self, handle: "Handle", mode: Mode) -> Callable[[], None] | None:
        """Enter without a wait, for a call beside which reads and writes may run. Return None if it would have to wait.

        After None, the gate calls `Handle.wake_waiters` when the call may try again, until `forget` is called.
        """
        if not self._admits(mode):
            if handle not in self._outside:
                self._outside.append(handle)
            return None
        self._hold(handle, mode)
        return lambda: self._leave((handle, mode))

    def forget(self, handle: "Handle") -> None:
        """Do not wake a handle any more: see `enter_if_free`."""
        while handle in self._outside:
            self._outside.remove(handle)

    def wake(self) -> None:
        """Let the waiting calls check again, because a handle was closed."""
        self._changed()

    def add(self, handle: "ImageHandle") -> None:
        """Add an open handle of the image to the gate."""
        self.handles.add(handle)
        self._changed()

    async def _wait_for_turn(self, handle: "ImageHandle", mode: Mode, *, nested: bool) -> "tuple[Handle, Mode]":
        ticket, holder = _Ticket(mode), (handle, mode)
        self._waiting.insert(0 if nested else len(self._waiting), ticket)
        try:
            if not self._is_next(ticket):
                await handle.wait_while_usable(lambda: self._is_next(ticket))
            self._held.append(holder)
        finally:
            self._waiting.remove(ticket)
            self._changed()
        return holder

    def _is_next(self, ticket: _Ticket) -> bool:
        before = self._waiting[: self._waiting.index(ticket)]
        modes = [mode for _, mode in self._held] + [other.mode for other in before]
        return not any(_exclude(ticket.mode, mode) for mode in modes)

    def _admits(self, mode: Mode) -> bool:
        """Tell whether a call could enter now, after the calls that wait."""
        others = [other for _, other in self._held] + [ticket.mode for ticket in self._waiting]
        return not any(_exclude(mode, other) for other in others)

    def _hold(self, handle: "Handle", mode: Mode) -> None:
        self._held.append((handle, mode))
        self._changed()

    async def _drain(self, handle: "Handle", mode: Mode) -> None:
        """Wait for the running reads, writes and calls that the mode excludes. No new ones can begin."""
        for other in list(self.handles):
            if _bars(handle, mode, other):
                await other.maintenance.wait_for_data(handle)
        # Close the gate after the writes have completed: a write may wait for a lock that a `SHARED` call breaks.
        if mode is Mode.ALONE:
            self._closed = True
            await handle.wait_while_usable(lambda: not self._shared)

    def _leave_shared(self) -> None:
        self._shared -= 1
        if self._closed:
            self._changed()

    def _leave(self, holder: "tuple[Handle, Mode]") -> None:
        self._held.remove(holder)
        if holder[1] is Mode.ALONE:
            self._closed = False
        self._changed()

    def _changed(self) -> None:
        """Bar the handles with reads and writes that must wait, unbar all others, and wake the waiting calls."""
        for handle in tuple(self.handles):
            handle.bar(barred=any(_bars(holder, mode, handle) for holder, mode in self._held))
            handle.wake_waiters()
        for outside in tuple(self._outside):
            outside.wake_waiters()


async def enter_all(handle: "Handle", gates: "Sequence[Gate]", mode: Mode) -> Callable[[], None]:
    """Wait until a call on a pool's handle may run on several images, and return a function that leaves the gates.

    A call that held one gate and waited for another could wait for a copy, which also enters two gates. So this call
    takes all gates in one step, when all of them are free.
    """
    while (taken := next((gate for gate in gates if not gate._admits(mode)), None)) is not None:
        taken._outside.append(handle)
        try:
            await handle.wait_while_usable(partial(taken._admits, mode))
        finally:
            taken._outside.remove(handle)
    for gate in gates:
        gate._hold(handle, mode)

    def leave() -> None:
        for gate in gates:
            gate._leave((handle, mode))

    try:
        for gate in gates:
            await gate._drain(handle, mode)
    except BaseException:
        leave()
        raise
    return leave


def _bars(holder: "Handle", mode: Mode, other: "ImageHandle") -> bool:
    """Tell whether a call of `holder` holds up the reads and writes of `other`, which may be the same handle.

    A snapshot change beside a write through another handle hands the exclusive lock over. librbd 16.2 then frees an
    object map that is in use, and aborts (``AsyncOpTracker``).
    """
    return mode is Mode.ALONE or Mode.NO_DATA in mode or (Mode.HEADER in mode and holder is not other)


def open_handles(connection: object, image: Hashable) -> "tuple[ImageHandle, ...]":
    """Return the open handles of an image on one connection. See `gate_of` for `image`."""
    gates = _gates.get(connection)
    gate = None if gates is None else gates.get(image)
    return () if gate is None else tuple(handle for handle in gate.handles if handle.usable)


_gates: WeakKeyDictionary[object, WeakValueDictionary[Hashable, Gate]] = WeakKeyDictionary()


def gate_of(connection: object, image: Hashable) -> Gate:
    """Return the gate of an image. All handles of the image on one connection share the gate.

    The gate exists as long as one of these handles keeps it. `image` is the pool's number, the namespace and the
    image's id.
    """
    gates = _gates.setdefault(connection, WeakValueDictionary())
    gate = gates.get(image)
    if gate is None:
        gates[image] = gate = Gate()
    return gate
