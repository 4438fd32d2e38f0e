"""Image sizes: queries, resizes, resizes by other clients, and ranges past the end."""

import itertools
import threading
from functools import partial
from typing import Any

import anyio
import pytest
from fix_faults import opened
from fix_witness import Witness
from helpers import MakeImage, new_name, slow_down
from inside import change, handle_of

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio

MIB = 1 << 20


async def test_stat(ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness) -> None:
    name = await make_image(5 * MIB + 1, order=20)
    info = await witness.info(name)
    async with ioctx.open_image(name) as image:
        assert await image.size() == 5 * MIB + 1
        stat = await image.stat()
    assert stat == aiorbd.ImageInfo(
        size=info["size"],
        object_size=info["object_size"],
        object_count=info["objects"],
        order=info["order"],
        block_name_prefix=info["block_name_prefix"],
    )


async def test_resize(image: aiorbd.Image, witness: Witness) -> None:
    reports = []
    await image.resize(64 * MIB, progress=lambda done, total: reports.append((done, total)))
    assert await image.size() == 64 * MIB
    assert (await witness.info(image.name))["size"] == 64 * MIB
    await image.write(b"end", 64 * MIB - 3)
    await image.resize(8 * MIB, allow_shrink=True, progress=lambda done, total: reports.append((done, total)))
    assert (await witness.info(image.name))["size"] == 8 * MIB
    with pytest.raises(aiorbd.PastEndOfImage):
        await image.read(8 * MIB, 1)
    await image.resize(64 * MIB)
    assert await image.read(64 * MIB - 3, 3) == bytes(3)
    assert reports
    assert all(0 <= done <= total for done, total in reports)


async def test_shrink_without_allow_shrink_is_refused(image: aiorbd.Image) -> None:
    await image.write(b"x", 16 * MIB - 1)
    with pytest.raises(aiorbd.InvalidArgument, match=r"has 16777216 bytes: only resize\(1048576, allow_shrink=True\)"):
        await image.resize(MIB)
    assert await image.size() == 16 * MIB
    assert await image.read(16 * MIB - 1, 1) == b"x"
    await image.resize(32 * MIB)
    for size in (-1, 1 << 63):
        with pytest.raises(aiorbd.InvalidArgument, match="out of range"):
            await image.resize(size)


