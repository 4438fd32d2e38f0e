"""One call of every public coroutine, for tests of rules that all calls must keep."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from helpers import new_name

import aiorbd


@dataclass
class Subjects:
    """The objects on which the calls are made."""

    cluster: aiorbd.Cluster
    ioctx: aiorbd.IoCtx
    image: aiorbd.Image
    snapshot: aiorbd.Snapshot
    watch: aiorbd.ObjectWatch
    notification: aiorbd.Notification
    log: aiorbd.ClusterLog
    file: aiorbd.ImageFile
    updates: aiorbd.Updates
    key: str


async def first(iterator: AsyncIterator[Any]) -> Any:
    """Return an iterator's next item, or ``None`` at its end."""
    return await anext(iterator, None)


Sample = Callable[[Subjects], Awaitable[Any]]

#: By the name of the method.
SAMPLES: dict[str, Sample] = {
    "Cluster.create_pool": lambda s: s.cluster.create_pool(new_name("pool")),
    "Cluster.delete_pool": lambda s: s.cluster.delete_pool("no-such-pool"),
    "Cluster.pools": lambda s: s.cluster.pools(),
    "Cluster.mgr_command": lambda s: s.cluster.mgr_command({"prefix": "status"}),
    "Cluster.mon_command": lambda s: s.cluster.mon_command({"prefix": "status"}),
    "Cluster.monitor_log": lambda s: s.cluster.monitor_log(),
    "Cluster.open_ioctx": lambda s: s.cluster.open_ioctx("rbd"),
    "Cluster.osd_command": lambda s: s.cluster.osd_command(0, {"prefix": "version"}),
    "Cluster.pool_exists": lambda s: s.cluster.pool_exists("rbd"),
    "Cluster.pool_id": lambda s: s.cluster.pool_id("rbd"),
    "Cluster.pool_name": lambda s: s.cluster.pool_name(1),
    "ClusterLog.__anext__": lambda s: first(s.log),
    "Diff.__anext__": lambda s: first(s.image.diff()),
    "Image.children": lambda s: first(s.image.children()),
    "Image.clone": lambda s: s.image.clone("one", s.ioctx, new_name()),
    "Image.compare_and_write": lambda s: s.image.compare_and_write(b"\0", b"x", 0),
    "Image.copy": lambda s: s.image.copy(s.ioctx, new_name()),
    "Image.copy_to": lambda s: s.image.copy_to(s.image),
    "Image.create_snapshot": lambda s: s.image.create_snapshot(new_name()),
    "Image.deep_copy": lambda s: s.image.deep_copy(s.ioctx, new_name()),
    "Image.descendants": lambda s: first(s.image.descendants()),
    "Image.discard": lambda s: s.image.discard(0, 1),
    "Image.features": lambda s: s.image.features(),
    "Image.flags": lambda s: s.image.flags(),
    "Image.flatten": lambda s: s.image.flatten(),
    "Image.flush": lambda s: s.image.flush(),
    "Image.overlap": lambda s: s.image.overlap(),
    "Image.parent": lambda s: s.image.parent(),
    "Image.get_snapshot": lambda s: s.image.get_snapshot("one"),
    "Image.snapshot_limit": lambda s: s.image.snapshot_limit(),
    "Image.access_timestamp": lambda s: s.image.access_timestamp(),
    "Image.modify_timestamp": lambda s: s.image.modify_timestamp(),
    "Image.op_features": lambda s: s.image.op_features(),
    "Image.read": lambda s: s.image.read(0, 1),
    "Image.read_into": lambda s: s.image.read_into(bytearray(1), 0),
    "Image.readv": lambda s: s.image.readv([bytearray(1)], 0),
    "Image.rebuild_object_map": lambda s: s.image.rebuild_object_map(),
    "Image.resize": lambda s: s.image.resize(1 << 24),
    "Image.set_snapshot": lambda s: s.image.set_snapshot(None),
    "Image.set_snapshot_limit": lambda s: s.image.set_snapshot_limit(None),
    "Image.size": lambda s: s.image.size(),
    "Image.snapshot_exists": lambda s: s.image.snapshot_exists("one"),
    "Image.snapshots": lambda s: first(s.image.snapshots()),
    "Image.sparsify": lambda s: s.image.sparsify(4096),
    "Image.stat": lambda s: s.image.stat(),
    "Image.update_features": lambda s: s.image.update_features(aiorbd.Feature.FAST_DIFF, enabled=True),
    "Image.watchers": lambda s: first(s.image.watchers()),
    "Image.write": lambda s: s.image.write(b"x", 0),
    "Image.write_same": lambda s: s.image.write_same(b"x", 0, 1),
    "Image.write_zeroes": lambda s: s.image.write_zeroes(0, 1),
    "Image.writev": lambda s: s.image.writev([b"x"], 0),
    "ImageFile.__anext__": lambda s: anext(s.file),
    "ImageFile.flush": lambda s: s.file.flush(),
    "ImageFile.read": lambda s: s.file.read(1),
    "ImageFile.readinto": lambda s: s.file.readinto(bytearray(1)),
    "ImageFile.truncate": lambda s: s.file.truncate(1 << 24),
    "ImageFile.write": lambda s: s.file.write(b"x"),
    "IoCtx.clone_image": lambda s: s.ioctx.clone_image(s.image.name, "one", s.ioctx, new_name()),
    "IoCtx.create_image": lambda s: s.ioctx.create_image(new_name(), 1),
    "IoCtx.images": lambda s: first(s.ioctx.images()),
    "IoCtx.list_images": lambda s: s.ioctx.list_images(),
    "IoCtx.open_image": lambda s: s.ioctx.open_image("no-such-image"),
    "IoCtx.init_pool": lambda s: s.ioctx.init_pool(),
    "IoCtx.pool_stats": lambda s: s.ioctx.pool_stats(),
    "IoCtx.remove_image": lambda s: s.ioctx.remove_image("no-such-image"),
    "IoCtx.rename_image": lambda s: s.ioctx.rename_image("no-such-image", new_name()),
    "AdvisoryLocks.break_lock": lambda s: s.image.advisory_locks.break_lock("client.1", "cookie"),
    "ExclusiveLock.is_owner": lambda s: s.image.exclusive_lock.is_owner(),
    "AdvisoryLocks.lockers": lambda s: s.image.advisory_locks.lockers(),
    "ExclusiveLock.acquire": lambda s: s.image.exclusive_lock.acquire(),
    "ExclusiveLock.break_lock": lambda s: s.image.exclusive_lock.break_lock("1.2.3.4:0/1"),
    "AdvisoryLocks.lock_exclusive": lambda s: s.image.advisory_locks.lock_exclusive("cookie"),
    "ExclusiveLock.owners": lambda s: s.image.exclusive_lock.owners(),
    "ExclusiveLock.release": lambda s: s.image.exclusive_lock.release(),
    "AdvisoryLocks.lock_shared": lambda s: s.image.advisory_locks.lock_shared("cookie", "tag"),
    "AdvisoryLocks.unlock": lambda s: s.image.advisory_locks.unlock("cookie"),
    "Metadata.get": lambda s: s.image.metadata.get("key"),
    "Metadata.items": lambda s: first(s.ioctx.metadata.items()),
    "Metadata.remove": lambda s: s.image.metadata.remove("key"),
    "Metadata.set": lambda s: s.image.metadata.set("key", "value"),
    "Namespaces.create": lambda s: s.ioctx.namespaces.create(new_name()),
    "Namespaces.exists": lambda s: s.ioctx.namespaces.exists("none"),
    "Namespaces.names": lambda s: s.ioctx.namespaces.names(),
    "Namespaces.remove": lambda s: s.ioctx.namespaces.remove("none"),
    "Notification.ack": lambda s: s.notification.ack(),
    "ObjectWatch.__anext__": lambda s: first(s.watch),
    "ObjectWatch.check": lambda s: s.watch.check(),
    "Objects.append": lambda s: s.ioctx.objects.append(s.key, b"x"),
    "Objects.flush": lambda s: s.ioctx.objects.flush(),
    "Objects.notify": lambda s: s.ioctx.objects.notify(s.key, timeout=1),
    "Objects.omap_items": lambda s: first(s.ioctx.objects.omap_items(s.key)),
    "Objects.omap_remove": lambda s: s.ioctx.objects.omap_remove(s.key, ["a"]),
    "Objects.omap_set": lambda s: s.ioctx.objects.omap_set(s.key, {"a": b"1"}),
    "Objects.read": lambda s: s.ioctx.objects.read(s.key),
    "Objects.remove": lambda s: s.ioctx.objects.remove("none"),
    "Objects.stat": lambda s: s.ioctx.objects.stat(s.key),
    "Objects.watch": lambda s: s.ioctx.objects.watch(s.key),
    "Objects.write": lambda s: s.ioctx.objects.write(s.key, b"x"),
    "Objects.write_full": lambda s: s.ioctx.objects.write_full(s.key, b"x"),
    "Snapshot.timestamp": lambda s: s.snapshot.timestamp(),
    "Snapshot.trash_namespace": lambda s: s.snapshot.trash_namespace(),
    "Snapshot.is_protected": lambda s: s.snapshot.is_protected(),
    "Snapshot.protect": lambda s: s.snapshot.protect(),
    "Snapshot.remove": lambda s: s.snapshot.remove(),
    "Snapshot.remove_by_id": lambda s: s.snapshot.remove_by_id(),
    "Snapshot.rename": lambda s: s.snapshot.rename(new_name()),
    "Snapshot.rollback": lambda s: s.snapshot.rollback(),
    "Snapshot.set": lambda s: s.snapshot.set(),
    "Snapshot.unprotect": lambda s: s.snapshot.unprotect(),
    "Trash.entries": lambda s: first(s.ioctx.trash.entries()),
    "Trash.get": lambda s: s.ioctx.trash.get("none"),
    "Trash.move": lambda s: s.ioctx.trash.move("none"),
    "Trash.purge": lambda s: s.ioctx.trash.purge(),
    "Trash.remove": lambda s: s.ioctx.trash.remove("none"),
    "Trash.restore": lambda s: s.ioctx.trash.restore("none", new_name()),
    "Updates.__anext__": lambda s: anext(s.updates),
    "ReadStream.__anext__": lambda s: first(s.image.read_extents()),
    "Updates.wait": lambda s: s.updates.wait(),
    "Writer.flush": lambda s: s.image.writer().flush(),
    "Writer.write": lambda s: s.image.writer().write(b"x", 0),
    "Writer.write_zeroes": lambda s: s.image.writer().write_zeroes(0, 1),
}

