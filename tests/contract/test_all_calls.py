"""Rules for every call.

Calls on closed objects and from other event loops are refused before C runs. Calls in a cancelled scope start nothing.
"""

import inspect
import re
from typing import Any

import anyio
import pytest
import sniffio
from fix_samples import ENDLESS, SAMPLES

import aiorbd

pytestmark = pytest.mark.anyio


def test_every_call_has_a_sample() -> None:
    """The check covers all calls that are awaited or iterated over. Opening, closing and waiting have other tests."""
    own = {"close", "evict_image", "drain", "aclose", "__aenter__", "__aexit__", "seek", "tell"}
    found = set()
    for name in aiorbd.__all__:
        cls = getattr(aiorbd, name)
        if not isinstance(cls, type) or cls in (aiorbd.Opening, aiorbd.Listing, aiorbd.DiffReader):  # of no connection
            continue
        for attribute in dir(cls):
            function = inspect.getattr_static(cls, attribute)
            mine = (getattr(function, "__module__", None) or "").startswith("aiorbd")
            waits = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
            opens = re.search("Opening|Listing", str(getattr(function, "__annotations__", {}).get("return", "")))
            private = attribute.startswith("_") and attribute != "__anext__"
            if mine and not private and attribute not in own and (waits or opens):
                found.add(f"{name}.{attribute}")
    assert found - {"Diff.__anext__"} <= set(SAMPLES), sorted(found - set(SAMPLES))
    assert set(SAMPLES) - found <= {"Diff.__anext__"}


async def test_closed_objects_refuse_every_call(subjects: Any) -> None:
    await subjects.cluster.close(timeout=20)
    for name, call in SAMPLES.items():
        if name in ENDLESS:
            with pytest.raises(StopAsyncIteration):
                assert await call(subjects) is None, name
                raise StopAsyncIteration
        else:
            with pytest.raises(aiorbd.ClosedError, match=r"is closed|have ended"):
                await call(subjects)
                pytest.fail(name)


async def test_another_loop_is_refused(subjects: Any) -> None:
    refused, wrong = [], {}

    async def elsewhere() -> None:
        for name, call in SAMPLES.items():
            try:
                wrong[name] = await call(subjects)
            except aiorbd.WrongLoopError:
                refused.append(name)

    other = "asyncio" if sniffio.current_async_library() == "trio" else "trio"
    await anyio.to_thread.run_sync(lambda: anyio.run(elsewhere, backend=other))
    assert refused == list(SAMPLES)
    assert wrong == {}
    assert await subjects.image.read(0, 1) == b"\0"


async def test_calls_in_a_cancelled_scope_start_nothing(subjects: Any) -> None:
    """The calls change nothing and leave no entry in the operation table."""
    await subjects.log.close()  # otherwise the sample that opens a log is refused
    before = await subjects.image.features(), [s.id async for s in subjects.image.snapshots()]
    for name, call in SAMPLES.items():
        with anyio.CancelScope() as scope:
            scope.cancel()
            await call(subjects)
            pytest.fail(f"{name} went on")
        assert scope.cancelled_caught, name
    with anyio.fail_after(10):
        await subjects.image.drain()
        await subjects.ioctx.drain()
        await subjects.cluster.drain()
    assert await subjects.image.read(0, 1) == b"\0"
    assert before == (await subjects.image.features(), [s.id async for s in subjects.image.snapshots()])
    assert await subjects.ioctx.list_images() == ["image"]
    assert await subjects.ioctx.objects.read("object") == b"x"
    (locker,) = await subjects.image.advisory_locks.lockers()
    assert locker.cookie.startswith("auto ")  # librbd's exclusive lock, held since the snapshot was created