async def test_exception_in_progress_stops_a_shrink(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> None:
    name = await make_image(4096 * MIB)
    await slow_down(ioctx, name)

    def progress(_done: int, _total: int) -> None:
        raise LookupError("enough")

    async with ioctx.open_image(name) as image:
        for offset in range(0, 4096 * MIB, 16 * MIB):
            await image.write(b"x", offset)
        with pytest.raises(LookupError, match="enough"):
            await image.resize(0, allow_shrink=True, progress=progress)
        assert image.in_flight == 0
        await image.resize(MIB, allow_shrink=True)
        assert await image.size() == MIB


async def test_writes_reach_the_new_end_after_another_client_grew_the_image(
    image: aiorbd.Image, witness: Witness
) -> None:
    await witness.rbd("resize", "--no-progress", image.name, "--size", "20M")
    await image.write(b"x", 20 * MIB - 1)
    assert await image.read(20 * MIB - 1, 1) == b"x"
    assert await image.size() == 20 * MIB


async def test_access_past_the_end_is_refused_after_another_client_shrank_the_image(
    image: aiorbd.Image, witness: Witness
) -> None:
    """librbd would clip a write past the end and report success."""
    await witness.rbd("resize", "--no-progress", "--allow-shrink", image.name, "--size", "4M")
    for call in (
        lambda: image.write(bytes(MIB), 4 * MIB - 10),
        lambda: image.discard(4 * MIB - 10, MIB),
        lambda: image.read(4 * MIB - 10, 20),
        lambda: image.write_zeroes(10 * MIB, MIB),
    ):
        with pytest.raises(aiorbd.PastEndOfImage, match="4194304 bytes"):
            await call()
    assert await image.size() == 4 * MIB


async def test_concurrent_writes_after_a_shrink_are_checked_against_the_new_size(
    ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness
) -> None:
    """One write detects the change and asks for the size. Writes that start meanwhile must not use the old size."""
    name = await make_image()
    outcomes: list[Any] = []

    async def write(offset: int) -> None:
        try:
            await image.write(b"x" * 4096, offset)
            outcomes.append(offset + 4096 <= 4 * MIB)
        except aiorbd.PastEndOfImage:
            outcomes.append(offset + 4096 > 4 * MIB)

    async with ioctx.open_image(name) as image:
        await witness.rbd("resize", "--no-progress", "--allow-shrink", name, "--size", "4M")
        async with anyio.create_task_group() as tasks:
            for number in range(256):
                tasks.start_soon(write, number * 64 * 1024 + 100)
    assert outcomes == [True] * 256
    assert len(await witness.export(name)) == 4 * MIB


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("kind", [bytes, bytearray])
async def test_shrink_during_a_write_raises_image_shrank(
    image: aiorbd.Image, monkeypatch: pytest.MonkeyPatch, asked: bool, kind: Any
) -> None:
    """librbd reports success and a changed header, so librbd may have clipped the write.

    The error is the same when another task has asked for the size meanwhile.
    """
    handle = handle_of(image)
    # The operation table submits `bytes`. Python submits all other buffers.
    name = "write" if kind is bytes else "submit"
    submit = getattr(handle.bridge, name)

    def submit_and_tell(*arguments: Any) -> Any:
        code = submit(*arguments)
        handle.lib.aiorbd_image_changed(handle.native)
        if asked:
            ask_size()
            handle.image_size._learn_size()
        return code

    def ask_size() -> Any:
        handle.image_size._asked = handle.lib.aiorbd_image_generation(handle.native), 4096
        return 0

    await image.size()
    monkeypatch.setattr(handle.bridge, name, submit_and_tell)
    monkeypatch.setattr(handle.image_size, "_ask_size", ask_size)
    with pytest.raises(aiorbd.ImageShrank, match="shrank to 4096 bytes meanwhile") as caught:
        await image.write(kind(b"x" * 4096), 2048)
    assert isinstance(caught.value, aiorbd.PastEndOfImage)


async def test_write_that_completes_during_close_of_a_changed_image_succeeds(osd: DevCluster) -> None:
    async with opened(osd) as image:
        osd.pause()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(image.write, b"x" * 4096, 0)
            await anyio.sleep(0.05)
            change(image)
            tasks.start_soon(image.close, 30)
            await anyio.sleep(0.05)
            osd.resume()  # neither the write nor the close raises


async def test_own_shrink_limits_writes_from_its_start(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> None:
    """librbd clips writes and reports success as soon as the shrink has started."""
    async with ioctx.open_image(await make_image(1 << 40)) as image:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(image.resize, 4 * MIB, allow_shrink=True))
            while await image.size() != 4 * MIB:
                assert image.in_flight
            assert image.in_flight, "the resize is over too soon to test anything"
            with pytest.raises(aiorbd.PastEndOfImage):
                await image.write(bytes(MIB), 4 * MIB - 10)
        assert await image.size() == 4 * MIB


async def test_refused_shrink_does_not_limit_writes(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> None:
    async with ioctx.open_image(await make_image()) as image:
        with pytest.raises(aiorbd.InvalidArgument):
            await image.resize(MIB)
        await image.write(b"x", 16 * MIB - 1)


async def test_concurrent_size_calls_take_one_worker_thread(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> None:
    async with ioctx.open_image(await make_image()) as image:
        async with anyio.create_task_group() as tasks:
            for _ in range(64):
                tasks.start_soon(image.size)
            await anyio.wait_all_tasks_blocked()
            assert image.in_flight <= 1


BEYOND = [(16 * MIB, 1), (16 * MIB - 1, 2), (1 << 62, 1), (0, 16 * MIB + 1), (16 * MIB + 1, 0), ((1 << 64) - 1, 1)]


@pytest.mark.parametrize(("offset", "length"), BEYOND)
async def test_access_past_the_end_raises_past_end_of_image(image: aiorbd.Image, offset: Any, length: Any) -> None:
    calls: list[Any] = [
        lambda: image.read(offset, length),
        lambda: image.discard(offset, length),
        lambda: image.write_zeroes(offset, length),
        lambda: image.write_same(b"x", offset, length),
    ]
    if length <= 32 * MIB:
        data = bytearray(length)
        calls += [
            lambda: image.read_into(data, offset),
            lambda: image.readv([data], offset),
            lambda: image.write(data, offset),
            lambda: image.writev([data], offset),
            lambda: image.compare_and_write(data, data, offset),
        ]
    for call in calls:
        with pytest.raises(aiorbd.PastEndOfImage, match=f"{length} bytes at {offset}") as caught:
            await call()
        assert isinstance(caught.value, ValueError)
    assert image.in_flight == 0


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1), (-(1 << 70), 1), (5, -5)])
async def test_negative_offset_or_length_is_refused(image: aiorbd.Image, offset: Any, length: int) -> None:
    for call in (image.read, image.discard, image.write_zeroes):
        with pytest.raises(aiorbd.InvalidArgument, match="must not be negative"):
            await call(offset, length)
    if offset < 0:
        more: list[Any] = [image.write, image.read_into]
        for call in more:
            with pytest.raises(aiorbd.InvalidArgument, match="must not be negative"):
                await call(bytearray(1), offset)


