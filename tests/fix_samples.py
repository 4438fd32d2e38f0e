"""One call of every public coroutine, for tests of rules that all calls must keep."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from helpers import new_name
from inside import quiesce_request

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
    quiesces: aiorbd.QuiesceWatch
    quiesce: aiorbd.QuiesceRequest
    key: str


async def first(iterator: AsyncIterator[Any]) -> Any:
    """Return an iterator's next item, or ``None`` at its end."""
    return await anext(iterator, None)


Sample = Callable[[Subjects], Awaitable[Any]]

#: By the name of the method.
SAMPLES: dict[str, Sample] = {
    "Cluster.conf_get": lambda s: s.cluster.conf_get("rbd_cache"),
    "Cluster.conf_set": lambda s: s.cluster.conf_set("rbd_cache", "true"),
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
    "Cluster.wait_for_latest_osdmap": lambda s: s.cluster.wait_for_latest_osdmap(),
    "ClusterLog.__anext__": lambda s: first(s.log),
    "Diff.__anext__": lambda s: first(s.image.diff()),
    "Image.children": lambda s: first(s.image.children()),
    "Image.clone": lambda s: s.image.clone("one", s.ioctx, new_name()),
    "Image.compare_and_write": lambda s: s.image.compare_and_write(b"\0", b"x", 0),
    "Image.compare_and_writev": lambda s: s.image.compare_and_writev([b"\0"], [b"x"], 0),
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
    "Image.invalidate_cache": lambda s: s.image.invalidate_cache(),
    "Image.overlap": lambda s: s.image.overlap(),
    "Image.parent": lambda s: s.image.parent(),
    "Image.get_snapshot": lambda s: s.image.get_snapshot("one"),
    "Image.snapshot_limit": lambda s: s.image.snapshot_limit(),
    "Image.access_timestamp": lambda s: s.image.access_timestamp(),
    "Image.modify_timestamp": lambda s: s.image.modify_timestamp(),
    "Image.op_features": lambda s: s.image.op_features(),
    "Image.quiesce_watch": lambda s: s.image.quiesce_watch(),
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
    "Image.write_with_crc32c": lambda s: s.image.write_with_crc32c(b"123456789", 0, 0xE3069283),
    "Image.write_zeroes": lambda s: s.image.write_zeroes(0, 1),
    "Image.writev": lambda s: s.image.writev([b"x"], 0),
    "ImageFile.__anext__": lambda s: anext(s.file),
    "ImageFile.flush": lambda s: s.file.flush(),
    "ImageFile.read": lambda s: s.file.read(1),
    "ImageFile.readinto": lambda s: s.file.readinto(bytearray(1)),
    "ImageFile.truncate": lambda s: s.file.truncate(1 << 24),
    "ImageFile.write": lambda s: s.file.write(b"x"),
    "IoCtx.application_enable": lambda s: s.ioctx.application_enable("rbd"),
    "IoCtx.applications": lambda s: first(s.ioctx.applications()),
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
    "Config.get": lambda s: s.image.config.get("rbd_cache"),
    "Config.options": lambda s: first(s.ioctx.config.options()),
    "Config.set": lambda s: s.image.config.set("rbd_cache", "true"),
    "Config.unset": lambda s: s.ioctx.config.unset("rbd_cache"),
    "Encryption.format": lambda s: s.image.encryption.format(aiorbd.EncryptionFormat.LUKS1, b"secret"),
    "Encryption.load": lambda s: s.image.encryption.load(b"secret"),
    "Encryption.load_chain": lambda s: s.image.encryption.load_chain([b"secret"]),
    "Group.add_image": lambda s: s.ioctx.groups.get("none").add_image("none"),
    "Group.create_snapshot": lambda s: s.ioctx.groups.get("none").create_snapshot("one"),
    "Group.get_snapshot": lambda s: s.ioctx.groups.get("none").get_snapshot("one"),
    "Group.id": lambda s: s.ioctx.groups.get("none").id(),
    "Group.images": lambda s: first(s.ioctx.groups.get("none").images()),
    "Group.remove_image": lambda s: s.ioctx.groups.get("none").remove_image("none"),
    "Group.remove_snapshot": lambda s: s.ioctx.groups.get("none").remove_snapshot("one"),
    "Group.rename_snapshot": lambda s: s.ioctx.groups.get("none").rename_snapshot("one", "two"),
    "Group.rollback": lambda s: s.ioctx.groups.get("none").rollback("one"),
    "Group.snapshot_infos": lambda s: first(s.ioctx.groups.get("none").snapshot_infos()),
    "Group.snapshots": lambda s: first(s.ioctx.groups.get("none").snapshots()),
    "Groups.create": lambda s: s.ioctx.groups.create(new_name()),
    "Groups.exists": lambda s: s.ioctx.groups.exists("none"),
    "Groups.names": lambda s: s.ioctx.groups.names(),
    "Groups.remove": lambda s: s.ioctx.groups.remove("none"),
    "Groups.rename": lambda s: s.ioctx.groups.rename("none", "other"),
    "Image.disk_usage": lambda s: s.image.disk_usage(),
    "Image.group": lambda s: s.image.group(),
    "Image.migration_source": lambda s: s.image.migration_source(),
    "ImageMirror.create_snapshot": lambda s: s.image.mirror.create_snapshot(),
    "ImageMirror.demote": lambda s: s.image.mirror.demote(),
    "ImageMirror.disable": lambda s: s.image.mirror.disable(),
    "ImageMirror.enable": lambda s: s.image.mirror.enable(),
    "ImageMirror.info": lambda s: s.image.mirror.info(),
    "ImageMirror.instance_id": lambda s: s.image.mirror.instance_id(),
    "ImageMirror.mode": lambda s: s.image.mirror.mode(),
    "ImageMirror.promote": lambda s: s.image.mirror.promote(),
    "ImageMirror.resync": lambda s: s.image.mirror.resync(),
    "ImageMirror.status": lambda s: s.image.mirror.status(),
    "IoCtx.disk_usage": lambda s: first(s.ioctx.disk_usage()),
    "Migration.abort": lambda s: s.ioctx.migration.abort("none"),
    "Migration.commit": lambda s: s.ioctx.migration.commit("none"),
    "Migration.execute": lambda s: s.ioctx.migration.execute("none"),
    "Migration.prepare": lambda s: s.ioctx.migration.prepare("none", s.ioctx, new_name()),
    "Migration.prepare_import": lambda s: s.ioctx.migration.prepare_import({"type": "none"}, new_name()),
    "Migration.status": lambda s: s.ioctx.migration.status("none"),
    "Mirror.image_statuses": lambda s: first(s.ioctx.mirror.image_statuses()),
    "Mirror.images": lambda s: first(s.ioctx.mirror.images()),
    "Mirror.instance_ids": lambda s: first(s.ioctx.mirror.instance_ids()),
    "Mirror.mode": lambda s: s.ioctx.mirror.mode(),
    "Mirror.remote_namespace": lambda s: s.ioctx.mirror.remote_namespace(),
    "Mirror.set_mode": lambda s: s.ioctx.mirror.set_mode(aiorbd.MirrorMode.DISABLED),
    "Mirror.set_remote_namespace": lambda s: s.ioctx.mirror.set_remote_namespace(""),
    "Mirror.set_site_name": lambda s: s.ioctx.mirror.set_site_name("here"),
    "Mirror.site_name": lambda s: s.ioctx.mirror.site_name(),
    "Mirror.status_summary": lambda s: s.ioctx.mirror.status_summary(),
    "Mirror.uuid": lambda s: s.ioctx.mirror.uuid(),
    "MirrorPeers.add": lambda s: s.ioctx.mirror.peers.add("there", "client.none"),
    "MirrorPeers.attributes": lambda s: s.ioctx.mirror.peers.attributes("none"),
    "MirrorPeers.create_token": lambda s: s.ioctx.mirror.peers.create_token(),
    "MirrorPeers.import_token": lambda s: s.ioctx.mirror.peers.import_token("none"),
    "MirrorPeers.remove": lambda s: s.ioctx.mirror.peers.remove("none"),
    "MirrorPeers.set_attributes": lambda s: s.ioctx.mirror.peers.set_attributes("none", {"key": "none"}),
    "MirrorPeers.set_client_name": lambda s: s.ioctx.mirror.peers.set_client_name("none", "client.none"),
    "MirrorPeers.set_direction": lambda s: s.ioctx.mirror.peers.set_direction("none", aiorbd.MirrorPeerDirection.RX),
    "MirrorPeers.set_site_name": lambda s: s.ioctx.mirror.peers.set_site_name("none", "there"),
    "MirrorPeers.sites": lambda s: first(s.ioctx.mirror.peers.sites()),
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
    "Snapshot.group_namespace": lambda s: s.snapshot.group_namespace(),
    "Snapshot.mirror_namespace": lambda s: s.snapshot.mirror_namespace(),
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
    "QuiesceRequest.complete": lambda s: s.quiesce.complete(),
    "QuiesceRequest.fail": lambda s: s.quiesce.fail(),
    "QuiesceRequest.released": lambda s: s.quiesce.released(),
    "QuiesceWatch.__anext__": lambda s: first(s.quiesces),
    "Updates.wait": lambda s: s.updates.wait(),
    "Writer.flush": lambda s: s.image.writer().flush(),
    "Writer.write": lambda s: s.image.writer().write(b"x", 0),
    "Writer.write_zeroes": lambda s: s.image.writer().write_zeroes(0, 1),
}

#: Endless streams. Closing their subject ends these iterations, and raises no error.
ENDLESS = {"ClusterLog.__anext__", "ObjectWatch.__anext__", "QuiesceWatch.__anext__", "Updates.__anext__"}


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
                async with image.quiesce_watch() as quiesces:
                    yield Subjects(
                        cluster,
                        ioctx,
                        image,
                        snapshot,
                        watch,
                        notification,
                        log,
                        image.file(),
                        image.watch(),
                        quiesces,
                        quiesce_request(quiesces),
                        "object",
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
