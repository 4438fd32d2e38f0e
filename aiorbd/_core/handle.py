"""The helpers that make every call of C: on the event loop, on a worker thread, with progress, with a result.

A handle stands for one native object. Each helper takes the name of the C function, the arguments after the handle, and
the target that errors name. Each helper keeps C's memory alive, raises for negative results, and treats cancellation
the same way.
"""

import errno
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from anyio.lowlevel import checkpoint

from aiorbd._core.async_calls import RadosAioCall
from aiorbd._core.lifecycle import Lifecycle
from aiorbd._core.listing import Listing
from aiorbd._core.operation import Job
from aiorbd._native import loader
from aiorbd._native.loader import ffi
from aiorbd._native.marshal import grow, grow_string
from aiorbd.error_codes import error_for
from aiorbd.errors import Subject, Target

if TYPE_CHECKING:
    from aiorbd._native.c_functions import CFunction

T = TypeVar("T")

#: A function that gets a C function's error code on a worker thread, and raises if it knows the reason.
Why: TypeAlias = Callable[[int], object]

#: The number of list items to convert in one pass of the event loop.
PAGE: Final = 256


class Handle(Lifecycle):
    """A native object and the calls that take the object."""

    #: The last time when a thread checked that the place exists, for calls that succeed even without the place.
    looked: float = 0.0

    def about(self, kind: Subject, label: str) -> Target:
        """Return the target of a part of this object, for errors: "lock 'a' of image 'rbd/vm-1'"."""
        return Target(kind, f"{label} of {self.target}")

    def raise_for(self, code: int, operation: str, on: Target | None = None) -> int:
        """Return a C function's result, or raise if the result is an error. Any thread may call this."""
        if code < 0:
            if code == -errno.ESHUTDOWN:
                self.bridge.lose()
            return self.raise_only(code, operation, on)
        return code

    def raise_only(self, code: int, operation: str, on: Target | None = None) -> int:
        """Like `raise_for`, but do not mark the connection as blocklisted. Any thread may call this."""
        if code < 0:
            self.require_place(operation)
            raise error_for(code, operation, on or self.target)
        return code

    def explain(self, code: int, operation: str, why: Why | None) -> None:
        """Raise if a C function failed and `why` knows the reason. Runs on a worker thread."""
        if code < 0 and code != -errno.ESHUTDOWN and why is not None:
            self.require_place(operation)
            why(code)

    def raise_on_thread(self, code: int, operation: str, on: Target | None = None, why: Why | None = None) -> int:
        """Like `raise_for`, but first ask Ceph for the reason. Runs on a worker thread."""
        self.explain(code, operation, why)
        return self.raise_for(code, operation, on)

    def require_place(self, operation: str) -> None:
        """Raise if the place that contains the object is gone, for example its pool. Any thread may call this.

        On the event loop's thread, only remembered findings of other threads count.
        """

    async def find_place(self, code: int = -errno.ENOENT) -> None:
        """Have a worker thread check that the place exists, and remember the result.

        Called after a call on the event loop failed with `code`.
        """

    def require_all(self) -> None:
        """Like `require_place`, but ask Ceph if librados does not know. Runs on a worker thread."""
        self.require_place("rados_pool_reverse_lookup")

    def thread_group(self, function: str, also: Iterable[Lifecycle], *, long: bool) -> Hashable:
        """Return the group of calls that share a limit on worker threads with this call.

        None stands for the group of the pool.
        """
        return ("long", frozenset(handle.group for handle in (self, *also))) if long else None

    async def enter(self, function: str) -> Callable[[], None] | None:
        """Wait until a C function may run beside the running calls.

        Return a function to call when the C function has ended.
        """
        return None

    async def start_with(self, function: str, make: Callable[[Callable[[], None] | None], Job[T]]) -> Job[T]:
        """Wait until a C function may run, and create its job."""
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
        """Run a blocking function on a worker thread. After a cancellation, the function continues there.

        The function does not begin if the task is already in a cancelled scope. `operation` is the C function, for the
        counts and the observers. `also` names further handles that the function uses. Calls with the same `group` share
        a limit on worker threads.
        """
        group = group or self.thread_group(operation, also, long=False)

        def call() -> T:
            result = function()
            self.require_place(operation)  # without the pool, many calls look successful
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
        """Call one blocking C function on a worker thread. This handle is the first argument.

        `first` is called on that thread just before the C function, and may raise. If the C function fails, `why` is
        called there with the return value. `why` raises if it knows the reason.
        """

        def call() -> int:
            c_function = getattr(loader.library_of(function), function)
            if first is not None:
                first()
            code = c_function(self.pointer, *arguments)
            return self.raise_on_thread(code, function, on, why)

        return await self.run(function, call, on=on, also=also)

    async def get(
        self,
        function: "CFunction",
        out_type: str,
        *arguments: Any,
        on: Target | None = None,
        first: Callable[[], object] | None = None,
    ) -> Any:
        """Call one C function like `call`, and return the value of its last argument, an out-parameter."""
        out = ffi.new(out_type)
        await self.call(function, *arguments, out, on=on, first=first)
        return out[0]

    async def get_string(
        self, function: "CFunction", *arguments: Any, size_type: str | None = None, on: Target | None = None
    ) -> str:
        """Call one C function that fills a buffer with a string, and return the string.

        The buffer and its size are the last arguments. The size is passed as a number, or, if `size_type` is given, as
        a pointer of that type.
        """

        def call(buffer: Any, size: int) -> int:
            c_function = getattr(loader.library_of(function), function)
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
        before: tuple[Any, ...] = (),
        sized: bool = False,
        count_type: str = "size_t *",
        returns_count: bool = False,
        on: Target | None = None,
        when_empty: Callable[[], object] | None = None,
        examine: Callable[[Any, int], Sequence[Any]] | None = None,
    ) -> Listing[T]:
        """Iterate over the array that one C function fills. The array and its count are the last arguments.

        `before` are the arguments between the handle and the array. With `sized`, the size of an item follows the
        array, also for `cleanup`. The C function returns the count in the same argument, or, with `returns_count`, as
        its return value. `cleanup` is the C function that frees the contents of the array. `cleanup` also takes the
        count, except with `returns_count`.

        C fills the whole array at once, on a worker thread. The event loop converts the array page by page, because a
        worker thread that runs Python delays the loop. The array is freed with the iterator.

        `when_empty` is called on the worker thread if the array is empty. `examine` is called there with the array and
        the count, and returns one note for each item. `convert` takes the item and its note. An item with the note None
        is left out.
        """
        size_of_item = (ffi.sizeof(item_type),) if sized else ()
        items: Any = None
        owner: Any = None
        notes: Sequence[Any] | None = None
        count = at = 0

        def read(size: int) -> tuple[int, Any]:
            library = loader.library_of(function)
            array, out = ffi.new(f"{item_type}[]", size), ffi.new("int *" if returns_count else count_type, size)
            code = getattr(library, function)(self.pointer, *before, array, *size_of_item, out)
            if code == -errno.ERANGE:
                return code, None
            self.raise_on_thread(code, function, on)
            number = code if returns_count else out[0]
            if when_empty is not None and not number:
                when_empty()
            free, rest = getattr(library, cleanup), () if returns_count else (*size_of_item, number)
            # The garbage collection of this pointer frees the contents of the items, however the iteration ends.
            kept = ffi.gc(array + 0, lambda _: free(array, *rest)) if number else None
            return code, (array, number, kept, None if examine is None else examine(array, number))

        async def next_page() -> list[T]:
            nonlocal items, owner, notes, count, at
            if items is None:
                items, count, owner, notes = await self.run(function, lambda: grow(read, PAGE), on=on)
            else:
                await checkpoint()
            page: list[T] = []
            while not page and at < count:  # an empty page would end the iteration
                first, at = at, min(at + PAGE, count)
                if notes is None:
                    page = [convert(items[index]) for index in range(first, at)]
                else:
                    page = [convert(items[i], notes[i]) for i in range(first, at) if notes[i] is not None]
            return page

        return Listing(f"{function} on {on or self.target}", next_page)

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
        """Submit one librados request, wait for the completion, and return the completion's value."""
        self.check()
        await self.bridge.loop.checkpoint_if_cancelled()
        code = await self.bridge.call(RadosAioCall(self, function, submit, keep, on=on, cancel=cancel, ended=ended))
        if code < 0:
            await self.find_place(code)
        return self.raise_for(code, function, on)
