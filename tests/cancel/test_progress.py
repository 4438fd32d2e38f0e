"""Long operations report progress. Cancelling the wait stops librbd, where librbd can be stopped."""

import threading
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from fix_witness import Witness
from helpers import MakeImage, new_name

import aiorbd
from aiorbd._image import maintenance
from aiorbd._native import loader
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio

OBJECTS = 256
OBJECT = 4096
SIZE = OBJECTS * OBJECT

#: Handle one object after the other, so that a test can stop an operation half way.
CONF = {"rbd_concurrent_management_ops": "1"}


class Subject:
    """A full, open image. The function of each operation prepares everything else."""

    def __init__(self, ioctx: aiorbd.IoCtx, image: aiorbd.Image) -> None:
        self.ioctx, self.image = ioctx, image
        self.made = new_name()
        self.opened = [image]


async def removal(s: Any) -> Any:
    await s.image.close()
    return lambda progress: s.ioctx.remove_image(s.image.name, progress=progress)


async def trash_removal(s: Any) -> Any:
    image_id = s.image.id
    await s.image.close()
    await s.ioctx.trash.move(s.image.name)
    return lambda progress: s.ioctx.trash.remove(image_id, progress=progress)


async def rollback(s: Any) -> Any:
    snapshot = await s.image.create_snapshot("before")
    await s.image.write(b"later" + bytes(SIZE - 5), 0)
    return lambda progress: snapshot.rollback(progress=progress)


async def flatten(s: Any) -> Any:
    await s.image.create_snapshot("parent")
    await s.image.clone("parent", s.ioctx, s.made, clone_format=2)
    clone = await s.ioctx.open_image(s.made)
    s.opened.append(clone)
    return lambda progress: clone.flatten(progress=progress)


def plain(call: Any) -> Any:
    async def prepare(s: Any) -> Any:
        return lambda progress: call(s, progress)

    return prepare


#: Operations that librbd stops on request.
STOPPED = {
    "resize": plain(lambda s, progress: s.image.resize(OBJECT, allow_shrink=True, progress=progress)),
    "flatten": flatten,
    "remove": removal,
    "trash_remove": trash_removal,
    "sparsify": plain(lambda s, progress: s.image.sparsify(4096, progress=progress)),
    "rebuild_object_map": plain(lambda s, progress: s.image.rebuild_object_map(progress=progress)),
}
#: Operations that cannot be stopped.
UNSTOPPED = {
    "copy": plain(lambda s, progress: s.image.copy(s.ioctx, s.made, progress=progress)),
    "deep_copy": plain(lambda s, progress: s.image.deep_copy(s.ioctx, s.made, progress=progress)),
}
#: Operations that librbd could stop, but with a wrong object map as the result.
BETTER_NOT = {"rollback": rollback}
ALL = STOPPED | UNSTOPPED | BETTER_NOT


@pytest.fixture
async def cluster(aiorbd_cluster: DevCluster) -> AsyncIterator[Any]:
    async with aiorbd.connect(aiorbd_cluster.conffile, conf=CONF) as cluster:
        yield cluster


