"""Two clusters that mirror each other: images become equal, daemons come back, and nothing is left behind."""

import hashlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from helpers import ONE_LOOP, new_name

import aiorbd
from aiorbd.testing import DevCluster, MirrorPair, MissingDaemonError

pytestmark = pytest.mark.anyio

MIB = 1 << 20
MODES = ["journal", "snapshot"]
PROGRAMS = ("ceph-mon", "ceph-osd", "ceph", "rbd", "ceph-authtool", "monmaptool")


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Return the directory that holds the directories of new clusters; it must be empty at the end."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


def processes(*clusters: DevCluster) -> list[int]:
    """Return the processes of the clusters that still exist."""
    return [pid for cluster in clusters for pid in cluster._pids.values() if Path(f"/proc/{pid}").exists()]


async def digest(site: DevCluster, image: str) -> str:
    """Return the SHA-256 of the content of an image; empty without the image."""
    try:
        return hashlib.sha256(await site.run("rbd", "export", "--no-progress", image, "-")).hexdigest()
    except RuntimeError:
        return ""


async def arrives(site: DevCluster, image: str, data: bytes, seconds: float) -> None:
    """Wait until the image at a site has this content."""
    with anyio.fail_after(seconds):
        while await digest(site, image) != hashlib.sha256(data).hexdigest():
            await anyio.sleep(0.1)


@asynccontextmanager
async def mirrored(pair: MirrorPair, site: DevCluster, mode: str, data: bytes) -> AsyncIterator[str]:
    """Make a mirrored image at a site with the tool, and wait until the other site has it.

    The end stops the mirroring, so that later tests have fewer images.
    """
    image = f"rbd/{new_name()}"
    await site.run("rbd", "import", "--no-progress", "-", image, stdin=data)
    await site.run("rbd", "mirror", "image", "enable", image, mode)
    await arrives(pair.b if site is pair.a else pair.a, image, data, 20)
    yield image
    await site.run("rbd", "mirror", "image", "disable", image)


async def overwrite(site: DevCluster, image: str, mode: str, data: bytes) -> bytes:
    """Write new bytes at the start of an image, and return the new content."""
    new = os.urandom(256 << 10)  # not with `rbd bench`: it writes the same bytes each time
    pool, _, name = image.partition("/")
    async with aiorbd.connect(site.conffile) as cluster, cluster.open_ioctx(pool) as ioctx:
        async with ioctx.open_image(name) as opened:
            await opened.write(new, 0)
            await opened.flush()
    if mode == "snapshot":
        await site.run("rbd", "mirror", "image", "snapshot", image)
    return new + data[len(new) :]


@pytest.mark.parametrize("mode", MODES)
async def test_an_image_and_its_changes_arrive_at_the_other_site(aiorbd_mirror_pair: MirrorPair, mode: str) -> None:
    pair = aiorbd_mirror_pair
    data = os.urandom(8 * MIB)
    async with mirrored(pair, pair.a, mode, data) as image:
        await arrives(pair.b, image, await overwrite(pair.a, image, mode, data), 10)


async def test_site_b_is_a_primary_too(aiorbd_mirror_pair: MirrorPair) -> None:
    async with mirrored(aiorbd_mirror_pair, aiorbd_mirror_pair.b, "snapshot", os.urandom(MIB)):
        pass


async def test_another_pool_mirrors_all_images_with_a_journal(aiorbd_mirror_pair: MirrorPair) -> None:
    pair, pool = aiorbd_mirror_pair, new_name("pool")
    for site in (pair.a, pair.b):
        await site.run("ceph", "osd", "pool", "create", pool)
        await site.run("rbd", "pool", "init", pool)
    await pair.peer(pool, "pool")
    await pair.peer(pool, "pool")  # twice is allowed
    data = os.urandom(MIB)
    journal = ("--image-feature", "exclusive-lock,journaling")
    await pair.b.run("rbd", "import", "--no-progress", *journal, "-", f"{pool}/image", stdin=data)
    await arrives(pair.a, f"{pool}/image", data, 20)
    await pair.b.run("rbd", "feature", "disable", f"{pool}/image", "journaling")


@pytest.mark.slow
@ONE_LOOP
@pytest.mark.parametrize("mode", MODES)
async def test_a_killed_mirror_daemon_copies_again_after_its_restart(aiorbd_mirror_pair: MirrorPair, mode: str) -> None:
    pair = aiorbd_mirror_pair
    data = os.urandom(MIB)
    async with mirrored(pair, pair.a, mode, data) as image:
        for number in (signal.SIGKILL, signal.SIGTERM):
            await pair.b.kill("rbd-mirror.0", number)
            try:
                before = await digest(pair.b, image)
                data = await overwrite(pair.a, image, mode, data)
                await anyio.sleep(1)
                assert await digest(pair.b, image) == before
            finally:
                await pair.b.restart("rbd-mirror.0")
            await arrives(pair.b, image, data, 60)


@pytest.mark.slow
@ONE_LOOP
async def test_a_paused_mirror_daemon_copies_after_it_continues(aiorbd_mirror_pair: MirrorPair) -> None:
    pair = aiorbd_mirror_pair
    data = os.urandom(MIB)
    async with mirrored(pair, pair.a, "journal", data) as image:
        pair.b.pause("rbd-mirror.0")
        try:
            changed = await overwrite(pair.a, image, "journal", data)
            await anyio.sleep(1)
            assert await digest(pair.b, image) == hashlib.sha256(data).hexdigest()
        finally:
            pair.b.resume("rbd-mirror.0")
        await arrives(pair.b, image, changed, 40)


async def test_both_clusters_end_with_the_block(places: Path) -> None:
    """Also without authentication, and with another pool."""
    async with MirrorPair(cephx=False, pool="images") as pair:
        assert len(processes(pair.a, pair.b)) == 6
        assert pair.a.mon_host != pair.b.mon_host
        assert b"site-b" in await pair.a.run("rbd", "mirror", "pool", "info", "images")
        assert b"site-a" in await pair.b.run("rbd", "mirror", "pool", "info", "images")
    assert processes(pair.a, pair.b) == []
    await pair.stop()  # twice is allowed


@pytest.mark.usefixtures("places")
@pytest.mark.parametrize("failing", ["a", "b"])
async def test_a_cluster_that_cannot_start_ends_the_other(failing: str) -> None:
    pair = MirrorPair()
    setattr(pair, failing, DevCluster(options={"osd data": "/proc/nowhere"}))
    with pytest.raises(RuntimeError, match="did not start"):
        await pair.start()
    started = pair.b if failing == "a" else pair.a
    assert started._pids
    assert processes(started) == []


@pytest.mark.usefixtures("places")
async def test_missing_mirror_daemon_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("bin")
    for program in PROGRAMS:
        (path / program).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(path))
    with pytest.raises(MissingDaemonError, match="rbd-mirror is not installed: apt-get install rbd-mirror"):
        await MirrorPair().start()
