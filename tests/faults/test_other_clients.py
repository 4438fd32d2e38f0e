"""Other clients change an image, a pool or a key while this client has them open."""

import subprocess
import sys
import time
from functools import partial
from typing import Any

import anyio
import pytest
from fix_faults import make_client
from fix_lag import patience
from fix_programs import PROGRAMS
from fix_witness import Witness
from helpers import MakeImage, new_name

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio


async def test_the_exclusive_lock_is_taken_over_in_the_middle_of_writing(
    aiorbd_cluster: DevCluster, make_image: MakeImage, witness: Witness
) -> None:
    """Two clients write to halves of one image: the lock moves between them, and no write is lost."""
    name = await make_image(1 << 20)
    rounds, block = 30, 4096
    owners = set()

    async def write(half: Any) -> None:
        async with aiorbd.connect(aiorbd_cluster.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
            async with ioctx.open_image(name) as image:
                for number in range(rounds):
                    await image.write(bytes([1 + number + 100 * half]) * block, (2 * number + half) * block)
                    if await image.exclusive_lock.is_owner():
                        owners.add((half, number))
                await image.flush()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write, 0)
            tasks.start_soon(write, 1)
    exported = await witness.export(name)
    for number in range(rounds):
        for half in (0, 1):
            at = (2 * number + half) * block
            assert exported[at : at + block] == bytes([1 + number + 100 * half]) * block
    assert {half for half, _ in owners} == {0, 1}


