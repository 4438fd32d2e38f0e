"""The log of a cluster, and commands to the daemons of a cluster."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from helpers import new_name

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio


async def say(aiorbd_cluster: DevCluster, text: Any) -> None:
    await aiorbd_cluster.run("ceph", "log", text)


async def test_monitor_log_yields_new_lines(cluster: aiorbd.Cluster, aiorbd_cluster: DevCluster) -> None:
    marker = new_name("said")
    async with cluster.monitor_log("info") as log:
        await say(aiorbd_cluster, marker)
        with anyio.fail_after(20):
            async for entry in log:
                if marker in entry.message:
                    break
        assert entry.channel == "cluster"
        assert entry.level == "[INF]"
        assert entry.name.startswith("client.")
        assert abs(datetime.now(UTC) - entry.time) < timedelta(minutes=1)
        assert log.lost == 0
    last = await aiorbd_cluster.run("ceph", "log", "last", "100")
    assert marker.encode() in last


async def test_second_open_log_is_refused_until_the_first_is_closed(
    cluster: aiorbd.Cluster, aiorbd_cluster: DevCluster
) -> None:
    async with cluster.monitor_log():
        with pytest.raises(aiorbd.UsageError, match="open already"):
            await cluster.monitor_log("error")
    async with cluster.monitor_log("debug") as log:
        marker = new_name("said")
        await say(aiorbd_cluster, marker)
        with anyio.fail_after(20):
            async for entry in log:
                if marker in entry.message:
                    break
    wrong: list[Any] = ["", "loud", "a\0b"]
    for level in wrong:
        with pytest.raises(aiorbd.InvalidArgument, match="is none of debug"):
            await cluster.monitor_log(level)


@pytest.mark.parametrize("level", ["debug", "info", "sec", "warn", "error"])
async def test_monitor_log_accepts_every_level(cluster: aiorbd.Cluster, level: Any) -> None:
    async with cluster.monitor_log(level):
        pass


async def test_the_end(aiorbd_cluster: DevCluster) -> None:
    async with aiorbd.connect(aiorbd_cluster.conffile) as cluster:
        log = await cluster.monitor_log("error")
        ended = []

        async def listen() -> None:
            async for _ in log:
                pass
            ended.append(True)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await anyio.wait_all_tasks_blocked()
            await cluster.close(timeout=10)
        assert ended == [True]


async def test_osd_command_reaches_the_given_osd(cluster: aiorbd.Cluster, aiorbd_cluster: DevCluster) -> None:
    result = await cluster.osd_command(0, {"prefix": "version"})
    shown = await aiorbd_cluster.run("ceph", "tell", "osd.0", "version")
    assert json.loads(shown)["version"] in result.output.decode()
    with pytest.raises(aiorbd.RbdError, match="OSD 0 command 'no such thing'"):
        await cluster.osd_command(0, {"prefix": "no such thing"})
    with pytest.raises(aiorbd.RbdError, match="OSD 99"):
        await cluster.osd_command(99, {"prefix": "version"})
    with pytest.raises(aiorbd.InvalidArgument, match="out of range"):
        await cluster.osd_command(-1, {"prefix": "version"})


async def test_mon_command_sends_its_input(cluster: aiorbd.Cluster, aiorbd_cluster: DevCluster) -> None:
    key = new_name("key")
    await cluster.mon_command({"prefix": "config-key set", "key": key}, b"in\nput")
    assert (await cluster.mon_command({"prefix": "config-key get", "key": key})).output == b"in\nput"
    assert await aiorbd_cluster.run("ceph", "config-key", "get", key) == b"in\nput"


async def test_mgr_command_returns_output(managed_cluster: DevCluster) -> None:
    async with aiorbd.connect(managed_cluster.conffile) as cluster:
        with anyio.fail_after(60):
            result = await cluster.mgr_command({"prefix": "pg dump", "format": "json"})
        assert b"pg_map" in result.output
        with pytest.raises(aiorbd.RbdError, match="manager command 'no such thing'"):
            await cluster.mgr_command({"prefix": "no such thing"})
