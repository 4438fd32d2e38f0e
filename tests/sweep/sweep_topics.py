"""The calls about diffs, groups, mirroring, migration, encryption, options and used bytes, for the sweep."""

from sweep_world import Call, fresh, iterated, new_diff, plainly

import aiorbd

TOPICS: dict[str, Call] = {
    "export_diff": Call(
        lambda w: aiorbd.export_diff,
        {
            "image": lambda w: w.image,
            "target": lambda w: f"{w.directory}/diff",
            "from_snapshot": None,
            "version": 1,
            "whole_object": False,
            "depth": 4,
            "progress": None,
        },
    ),
    "export_history": Call(
        lambda w: aiorbd.export_history,
        {"image": lambda w: w.image, "target": lambda w: f"{w.directory}/diff", "depth": 4, "progress": None},
    ),
    "import_diff": Call(
        lambda w: aiorbd.import_diff,
        {"image": lambda w: w.image, "source": new_diff, "depth": 4, "progress": None},
    ),
    "import_history": Call(
        lambda w: aiorbd.import_history,
        {
            "ioctx": lambda w: w.ioctx,
            "source": new_diff,
            "name": fresh,
            "options": None,
            "depth": 4,
            "progress": None,
        },
    ),
    "import_into": Call(
        lambda w: aiorbd.import_into,
        {"image": lambda w: w.image, "source": new_diff, "allow_shrink": True, "depth": 4, "progress": None},
    ),
    "merge_diff": Call(
        lambda w: aiorbd.merge_diff,
        {
            "first": new_diff,
            "second": new_diff,
            "target": lambda w: f"{w.directory}/merged",
            "progress": None,
        },
    ),
    "read_diff": Call(lambda w: iterated(aiorbd.read_diff), {"source": new_diff}),
    "Config.get": Call(lambda w: w.image.config.get, {"name": "rbd_cache"}),
    "Config.set": Call(lambda w: w.image.config.set, {"name": "rbd_cache", "value": "true"}),
    "Config.set of a pool": Call(lambda w: w.ioctx.config.set, {"name": "rbd_cache", "value": "true"}),
    "Config.unset": Call(lambda w: w.image.config.unset, {"name": "rbd_cache"}),
    "Encryption.format": Call(
        lambda w: w.image.encryption.format,
        {"encryption_format": 2, "passphrase": b"secret", "algorithm": 1},
        free=frozenset({"encryption_format"}),  # LUKS is for loading only, so the call changes nothing
        patience=60,  # librbd needs seconds of CPU time for a key, and several times as long beside other work
    ),
    "Encryption.load": Call(lambda w: w.image.encryption.load, {"passphrase": b"secret", "encryption_format": None}),
    "Encryption.load_chain": Call(lambda w: w.image.encryption.load_chain, {"passphrases": lambda w: [b"secret"]}),
    "Group.add_image": Call(
        lambda w: w.ioctx.groups.get("none").add_image, {"name": "none", "ioctx": lambda w: w.ioctx}
    ),
    "Group.create_snapshot": Call(
        lambda w: w.ioctx.groups.get("none").create_snapshot,
        {"name": fresh, "flags": 0},
        free=frozenset({"flags"}),  # the group does not exist
    ),
    "Group.get_snapshot": Call(lambda w: w.ioctx.groups.get("none").get_snapshot, {"name": "one"}),
    "Group.remove_image": Call(
        lambda w: w.ioctx.groups.get("none").remove_image,
        {"name": "none", "ioctx": lambda w: w.ioctx, "image_id": None},
    ),
    "Group.remove_snapshot": Call(lambda w: w.ioctx.groups.get("none").remove_snapshot, {"name": "one"}),
    "Group.rename_snapshot": Call(
        lambda w: w.ioctx.groups.get("none").rename_snapshot, {"name": "one", "new_name": fresh}
    ),
    "Group.rollback": Call(lambda w: w.ioctx.groups.get("none").rollback, {"name": "one", "progress": None}),
    "Groups.create": Call(lambda w: w.ioctx.groups.create, {"name": fresh}),
    "Groups.exists": Call(lambda w: w.ioctx.groups.exists, {"name": "none"}),
    "Groups.get": Call(lambda w: plainly(w.ioctx.groups.get), {"name": "none"}),
    "Groups.remove": Call(lambda w: w.ioctx.groups.remove, {"name": "none"}),
    "Groups.rename": Call(lambda w: w.ioctx.groups.rename, {"name": "none", "new_name": fresh}),
    "Image.disk_usage": Call(lambda w: w.image.disk_usage, {"exact": False}),
    "ImageMirror.create_snapshot": Call(
        lambda w: w.image.mirror.create_snapshot,
        {"flags": 0},
        free=frozenset({"flags"}),  # the pool is not mirrored
    ),
    "ImageMirror.disable": Call(lambda w: w.image.mirror.disable, {"force": False}),
    "ImageMirror.enable": Call(
        lambda w: w.image.mirror.enable,
        {"mode": 1},
        free=frozenset({"mode"}),  # the pool is not mirrored
    ),
    "ImageMirror.promote": Call(lambda w: w.image.mirror.promote, {"force": False}),
    "IoCtx.disk_usage": Call(
        lambda w: iterated(w.ioctx.disk_usage), {"exact": False, "depth": 4}, free=frozenset({"depth"})
    ),
    "Migration.abort": Call(lambda w: w.ioctx.migration.abort, {"name": "none", "progress": None}),
    "Migration.commit": Call(lambda w: w.ioctx.migration.commit, {"name": "none", "progress": None}),
    "Migration.execute": Call(lambda w: w.ioctx.migration.execute, {"name": "none", "progress": None}),
    "Migration.prepare": Call(
        lambda w: w.ioctx.migration.prepare,
        {"name": "none", "ioctx": lambda w: w.ioctx, "new_name": fresh, "options": None},
    ),
    "Migration.prepare_import": Call(
        lambda w: w.ioctx.migration.prepare_import, {"source": '{"type": "none"}', "name": fresh, "options": None}
    ),
    "Migration.status": Call(lambda w: w.ioctx.migration.status, {"name": "none"}),
    "Mirror.images": Call(lambda w: iterated(w.ioctx.mirror.images), {"mode": None}, free=frozenset({"mode"})),
    "Mirror.set_remote_namespace": Call(lambda w: w.ioctx.mirror.set_remote_namespace, {"namespace": ""}),
    "MirrorPeers.add": Call(
        lambda w: w.ioctx.mirror.peers.add, {"site_name": "there", "client_name": "client.none", "direction": 2}
    ),
    "MirrorPeers.attributes": Call(lambda w: w.ioctx.mirror.peers.attributes, {"uuid": "none"}),
    "MirrorPeers.import_token": Call(lambda w: w.ioctx.mirror.peers.import_token, {"token": "none", "direction": 2}),
    "MirrorPeers.remove": Call(lambda w: w.ioctx.mirror.peers.remove, {"uuid": "none"}),
    "MirrorPeers.set_attributes": Call(
        lambda w: w.ioctx.mirror.peers.set_attributes, {"uuid": "none", "attributes": lambda w: {"key": "none"}}
    ),
    "MirrorPeers.set_client_name": Call(
        lambda w: w.ioctx.mirror.peers.set_client_name, {"uuid": "none", "name": "client.none"}
    ),
    "MirrorPeers.set_direction": Call(lambda w: w.ioctx.mirror.peers.set_direction, {"uuid": "none", "direction": 2}),
    "MirrorPeers.set_site_name": Call(lambda w: w.ioctx.mirror.peers.set_site_name, {"uuid": "none", "name": "there"}),
}