async def test_the_exclusive_lock_is_kept(aiorbd_cluster: DevCluster, make_image: MakeImage) -> None:
    """An explicitly acquired lock is kept. Other clients get `LockBusy` at once, not a read-only error."""
    name = await make_image()
    async with aiorbd.connect(aiorbd_cluster.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        async with ioctx.open_image(name) as holder:
            await holder.exclusive_lock.acquire()
            async with aiorbd.connect(aiorbd_cluster.conffile) as second, second.open_ioctx("rbd") as other:
                async with other.open_image(name) as image:
                    with anyio.fail_after(5), pytest.raises(aiorbd.LockBusy, match="another client keeps"):
                        await image.write(b"mine", 0)
                    assert await image.exclusive_lock.owners() == await holder.exclusive_lock.owners() != []
                    await holder.exclusive_lock.release()
                    with anyio.fail_after(20):
                        await image.write(b"mine", 0)
                    assert await image.read(0, 4) == b"mine"


@pytest.mark.slow
async def test_closing_beside_a_killed_client_takes_less_than_the_default_limit(
    aiorbd_cluster: DevCluster, make_image: MakeImage
) -> None:
    name = await make_image()
    watcher = await anyio.open_process(
        ["rbd", "-c", str(aiorbd_cluster.conffile), "watch", name], stdout=subprocess.DEVNULL
    )
    async with watcher, aiorbd.connect(aiorbd_cluster.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        async with ioctx.open_image(name) as image:
            while len([found async for found in image.watchers()]) < 2:
                await anyio.sleep(0.05)
            watcher.kill()
            await image.write(b"data", 0)
            before = time.monotonic()
        seconds = time.monotonic() - before
        assert seconds > 4  # at least one notification waits for the killed client; no CloseTimeout is the upper limit


async def test_image_renamed_under_an_open_handle_stays_usable(
    aiorbd_cluster: DevCluster, ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness
) -> None:
    name = await make_image()
    async with ioctx.open_image(name) as image:
        await image.write(b"before", 0)
        await witness.rbd("rename", name, f"{name}-new")
        await image.write(b"after ", 0)
        await image.flush()
        assert await image.read(0, 6) == b"after "
        await image.resize(1 << 25)
        assert await image.size() == 1 << 25
    assert (await witness.export(f"{name}-new"))[:6] == b"after "


async def test_image_shrunk_under_an_open_handle_refuses_ranges_past_its_end(
    ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness
) -> None:
    name = await make_image()
    async with ioctx.open_image(name) as image:
        await image.write(b"end", (16 << 20) - 3)
        await image.flush()
        await witness.rbd("resize", "--no-progress", "--allow-shrink", "--size", "1M", name)
        for call in (
            lambda: image.read((16 << 20) - 3, 3),
            lambda: image.write(b"end", (16 << 20) - 3),
            lambda: image.discard(1 << 20, 4096),
            lambda: image.write(b"across", (1 << 20) - 3),
        ):
            with pytest.raises(aiorbd.PastEndOfImage, match="1048576 bytes"):
                await call()
        assert await image.size() == 1 << 20
        await image.write(b"end", (1 << 20) - 3)
    assert (await witness.export(name))[-3:] == b"end"


async def test_image_removed_under_an_open_handle_is_busy_or_reads_zeroes(
    aiorbd_cluster: DevCluster, ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness
) -> None:
    """Ceph refuses to remove an image that a client has open for writing, and the error names this client.

    Readers do not hold up a removal.
    """
    name = await make_image()
    async with ioctx.open_image(name) as image:
        (watcher,) = [watcher async for watcher in image.watchers()]
        async with aiorbd.connect(aiorbd_cluster.conffile) as second, second.open_ioctx("rbd") as other:
            with pytest.raises(aiorbd.ImageBusy, match=f"open at {watcher.address}"):
                await other.remove_image(name)
    async with ioctx.open_image(name, read_only=True) as image:
        await witness.rbd("rm", "--no-progress", name)
        with anyio.fail_after(10):
            assert await image.read(0, 4) == bytes(4)  # to Ceph, missing objects are zeroes
    with pytest.raises(aiorbd.ImageNotFound):
        await ioctx.open_image(name)


async def test_removing_waits_for_the_last_watcher(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> None:
    name = await make_image()
    image = await ioctx.open_image(name)
    start = time.perf_counter()
    with pytest.raises(aiorbd.ImageBusy, match="open at"):
        await ioctx.remove_image(name, retry_for=0.7)
    assert 0.7 <= time.perf_counter() - start < patience(2)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: ioctx.remove_image(name, retry_for=20))
        await anyio.sleep(0.2)
        await image.close()
    assert name not in await ioctx.list_images()


async def test_open_image_in_the_trash_cannot_be_removed(ioctx: aiorbd.IoCtx, make_image: MakeImage) -> None:
    name = await make_image()
    async with ioctx.open_image(name) as image:
        await ioctx.trash.move(name)
        with pytest.raises(aiorbd.ImageBusy, match="open at"):
            await ioctx.trash.remove(image.id)
        image_id = image.id
    await ioctx.trash.remove(image_id, retry_for=5)


@pytest.mark.slow
async def test_a_client_that_died_still_watches(osd: DevCluster) -> None:
    """The watch of a dead client lives for half a minute.

    `retry_for` waits for the end of the watch. Without `retry_for`, the error names the client.

    For an image with an exclusive lock of the dead client, librbd itself waits until it may break the lock.
    """
    watched, locked = new_name(), new_name()
    async with aiorbd.connect(osd.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        await ioctx.create_image(watched, 1 << 20)
        await ioctx.create_image(locked, 1 << 20)
        process = subprocess.Popen(
            [sys.executable, PROGRAMS / "hold_images.py", osd.conffile, watched, locked], stdout=subprocess.PIPE
        )
        assert process.stdout
        assert process.stdout.readline() == b"open\n"
        process.kill()
        process.communicate()
        with pytest.raises(aiorbd.ImageBusy, match=r"open at 127\.0\.0\.1:0/\d+"):
            await ioctx.remove_image(watched)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(ioctx.remove_image, watched, retry_for=60))
            tasks.start_soon(ioctx.remove_image, locked)
        assert not {watched, locked} & set(await ioctx.list_images())


async def test_deleted_pool_fails_its_handles_and_no_other_pool(aiorbd_cluster: DevCluster) -> None:
    """All calls on the pool soon fail with an `RbdError`. Closing works, and other pools stay usable."""
    pool = new_name("pool")
    async with aiorbd.connect(aiorbd_cluster.conffile) as cluster:
        await cluster.create_pool(pool)
        async with cluster.open_ioctx(pool) as ioctx:
            await ioctx.init_pool()
            await ioctx.create_image("image", 1 << 20)
            image = await ioctx.open_image("image")
            await image.write(b"x", 0)
            await image.flush()
            await cluster.delete_pool(pool)
            for call in (
                lambda: image.read(0, 1),
                ioctx.list_images,
                lambda: ioctx.objects.write_full("object", b"x"),
                lambda: ioctx.open_image("image"),
                lambda: ioctx.create_image("other", 1),
                lambda: image.create_snapshot("one"),
                lambda: image.resize(1 << 22, allow_shrink=True),
                lambda: anext(ioctx.trash.entries()),
            ):
                with anyio.fail_after(10), pytest.raises(aiorbd.RbdError):
                    while True:  # until this client has the new map
                        await call()
            assert not cluster.blocklisted
            await image.close(timeout=10)
        async with cluster.open_ioctx("rbd") as ioctx:
            await ioctx.list_images()


async def test_read_only_key_may_read_and_raises_permission_error_for_changes(cephx_cluster: DevCluster) -> None:
    name = new_name()
    async with aiorbd.connect(cephx_cluster.conffile) as admin, admin.open_ioctx("rbd") as ioctx:
        await ioctx.create_image(name, 1 << 20)
        async with ioctx.open_image(name) as image:
            await image.write(b"readable", 0)
    reader = await make_client(
        cephx_cluster, new_name("reader"), mon="profile rbd", osd="profile rbd-read-only pool=rbd"
    )
    async with aiorbd.connect(cephx_cluster.conffile, **reader) as cluster, cluster.open_ioctx("rbd") as ioctx:
        async with ioctx.open_image(name, read_only=True) as image:
            assert await image.read(0, 8) == b"readable"
        with anyio.fail_after(20):
            with pytest.raises(aiorbd.PermissionError):
                await ioctx.create_image(new_name(), 1 << 20)
            with pytest.raises(aiorbd.PermissionError):
                await ioctx.objects.write_full("object", b"x")
            with pytest.raises(PermissionError):  # the builtin one
                await ioctx.remove_image(name)


async def test_key_for_another_pool_raises_permission_error(cephx_cluster: DevCluster) -> None:
    stranger = await make_client(cephx_cluster, new_name("stranger"), mon="allow r", osd="allow rwx pool=other")
    async with aiorbd.connect(cephx_cluster.conffile, **stranger) as cluster, cluster.open_ioctx("rbd") as ioctx:
        with anyio.fail_after(20):
            with pytest.raises(aiorbd.PermissionError):
                await ioctx.list_images()
            with pytest.raises(aiorbd.RbdError) as caught:
                await ioctx.open_image("image")
        assert isinstance(caught.value, PermissionError)
        with pytest.raises(aiorbd.RbdError):
            await cluster.create_pool("mine")
