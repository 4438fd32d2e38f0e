"""Conversion of librbd's structs about mirroring."""

from dataclasses import replace
from typing import Any

from aiorbd._native.loader import ffi
from aiorbd._native.marshal import decode, utc
from aiorbd.enums import MirrorImageState, MirrorStatusState
from aiorbd.mirror_models import MirrorImageInfo, MirrorImageStatus, MirrorSiteStatus


def text(pointer: Any) -> str:
    """Decode a string that may be missing."""
    return decode(pointer) if pointer != ffi.NULL else ""


def image_info(info: Any) -> MirrorImageInfo:
    """Convert a ``rbd_mirror_image_info_t``."""
    return MirrorImageInfo(text(info.global_id), MirrorImageState(info.state), bool(info.primary))


def image_status(image_id: str, status: Any, *, primary_known: bool = True) -> MirrorImageStatus:
    """Convert a ``rbd_mirror_image_global_status_t``. In a list, librbd always stores false as `primary`."""
    sites = tuple(_site(status.site_statuses[index]) for index in range(status.site_statuses_count))
    info = image_info(status.info)
    if not primary_known:
        info = replace(info, primary=None)
    return MirrorImageStatus(image_id, text(status.name), info, sites)


def _site(site: Any) -> MirrorSiteStatus:
    return MirrorSiteStatus(
        text(site.mirror_uuid),
        MirrorStatusState(site.state),
        text(site.description),
        utc(site.last_update) if site.last_update else None,
        bool(site.up),
    )


def peer_uuids(out: Any) -> tuple[str, ...]:
    """Return the peers of a ``rbd_snap_mirror_namespace_t``: strings one after the other, each with its NUL."""
    found, at = [], out.mirror_peer_uuids
    for _ in range(out.mirror_peer_uuids_count):
        one = ffi.string(at)
        found.append(one.decode())
        at += len(one) + 1
    return tuple(found)
