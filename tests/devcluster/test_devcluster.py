"""The development cluster itself: it starts quickly, leaves nothing behind, and can be broken on purpose."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from fix_lag import patience
from fix_programs import PROGRAMS
from helpers import new_name

import aiorbd
from aiorbd.testing import ClusterConfig, DevCluster, MissingDaemonError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> Any:
    """Run on asyncio only: these tests are about the cluster, not the event loop."""
    return "asyncio"


def alive(pid: Any) -> Any:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def listening(pids: Any) -> Any:
    """Return the addresses at which these processes listen, in the kernel's notation."""
    inodes = set()
    for link in (link for pid in pids for link in Path(f"/proc/{pid}/fd").iterdir()):
        with suppress(FileNotFoundError):  # closed meanwhile
            inodes.add(os.readlink(link).strip("socket:[]"))
    lines = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    fields = [line.split() for line in lines.splitlines()]
    return [field[1] for field in fields if field[3] == "0A" and field[9] in inodes]


def gone(pids: Any, directory: Any, seconds: float = 5) -> None:
    deadline = time.monotonic() + patience(seconds)
    while any(map(alive, pids)) or directory.exists():
        assert time.monotonic() < deadline, f"left over: {[pid for pid in pids if alive(pid)]} {directory}"
        time.sleep(0.02)