#: Endless streams. Closing their subject ends these iterations, and raises no error.
ENDLESS = {"ClusterLog.__anext__", "ObjectWatch.__anext__", "Updates.__anext__"}


@asynccontextmanager
async def open_subjects(cluster: aiorbd.Cluster, pool: str, namespace: str) -> AsyncIterator[Subjects]:
    """Open all subjects in an existing, empty namespace."""
    async with cluster.open_ioctx(pool, namespace) as ioctx:
        await ioctx.create_image("image", 1 << 24)
        await ioctx.objects.write_full("object", b"x")
        async with ioctx.open_image("image") as image, ioctx.objects.watch("object") as watch:
            snapshot = await image.create_snapshot("one")
            await ioctx.objects.notify("object", b"hello", timeout=1)
            notification = await anext(watch)
            async with cluster.monitor_log("error") as log:
                yield Subjects(
                    cluster, ioctx, image, snapshot, watch, notification, log, image.file(), image.watch(), "object"
                )


@pytest.fixture
async def subjects(aiorbd_cluster: Any) -> AsyncIterator[Subjects]:
    """Open all subjects in a new namespace for this test alone."""
    namespace = new_name("samples")
    async with aiorbd.connect(aiorbd_cluster.conffile, timeout=30) as cluster:
        async with cluster.open_ioctx("rbd") as pool:
            await pool.namespaces.create(namespace)
        async with open_subjects(cluster, "rbd", namespace) as subjects:
            yield subjects
