"""Every public call with arguments, each with good values, which the sweep replaces with odd ones."""

from datetime import UTC, datetime

from sweep_topics import TOPICS
from sweep_world import (
    Call,
    Written,
    blocking,
    data,
    deferred,
    fresh,
    iterated,
    made,
    option,
    plainly,
    pooled,
    size_of,
    used,
)

import aiorbd

CALLS: dict[str, Call] = TOPICS | {
    "connect": Call(
        lambda w: used(aiorbd.connect),
        {
            "conffile": lambda w: w.conf,
            "client_id": "admin",
            "conf": None,
            "timeout": 5.0,
            "cluster_name": "ceph",
            "close_timeout": 5.0,
            "cluster_log": None,
            "observer": None,
            "on_start": None,
        },
        waits=frozenset({"timeout", "close_timeout"}),
    ),
    "export_image": Call(
        lambda w: aiorbd.export_image,
        {
            "image": lambda w: w.image,
            "path": lambda w: f"{w.directory}/export",
            "start": 0,
            "depth": 8,
            "use_object_map": True,
            "progress": None,
        },
    ),
    "import_image": Call(
        lambda w: aiorbd.import_image,
        {
            "ioctx": lambda w: w.ioctx,
            "path": lambda w: f"{w.directory}/import",
            "name": fresh,
            "options": None,
            "size": None,
            "start": 0,
            "depth": 8,
            "progress": None,
        },
    ),
    "copy_image": Call(
        lambda w: aiorbd.copy_image,
        {
            "source": lambda w: w.image,
            "destination": lambda w: w.image,
            "start": 0,
            "depth": 8,
            "use_object_map": True,
            "progress": None,
        },
    ),
    "BlockingImageFile.readinto": Call(blocking("readinto"), {"buffer": lambda w: bytearray(512)}),
    "BlockingImageFile.seek": Call(blocking("seek"), {"offset": 0, "whence": 0}, free=frozenset({"offset"})),
    "BlockingImageFile.truncate": Call(blocking("truncate"), {"size": 1 << 24}, {"size": lambda w, _: w.image.size()}),
    "BlockingImageFile.write": Call(blocking("write"), {"data": data()}),
    "Capabilities.require": Call(lambda w: plainly(aiorbd.capabilities().require), {"function": "rbd_open"}),
    "Cluster.close": Call(lambda w: w.cluster.close, {"timeout": 5.0}),
    "Cluster.conf_get": Call(lambda w: w.cluster.conf_get, {"name": "rbd_cache"}),
    "Cluster.conf_set": Call(lambda w: w.cluster.conf_set, {"name": "rbd_cache", "value": "true"}),
    "Cluster.create_pool": Call(lambda w: w.cluster.create_pool, {"name": "rbd"}),
    "Cluster.delete_pool": Call(lambda w: w.cluster.delete_pool, {"name": "none"}),
    "Cluster.drain": Call(lambda w: w.cluster.drain, {"timeout": 5.0}),
    "Cluster.mon_command": Call(
        lambda w: w.cluster.mon_command, {"command": lambda w: {"prefix": "status"}, "inbuf": b""}
    ),
    "Cluster.monitor_log": Call(lambda w: used(w.cluster.monitor_log), {"level": "error"}),
    "Cluster.open_ioctx": Call(
        lambda w: used(w.cluster.open_ioctx), {"pool": "rbd", "namespace": "", "full_try": False}
    ),
    "Cluster.osd_command": Call(
        lambda w: w.cluster.osd_command, {"osd_id": 0, "command": lambda w: {"prefix": "version"}, "inbuf": b""}
    ),
    "Cluster.pool_exists": Call(lambda w: w.cluster.pool_exists, {"name": "rbd"}),
    "Cluster.pool_id": Call(lambda w: w.cluster.pool_id, {"name": "rbd"}),
    "Cluster.pool_name": Call(lambda w: w.cluster.pool_name, {"pool_id": 1}),
    "SharedConnection": Call(
        lambda w: plainly(aiorbd.SharedConnection),
        {"connect": lambda w: lambda: aiorbd.connect(w.conf), "idle_timeout": 1.0},
        free=frozenset({"connect", "idle_timeout"}),
    ),
    "SharedConnection.evict_image": Call(
        pooled("evict_image"),
        {"pool": "rbd", "name": "none", "image_id": None, "namespace": ""},
        free=frozenset({"pool", "name", "image_id", "namespace"}),
    ),
    "SharedConnection.open_image": Call(
        pooled("open_image"),
        {
            "pool": "rbd",
            "name": lambda w: w.image.name,
            "image_id": None,
            "namespace": "",
            "snapshot": None,
            "read_only": True,
            "full_try": False,
        },
    ),
    "SharedConnection.open_ioctx": Call(pooled("open_ioctx"), {"pool": "rbd", "namespace": "", "full_try": False}),
    "Image.clone": Call(
        lambda w: w.image.clone,
        {"snapshot": "one", "ioctx": lambda w: w.ioctx, "name": fresh, "options": None, "clone_format": 2},
    ),
    "Image.close": Call(lambda w: w.image.close, {"timeout": 5.0}),
    "Image.compare_and_writev": Call(
        lambda w: w.image.compare_and_writev,
        {"compare": lambda w: [bytes(512)], "data": lambda w: [bytes(512)], "offset": 0, "op_flags": 0},
    ),
    "Image.compare_and_write": Call(
        lambda w: w.image.compare_and_write, {"compare": data(), "data": data(), "offset": 0, "op_flags": 0}
    ),
    "Image.copy": Call(
        lambda w: w.image.copy,
        {"ioctx": lambda w: w.ioctx, "name": fresh, "options": None, "sparse_size": 4096, "progress": None},
        free=frozenset({"sparse_size"}),  # 64 bits; a size above the object size makes no holes
    ),
    "Image.copy_to": Call(lambda w: w.image.copy_to, {"image": lambda w: w.image, "progress": None}),
    "Image.create_snapshot": Call(lambda w: w.image.create_snapshot, {"name": fresh, "flags": 0, "progress": None}),
    "Image.deep_copy": Call(
        lambda w: w.image.deep_copy, {"ioctx": lambda w: w.ioctx, "name": fresh, "options": None, "progress": None}
    ),
    "Image.diff": Call(
        lambda w: iterated(w.image.diff),
        {"offset": 0, "length": None, "from_snapshot": None, "include_parent": True, "whole_object": False},
    ),
    "Image.discard": Call(lambda w: w.image.discard, {"offset": 0, "length": 1 << 16}),
    "Image.drain": Call(lambda w: w.image.drain, {"timeout": 5.0}),
    "Image.blocking_file": Call(lambda w: plainly(w.image.blocking_file), {"allow_shrink": True}),
    "Image.file": Call(
        lambda w: plainly(w.image.file), {"chunk_size": 1 << 20, "allow_shrink": True}, free=frozenset({"chunk_size"})
    ),
    "Image.flatten": Call(lambda w: w.image.flatten, {"progress": None}),
    "Image.get_snapshot": Call(lambda w: w.image.get_snapshot, {"name": "one", "snapshot_id": None}),
    "Image.get_snapshot by id": Call(lambda w: w.image.get_snapshot, {"snapshot_id": lambda w: w.snapshot.id}),
    "Image.quiesce_watch": Call(lambda w: used(w.image.quiesce_watch), {"timeout": 30.0}),
    "Image.read": Call(lambda w: w.image.read, {"offset": 0, "length": 512, "op_flags": 0}),
    "Image.read_extents": Call(
        lambda w: iterated(w.image.read_extents),
        {
            "extents": None,
            "offset": 0,
            "length": None,
            "chunk_size": 1 << 20,
            "depth": 8,
            "ordered": True,
            "skip_zeroes": False,
            "op_flags": 0,
        },
    ),
    "Image.read_extents of a list": Call(
        lambda w: iterated(w.image.read_extents),
        {"extents": lambda w: [(0, 512)], "chunk_size": 1 << 20},
    ),
    "Image.read_into": Call(
        lambda w: w.image.read_into, {"buffer": lambda w: bytearray(512), "offset": 0, "op_flags": 0}
    ),
    "Image.readv": Call(lambda w: w.image.readv, {"buffers": lambda w: [bytearray(512)], "offset": 0}),
    "Image.rebuild_object_map": Call(lambda w: w.image.rebuild_object_map, {"progress": None}),
    "Image.resize": Call(
        lambda w: w.image.resize,
        {"size": 1 << 24, "allow_shrink": True, "progress": None},
        {"size": lambda w, _: w.image.size()},
    ),
    "Image.set_snapshot": Call(lambda w: w.image.set_snapshot, {"snapshot": "one"}),
    "Image.set_snapshot_limit": Call(
        lambda w: w.image.set_snapshot_limit, {"limit": 10}, {"limit": lambda w, _: w.image.snapshot_limit()}
    ),
    "Image.snapshot_exists": Call(lambda w: w.image.snapshot_exists, {"name": "one"}),
    "Image.snapshots": Call(lambda w: iterated(w.image.snapshots), {"any_namespace": False}),
    "Image.sparsify": Call(lambda w: w.image.sparsify, {"sparse_size": 4096, "progress": None}),
    "Image.update_features": Call(
        lambda w: w.image.update_features, {"features": aiorbd.Feature.FAST_DIFF, "enabled": True}
    ),
    "Image.write": Call(lambda w: w.image.write, {"data": data(), "offset": 0, "op_flags": 0}),
    "Image.write of a bytearray": Call(lambda w: w.image.write, {"data": lambda w: bytearray(512), "offset": 0}),
    "Image.write_same": Call(
        lambda w: w.image.write_same, {"data": data(), "offset": 0, "length": 1024, "op_flags": 0}
    ),
    "Image.write_with_crc32c": Call(
        lambda w: w.image.write_with_crc32c, {"data": b"123456789", "offset": 0, "crc32c": 0xE3069283, "op_flags": 0}
    ),
    "Image.write_zeroes": Call(
        lambda w: w.image.write_zeroes, {"offset": 0, "length": 512, "thick": False, "op_flags": 0}
    ),
    "Image.writer": Call(
        lambda w: used(w.image.writer),
        {"depth": 8, "max_bytes": 1 << 20, "release": None},
        free=frozenset({"max_bytes"}),
    ),
    "Image.writev": Call(lambda w: w.image.writev, {"buffers": lambda w: [bytes(512)], "offset": 0}),
    "ImageFile.read": Call(  # reads up to the end
        lambda w: w.image.file().read, {"size": 512}, free=frozenset({"size"})
    ),
    "ImageFile.readinto": Call(lambda w: w.image.file().readinto, {"buffer": lambda w: bytearray(512)}),
    "ImageFile.seek": Call(lambda w: w.image.file().seek, {"offset": 0, "whence": 0}, free=frozenset({"offset"})),
    "ImageFile.truncate": Call(
        lambda w: w.image.file(allow_shrink=True).truncate, {"size": 1 << 24}, {"size": lambda w, _: w.image.size()}
    ),
    "ImageFile.write": Call(lambda w: w.image.file().write, {"data": data()}),
    "ImageOptions": Call(lambda w: plainly(aiorbd.ImageOptions), {"values": None}),
    "ImageOptions.__getitem__": Call(lambda w: plainly(aiorbd.ImageOptions({2: 22}).__getitem__), {"option": 2}),  # type: ignore[dict-item]
    "ImageOptions.__setitem__": Call(lambda w: plainly(aiorbd.ImageOptions().__setitem__), {"option": 2, "value": 22}),
    "IoCtx.clone_image": Call(
        lambda w: w.ioctx.clone_image,
        {
            "parent_name": lambda w: w.image.name,
            "parent_snapshot": "one",
            "ioctx": lambda w: w.ioctx,
            "name": fresh,
            "options": None,
            "clone_format": 2,
        },
    ),
    "IoCtx.close": Call(lambda w: w.ioctx.close, {"timeout": 5.0}),
    "IoCtx.application_enable": Call(lambda w: w.ioctx.application_enable, {"name": fresh, "force": True}),
    "IoCtx.create_image": Call(
        lambda w: w.ioctx.create_image,
        {"name": fresh, "size": 1 << 20, "options": None},
        {"size": lambda w, arguments: size_of(w, arguments["name"])},
    ),
    "IoCtx.create_image, order": option("order"),
    "IoCtx.create_image, features": option("features"),
    "IoCtx.create_image, features_set": option("features_set"),
    "IoCtx.create_image, features_clear": option("features_clear"),
    "IoCtx.create_image, stripe_unit": option("stripe_unit", stripe_count=2),
    "IoCtx.create_image, stripe_count": option("stripe_count", stripe_unit=4096),
    "IoCtx.create_image, data_pool": option("data_pool"),
    "IoCtx.create_image, journal_order": option("journal_order", features=69),
    "IoCtx.create_image, journal_splay_width": option("journal_splay_width", features=69),
    "IoCtx.create_image, journal_pool": option("journal_pool", features=69),
    "IoCtx.create_image, mirror_image_mode": option("mirror_image_mode"),
    "IoCtx.create_image, image_format": option("image_format"),
    "IoCtx.create_image, clone_format": option("clone_format"),
    "IoCtx.create_image, flatten": option("flatten"),
    "IoCtx.drain": Call(lambda w: w.ioctx.drain, {"timeout": 5.0}),
    "IoCtx.open_image": Call(
        lambda w: used(w.ioctx.open_image, lambda image: image.read(0, 1)),
        {"name": lambda w: w.image.name, "image_id": None, "snapshot": None, "read_only": True},
    ),
    "IoCtx.open_image by id": Call(
        lambda w: used(w.ioctx.open_image), {"image_id": lambda w: w.image.id, "read_only": True}
    ),
    "IoCtx.init_pool": Call(lambda w: w.ioctx.init_pool, {"force": True}),
    "IoCtx.remove_image": Call(
        lambda w: w.ioctx.remove_image, {"name": made, "image_id": None, "progress": None, "retry_for": 0.0}
    ),
    "IoCtx.remove_image by id": Call(lambda w: w.ioctx.remove_image, {"image_id": "none"}),
    "IoCtx.rename_image": Call(lambda w: w.ioctx.rename_image, {"name": made, "new_name": fresh}),
    "AdvisoryLocks.break_lock": Call(
        lambda w: w.image.advisory_locks.break_lock, {"client": "client.1", "cookie": "cookie"}
    ),
    "ExclusiveLock.acquire": Call(lambda w: w.image.exclusive_lock.acquire, {"mode": 0}),
    "ExclusiveLock.break_lock": Call(lambda w: w.image.exclusive_lock.break_lock, {"owner": "1.2.3.4:0/1", "mode": 0}),
    "AdvisoryLocks.lock_exclusive": Call(lambda w: w.image.advisory_locks.lock_exclusive, {"cookie": "cookie"}),
    "AdvisoryLocks.lock_shared": Call(lambda w: w.image.advisory_locks.lock_shared, {"cookie": "cookie", "tag": "tag"}),
    "AdvisoryLocks.unlock": Call(lambda w: w.image.advisory_locks.unlock, {"cookie": "cookie"}),
    "Metadata.get": Call(lambda w: w.image.metadata.get, {"key": "key"}),
    "Metadata.remove": Call(lambda w: w.image.metadata.remove, {"key": "key"}),
    "Metadata.set": Call(lambda w: w.image.metadata.set, {"key": "key", "value": "value"}),
    "Metadata.set of a pool": Call(lambda w: w.ioctx.metadata.set, {"key": "key", "value": "value"}),
    "Namespaces.create": Call(lambda w: w.ioctx.namespaces.create, {"name": fresh}),
    "Namespaces.exists": Call(lambda w: w.ioctx.namespaces.exists, {"name": "none"}),
    "Namespaces.remove": Call(lambda w: w.ioctx.namespaces.remove, {"name": "none"}),
    "Objects.append": Call(lambda w: w.ioctx.objects.append, {"key": "o", "data": data()}),
    "Objects.notify": Call(lambda w: w.ioctx.objects.notify, {"key": "object", "data": b"", "timeout": 1.0}),
    "Objects.omap_items": Call(
        lambda w: iterated(w.ioctx.objects.omap_items), {"key": "object", "start_after": "", "prefix": ""}
    ),
    "Objects.omap_remove": Call(lambda w: w.ioctx.objects.omap_remove, {"key": "object", "names": lambda w: ["a"]}),
    "Objects.omap_set": Call(lambda w: w.ioctx.objects.omap_set, {"key": "object", "values": lambda w: {"a": b"1"}}),
    "Objects.read": Call(  # there is no data at large offsets
        lambda w: w.ioctx.objects.read, {"key": "object", "length": 512, "offset": 0}, free=frozenset({"offset"})
    ),
    "Objects.remove": Call(lambda w: w.ioctx.objects.remove, {"key": "none"}),
    "Objects.stat": Call(lambda w: w.ioctx.objects.stat, {"key": "object"}),
    "Objects.watch": Call(
        lambda w: used(w.ioctx.objects.watch),
        {"key": "object", "silence": 30},
        free=frozenset({"silence"}),  # 32 bits, as in Ceph's message
    ),
    "Objects.write": Call(lambda w: w.ioctx.objects.write, {"key": "o", "data": data(), "offset": 0}),
    "Objects.write_full": Call(lambda w: w.ioctx.objects.write_full, {"key": "o", "data": data()}),
    "OperationStats.quantile": Call(
        lambda w: plainly(aiorbd.OperationStats(1, 0, 1, 1.0, (1,) * 28).quantile),
        {"fraction": 0.5},
        free=frozenset({"fraction"}),
    ),
    "Snapshot.remove": Call(  # 32 bits, of which librbd uses two
        lambda w: w.snapshot.remove,
        {"flags": 0, "any_namespace": False, "progress": None},
        free=frozenset({"flags"}),
    ),
    "Snapshot.remove_by_id": Call(lambda w: w.snapshot.remove_by_id, {"any_namespace": False}),
    "Snapshot.rename": Call(lambda w: w.snapshot.rename, {"new_name": fresh}),
    "Snapshot.rollback": Call(lambda w: w.snapshot.rollback, {"progress": None}),
    "Trash.get": Call(lambda w: w.ioctx.trash.get, {"image_id": "none"}),
    "Trash.move": Call(lambda w: w.ioctx.trash.move, {"name": made, "delay": 0}, {"delay": deferred}),
    "Trash.purge": Call(
        lambda w: w.ioctx.trash.purge,
        {"expired_before": lambda w: datetime(2000, 1, 1, tzinfo=UTC), "threshold": None, "progress": None},
    ),
    "Trash.remove": Call(
        lambda w: w.ioctx.trash.remove, {"image_id": "none", "force": True, "progress": None, "retry_for": 0.0}
    ),
    "Trash.restore": Call(lambda w: w.ioctx.trash.restore, {"image_id": "none", "name": fresh}),
    "Writer.write": Call(
        lambda w: used(lambda **k: Written(w, "write", k)), {"data": data(), "offset": 0, "op_flags": 0}
    ),
    "Writer.write_zeroes": Call(
        lambda w: used(lambda **k: Written(w, "write_zeroes", k)), {"offset": 0, "length": 512}
    ),
}

#: Calls with arguments that are not swept, and the reasons.
NOT_SWEPT = {
    "ClusterStats.followed_by": "of two objects of Python's",
    "QuiesceRequest.fail": "needs a request each time: test_quiesce.py",
    "Mirror.set_mode": "it would mirror the pool of the other calls; an unknown mode has a test",
    "Mirror.set_site_name": "all pools of the cluster share the name",
    "Cluster.add_observer": "any function is called, and what it raises is logged",
    "Cluster.mgr_command": "like Cluster.mon_command, but it waits for a manager",
    "Cluster.remove_observer": "of a list of Python's",
    "ClusterLog.close": "the same method as Cluster.close",
    "ClusterLog.drain": "the same method as Cluster.drain",
    "ObjectWatch.close": "the same method as Cluster.close",
    "ObjectWatch.drain": "the same method as Cluster.drain",
    "Notification.ack": "takes a buffer, and needs a notification each time: tested with those",
}