@pytest.fixture
async def make_subject(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> AsyncIterator[Any]:
    subjects = []

    async def make() -> Any:
        image = await ioctx.open_image(await make_image(SIZE, order=12))
        subjects.append(subject := Subject(ioctx, image))
        await image.write(b"".join(bytes([1 + number % 255]) * OBJECT for number in range(OBJECTS)), 0)
        await image.flush()
        return subject

    yield make
    for subject in subjects:
        for image in subject.opened:
            await image.close()


@pytest.fixture
async def subject(make_subject: Any) -> Any:
    return await make_subject()


@pytest.fixture
async def ended(cluster: aiorbd.Cluster) -> Any:
    """Return the list of completed operations, as an observer sees them."""
    ended: list[Any] = []
    cluster.add_observer(ended.append)
    return ended


@pytest.mark.parametrize("prepare", ALL.values(), ids=ALL)
async def test_progress_is_reported_on_the_loop_and_never_backwards(subject: Any, prepare: Any) -> None:
    """Reports arrive on the loop, never go backwards, are never repeated, and end with the operation."""
    operate = await prepare(subject)
    reports, threads = [], set()

    def progress(done: Any, total: int) -> None:
        reports.append((done, total))
        threads.add(threading.get_ident())

    await operate(progress)
    count = len(reports)
    await anyio.sleep(0.05)
    assert len(reports) == count
    assert threads == {threading.get_ident()}
    fractions = [done / total for done, total in reports]
    assert fractions == sorted(fractions)
    assert 0.9 < fractions[-1] <= 1  # the last report of librbd 16.2 is the one before the end
    assert len(set(reports)) == len(reports) <= 2 * OBJECTS + 2


async def test_growth_reports_no_progress(subject: Any) -> None:
    """librbd reports no progress for a growth."""
    reports = []
    await subject.image.resize(2 * SIZE, progress=lambda done, total: reports.append((done, total)))
    assert reports == []
    assert await subject.image.size() == 2 * SIZE


#: How often a test tries to stop an operation. On a busy machine librbd may be done before the loop has its turn.
ATTEMPTS = 5


@pytest.fixture
def half_way(make_subject: Any, ended: Any) -> Any:
    """Return a function that cancels the wait for an operation at the operation's first report."""

    async def cancel(prepare: Any) -> tuple[Any, Any]:
        for _ in range(ATTEMPTS):
            subject = await make_subject()
            operate = await prepare(subject)
            ended.clear()
            with anyio.fail_after(30), anyio.CancelScope() as scope:
                await operate(lambda done, total: scope.cancel())
            if scope.cancelled_caught:
                return subject, operate
        pytest.fail(f"the operation was done first {ATTEMPTS} times")

    return cancel


async def drained(*handles: Any) -> None:
    for handle in handles:
        await handle.drain(timeout=30)


@pytest.mark.parametrize("prepare", STOPPED.values(), ids=STOPPED)
async def test_cancellation_stops_librbd(half_way: Any, prepare: Any, ended: Any, cluster: aiorbd.Cluster) -> None:
    for _ in range(ATTEMPTS):
        _subject, operate = await half_way(prepare)
        with anyio.fail_after(30):
            while cluster.stats.in_flight:
                await anyio.sleep(0.001)
        (last,) = [completed for completed in ended if completed.operation.endswith(("_progress", "_map", "_resize2"))]
        if last.error is not None:
            break
    assert last.abandoned
    assert isinstance(last.error, aiorbd.OperationCanceled)
    # The image stays usable: the same operation again runs to its end.
    reports = []
    await operate(lambda done, total: reports.append((done, total)))
    assert not ended[-1].error


def enough(_done: int, _total: int) -> None:
    raise LookupError("enough")


async def raises_enough(operate: Any) -> bool:
    """Return whether the error of `enough` stopped the operation."""
    try:
        await operate(enough)
    except LookupError as error:
        assert str(error) == "enough"  # noqa: PT017
        return True
    return False


@pytest.mark.parametrize("prepare", STOPPED.values(), ids=STOPPED)
async def test_error_in_progress_stops_librbd(
    make_subject: Any, prepare: Any, ended: Any, cluster: aiorbd.Cluster
) -> None:
    for _ in range(ATTEMPTS):
        operate = await prepare(await make_subject())
        ended.clear()
        if await raises_enough(operate):
            break
    else:
        pytest.fail(f"librbd went on {ATTEMPTS} times")
    assert cluster.stats.in_flight == 0
    assert not ended[-1].abandoned
    await operate(None)


async def test_size_after_a_stopped_shrink_is_the_old_one(make_subject: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """librbd reports the new size for a moment after the stop; the test makes this moment longer."""
    answers = []

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(loader.rbd(), name)

        def rbd_get_size(self, image: aiorbd.Image, out: Any) -> Any:
            code = loader.rbd().rbd_get_size(image, out)
            answers.append(out[0])
            if len(answers) < 20:
                out[0] = OBJECT
            return code

    monkeypatch.setattr(maintenance, "rbd", Slow)
    for _ in range(ATTEMPTS):
        subject = await make_subject()
        answers.clear()
        if await raises_enough(await STOPPED["resize"](subject)):
            break
    else:
        pytest.fail(f"librbd went on {ATTEMPTS} times")
    assert len(answers) >= 20
    assert await subject.image.size() == SIZE
    assert await subject.image.read(SIZE - OBJECT, OBJECT)


@pytest.mark.parametrize("prepare", UNSTOPPED.values(), ids=UNSTOPPED)
async def test_unstoppable_operation_goes_on_after_a_cancellation(
    half_way: Any, prepare: Any, ended: Any, witness: Witness
) -> None:
    subject, _operate = await half_way(prepare)
    await drained(subject.image)
    (last,) = [completed for completed in ended if "copy" in completed.operation]
    assert (last.error, last.abandoned) == (None, True)
    assert await witness.export(subject.made) == await witness.export(subject.image.name)


async def test_rollback_goes_on_after_a_cancellation(half_way: Any, ended: Any, witness: Witness) -> None:
    """If a rollback were stopped half way, librbd's object map would be wrong, also for later snapshots."""
    before: list[Any] = []

    async def prepare(subject: Any) -> Any:
        before[:] = [await witness.export(subject.image.name)]
        return await rollback(subject)

    subject, _operate = await half_way(prepare)
    await drained(subject.image)
    (last,) = [completed for completed in ended if "rollback" in completed.operation]
    assert (last.error, last.abandoned) == (None, True)
    assert [await witness.export(subject.image.name)] == before
    await witness.rbd("object-map", "check", "--no-progress", subject.image.name)
    assert await subject.image.flags() == 0


@pytest.mark.parametrize("name", ["copy", "copy_to", "deep_copy"])
def test_docstrings_name_unstoppable_operations(name: str) -> None:
    assert "librbd cannot be stopped" in " ".join(getattr(aiorbd.Image, name).__doc__.split())
    assert "librbd cannot be stopped" in " ".join(str(aiorbd.Trash.purge.__doc__).split())
    assert "If the call is cancelled, the rollback continues" in " ".join(str(aiorbd.Snapshot.rollback.__doc__).split())


@pytest.mark.parametrize(
    "method",
    [
        aiorbd.Image.resize,
        aiorbd.Image.flatten,
        aiorbd.Image.sparsify,
        aiorbd.Image.rebuild_object_map,
        aiorbd.IoCtx.remove_image,
        aiorbd.Trash.remove,
    ],
)
def test_docstrings_name_stoppable_operations(method: Any) -> None:
    assert "librbd is asked to stop" in " ".join(method.__doc__.split())
