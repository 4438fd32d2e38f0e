"""The cancellation matrix: every kind of operation, at every moment, on every loop, with the OSD paused and running.

In each cell the wait must end at once and use no CPU. The task gets only its own cancellation. The operation stays
counted until Ceph is done with it. Afterwards every call works, and no operation is left.
"""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from fix_cancel import KINDS, LONG, ONCE, SIZE, new_subject, settled
from fix_lag import took
from helpers import BACKENDS, new_name

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
async def shared_subject(own_cluster: DevCluster, anyio_backend: Any) -> AsyncIterator[Any]:
    """Share one subject among all tests on a loop: after any cancellation, the next operation works."""
    async with aiorbd.connect(own_cluster.conffile, timeout=30) as cluster, cluster.open_ioctx("rbd") as ioctx:
        subject = await new_subject(cluster, ioctx, new_name())
        yield subject
        await subject.image.close()


@pytest.fixture
async def subject(shared_subject: Any, osd: DevCluster, kind: Any) -> AsyncIterator[Any]:
    """Prepare the operation. Afterwards check that no operation is left and that reading works."""
    subject = shared_subject
    await subject.prepare(kind)
    try:
        yield subject
        osd.resume()
        await settled(subject.cluster, subject.image, subject.ioctx)
        assert await subject.image.read(4096, 4) == b"aaaa"
    finally:
        osd.resume()
        await subject.close_what_was_prepared()
    if kind == "open":  # wait until the abandoned open has closed its image
        with anyio.fail_after(30):
            while subject.cluster.stats.in_flight:
                await anyio.sleep(0.005)
    assert subject.cluster.stats.abandoned == 0


def at_once() -> Any:
    """Check that the block takes hardly any time and hardly any CPU."""
    return took(0.2, cpu=0.1)


@pytest.fixture(params=["paused", "running"])
def state(request: pytest.FixtureRequest, osd: DevCluster, subject: Any) -> Any:
    if request.param == "paused":
        osd.pause()
    return request.param


async def test_operation_in_a_cancelled_scope_ends_at_once(subject: Any, state: Any, kind: Any) -> None:
    """Run the operation in an already cancelled scope: it ends at once, and no change starts."""
    before = subject.cluster.stats.operations
    with at_once(), anyio.CancelScope() as scope:
        scope.cancel()
        _, call = KINDS[kind](subject)
        await call
    if kind == "close":  # a close starts at once and continues by itself
        return
    # A read may be submitted before the first wait, where the task gets its cancellation. It may complete by then.
    assert scope.cancelled_caught or (kind, state) == ("read", "running")
    begun = {
        name: figures.count - (before[name].count if name in before else 0)
        for name, figures in subject.cluster.stats.operations.items()
    }
    if kind != "read":
        assert subject.cluster.stats.in_flight == 0
        assert not any(begun.values()), begun


async def test_cancelled_operation_in_flight_ends_at_once_and_stays_counted(
    subject: Any, state: Any, kind: Any
) -> None:
    handle, call = KINDS[kind](subject)
    ended = []
    with contextlib.ExitStack() as end:
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                try:
                    await call
                finally:
                    ended.append(True)

            tasks.start_soon(wait)
            await anyio.sleep(0.1 if state == "paused" else 0)
            if state == "paused" or kind in LONG:
                assert not ended
            if state == "paused":
                with took(0.2, cpu=0.08):
                    await anyio.sleep(0.1)
                assert handle is None or handle.in_flight >= 1
            end.enter_context(took(0.2))
            tasks.cancel_scope.cancel()
    assert ended
    if state == "paused" and kind not in {"rados", "watch"}:  # librados can cancel its operation; watching is no call
        assert (handle or subject.cluster.stats).in_flight >= 1  # it continues in Ceph and still uses its buffers


