"""Connecting, pools and commands."""

import json
import tempfile
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
from fix_faults import make_client
from helpers import MakeImage, descriptors, descriptors_fall_to, new_name
from inside import children_of, handle_of

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio


async def test_fsid_and_instance_id_identify_cluster_and_connection(
    cluster: aiorbd.Cluster, aiorbd_cluster: DevCluster
) -> None:
    assert cluster.fsid == (await aiorbd_cluster.run("ceph", "fsid")).decode().strip()
    assert cluster.instance_id > 0
    async with aiorbd.connect(aiorbd_cluster.conffile) as other:
        assert other.instance_id != cluster.instance_id
        assert other.fsid == cluster.fsid


async def test_close_may_be_repeated_and_refuses_later_calls(aiorbd_cluster: DevCluster) -> None:
    cluster = await aiorbd.connect(aiorbd_cluster.conffile)
    ioctx = await cluster.open_ioctx("rbd")
    assert ioctx.pool == "rbd"
    await cluster.close()
    await cluster.close()
    with pytest.raises(aiorbd.ClosedError, match="closed"):
        await cluster.pools()
    with pytest.raises(aiorbd.ClosedError, match="pool 'rbd' is closed"):
        await ioctx.list_images()


async def test_connect_without_a_configuration_file(aiorbd_cluster: DevCluster) -> None:
    conf = {"mon_host": aiorbd_cluster.mon_host, "auth_client_required": "none"}
    async with aiorbd.connect(None, conf=conf, timeout=10) as cluster:
        assert "rbd" in await cluster.pools()


