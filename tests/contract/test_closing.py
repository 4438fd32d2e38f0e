"""Opening, closing and garbage collection: the calls that each state allows."""

import contextlib
import errno
import gc
import os
import pickle
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import anyio
import pytest
from fix_lag import measured_hold
from fix_witness import Witness
from helpers import MakeImage, descriptors, descriptors_fall_to
from inside import bridge_of, children_of, handle_of

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio


async def test_closed_images_refuse_everything(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> None:
    image = await ioctx.open_image(await make_image())
    await image.close()
    await image.close()
    for call in (
        image.size,
        image.stat,
        image.flush,
        lambda: image.read(0, 1),
        lambda: image.read(0, 0),
        lambda: image.read_into(bytearray(1), 0),
        lambda: image.readv([], 0),
        lambda: image.write(b"x", 0),
        lambda: image.writev([], 0),
        lambda: image.write_same(b"x", 0, 1),
        lambda: image.compare_and_write(b"", b"", 0),
        lambda: image.discard(0, 1),
        lambda: image.write_zeroes(0, 1),
        lambda: image.resize(0, allow_shrink=True),
    ):
        with pytest.raises(aiorbd.ClosedError, match=f"image 'rbd/{image.name}' is closed"):
            await call()
    with pytest.raises(aiorbd.ClosedError):
        async with image:
            pass


async def test_close_waits_for_what_is_in_flight(ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness) -> None:
    name = await make_image()
    image = await ioctx.open_image(name)
    async with anyio.create_task_group() as tasks:
        for number in range(64):
            tasks.start_soon(image.write, bytes([number]) * 4096, number * 4096)
        await anyio.wait_all_tasks_blocked()
        await image.close()
    exported = await witness.export(name)
    assert all(exported[number * 4096] == number for number in range(64))


async def test_closing_a_cluster_closes_its_images(
    aiorbd_cluster: DevCluster, make_image: MakeImage, witness: Witness
) -> None:
    name = await make_image()
    cluster = await aiorbd.connect(aiorbd_cluster.conffile)
    ioctx = await cluster.open_ioctx("rbd")
    images = [await ioctx.open_image(name), await ioctx.open_image(name, read_only=True)]
    await images[0].write(b"kept", 0)
    await cluster.close()
    for image in images:
        with pytest.raises(aiorbd.ClosedError):
            await image.read(0, 1)
    assert b"watcher=" not in await witness.rbd("status", name)
    assert (await witness.export(name))[:4] == b"kept"


async def test_an_opening_is_entered_once(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> None:
    opening = ioctx.open_image(await make_image())
    async with opening:
        with pytest.raises(aiorbd.UsageError, match="this opening was already used"):
            async with opening:
                pass


async def test_close_succeeds_after_a_worker_thread_failed_to_start(
    ioctx: aiorbd.IoCtx, make_image: MakeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = await ioctx.open_image(await make_image())

    def submit(_job: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(bridge_of(image)._workers, "submit", submit)
    with pytest.raises(aiorbd.CloseTimeout):
        await image.close(timeout=0.1)
    monkeypatch.undo()
    await image.close(timeout=10)


async def test_closing_a_parent_refuses_new_children(cluster: aiorbd.Cluster, make_image: MakeImage) -> None:
    name = await make_image()
    ioctx = await cluster.open_ioctx("rbd")
    await ioctx.close()
    with pytest.raises(aiorbd.ClosedError, match="pool 'rbd' is closed"):
        await ioctx.open_image(name)
    with pytest.raises(aiorbd.ClosedError):
        await ioctx.create_image("name", 0)


async def test_open_during_the_close_of_the_pool_raises_closed_error(
    cluster: aiorbd.Cluster, make_image: MakeImage
) -> None:
    name = await make_image()
    ioctx = await cluster.open_ioctx("rbd")
    outcome = []

    async def open_late() -> None:
        try:
            image = await ioctx.open_image(name)
            await image.read(0, 1)
        except aiorbd.ClosedError as error:
            outcome.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(open_late)
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        await ioctx.close(timeout=10)
    assert len(outcome) == 1


@pytest.mark.parametrize("passes", range(6))
async def test_closing_a_cluster_during_an_open_leaks_nothing(
    aiorbd_cluster: DevCluster, make_image: MakeImage, passes: Any
) -> None:
    """Whenever the close starts, the one native image is released once, and the eventfd is closed."""
    name = await make_image()

    kept: list[Any] = []  # a pool or image that is collected before the cluster closes would warn

    async def open_late(ioctx: aiorbd.IoCtx) -> None:
        kept.append(ioctx)
        with contextlib.suppress(aiorbd.ClosedError):
            kept.append(await ioctx.open_image(name))

    async def once() -> None:
        async with aiorbd.connect(aiorbd_cluster.conffile) as cluster:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(open_late, await cluster.open_ioctx("rbd"))
                await anyio.sleep(0.002 * passes)
                await cluster.close(timeout=10)

    await once()
    before = descriptors()
    for _ in range(3):
        await once()
    await descriptors_fall_to(before)


async def test_closing_a_cluster_closes_an_image_after_a_refused_close(
    aiorbd_cluster: DevCluster, make_image: MakeImage
) -> None:
    cluster = await aiorbd.connect(aiorbd_cluster.conffile)
    ioctx = await cluster.open_ioctx("rbd")
    image = await ioctx.open_image(await make_image())
    lib = handle_of(image).lib
    refusals = []

    class Refusing:
        def __getattr__(self, name: str) -> Any:
            return getattr(lib, name)

        def aiorbd_close(self, *_arguments: Any) -> Any:
            refusals.append(1)
            return -errno.ENOMEM

    handle_of(image).lib = Refusing()
    with pytest.raises(aiorbd.CloseTimeout):
        await image.close(timeout=0.2)
    assert "closing" in repr(image)
    handle_of(image).lib = lib
    await cluster.close(timeout=10)
    assert refusals == [1]
    assert "closed" in repr(image)


async def test_exception_in_the_block_propagates_unchanged(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> None:
    with pytest.raises(LookupError, match="mine"):
        async with ioctx.open_image(await make_image()):
            raise LookupError("mine")


async def test_drain_waits_for_operations_in_flight(cluster: aiorbd.Cluster, image: aiorbd.Image) -> None:
    started: set[int] = set()
    ended: set[int] = set()
    cluster.add_observer(lambda one: ended.add(one.number), on_start=lambda one: started.add(one.number))
    async with anyio.create_task_group() as tasks:
        for number in range(32):
            tasks.start_soon(image.write, bytes(65536), number * 65536)
        while not started:
            await anyio.lowlevel.checkpoint()
        before = set(started)
        await image.drain(timeout=10)
        assert before <= ended
    await image.drain()
    assert image.in_flight == 0
    assert len(ended) == len(started) >= 32


async def test_drain_does_not_wait_for_later_operations(image: aiorbd.Image) -> None:
    """Other tasks always keep an operation in flight. These later operations do not delay the drain."""
    done = False

    async def traffic(number: int) -> None:
        while not done:
            await image.read(number * 4096, 4096)

    async with anyio.create_task_group() as tasks:
        for number in range(16):
            tasks.start_soon(traffic, number)
        busy = 0
        with anyio.fail_after(30):
            while busy < 20:
                await anyio.sleep(0.001)
                busy += image.in_flight > 0
                await image.drain(timeout=10)
        done = True


async def test_collected_objects_warn_that_they_were_not_closed(
    aiorbd_cluster: DevCluster, make_image: MakeImage
) -> None:
    """Any thread may collect the objects, so the collection closes nothing. Closing the cluster closes the objects."""
    name = await make_image()
    async with aiorbd.connect(aiorbd_cluster.conffile) as cluster:
        ioctx = await cluster.open_ioctx("rbd")
        image = await ioctx.open_image(name)
        await image.write(b"x", 0)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del image, ioctx
            gc.collect()
        assert [warning.category for warning in caught] == [ResourceWarning] * 2
        assert f"image 'rbd/{name}'" in str(caught[0].message)
        assert "async with" in str(caught[0].message)
    assert children_of(cluster) == set()


async def test_another_loop_is_refused(image: aiorbd.Image, ioctx: aiorbd.IoCtx, cluster: aiorbd.Cluster) -> None:
    errors = []

    async def elsewhere() -> None:
        for call in (
            lambda: image.read(0, 1),
            lambda: image.write(b"x", 0),
            image.flush,
            image.size,
            image.close,
            image.drain,
            ioctx.list_images,
            lambda: ioctx.open_image(image.name),
            cluster.pools,
            lambda: cluster.open_ioctx("rbd"),
        ):
            try:
                await call()
            except aiorbd.WrongLoopError as error:
                errors.append(str(error))

    for backend in ("asyncio", "trio"):
        await anyio.to_thread.run_sync(partial(anyio.run, elsewhere, backend=backend))
    assert len(errors) == 20
    assert "belongs to the event loop that connected it" in errors[0]
    assert await image.read(0, 1) == b"\0"


def test_connect_without_an_event_loop_raises_wrong_loop_error() -> None:
    opening = aiorbd.connect(None)
    with pytest.raises(aiorbd.WrongLoopError, match="no asyncio or trio event loop"):
        opening.__await__().send(None)


async def test_fork(image: aiorbd.Image) -> None:
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        # The child must never return into pytest.
        try:
            try:
                image.read(0, 1).send(None)
            except aiorbd.ForkedError as error:
                os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        told = (await anyio.to_thread.run_sync(file.read)).decode()
    os.waitpid(pid, 0)
    assert f"image 'rbd/{image.name}' was opened before fork()" in told
    assert await image.read(0, 1) == b"\0"


def classes(root: Any) -> Iterator[Any]:
    for cls in root.__subclasses__():
        yield cls
        yield from classes(cls)


@pytest.mark.parametrize("cls", sorted(set(classes(aiorbd.RbdError)), key=repr))
def test_ceph_errors_survive_pickling(cls: Any) -> None:
    error = cls(errno.EPIPE, "message", "rbd_operation", "image 'a/b'")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(again) is cls
    assert issubclass(cls, OSError)
    assert issubclass(cls, aiorbd.Error)
    assert (again.errno, again.operation, again.target) == (errno.EPIPE, "rbd_operation", "image 'a/b'")
    assert str(again) == str(error) == "message [EPIPE] (rbd_operation on image 'a/b')"
    assert getattr(aiorbd, cls.__name__) is cls


def test_other_errors_survive_pickling() -> None:
    error = aiorbd.LibraryTooOldError("rbd_clone4", "19.2", "librbd.so.1", "1.16.0")
    again: Any = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert str(again) == str(error) == "rbd_clone4 needs Ceph 19.2 or newer; librbd.so.1, version 1.16.0, lacks it"
    mismatch = aiorbd.CompareMismatch(errno.EILSEQ, None, "a", "b", 77)
    assert pickle.loads(pickle.dumps(mismatch)).offset == 77  # noqa: S301 - our own


async def test_many_opens_and_closes_do_not_block_the_event_loop(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> None:
    """librbd needs 3 ms of CPU time to open an image. On the event loop, 32 opens would block the loop for 80 ms."""
    times: list[Any]
    names, times = [await make_image() for _ in range(32)], []
    while len(times) < 3 and min(times, default=1) >= 0.025:  # calls that block the loop do so each time
        images: list[Any] = []

        async def open_one(name: str, images: Any = images) -> None:
            images.append(await ioctx.open_image(name))

        async with measured_hold() as held:
            async with anyio.create_task_group() as tasks:
                for name in names:
                    tasks.start_soon(open_one, name)
            async with anyio.create_task_group() as tasks:
                for image in images:
                    tasks.start_soon(image.close)
        times.append(held.worst)
    assert min(times) < 0.025
    assert len(images) == 32