async def test_cancellation_that_meets_the_completion_has_one_winner(
    subject: Any, state: Any, kind: Any, osd: DevCluster
) -> None:
    """The cancellation and the completion meet: one of them wins, with no other effect."""
    outcomes, wanted = set(), {True} if kind in LONG else {True, False}
    for number in range(60):
        _handle, call = KINDS[kind](subject)
        # A clone may be flattened, or librbd may have stopped, before the cancellation.
        with contextlib.suppress(*((aiorbd.OperationCanceled,) if kind == "progress" else ())):
            # Each try waits twice as long as the one before. Kinds that cannot be repeated have one try.
            seconds = 0.002 if kind in ONCE else 0.0001 * 2 ** (number % 12) if number % 12 else 0
            with anyio.move_on_after(seconds) as scope:
                if state == "paused":  # the operation is in flight when the OSD resumes
                    osd.resume()
                await call
        outcomes.add(scope.cancelled_caught)
        if kind in ONCE or (number >= 11 and outcomes == wanted):
            return
        if state == "paused":
            osd.pause()
    pytest.fail(f"always the same: {outcomes}")


async def test_cancellation_after_the_completion_hits_the_next_await(subject: Any, kind: Any) -> None:
    """With the result there, a cancellation affects only the next await."""
    if kind in LONG:
        with anyio.move_on_after(0.5):  # news without a waiting task are a result too
            await subject.image.resize(2 * SIZE)
            await anyio.sleep(0.1)
    _, call = KINDS[kind](subject)
    reached = False
    with anyio.CancelScope() as scope:
        await call
        reached = True
        scope.cancel()
        await anyio.sleep(1)
    assert reached
    assert scope.cancelled_caught
    await settled(subject.image)


async def test_second_cancellation_changes_nothing(subject: Any, state: Any, kind: Any) -> None:
    """A second cancellation changes nothing while the task still handles the first one."""
    _, call = KINDS[kind](subject)
    with took(0.5, cpu=0.1), anyio.CancelScope() as outer:
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                with anyio.CancelScope() as inner:
                    scopes.append(inner)
                    await call

            scopes: list[Any] = []
            tasks.start_soon(wait)
            await anyio.sleep(0.05 if state == "paused" else 0)
            for scope in scopes:
                scope.cancel()
            outer.cancel()
            outer.cancel()


async def test_deadline_of_a_scope_ends_the_wait(subject: Any, osd: DevCluster, kind: Any) -> None:
    osd.pause()
    _, call = KINDS[kind](subject)
    with took(0.45, at_least=0.25, cpu=0.1), pytest.raises(TimeoutError), anyio.fail_after(0.25):
        await call


async def test_results_reach_their_own_awaiter(shared_subject: Any, osd: DevCluster) -> None:
    """With half of the reads cancelled, each of the others still gets its own bytes."""
    image = shared_subject.image
    for number in range(64):
        await image.write(bytes([number + 1]) * 512, number * 512)
    await image.flush()
    got: dict[Any, Any] = {}

    async def read(number: int) -> None:
        with anyio.CancelScope() as scope:
            scopes[number] = scope
            got[number] = await image.read(number * 512, 512)

    scopes: dict[Any, Any] = {}
    osd.pause()
    async with anyio.create_task_group() as tasks:
        for number in range(64):
            tasks.start_soon(read, number)
        await anyio.sleep(0.1)
        for number in range(0, 64, 2):
            scopes[number].cancel()
        await anyio.sleep(0.05)
        osd.resume()
    assert sorted(got) == list(range(1, 64, 2))
    assert all(data == bytes([number + 1]) * 512 for number, data in got.items())
    await image.write(b"a" * (1 << 20), 0)


# -- asyncio's own cancellation -------------------------------------------------------------------


@pytest.mark.parametrize(
    "anyio_backend", [backend for backend in BACKENDS if backend.id != "trio"], indirect=True, scope="module"
)
async def test_task_cancel_leaves_no_unretrieved_exception(subject: Any, state: Any, kind: Any) -> None:
    """Call `Task.cancel` once and twice: asyncio reports no exception that was never retrieved."""
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    for times in (1, 2):
        if (kind, times) == ("close", 2):
            break
        _, call = KINDS[kind](subject)
        task = asyncio.ensure_future(call)
        await asyncio.sleep(0.05 if state == "paused" else 0)
        with at_once():
            for _ in range(times):
                task.cancel()
            await asyncio.wait([task])
        if state == "paused" or kind in LONG:
            assert task.cancelled()
        elif not task.cancelled() and task.exception() is not None:
            assert kind == "progress"
        del task
    gc.collect()
    await asyncio.sleep(0)
    assert not complaints
    asyncio.get_running_loop().set_exception_handler(None)