async def test_connect_reads_the_file_that_ceph_conf_names(
    aiorbd_cluster: DevCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CEPH_CONF", aiorbd_cluster.conffile)
    async with aiorbd.connect() as cluster:
        assert "rbd" in await cluster.pools()


async def test_conf_options_override_the_file(aiorbd_cluster: DevCluster) -> None:
    with pytest.raises(aiorbd.Timeout):
        async with aiorbd.connect(aiorbd_cluster.conffile, conf={"mon_host": "v2:127.0.0.1:1"}, timeout=1):
            pass


@pytest.mark.parametrize(
    ("in_file", "in_conf", "expected"),
    [(None, None, 32768), (None, 4096, 4096), (4096, None, 4096), (8192, 16384, 16384)],
)
async def test_file_and_conf_override_the_prefetch_default(
    aiorbd_cluster: DevCluster, in_file: Any, in_conf: Any, expected: int
) -> None:
    assert await prefetched(aiorbd_cluster, in_file, in_conf) == expected


async def test_monitor_options_override_the_prefetch_default(aiorbd_cluster: DevCluster) -> None:
    command = ["ceph", "--conf", aiorbd_cluster.conffile, "config"]
    await anyio.run_process([*command, "set", "client", PREFETCH, "16384"])
    try:
        assert await prefetched(aiorbd_cluster, None, None) == 16384
    finally:
        await anyio.run_process([*command, "rm", "client", PREFETCH])


PREFETCH = "ms_tcp_prefetch_max_size"


async def prefetched(aiorbd_cluster: DevCluster, in_file: Any, in_conf: Any) -> Any:
    """Return the prefetch size of a connection, read from its admin socket. The socket's path must be short."""
    option = PREFETCH
    with tempfile.TemporaryDirectory() as directory:
        conffile, asok = Path(directory, "ceph.conf"), f"{directory}/asok"
        lines = f"{option} = {in_file}\n" if in_file else ""
        conffile.write_text(Path(aiorbd_cluster.conffile).read_text() + f"\n[client]\n{lines}")
        conf = {"admin_socket": asok} | ({option.replace("_", " "): str(in_conf)} if in_conf else {})
        async with aiorbd.connect(conffile, conf=conf):
            answer = await anyio.run_process(["ceph", "--admin-daemon", asok, "config", "get", option])
    return int(json.loads(answer.stdout)[option])


async def test_hung_worker_calls_do_not_delay_size_or_close(
    aiorbd_cluster: DevCluster, make_image: MakeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's own calls get worker threads even when the user's calls block all their worker threads."""
    hung = threading.Event()
    async with aiorbd.connect(aiorbd_cluster.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        image = await ioctx.open_image(await make_image())
        async with anyio.create_task_group() as tasks:
            for _ in range(40):
                tasks.start_soon(handle_of(ioctx).run, "rbd_hung", hung.wait)
            await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(5):
                assert await image.size() == 16 << 20
                await image.close()
            hung.set()


async def test_concurrent_connections_have_different_instance_ids(aiorbd_cluster: DevCluster) -> None:
    ids = set()

    async def connect() -> None:
        async with aiorbd.connect(aiorbd_cluster.conffile) as cluster:
            ids.add(cluster.instance_id)

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(connect)
    assert len(ids) == 8


async def test_pools(cluster: aiorbd.Cluster, aiorbd_cluster: DevCluster) -> None:
    name = new_name("pool")
    await cluster.create_pool(name)
    assert name in json.loads(await aiorbd_cluster.run("ceph", "osd", "pool", "ls", "-f", "json"))
    assert name in await cluster.pools()
    assert await cluster.pool_exists(name)
    pool_id = await cluster.pool_id(name)
    assert await cluster.pool_name(pool_id) == name
    async with cluster.open_ioctx(pool_id) as ioctx:
        assert ioctx.pool == name
    with pytest.raises(aiorbd.PoolExists, match=name):
        await cluster.create_pool(name)
    await cluster.delete_pool(name)
    assert not await cluster.pool_exists(name)
    assert name not in json.loads(await aiorbd_cluster.run("ceph", "osd", "pool", "ls", "-f", "json"))


async def test_missing_pool_raises_pool_not_found(cluster: aiorbd.Cluster) -> None:
    for call in (cluster.pool_id, cluster.delete_pool):
        with pytest.raises(aiorbd.PoolNotFound, match="no-such-pool"):
            await call("no-such-pool")
    with pytest.raises(aiorbd.PoolNotFound, match="id 99999"):
        await cluster.pool_name(99999)
    for pool in ("no-such-pool", 99999):
        with pytest.raises(aiorbd.PoolNotFound, match=str(pool)):
            async with cluster.open_ioctx(pool):
                pass


async def test_list_pools_returns_more_names_than_the_first_buffer_holds(cluster: aiorbd.Cluster) -> None:
    names = {new_name("a-rather-long-name-for-a-pool-" * 4) for _ in range(8)}
    for name in names:
        await cluster.create_pool(name)
    assert names <= set(await cluster.pools())
    for name in names:
        await cluster.delete_pool(name)


async def test_mon_command_returns_output_and_status(cluster: aiorbd.Cluster, aiorbd_cluster: DevCluster) -> None:
    result = await cluster.mon_command({"prefix": "osd pool ls", "format": "json"})
    assert json.loads(result.output) == json.loads(await aiorbd_cluster.run("ceph", "osd", "pool", "ls", "-f", "json"))
    result = await cluster.mon_command('{"prefix": "config-key set", "key": "aiorbd"}', b"value")
    assert "set aiorbd" in result.status
    assert await aiorbd_cluster.run("ceph", "config-key", "get", "aiorbd") == b"value"


async def test_refused_mon_command_raises_an_error_that_names_the_command(cluster: aiorbd.Cluster) -> None:
    with pytest.raises(aiorbd.ObjectNotFound, match="unrecognized pool 'nowhere'") as caught:
        await cluster.mon_command({"prefix": "osd pool get", "pool": "nowhere", "var": "size"})
    assert caught.value.operation == "rados_mon_command"
    assert "osd pool get" in caught.value.target
    with pytest.raises(aiorbd.InvalidArgument):
        await cluster.mon_command("no json")


async def test_concurrent_creates_in_a_new_pool_all_finish(cluster: aiorbd.Cluster) -> None:
    """Older librbd hung here: each validation of the pool took one of librbd's two threads."""
    name = new_name("pool")
    await cluster.create_pool(name)
    async with cluster.open_ioctx(name) as ioctx:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for number in range(6):
                    tasks.start_soon(ioctx.create_image, f"image-{number}", 1 << 20)
        assert len(await ioctx.list_images()) == 6
    await cluster.delete_pool(name)


async def test_connect_and_write_with_cephx(cephx_cluster: DevCluster, name: str) -> None:
    async with aiorbd.connect(cephx_cluster.conffile, timeout=20) as cluster, cluster.open_ioctx("rbd") as ioctx:
        await ioctx.create_image(name, 1 << 20)
        async with ioctx.open_image(name) as image:
            await image.write(b"x", 0)
    assert name.encode() in await cephx_cluster.run("rbd", "ls")


async def test_wrong_key_raises_permission_error_without_the_key(cephx_cluster: DevCluster, tmp_path: Path) -> None:
    keyring = tmp_path / "keyring"
    secret = "AQBDRcBpAAAAABAAu3WwZ7XgQ1Nk0Q7m1iQn5g=="
    keyring.write_text(f"[client.admin]\nkey = {secret}\n")
    with pytest.raises(aiorbd.PermissionError, match=r"do not know client\.admin, or do not accept its key") as caught:
        await aiorbd.connect(cephx_cluster.conffile, conf={"keyring": str(keyring)}, timeout=10)
    assert secret not in str(caught.value)
    with pytest.raises(aiorbd.PermissionError):
        await aiorbd.connect(cephx_cluster.conffile, conf={"key": secret}, timeout=10)


async def test_unknown_client_raises_permission_error(cephx_cluster: DevCluster) -> None:
    with pytest.raises(aiorbd.PermissionError, match=r"do not know client\.nobody"):
        await aiorbd.connect(cephx_cluster.conffile, client_id="nobody", timeout=10)


async def test_missing_keyring_raises_keyring_not_found(cephx_cluster: DevCluster) -> None:
    with pytest.raises(aiorbd.KeyringNotFound, match="/nowhere/keyring"):
        await aiorbd.connect(cephx_cluster.conffile, conf={"keyring": "/nowhere/keyring"}, timeout=10)


async def test_missing_capabilities_raise_permission_error(cephx_cluster: DevCluster, name: str) -> None:
    reader = await make_client(cephx_cluster, new_name("reader"), mon="allow r", osd="allow r pool=rbd")
    async with aiorbd.connect(cephx_cluster.conffile, **reader) as cluster:
        with pytest.raises(aiorbd.PermissionError):
            await cluster.create_pool(name)
        async with cluster.open_ioctx("rbd") as ioctx:
            with pytest.raises(aiorbd.PermissionError, match=name):
                await ioctx.create_image(name, 1 << 20)


async def test_missing_conffile_raises_config_file_not_found() -> None:
    with pytest.raises(aiorbd.ConfigFileNotFound, match=r"/no/such/ceph\.conf"):
        await aiorbd.connect("/no/such/ceph.conf")


async def test_broken_conffile_raises_unreadable_configuration(tmp_path: Path) -> None:
    path = tmp_path / "ceph.conf"
    path.write_text("[global\nnonsense")
    with pytest.raises(aiorbd.RbdError, match="unreadable configuration"):
        await aiorbd.connect(path, timeout=2)


async def test_missing_monitor_address_raises_object_not_found() -> None:
    with pytest.raises(aiorbd.ObjectNotFound, match="mon_host"):
        await aiorbd.connect(None, timeout=2)


async def test_invalid_configuration_options_are_refused(aiorbd_cluster: DevCluster) -> None:
    with pytest.raises(aiorbd.InvalidArgument, match="option 'no_such_option'"):
        await aiorbd.connect(aiorbd_cluster.conffile, conf={"no_such_option": "1"})
    with pytest.raises(aiorbd.InvalidArgument, match="option 'ms_bind_ipv6'"):
        await aiorbd.connect(aiorbd_cluster.conffile, conf={"ms_bind_ipv6": "perhaps"})


@pytest.mark.parametrize("timeout", [1, 0.5])
async def test_an_unreachable_monitor(timeout: Any) -> None:
    start = anyio.current_time()
    with pytest.raises(aiorbd.Timeout, match="did not answer") as caught:
        await aiorbd.connect(None, conf={"mon_host": "v2:127.0.0.1:1"}, timeout=timeout)
    assert anyio.current_time() - start < timeout + 0.5
    assert isinstance(caught.value, TimeoutError)


@pytest.mark.parametrize("limit", ["timeout", "close_timeout"])
async def test_wrong_time_limits_of_a_connection_are_refused(aiorbd_cluster: DevCluster, limit: str) -> None:
    wrong: list[Any] = [("5", TypeError), (-1, aiorbd.InvalidArgument), (float("nan"), aiorbd.InvalidArgument)]
    for value, error in wrong:
        with pytest.raises(error, match=rf"{limit} .*seconds"):
            await aiorbd.connect(aiorbd_cluster.conffile, **{limit: value})
    for endless in (None, float("inf")):
        async with aiorbd.connect(aiorbd_cluster.conffile, timeout=endless, close_timeout=endless) as cluster:
            assert cluster.fsid


async def test_failed_connects_and_opens_leak_nothing(
    aiorbd_cluster: DevCluster, cluster: aiorbd.Cluster, ioctx: aiorbd.IoCtx
) -> None:
    attempts: list[Any] = [
        lambda: aiorbd.connect("/no/such/ceph.conf"),
        lambda: aiorbd.connect(aiorbd_cluster.conffile, conf={"no_such_option": "1"}),
        lambda: aiorbd.connect(None, timeout=1),
        lambda: cluster.open_ioctx("no-such-pool"),
        lambda: ioctx.open_image("no-such-image"),
        lambda: ioctx.open_image("no-such-image", snapshot="nowhen"),
    ]

    async def fail() -> None:
        for attempt in attempts:
            with pytest.raises(aiorbd.Error):
                await attempt()

    await fail()
    before = descriptors()
    for _ in range(10):
        await fail()
    await descriptors_fall_to(before)
    assert children_of(cluster) == {handle_of(ioctx)}
    assert children_of(ioctx) == set()


async def test_invalid_pool_ids_flags_and_option_values_are_refused(
    cluster: aiorbd.Cluster, image: aiorbd.Image
) -> None:
    for pool_id in (-1, 1 << 70):
        with pytest.raises(aiorbd.InvalidArgument, match="out of range"):
            await cluster.pool_name(pool_id)
        with pytest.raises(aiorbd.InvalidArgument, match="out of range"):
            await cluster.open_ioctx(pool_id)
    with pytest.raises(aiorbd.InvalidArgument, match="rbd_aio_read2"):
        await image.read(0, 1, op_flags=1 << 40)
    assert image.in_flight == 0
    with pytest.raises(aiorbd.InvalidArgument, match="NUL"):
        await aiorbd.connect(None, conf={"mon_host": "a\0b"})


async def test_invalid_pool_and_client_names_are_refused(cluster: aiorbd.Cluster) -> None:
    for call in (cluster.create_pool, cluster.delete_pool, cluster.pool_id):
        with pytest.raises(aiorbd.InvalidArgument, match="must not be empty"):
            await call("")
        with pytest.raises(aiorbd.InvalidArgument, match="NUL"):
            await call("a\0b")
        with pytest.raises(TypeError, match="must be str, not int"):
            await call(7)  # type: ignore[arg-type]
    for bad in ("a@b", "a/b"):
        with pytest.raises(aiorbd.InvalidArgument, match="must not contain"):
            await cluster.create_pool(bad)
    with pytest.raises(aiorbd.InvalidArgument, match="must not be empty"):
        await cluster.open_ioctx("")
    with pytest.raises(aiorbd.InvalidArgument, match="must not be empty"):
        await aiorbd.connect(None, client_id="")


@pytest.mark.parametrize("option", ["ms_type", "ms_public_type"])
async def test_unknown_messenger_type_is_refused(aiorbd_cluster: DevCluster, option: str) -> None:
    """librados would abort the process for such a type."""
    with pytest.raises(aiorbd.InvalidArgument, match=f"no such messenger.*option '{option}'"):
        await aiorbd.connect(aiorbd_cluster.conffile, conf={option: "pigeon"})