async def test_length_zero_is_accepted_by_every_call(image: aiorbd.Image) -> None:
    """In librbd 16.2.15, length 0 with a NULL buffer would abort the process."""
    for offset in (0, 5, 16 * MIB):
        assert await image.read(offset, 0) == b""
        assert await image.read_into(bytearray(), offset) == 0
        assert await image.readv([], offset) == 0
        assert await image.write(b"", offset) == 0
        assert await image.writev([], offset) == 0
        assert await image.write_same(b"x", offset, 0) == 0
        assert await image.compare_and_write(b"", b"", offset) == 0
        await image.discard(offset, 0)
        await image.write_zeroes(offset, 0)


async def test_empty_image_accepts_only_empty_reads(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> None:
    async with ioctx.open_image(await make_image(0)) as image:
        assert await image.read(0, 0) == b""
        with pytest.raises(aiorbd.PastEndOfImage, match=r"exceeds the image size \(0 bytes\)"):
            await image.read(0, 1)


async def test_read_of_two_gib_is_refused_but_larger_discards_are_accepted(
    ioctx: aiorbd.IoCtx, make_image: MakeImage
) -> None:
    async with ioctx.open_image(await make_image(1 << 40)) as image:
        with pytest.raises(aiorbd.InvalidArgument, match="too many for one operation"):
            await image.read(0, 1 << 31)
        await image.discard(0, 1 << 32)
        await image.write_zeroes(0, 1 << 33)


async def test_wrong_types_and_buffers_are_refused(image: aiorbd.Image) -> None:
    for call in (image.read, image.discard, image.write_zeroes):
        with pytest.raises(TypeError):
            await call("0", 1)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            await call(0, 1.5)  # type: ignore[arg-type]
    for data in ("text", None, 5, [1, 2]):
        with pytest.raises(TypeError, match="must be a bytes-like object"):
            await image.write(data, 0)  # type: ignore[arg-type]
    scattered = memoryview(bytearray(16))[::2]
    with pytest.raises(aiorbd.InvalidArgument, match="contiguous"):
        await image.write(scattered, 0)
    with pytest.raises(aiorbd.InvalidArgument, match="contiguous"):
        await image.writev([scattered], 0)
    with pytest.raises(aiorbd.InvalidArgument, match="contiguous"):
        await image.read_into(scattered, 0)
    for buffer in (b"bytes", memoryview(b"bytes")):
        with pytest.raises(aiorbd.InvalidArgument, match=r"read-only|writable"):
            await image.read_into(buffer, 0)
        with pytest.raises(aiorbd.InvalidArgument, match=r"read-only|writable"):
            await image.readv([buffer], 0)
    assert image.in_flight == 0
    assert await image.read(0, 16) == bytes(16)


async def test_shrink_waits_for_writes_in_flight(osd: DevCluster) -> None:
    """librbd aborts the process when a write meets a shrink. A shrink cancelled during its wait never starts."""
    async with opened(osd) as image:
        osd.pause()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(image.write, bytes(4096), 15 << 20)
            await anyio.sleep(0.05)
            with anyio.move_on_after(0.1) as scope:
                await image.resize(1 << 20, allow_shrink=True)
            assert scope.cancelled_caught
            assert image.in_flight == 1
            tasks.start_soon(partial(image.resize, 1 << 20, allow_shrink=True))  # to the size of the cancelled shrink
            await anyio.sleep(0.1)
            assert image.in_flight == 1
            with pytest.raises(aiorbd.PastEndOfImage), anyio.fail_after(5):
                osd.resume()
                await image.read(2 << 20, 1)
        assert await image.size() == 1 << 20
        assert await image.read(0, 1) == b"a"


async def test_shrink_waits_for_a_flatten(cluster: aiorbd.Cluster, ioctx: aiorbd.IoCtx, make_image: MakeImage) -> None:
    """librbd aborts the process when an image shrinks during a flatten."""
    name = await make_image(1 << 20, order=12)
    async with ioctx.open_image(name) as image:
        for number in range(0, 256, 2):
            await image.write(b"x" * 4096, number << 12)
        await image.create_snapshot("one")
        await image.clone("one", ioctx, f"{name}-clone", clone_format=2, order=12)
    ended: list[Any] = []
    async with ioctx.open_image(f"{name}-clone") as clone:
        cluster.add_observer(ended.append)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(clone.flatten)
            await anyio.sleep(0.001)
            for size in (200, 100, 20):
                tasks.start_soon(partial(clone.resize, size << 12, allow_shrink=True))
        upkeep = [c for c in ended if c.operation in ("rbd_flatten_with_progress", "rbd_resize2")]
        assert [c.operation for c in upkeep] == ["rbd_flatten_with_progress", *["rbd_resize2"] * 3]
        for before, after in itertools.pairwise(upkeep):
            assert before.started + before.seconds * 1e9 <= after.started + 1e6
        assert await clone.size() in {200 << 12, 100 << 12, 20 << 12}


async def test_waiting_shrink_raises_closed_error_when_its_image_closes(osd: DevCluster) -> None:
    async with aiorbd.connect(osd.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        name = new_name()
        await ioctx.create_image(name, 1 << 24)
        image = await ioctx.open_image(name)
        await image.write(b"x" * 4096, 0)
        await image.flush()
        refused = []

        async def shrink() -> None:
            try:
                await image.resize(1 << 20, allow_shrink=True)
            except aiorbd.ClosedError as error:
                refused.append(error)

        osd.pause()
        with anyio.move_on_after(0.05):
            await image.read(0, 4096)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shrink)
            await anyio.sleep(0.05)
            with pytest.raises(aiorbd.CloseTimeout):
                await image.close(timeout=0.1)
            osd.resume()
        assert len(refused) == 1
        await image.close(timeout=20)
        async with ioctx.open_image(name) as image:
            assert await image.size() == 1 << 24


async def test_shrink_cancelled_before_it_has_a_thread_stops_limiting_reads_at_once(
    ioctx: aiorbd.IoCtx, image: aiorbd.Image
) -> None:
    """The cancelled shrink leaves the gate, so calls of other handles continue.

    Reads past the smaller size are allowed again.
    """
    held, group = threading.Event(), handle_of(image).thread_group("rbd_resize2", (), long=True)
    async with ioctx.open_image(image.name) as other, anyio.create_task_group() as tasks:
        for _ in range(16):
            tasks.start_soon(partial(handle_of(ioctx).run, "rbd_held", held.wait, group=group))
        await anyio.sleep(0.05)
        with anyio.move_on_after(0.1) as scope:
            await image.resize(4096, allow_shrink=True)
        with anyio.fail_after(5):
            for one in (image, other):
                assert await one.read(8 * MIB, 1) == b"\0"
            await image.drain()
        held.set()
    assert scope.cancelled_caught
    assert await image.size() == 16 * MIB