async def test_cluster_is_ready_in_ten_seconds_and_leaves_no_process_and_no_directory() -> None:
    start = time.perf_counter()
    async with DevCluster() as ceph:
        assert time.perf_counter() - start < patience(10)
        pids, directory = list(ceph._pids.values()), ceph.directory
        assert len(pids) == 2
        addresses = listening(pids)
        assert addresses
        assert all(address.startswith("0100007F:") for address in addresses), addresses
        async with aiorbd.connect(ceph.conffile) as cluster:
            assert await cluster.pools() == ["rbd"]
    gone(pids, directory, 0.5)
    with pytest.raises(RuntimeError, match="not running"):
        _ = ceph.conffile


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_death_of_the_owner_ends_the_cluster(number: Any) -> None:
    owner = subprocess.Popen(
        [sys.executable, PROGRAMS / "own_a_cluster.py"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert owner.stdout
    directory, *pids = owner.stdout.readline().split()
    owner.send_signal(number)
    owner.communicate()
    gone([int(pid) for pid in pids], Path(directory))


def test_death_of_the_supervisor_ends_the_daemons() -> None:
    cluster = DevCluster()
    cluster.start_blocking()
    pids, directory = list(cluster._pids.values()), cluster.directory
    assert cluster._supervisor
    cluster._supervisor.kill()
    cluster.stop_blocking()
    deadline = time.monotonic() + 5
    while any(map(alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    # The killed supervisor could not remove its directory.
    subprocess.run(["rm", "-r", directory], check=True)


def test_shell_commands_start_and_stop_a_cluster(tmp_path: Path) -> None:
    def call(*arguments: Any, **options: Any) -> Any:
        command = [sys.executable, "-m", "aiorbd.testing", "--directory", str(tmp_path / "ceph"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, **options)

    refused = call("env")
    assert refused.returncode == 1
    assert "no cluster runs" in refused.stderr
    up = call("up", "--osds", "2", "--osd-bytes", "123456789", "--delay", "0.001")
    try:
        assert up.stdout == f"export CEPH_CONF={tmp_path}/ceph/ceph.conf\n", up.stderr
        assert call("env").stdout == up.stdout
        again = call("up")
        assert again.returncode == 1
        assert "exists" in again.stderr
        environment = os.environ | {"CEPH_CONF": f"{tmp_path}/ceph/ceph.conf"}
        listed = subprocess.run(["ceph", "osd", "pool", "ls"], env=environment, capture_output=True, check=True)
        assert listed.stdout == b"rbd\n"
        pid = int((tmp_path / "ceph" / "supervisor.pid").read_text())
        assert call("status").stdout == f"cluster in {tmp_path}/ceph\nmon.a: running\nosd.0: running\nosd.1: running\n"
        assert call("pause", "osd.1").stdout == "osd.1: paused\n"
        assert "osd.1: paused\n" in call("status").stdout
        assert call("pause").stdout == "osd.0: paused\n"
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run(["rbd", "create", "one", "--size", "1"], env=environment, timeout=1, check=False)
        for daemon in ("osd.0", "osd.1"):
            assert call("resume", daemon).stdout == f"{daemon}: running\n"
        subprocess.run(["rbd", "create", "two", "--size", "1"], env=environment, timeout=60, check=True)
        wrong = call("pause", "osd.7")
        assert (wrong.returncode, wrong.stderr) == (1, "no daemon osd.7 runs there: mon.a, osd.0, osd.1\n")

        conf = (tmp_path / "ceph" / "ceph.conf").read_text()
        assert "memstore device bytes = 123456789\n" in conf
        assert "delay" in conf or "inject" in conf
    finally:
        down = call("down")
    assert down.returncode == 0, down.stderr
    assert call("status").stderr == f"no cluster runs in {tmp_path}/ceph\n"
    gone([pid], tmp_path / "ceph")


def test_missing_daemon_is_reported_in_one_line(tmp_path: Path) -> None:
    for program in ("ceph-mon", "ceph-osd", "ceph", "rbd", "ceph-authtool", "monmaptool"):
        (tmp_path / program).symlink_to("/bin/true")
    (tmp_path / "ceph-osd").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "aiorbd.testing", "--directory", str(tmp_path / "cluster"), "up"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "ceph-osd is not installed: apt-get install ceph-osd\n"
    assert not (tmp_path / "cluster").exists()


async def test_missing_manager_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for program in ("ceph-mon", "ceph-osd", "ceph", "rbd", "ceph-authtool", "monmaptool"):
        (tmp_path / program).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDaemonError, match="apt-get install ceph-mgr"):
        await DevCluster(mgr=True).start()


async def test_cluster_that_cannot_start_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(RuntimeError, match="did not start"):
        await DevCluster(options={"osd data": "/proc/nowhere"}).start()
    assert list(tmp_path.iterdir()) == []


async def test_all_options_together_give_a_working_cluster() -> None:
    """Start three OSDs with bluestore files, a manager and cephx."""
    config = ClusterConfig(osds=3, mgr=True, cephx=True, objectstore="bluestore", osd_bytes=2 << 30)
    async with DevCluster(config) as ceph, aiorbd.connect(ceph.conffile) as cluster:
        status = json.loads((await cluster.mon_command({"prefix": "status", "format": "json"})).output)
        assert status["osdmap"]["num_up_osds"] == 3
        with anyio.fail_after(20):
            while not status["mgrmap"]["available"]:
                await anyio.sleep(0.1)
                status = json.loads((await cluster.mon_command({"prefix": "status", "format": "json"})).output)
        async with cluster.open_ioctx("rbd") as ioctx:
            await ioctx.create_image("image", 16 << 20)
            async with ioctx.open_image("image") as image:
                await image.write(bytes(range(256)) * 65536, 0)
                assert await image.read(0, 16 << 20) == bytes(range(256)) * 65536


@pytest.fixture(scope="module")
def ceph() -> Iterator[Any]:
    with DevCluster(objectstore="bluestore", osd_bytes=2 << 30) as cluster:
        yield cluster


@pytest.fixture
async def image(ceph: Any) -> AsyncIterator[Any]:
    name = new_name()
    async with aiorbd.connect(ceph.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        await ioctx.create_image(name, 16 << 20)
        async with ioctx.open_image(name) as image:
            await image.write(b"kept" * 1024, 0)
            await image.flush()
            yield image


async def test_paused_osd_answers_after_resume(ceph: Any, image: aiorbd.Image) -> None:
    ceph.pause()
    try:
        with anyio.move_on_after(0.2) as scope:
            await image.read(0, 4)
    finally:
        ceph.resume()
    assert scope.cancelled_caught
    assert await image.read(0, 4) == b"kept"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_killed_osd_answers_after_its_restart(ceph: Any, image: aiorbd.Image, number: Any) -> None:
    await ceph.kill("osd.0", number)
    with anyio.move_on_after(0.2) as scope:
        await image.read(0, 4)
    assert scope.cancelled_caught
    await ceph.restart("osd.0")
    with anyio.fail_after(30):
        assert await image.read(0, 4) == b"kept"


async def test_killed_monitor_accepts_connections_after_its_restart(ceph: Any, image: aiorbd.Image) -> None:
    await ceph.kill("mon.a")
    assert await image.read(0, 4) == b"kept"  # reading needs no monitor
    with pytest.raises(aiorbd.Timeout):
        await aiorbd.connect(ceph.conffile, timeout=1)
    await ceph.restart("mon.a")
    async with aiorbd.connect(ceph.conffile, timeout=30) as cluster:
        assert "rbd" in await cluster.pools()


async def test_blocklisted_client_raises_connection_shutdown(ceph: Any) -> None:
    name = new_name()
    with pytest.raises(aiorbd.ConnectionShutdown, match="blocklisted") as caught:
        async with aiorbd.connect(ceph.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
            await ioctx.create_image(name, 1 << 20)
            async with ioctx.open_image(name) as image:
                status = json.loads(await ceph.run("rbd", "status", name, "--format", "json"))
                await ceph.blocklist(status["watchers"][0]["address"])
                with anyio.fail_after(20):
                    while True:  # until the OSD has the blocklist
                        await image.read(0, 4096)
                        await anyio.sleep(0.05)
    assert caught.value.errno == 108


async def test_quota_makes_writes_wait_until_it_is_lifted(managed_cluster: DevCluster) -> None:
    """Writes to a full pool wait for at most the caller's timeout, and complete when the quota is lifted."""
    name = new_name()
    async with aiorbd.connect(managed_cluster.conffile) as cluster:
        async with cluster.open_ioctx("rbd") as ioctx:
            await ioctx.create_image(name, 64 << 20)
            async with ioctx.open_image(name) as image:
                await managed_cluster.set_quota("rbd", 1 << 20)
                await image.write(b"x" * (8 << 20), 0)
                await image.flush()
                with anyio.fail_after(40):
                    while (
                        b"full_quota"
                        not in (await cluster.mon_command({"prefix": "osd pool ls", "detail": "detail"})).output
                    ):
                        await anyio.sleep(0.1)

                async def write_and_flush() -> None:
                    await image.write(b"y" * (1 << 20), 32 << 20)
                    await image.flush()

                try:
                    with anyio.fail_after(1):
                        await write_and_flush()
                except (TimeoutError, aiorbd.DiskQuotaExceeded):
                    pass
                else:
                    pytest.fail("the quota did not hold")
                await managed_cluster.set_quota("rbd", 0)
                with anyio.fail_after(30):
                    await image.drain()
                    await write_and_flush()
                assert await image.read(32 << 20, 1) == b"y"


@pytest.mark.anyio
async def test_delay_makes_each_request_late(anyio_backend: Any) -> None:
    async with DevCluster(delay=0.02) as ceph, aiorbd.connect(ceph.conffile) as cluster:
        async with cluster.open_ioctx("rbd") as ioctx:
            await ioctx.create_image("image", 1 << 20)
            async with ioctx.open_image("image") as image:
                await image.write(b"x" * 4096, 0)
                await image.flush()
                begin = time.perf_counter()
                for _ in range(20):
                    await image.read(0, 512)
                # Twenty delays of 0 to 40 ms.
                assert time.perf_counter() - begin > 0.2
