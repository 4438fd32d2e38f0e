"""The native side of an open image: open, calls, close."""

import errno
import logging
import os
import weakref
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any

import anyio

from aiorbd._core.async_calls import RbdAioCall
from aiorbd._core.handle import Handle
from aiorbd._core.lifecycle import Lifecycle, Place
from aiorbd._core.loops import Parked
from aiorbd._core.operation import URGENT
from aiorbd._core.stream import Source
from aiorbd._image.durability import Durability
from aiorbd._image.gate import NESTED, Gate, Mode, gate_of, mode_of
from aiorbd._image.maintenance import Maintenance
from aiorbd._image.probe import Prober
from aiorbd._image.requests import Requests
from aiorbd._image.size import ImageSize
from aiorbd._native import loader
from aiorbd._native.loader import bridge_ffi
from aiorbd._native.marshal import utc
from aiorbd._native.table import ImageOwner
from aiorbd.error_codes import error_for
from aiorbd.errors import Target
from aiorbd.models import Layout

if TYPE_CHECKING:
    from aiorbd._core.pool_handle import PoolHandle
    from aiorbd._image.quiesce import QuiesceHandle

logger = logging.getLogger("aiorbd")


class ImageHandle(Handle, ImageOwner):
    """A native image (``rbd_image_t``), and the calls that take it.

    Attributes:
        size: The known size in bytes: see `ImageSize`.
        image_address: The address of the bridge's object for the image, while the image is open.
        strays: Whether cancelled writes may still be in flight: see `Strays`.
    """

    closes_with = "rbd_aio_close"

    size: int
    image_address: int
    strays: bool

    def __init__(self, ioctx: "PoolHandle", spec: str) -> None:
        super().__init__(ioctx.bridge, ioctx, Target("image", f"image {spec!r}"))
        self.lib: Any = loader.bridge()
        #: The bridge's object for the image; None before the image is open.
        self.native: Any = None
        #: The gate of the image; None before the image is open.
        self.gate: Gate | None = None
        #: Closes the image, while the image is idle and stays open only for the next caller; None otherwise.
        self.evict: Callable[[], Awaitable[None]] | None = None
        self.image_size: ImageSize = ImageSize(self)
        self.maintenance: Maintenance = Maintenance(self)
        self.requests: Requests = Requests(self)
        self.durability: Durability = Durability(self)
        #: The handle of the image's pool, for calls on that pool.
        self.ioctx: PoolHandle = ioctx
        #: The place where librbd stores the image when the open completes, even if no task waits any more.
        self.opened: Any = bridge_ffi.new("void **")
        #: Waits for an entry of the operation table; None where a task can await the entry directly.
        self.park: Callable[[Parked], Awaitable[None]] | None = (
            ioctx.bridge.loop.park if ioctx.bridge.loop.native is None else None
        )
        self._token = 0
        #: Sends questions to the cluster for tasks that wait for updates: see `Prober`.
        self.prober: Prober = Prober(self)
        #: The sources to notify of header changes.
        self.watchers: weakref.WeakSet[Source] = weakref.WeakSet()
        self.image_id: str = ""
        #: The name that the image had when it was opened; None until then.
        self.image_name: str | None = None
        self.layout: Layout = Layout(1, 1, 1, "", -1, utc(0))
        #: Whether librbd caches reads; None until a call has asked.
        self.caches_reads: bool | None = None
        self.asking_policy: anyio.Lock = anyio.Lock()
        #: librbd's watch for quiesce requests; None before the first `QuiesceWatch`.
        self.quiesce: QuiesceHandle | None = None
        self.starting_quiesce: anyio.Lock = anyio.Lock()
        #: Whether librbd decrypts the data of this handle.
        self.encrypted: bool = False
        #: Whether the encryption was formatted and not loaded, as librbd leaves a clone: no request may reach librbd.
        self.must_load: bool = False
        #: The bytes of the encryption's header, which the size of the image leaves out.
        self.header: int = 0

    def place(self) -> Place:
        """Return the pool, the namespace and the name of the image, for the observers."""
        return self.ioctx.place()._replace(image=self.image_name)

    def raise_for(self, code: int, operation: str, on: Target | None = None) -> int:
        """Like `Handle.raise_for`, but explain EROFS for an image that is open for writing.

        For such an image, EROFS means that librbd does not get the exclusive lock.
        """
        mine = on is None or (on.kind != "lock" and str(self.target) in str(on))
        if code == -errno.EROFS and mine and not self.image_size.may_refuse_writes:
            message = "another client keeps the exclusive lock, or the image is not primary"
            raise error_for(code, operation, Target("lock", str(on or self.target)), message)
        return super().raise_for(code, operation, on)

    # -- opening -------------------------------------------------------------------------------

    async def open(self, ioctx: "PoolHandle", name: bytes, snapshot: bytes, *, by_id: bool, read_only: bool) -> None:
        """Open the image in librbd."""
        self.image_size.may_refuse_writes = read_only
        function = "rbd_aio_open" + ("_by_id" if by_id else "") + ("_read_only" if read_only else "")
        arguments = ioctx.pointer, name, by_id, snapshot or bridge_ffi.NULL, read_only, self.opened
        self.check()
        await self.bridge.loop.checkpoint_if_cancelled()
        queue = self.bridge.queue
        job = RbdAioCall(
            self, function, lambda token: self.lib.aiorbd_open(queue, token, *arguments), self.opened, group=self.opens
        )
        self.raise_for(await self.bridge.call(job), function)
        self.check()  # raises if a close has begun: then `shut` closes the image
        self.take(self.opened[0])
        self._make_native()

    @property
    def opens(self) -> Hashable:
        """The thread group of calls that open an image. Hung calls of the pool do not hold up this group."""
        return "opens", self.group

    def take_part(self) -> None:
        """Add the open image to its gate. From now on, its calls enter the gate."""
        place = self.ioctx.pool_id, self.ioctx.namespace, self.image_id or ("format 1", str(self.target))
        self.gate = gate_of(self.bridge, place)
        self.gate.add(self)

    def _make_native(self) -> None:
        if self.native is None:
            self._token = self.bridge.listen(self._updated)
            native = self.lib.aiorbd_image_new(self.bridge.queue, self.opened[0], self.ioctx.idle, self._token)
            if not native:
                self.bridge.unlisten(self._token)
                raise MemoryError
            self.native = native
            self.image_address = int(bridge_ffi.cast("uintptr_t", native))

    def _updated(self) -> None:
        """Tell the watchers about one or more changes of the header. Runs on the event loop."""
        for source in tuple(self.watchers):
            source.notify()

    async def find_place(self, code: int = -errno.ENOENT) -> None:
        """Have a worker thread check that the pools exist, after a call on the event loop failed with `code`."""
        await self.ioctx.let_look(self, code)

    def require_place(self, operation: str) -> None:
        """Raise if the pool or the data pool was deleted. Any thread may call this."""
        self.ioctx.require_place(operation)
        if self.layout.data_pool_id not in (-1, self.ioctx.pool_id):
            self.ioctx.require_pool(self.layout.data_pool_id, operation)

    # -- the gate ------------------------------------------------------------------------------

    async def enter(self, function: str) -> Callable[[], None] | None:
        """Wait until a C function may run on this image. See `Gate.enter`."""
        return await self.pass_gate(mode_of(function), nested=function in NESTED)

    def thread_group(self, function: str, also: Iterable[Lifecycle], *, long: bool) -> Hashable:
        """Return the thread group of a call. Calls that may last for hours have threads of their own."""
        if function == "rbd_lock_acquire":  # waits for other clients, and must not hold up other calls
            return "locks", self.group
        return super().thread_group(function, also, long=bool(mode_of(function) & (Mode.LONG | Mode.OBJECTS)))

    def begin_close(self) -> None:
        """Begin to close, and wake the calls that wait at the gate."""
        super().begin_close()
        if self.gate is not None:
            self.gate.wake()

    async def pass_gate(self, mode: Mode, *, nested: bool = False) -> Callable[[], None] | None:
        """Wait until a call may run in `mode`, and return a function that leaves the gate. See `Gate.enter`."""
        return None if self.gate is None else await self.gate.enter(self, mode, nested=nested)

    def bar(self, *, barred: bool) -> None:
        """Refuse new reads, writes and flushes, or admit them again."""
        if self.native is not None:
            self.lib.aiorbd_image_bar(self.native, barred)

    @property
    def barred(self) -> bool:
        """Whether new reads, writes and flushes are refused."""
        return self.native is not None and bool(self.lib.aiorbd_image_is_barred(self.native))

    async def make_durable(self) -> None:
        """Make the written data durable, before the handle closes."""
        await self.durability.make_durable()

    def is_dirty(self) -> bool:
        """Return whether it is unknown if all writes are durable."""
        return self.durability.is_dirty()

    # -- closing -------------------------------------------------------------------------------

    def shut(self) -> None:
        """Stop listening for updates, then close the image. After a failed open, there is nothing to close."""
        if not self.opened[0]:
            self.closed()
            return
        if self.native is None:  # the open was cancelled
            self._make_native()
        self.bridge.start(RbdAioCall(self, "rbd_aio_close", self._close, then=self._gone, group=URGENT))

    def _close(self, token: int) -> int:
        """Stop the watch, and submit the close. Runs on a worker thread."""
        self.lib.aiorbd_image_unwatch(self.native)
        code: int = self.lib.aiorbd_close(self.native, token)
        return code

    def _gone(self, job: RbdAioCall) -> None:
        """Release the image after librbd's close. Runs on the event loop.

        librbd has freed the image, even if the close reports an error. Only a refused close leaves the image open.
        """
        if job.refused:  # no memory: the image is still open, and the next call of `close` tries again
            self.shut_failed()
            logger.error("closing %s: librbd refused the call: %s", self.target, job.error or os.strerror(-job.result))
            return
        self.durability.note_closed()
        self.bridge.unlisten(self._token)
        self.image_address = 0
        self.lib.aiorbd_image_release(self.native)
        self.native = None
        self.opened[0] = bridge_ffi.NULL
        self.closed(job.result, "rbd_aio_close")
