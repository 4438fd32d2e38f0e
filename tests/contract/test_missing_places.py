"""Each call reports a pool that was deleted while in use, and a namespace that does not exist."""

from typing import Any

import anyio
import pytest
from fix_samples import SAMPLES, open_subjects
from helpers import new_name

import aiorbd

pytestmark = pytest.mark.anyio

#: Excluded calls: calls outside the pool, calls that only wait, and the reply to an earlier notification.
ELSEWHERE = ("Cluster", "Updates.", "Quiesce", "ObjectWatch.__anext__", "Notification.ack")

#: librbd's cache accepts writes without a request to the cluster. Reads of ranges that were never written need no
#: cluster either. A flush reports the lost writes.
CACHED = {
    "Image.read",
    "Image.read_into",
    "Image.readv",
    "Image.write",
    "Image.write_same",
    "Image.write_with_crc32c",
    "Image.writev",
    "ImageFile.__anext__",
    "ImageFile.read",
    "ImageFile.readinto",
    "ImageFile.write",
    "ReadStream.__anext__",
    "Writer.write",
    "Writer.write_zeroes",
}


async def outcome(call: Any) -> Any:
    """Return the result or the error of a call. Return a text if the call does not end within 60 seconds."""
    with anyio.move_on_after(60) as scope:
        try:
            return await call
        except aiorbd.Error as error:
            return error
    return f"hangs: {scope.cancelled_caught}"


async def test_every_call_raises_pool_not_found_after_the_pool_is_deleted(cluster: aiorbd.Cluster) -> None:
    pool = new_name("gone")
    await cluster.create_pool(pool)
    async with cluster.open_ioctx(pool) as ioctx:
        await ioctx.init_pool()
    with pytest.raises(aiorbd.PoolNotFound):  # from the flush on leaving, because the test wrote to the image
        async with open_subjects(cluster, pool, "") as subjects:
            await cluster.delete_pool(pool)
            with anyio.fail_after(30):
                while not isinstance(await outcome(subjects.image.size()), aiorbd.PoolNotFound):
                    await anyio.sleep(0.1)  # until the client knows that the pool is deleted
            wrong = {}
            for name, call in SAMPLES.items():
                if name not in CACHED and not name.startswith(ELSEWHERE):
                    found = await outcome(call(subjects))
                    if not isinstance(found, aiorbd.PoolNotFound | aiorbd.LibraryTooOldError):
                        wrong[name] = found
            assert not wrong, "\n".join(f"{name}: {found!r}" for name, found in wrong.items())


async def test_reads_fail_and_flush_reports_lost_writes_after_the_pool_is_deleted(cluster: aiorbd.Cluster) -> None:
    pool = new_name("gone")
    await cluster.create_pool(pool)
    async with cluster.open_ioctx(pool) as ioctx:
        await ioctx.init_pool()
        await ioctx.create_image("image", 1 << 24)
        image = await ioctx.open_image("image")
        await image.write(b"x" * 4096, 0)
        await image.flush()
        await cluster.delete_pool(pool)
        with anyio.fail_after(30):
            while not isinstance(await outcome(image.size()), aiorbd.PoolNotFound):
                await anyio.sleep(0.1)
        for call in (
            lambda: image.read(0, 4096),
            lambda: image.readv([bytearray(512)], 0),
            lambda: image.read_into(bytearray(512), 0),
            lambda: anext(image.read_extents()),
            lambda: image.file().read(10),
        ):
            found = await outcome(call())
            assert isinstance(found, aiorbd.PoolNotFound), found
        await outcome(image.write(b"y" * 4096, 0))
        for flush in (image.flush, image.file().flush):
            found = await outcome(flush())
            assert isinstance(found, aiorbd.PoolNotFound), found
        assert isinstance(await outcome(through_a_writer(image)), aiorbd.PoolNotFound)
        await outcome(image.close(timeout=10))


async def through_a_writer(image: aiorbd.Image) -> None:
    """Write through a writer. Leaving the block flushes."""
    async with image.writer() as writer:
        await writer.write(b"z" * 4096, 0)


async def test_calls_raise_pool_not_found_after_only_the_data_pool_is_deleted(
    cluster: aiorbd.Cluster, ioctx: aiorbd.IoCtx, name: str
) -> None:
    pool = new_name("data")
    await cluster.create_pool(pool)
    await ioctx.create_image(name, 1 << 24, data_pool=pool)
    image = await ioctx.open_image(name)
    await image.write(b"x", 0)
    await image.flush()
    await cluster.delete_pool(pool)
    with anyio.fail_after(30):
        while not isinstance(await outcome(image.size()), aiorbd.PoolNotFound):
            await anyio.sleep(0.1)
    for call in (lambda: image.read(0, 1), lambda: image.discard(0, 1 << 20), image.flush, image.stat):
        found = await outcome(call())
        assert isinstance(found, aiorbd.PoolNotFound), found
        assert "data pool" in found.target
    await outcome(image.close(timeout=10))


async def test_calls_in_a_missing_namespace_raise_namespace_not_found(cluster: aiorbd.Cluster) -> None:
    async with cluster.open_ioctx("rbd", "no-such-namespace") as ioctx:
        calls: dict[str, Any] = {
            "list_images": ioctx.list_images,
            "pool_stats": ioctx.pool_stats,
            "entries": lambda: anext(ioctx.trash.entries()),
            "purge": ioctx.trash.purge,
            "create_image": lambda: ioctx.create_image("x", 1 << 20),
            "open_image": lambda: ioctx.open_image("x"),
            "remove_image": lambda: ioctx.remove_image("x"),
            "rename_image": lambda: ioctx.rename_image("x", "y"),
            "move": lambda: ioctx.trash.move("x"),
            "get": lambda: ioctx.trash.get("x"),
            "restore": lambda: ioctx.trash.restore("x", "y"),
            "metadata.get": lambda: ioctx.metadata.get("x"),
            "metadata.set": lambda: ioctx.metadata.set("x", "y"),
            "metadata.remove": lambda: ioctx.metadata.remove("x"),
            "metadata.items": lambda: anext(ioctx.metadata.items()),
        }
        for name, call in calls.items():
            with pytest.raises(aiorbd.NamespaceNotFound, match="no such namespace"):
                await call()
                pytest.fail(name)


async def test_copy_into_a_missing_namespace_raises_namespace_not_found(
    cluster: aiorbd.Cluster, image: aiorbd.Image
) -> None:
    await image.create_snapshot("one")
    async with cluster.open_ioctx("rbd", "no-such-namespace") as ioctx:
        calls: list[Any] = [
            lambda: image.copy(ioctx, "copy"),
            lambda: image.deep_copy(ioctx, "copy"),
            lambda: image.clone("one", ioctx, "clone", clone_format=2),
        ]
        for call in calls:
            with pytest.raises(aiorbd.NamespaceNotFound, match="no such namespace"):
                await call()
