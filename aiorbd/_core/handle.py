"""How every call of C is made: on the loop, on a worker thread, with progress, with a result.

A handle stands for one native object. Each helper takes the name of the C function, its arguments after
the handle's own, and what the call is about; it keeps alive what C uses, turns negative results into
exceptions, and treats cancellation alike.
"""

import errno
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from anyio.lowlevel import checkpoint

from aiorbd._core.async_calls import RadosAioCall
from aiorbd._core.lifecycle import Lifecycle
from aiorbd._core.listing import Listing
from aiorbd._core.operation import Job
from aiorbd._core.progress import Progress, ProgressJob
from aiorbd._native import loader
from aiorbd._native.loader import ffi
from aiorbd._native.marshal import grow, grow_string, require_callable
from aiorbd.errors import Subject, Target, error_for

if TYPE_CHECKING:
    from aiorbd._native.c_functions import CFunction

T = TypeVar("T")

#: Called on a worker thread with what a C function returned: raises when it knows the reason, or returns.
Why: TypeAlias = Callable[[int], object]

#: Items of a list that are converted in one pass of the loop.
PAGE: Final = 256


class Handle(Lifecycle):
    """A native object and the calls that take it."""

    #: When a thread last looked whether its place is there, after calls that succeed without it.
    looked: float = 0.0

    def about(self, kind: Subject, label: str) -> Target:
        """Name something that belongs to this, for errors: "lock 'a' of image 'rbd/vm-1'"."""
        return Target(kind, f"{label} of {self.target}")

    def raise_for(self, code: int, operation: str, on: Target | None = None) -> int:
        """Return what a C function returned, or raise when it is an error. Any thread."""
        if code < 0:
            if code == -errno.ESHUTDOWN:
                self.bridge.lose()
            return self.raise_only(code, operation, on)
        return code

    def raise_only(self, code: int, operation: str, on: Target | None = None) -> int:
        """Like `raise_for`, but draw no conclusions for the connection. Any thread."""
        if code < 0:
            self.require_place(operation)
            raise error_for(code, operation, on or self.target)
        return code

    def explain(self, code: int, operation: str, why: Why | None) -> None:
        """On a worker thread: raise if a C function failed, and `why` knows the reason."""
        if code < 0 and code != -errno.ESHUTDOWN and why is not None:
            self.require_place(operation)
            why(code)

    def raise_on_thread(self, code: int, operation: str, on: Target | None = None, why: Why | None = None) -> int:
        """On a worker thread: like `raise_for`, but ask Ceph for the reason."""
        self.explain(code, operation, why)
        return self.raise_for(code, operation, on)

    def require_place(self, operation: str) -> None:
        """Any thread: raise when that is gone in which the object was, as a pool. The loop's thread only remembers."""

    async def find_place(self, code: int = -errno.ENOENT) -> None:
        """After a call of the loop's that failed so: let a thread look whether the place is there, and remember it."""

    def require_all(self) -> None:
        """On a worker thread: like `require_place`, and ask Ceph where librados does not know."""
        self.require_place("rados_pool_reverse_lookup")

    def thread_group(self, function: str, also: Iterable[Lifecycle], *, long: bool) -> Hashable:
        """Return the group of calls that share a bound on threads with this one; None for the pool's own."""
        return ("long", frozenset(handle.group for handle in (self, *also))) if long else None

    async def enter(self, function: str) -> Callable[[], None] | None:
        """Wait until a C function may run beside what runs; return the function to be called when it is over."""
        return None

    async def start_with(self, function: str, make: Callable[[Callable[[], None] | None], Job[T]]) -> Job[T]:
        """Wait until a C function may run, and make its job."""
        self.check()
        await self.bridge.loop.checkpoint_if_cancelled()
        leave = await self.enter(function)
        try:
            return make(leave)
        except BaseException:
            if leave is not None:
                leave()
            raise

    async def run(
        self,
        operation: str,
        function: Callable[[], T],
        *,
        on: Target | None = None,
        also: Iterable[Lifecycle] = (),
        group: Hashable = None,
    ) -> T:
        """Run a blocking function on a worker thread. Cancellation leaves it running there.

        It is not begun when the task is in a cancelled scope already. `operation` is the C function, for the counts
        and the observers. Handles that it uses beside this one go into `also`. `group` shares a bound on threads.
        """
        group = group or self.thread_group(operation, also, long=False)

        def call() -> T:
            result = function()
            self.require_place(operation)  # without a pool, much looks like success
            return result

        return await self.bridge.call(
            await self.start_with(
                operation, lambda leave: Job(self, operation, call, on=on, also=also, ended=leave, group=group)
            )
        )

    async def call(
        self,
        function: "CFunction",
        *arguments: Any,
        on: Target | None = None,
        also: Iterable[Lifecycle] = (),
        first: Callable[[], object] | None = None,
        why: Why | None = None,
    ) -> int:
        """Call one C function, which blocks and takes this handle first, on a worker thread.

        `first` is called there just before it, and may raise. `why` is called there when the C function failed, with
        what it returned; it raises when it knows the reason.
        """
        c_function = getattr(loader.library_of(function), function)

        def call() -> int:
            if first is not None:
                first()
            code = c_function(self.pointer, *arguments)
            return self.raise_on_thread(code, function, on, why)

        return await self.run(function, call, on=on, also=also)

    async def call_with_progress(
        self,
        function: "CFunction",
        *arguments: Any,
        progress: Progress | None,
        on: Target | None = None,
        ended: Callable[[], None] | None = None,
        begin: Callable[[], None] | None = None,
        after: tuple[Any, ...] = (),
        also: Iterable[Lifecycle] = (),
        first: Callable[[], object] | None = None,
        why: Why | None = None,
        stoppable: bool = True,
    ) -> int:
        """Call one C function like `call`; a progress callback and its argument go last, but for `after`.

        `progress` is called on the loop. When the awaiting task is cancelled, librbd is asked to stop,
        if that is `stoppable`.
        `begin` and `ended` are called on the loop: before the call, and when it is over, whoever still waits;
        `first` and `why` on the thread, like those of `call`.
        """
        require_callable(progress, "progress")
        c_function = getattr(loader.library_of(function), function)
        also = tuple(also)
        # Of a copy to another cluster nobody knows which of the two cut its client off.
        elsewhere = any(handle.bridge is not self.bridge for handle in also)
        check = self.raise_only if elsewhere else self.raise_for

        def call(callback: Any, argument: Any) -> int:
            if first is not None:
                first()
            code = c_function(self.pointer, *arguments, callback, argument, *after)
            self.explain(code, function, why)
            check(code, function, on)
            self.require_place(function)
            return int(code)

        def make(leave: Callable[[], None] | None) -> ProgressJob[int]:
            def over() -> None:
                try:
                    if ended is not None:
                        ended()
                finally:
                    if leave is not None:
                        leave()

            group = self.thread_group(function, also, long=True)
            return ProgressJob(
                self, function, call, progress, on=on, ended=over, also=also, stoppable=stoppable, group=group
            )

        job = await self.start_with(function, make)
        if begin is not None:
            begin()
        return await self.bridge.call(job)

    async def get(
        self,
        function: "CFunction",
        out_type: str,
        *arguments: Any,
        on: Target | None = None,
        first: Callable[[], object] | None = None,
    ) -> Any:
        """Call one C function like `call`, and return what it put into its last argument."""
        out = ffi.new(out_type)
        await self.call(function, *arguments, out, on=on, first=first)
        return out[0]

    async def get_string(
        self, function: "CFunction", *arguments: Any, size_type: str | None = None, on: Target | None = None
    ) -> str:
        """Call one C function that fills a buffer with a string; buffer and size go last.

        The size goes as a number, or as a pointer when `size_type` is one.
        """
        c_function = getattr(loader.library_of(function), function)

        def call(buffer: Any, size: int) -> int:
            code: int = c_function(self.pointer, *arguments, buffer, ffi.new(size_type, size) if size_type else size)
            return code

        return await self.run(
            function, lambda: grow_string(call, lambda code: self.raise_on_thread(code, function, on)), on=on
        )

    def listing(
        self,
        function: "CFunction",
        item_type: str,
        cleanup: str,
        convert: Callable[..., T],
        *,
        returns_count: bool = False,
        on: Target | None = None,
        when_empty: Callable[[], object] | None = None,
        examine: Callable[[Any, int], Sequence[Any]] | None = None,
    ) -> Listing[T]:
        """Iterate over what one C function puts into an array; the array and its count go last.

        The count comes back in its place, or, with `returns_count`, is what the function returns. `cleanup`
        is the C function that frees what is in the array; it takes the count, too, except with
        `returns_count`. C gives it all at once, on a worker thread. It is converted here page by page, since
        a thread that runs Python holds up the loop, and freed with the iterator. `when_empty` is called
        on the worker thread when there is nothing. `examine` is called there with the array and the count, and returns
        one thing for each item, which `convert` gets as well; None leaves the item out.
        """
        items: Any = None
        owner: Any = None
        notes: Sequence[Any] | None = None
        count = at = 0

        def read(size: int) -> tuple[int, Any]:
            library = loader.library_of(function)
            array, out = ffi.new(f"{item_type}[]", size), ffi.new("int *" if returns_count else "size_t *", size)
            code = getattr(library, function)(self.pointer, array, out)
            if code == -errno.ERANGE:
                return code, None
            self.raise_on_thread(code, function, on)
            number = code if returns_count else out[0]
            if when_empty is not None and not number:
                when_empty()
            free, rest = getattr(library, cleanup), () if returns_count else (number,)
            # The pointer frees what C put into the items, when it goes: however the iteration ends.
            kept = ffi.gc(array + 0, lambda _: free(array, *rest)) if number else None
            return code, (array, number, kept, None if examine is None else examine(array, number))

        async def next_page() -> list[T]:
            nonlocal items, owner, notes, count, at
            if items is None:
                items, count, owner, notes = await self.run(function, lambda: grow(read, PAGE), on=on)
            else:
                await checkpoint()
            page: list[T] = []
            while not page and at < count:  # an empty page is the end
                first, at = at, min(at + PAGE, count)
                if notes is None:
                    page = [convert(items[index]) for index in range(first, at)]
                else:
                    page = [convert(items[i], notes[i]) for i in range(first, at) if notes[i] is not None]
            return page

        return Listing(next_page)

    async def submit_rados(
        self,
        function: str,
        submit: Callable[[Any], int],
        keep: object = None,
        *,
        on: Target,
        cancel: Callable[[Any], object] | None = None,
        ended: Callable[[int], None] | None = None,
    ) -> int:
        """Submit one operation of librados's, wait for it, and return what its completion says."""
        self.check()
        await self.bridge.loop.checkpoint_if_cancelled()
        code = await self.bridge.call(RadosAioCall(self, function, submit, keep, on=on, cancel=cancel, ended=ended))
        if code < 0:
            await self.find_place(code)
        return self.raise_for(code, function, on)
