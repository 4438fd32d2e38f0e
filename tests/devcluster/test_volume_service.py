"""The volume service, over HTTP, with the ``rbd`` tool as witness."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from fix_lag import patience
from helpers import new_name

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).parents[2] / "examples/volume_service.py"
MIB = 1 << 20


class Service:
    """The program, and a client of it."""

    def __init__(self, cluster: DevCluster, *options: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [sys.executable, str(PROGRAM), "--conf", cluster.conffile, "--port", str(port), *options]
        self.process = subprocess.Popen(command)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=patience(30))
        deadline = time.monotonic() + patience(20)
        while not self.answers():
            assert self.process.poll() is None, "the service ended"
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def answers(self) -> bool:
        try:
            return self.http.get("/healthz").is_success
        except httpx.ConnectError:
            return False

    def ask(self, method: str, path: str, expected: int = 200, **content: Any) -> Any:
        answer = self.http.request(method, path, json=content or None)
        assert answer.status_code == expected, answer.text
        return answer.json() if answer.content else None

    def wait(self, job: Any) -> Any:
        """Follow a job to its end. Return all its states."""
        with self.http.stream("GET", f"/jobs/{job['id']}/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            events = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
        return [json.loads(event) for event in events]

    def complete(self, method: str, path: str, **content: Any) -> Any:
        states = self.wait(self.ask(method, path, 202, **content))
        assert states[-1]["state"] == "succeeded", states[-1]
        return states

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(patience(60))

    def close(self) -> None:
        self.http.close()
        if self.process.poll() is None:
            self.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def service(aiorbd_cluster: DevCluster) -> Iterator[Service]:
    service = Service(aiorbd_cluster, "--usage-interval", "0.2")
    yield service
    assert service.process.poll() is None, "the service ended"
    service.close()


Start = Callable[..., Service]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts a service. All services end with the test."""
    services = []

    def begin(cluster: DevCluster, *options: str) -> Service:
        services.append(Service(cluster, *options))
        return services[-1]

    yield begin
    for service in services:
        service.close()


@pytest.fixture
def filled(rbd: Any) -> str:
    """A volume of 32 MiB with data and the snapshot "monday"."""
    name = new_name()
    rbd("import", "--no-progress", "-", name, stdin=os.urandom(32 * MIB))
    rbd("snap", "create", "--no-progress", f"{name}@monday")
    return name


def test_volume_from_creation_to_removal(service: Service, rbd: Any) -> None:
    name = new_name()
    created = service.ask("POST", "/volumes", 201, name=name, size=64 * MIB)
    assert created == {"name": name, "size": 64 * MIB, "snapshots": [], "parent": None}
    assert json.loads(rbd("info", "--format", "json", name))["size"] == 64 * MIB
    assert name in service.ask("GET", "/volumes")

    service.complete("PUT", f"/volumes/{name}/size", size=96 * MIB)
    assert json.loads(rbd("info", "--format", "json", name))["size"] == 96 * MIB
    service.ask("PUT", f"/volumes/{name}/size", 400, size=MIB)
    service.complete("PUT", f"/volumes/{name}/size", size=MIB, allow_shrink=True)
    assert json.loads(rbd("info", "--format", "json", name))["size"] == MIB

    service.ask("POST", f"/volumes/{name}/snapshots", 201, name="monday")
    assert [one["name"] for one in json.loads(rbd("snap", "ls", "--format", "json", name))] == ["monday"]
    assert service.ask("GET", f"/volumes/{name}")["snapshots"] == [{"name": "monday", "size": MIB}]
    service.ask("DELETE", f"/volumes/{name}", 409)
    service.ask("DELETE", f"/volumes/{name}/snapshots/monday", 204)
    assert json.loads(rbd("snap", "ls", "--format", "json", name)) == []

    service.complete("DELETE", f"/volumes/{name}")
    assert name.encode() not in rbd("ls")
    service.ask("GET", f"/volumes/{name}", 404)


def test_clone_can_be_flattened_and_copied(service: Service, rbd: Any, filled: str) -> None:
    clone, copied = new_name(), new_name()
    made = service.ask("POST", "/volumes", 201, name=clone, source={"volume": filled, "snapshot": "monday"})
    assert made["parent"] == {"volume": filled, "snapshot": "monday"}
    assert json.loads(rbd("info", "--format", "json", clone))["parent"]["image"] == filled

    states = service.complete("POST", f"/volumes/{clone}/flatten")
    assert [one["done"] for one in states] == sorted(one["done"] for one in states)
    assert states[-1]["done"] == states[-1]["total"] > 0
    assert "parent" not in json.loads(rbd("info", "--format", "json", clone))
    service.ask("POST", f"/volumes/{clone}/flatten", 400)

    service.complete("POST", f"/volumes/{filled}/snapshots/monday/copy", name=copied)
    data = rbd("export", "--no-progress", filled, "-")
    for name in (clone, copied):
        assert rbd("export", "--no-progress", name, "-") == data


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "/volumes/none", {}, 404),
        ("GET", "/volumes/.hidden", {}, 422),
        ("POST", "/volumes", {"name": "a@b", "size": MIB}, 422),
        ("POST", "/volumes", {"name": "x", "size": 0}, 422),
        ("POST", "/volumes", {"name": "x"}, 400),
        ("POST", "/volumes", {"name": "x", "source": {"volume": "none", "snapshot": "none"}}, 404),
        ("POST", "/volumes", {"name": "FILLED", "size": MIB}, 409),
        ("POST", "/volumes/FILLED/snapshots", {"name": "monday"}, 409),
        ("DELETE", "/volumes/FILLED/snapshots/tuesday", {}, 404),
        ("POST", "/volumes/FILLED/snapshots/monday/copy", {"name": "FILLED"}, 409),
        ("POST", "/volumes/FILLED/snapshots/tuesday/copy", {"name": "x"}, 404),
        ("GET", "/jobs/none", {}, 404),
        ("DELETE", "/jobs/none", {}, 404),
        ("GET", "/jobs/none/events", {}, 404),
    ],
)
def test_wrong_requests_are_refused(
    service: Service, filled: str, method: str, path: str, content: dict[str, Any], status: int
) -> None:
    named = json.loads(json.dumps(content).replace("FILLED", filled))
    assert service.ask(method, path.replace("FILLED", filled), status, **named)["detail"]


def test_job_can_be_cancelled(service: Service, rbd: Any, filled: str) -> None:
    rbd("config", "image", "set", filled, "rbd_qos_read_bps_limit", str(4 * MIB))  # the copy takes 8 seconds
    target = new_name()
    job = service.ask("POST", f"/volumes/{filled}/snapshots/monday/copy", 202, name=target)
    service.ask("POST", f"/volumes/{filled}/snapshots/monday/copy", 409, name=target)
    deadline = time.monotonic() + patience(20)
    while f".{target}.copying".encode() not in rbd("ls"):
        assert time.monotonic() < deadline
    assert not any(name.startswith(".") for name in service.ask("GET", "/volumes"))
    service.ask("DELETE", f"/jobs/{job['id']}", 202)
    assert service.wait(job)[-1]["state"] == "cancelled"
    assert target.encode() not in rbd("ls")


def test_removal_beside_other_requests_keeps_the_volume_or_removes_it(service: Service, rbd: Any) -> None:
    """A refused removal leaves the volume under its name. An accepted one removes it, or tells in the job why not."""
    for number in range(10):
        name = new_name()
        service.ask("POST", "/volumes", 201, name=name, size=16 * MIB)
        found: dict[str, httpx.Response] = {}

        def ask(kind: str, path: str, content: Any, found: dict[str, httpx.Response] = found) -> None:
            found[kind] = service.http.request(kind, path, json=content)

        threads = [
            threading.Thread(target=ask, args=("PUT", f"/volumes/{name}/size", {"size": 32 * MIB})),
            threading.Thread(target=ask, args=("DELETE", f"/volumes/{name}", None)),
        ]
        for thread in threads[:: 1 if number % 2 else -1]:
            thread.start()
        for thread in threads:
            thread.join()
        ended = [service.wait(answer.json())[-1] for answer in found.values() if answer.status_code == 202]
        removed = any(job["action"] == "remove" and job["state"] == "succeeded" for job in ended)
        assert (name.encode() in rbd("ls")) != removed
        assert name.encode() not in rbd("trash", "ls")


def test_volume_in_use_by_another_client_is_not_removed(service: Service, aiorbd_cluster: DevCluster, rbd: Any) -> None:
    name = new_name()
    rbd("create", "--size", "16M", name)

    async def use() -> None:
        async with aiorbd.connect(aiorbd_cluster.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
            async with ioctx.open_image(name) as image:
                await image.write(b"mine", 0)
                job = await anyio.to_thread.run_sync(service.ask, "DELETE", f"/volumes/{name}", 202)
                states = await anyio.to_thread.run_sync(service.wait, job)
                assert states[-1]["state"] == "failed"
                assert "busy" in states[-1]["error"].lower()
                await image.write(b"MINE", 0)

    anyio.run(use)
    assert name in service.ask("GET", "/volumes")
    assert rbd("export", "--no-progress", name, "-")[:4] == b"MINE"
    service.complete("DELETE", f"/volumes/{name}")
    assert name.encode() not in rbd("trash", "ls")


def metric(text: str, name: str, **labels: str) -> float:
    wanted = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    found = re.search(rf"^{name}{{{re.escape(wanted)}}} (\S+)$", text, re.MULTILINE)
    assert found, (name, wanted)
    return float(found[1])


def test_metrics_have_the_bytes_that_the_tool_reports(service: Service, rbd: Any, filled: str) -> None:
    deadline = time.monotonic() + patience(30)
    while f'rbd_volume_used_bytes{{volume="{filled}"}}' not in (text := service.http.get("/metrics").text):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    usage = sum(one["used_size"] for one in json.loads(rbd("du", "--format", "json", filled))["images"])
    assert metric(text, "rbd_volume_provisioned_bytes", volume=filled) == 32 * MIB
    assert metric(text, "rbd_volume_used_bytes", volume=filled) == usage > 0
    opened = metric(text, "rbd_operation_seconds_count", pool="rbd", operation="rbd_aio_open")
    assert opened > 0
    service.ask("GET", f"/volumes/{filled}")
    service.ask("GET", "/volumes/none-at-all", 404)
    text = service.http.get("/metrics").text
    assert metric(text, "rbd_operation_seconds_count", pool="rbd", operation="rbd_aio_open") > opened
    failed = {"error": "ImageNotFound", "operation": "rbd_aio_open", "pool": "rbd"}
    assert metric(text, "rbd_operation_failures_total", **failed) >= 1


@pytest.mark.alone
def test_dead_cluster_delays_no_request_past_its_deadline(start: Start, osd: DevCluster) -> None:
    name = new_name()
    osd.run_blocking("rbd", "create", "--size", "16M", name)
    service = start(osd, "--deadline", "1", "--stop-timeout", "4")
    assert service.ask("GET", "/volumes") != []
    service.ask("GET", f"/volumes/{name}")
    osd.pause()
    requests = [
        ("GET", "/volumes", None),
        ("GET", f"/volumes/{name}", None),
        ("GET", "/volumes/events", None),
        ("POST", "/volumes", {"name": new_name(), "size": MIB}),
        ("POST", f"/volumes/{name}/snapshots", {"name": "monday"}),
        ("DELETE", f"/volumes/{name}", None),
        ("GET", "/readyz", None),
    ]
    found: list[tuple[str, int, float]] = []

    def ask(method: str, path: str, content: Any) -> None:
        begin = time.monotonic()
        answer = service.http.request(method, path, json=content)
        found.append((path, answer.status_code, time.monotonic() - begin))

    threads = [threading.Thread(target=ask, args=request) for request in requests * 3]
    for thread in threads:
        thread.start()
    health = []
    while any(thread.is_alive() for thread in threads):
        begin = time.monotonic()
        service.ask("GET", "/healthz")
        health.append(time.monotonic() - begin)
        time.sleep(0.02)
    assert len(found) == len(threads)
    assert {status for _, status, _ in found} == {504}
    assert max(seconds for _, _, seconds in found) < 2
    assert len(health) > 10
    assert sorted(health)[len(health) * 9 // 10] < 0.05
    assert "rbd_operation_seconds_bucket" in service.http.get("/metrics").text
    begin = time.monotonic()
    assert service.stop() == -signal.SIGTERM
    assert time.monotonic() - begin < 5


def test_dead_cluster_delays_the_end_beside_a_job_no_longer_than_its_bound(start: Start, osd: DevCluster) -> None:
    source, target = new_name(), new_name()
    osd.run_blocking("rbd", "import", "--no-progress", "-", source, stdin=os.urandom(8 * MIB))
    osd.run_blocking("rbd", "snap", "create", "--no-progress", f"{source}@monday")
    osd.run_blocking("rbd", "config", "image", "set", source, "rbd_qos_read_bps_limit", str(MIB))
    service = start(osd, "--stop-timeout", "6")
    service.ask("POST", f"/volumes/{source}/snapshots/monday/copy", 202, name=target)
    time.sleep(1)
    osd.pause()
    begin = time.monotonic()
    assert service.stop() == -signal.SIGTERM
    assert time.monotonic() - begin < min(patience(8), 11)  # two bounds would take twelve seconds


def test_signal_ends_the_service_beside_a_job_and_its_followers(
    start: Start, aiorbd_cluster: DevCluster, rbd: Any
) -> None:
    source, target = new_name(), new_name()
    rbd("import", "--no-progress", "-", source, stdin=os.urandom(32 * MIB))
    rbd("snap", "create", "--no-progress", f"{source}@monday")
    rbd("config", "image", "set", source, "rbd_qos_read_bps_limit", str(MIB))
    service = start(aiorbd_cluster, "--stop-timeout", "8")
    job = service.ask("POST", f"/volumes/{source}/snapshots/monday/copy", 202, name=target)
    states: list[Any] = []
    follower = threading.Thread(target=lambda: states.extend(service.wait(job)))
    follower.start()
    time.sleep(1)
    begin = time.monotonic()
    assert service.stop() == -signal.SIGTERM
    assert time.monotonic() - begin < min(patience(9), 15)  # two bounds would take sixteen seconds
    follower.join(10)
    assert states[-1]["state"] == "cancelled"
    assert target.encode() not in rbd("ls")


@pytest.mark.parametrize("again", [True, False])
def test_copy_of_a_killed_service_is_made_again_or_removed(
    start: Start, aiorbd_cluster: DevCluster, rbd: Any, filled: str, again: bool
) -> None:
    rbd("config", "image", "set", filled, "rbd_qos_read_bps_limit", str(4 * MIB))
    target = new_name()
    service = start(aiorbd_cluster)
    service.ask("POST", f"/volumes/{filled}/snapshots/monday/copy", 202, name=target)
    deadline = time.monotonic() + patience(20)
    while f".{target}.copying".encode() not in rbd("ls"):
        assert time.monotonic() < deadline
    service.stop(signal.SIGKILL)
    rbd("config", "image", "remove", filled, "rbd_qos_read_bps_limit")
    service = start(aiorbd_cluster)
    assert target not in service.ask("GET", "/volumes")
    if again:
        service.complete("POST", f"/volumes/{filled}/snapshots/monday/copy", name=target)
        assert rbd("export", "--no-progress", target, "-") == rbd("export", "--no-progress", filled, "-")
    deadline = time.monotonic() + patience(60)  # the new service removes the copy when the cluster forgets the old one
    while f".{target}.copying".encode() in rbd("ls"):
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_copy_that_another_service_completes_is_kept(start: Start, aiorbd_cluster: DevCluster, rbd: Any) -> None:
    name = new_name()
    first, second = f".0-{name}.copying", f".1-{name}.copying"
    for incomplete in (first, second):
        rbd("create", "--size", "16M", incomplete)

    async def complete() -> None:
        async with aiorbd.connect(aiorbd_cluster.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
            async with ioctx.open_image(first) as used:
                await used.write(b"used", 0)
                await anyio.to_thread.run_sync(start, aiorbd_cluster)  # its start removes what is not in use
                await anyio.sleep(2)  # the service has seen both names, and waits for the first
                async with ioctx.open_image(second) as copy:
                    await copy.write(b"mine", 0)
                await ioctx.rename_image(second, name)

    anyio.run(complete)
    deadline = time.monotonic() + patience(40)
    while first.encode() in rbd("ls"):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    time.sleep(2)
    assert rbd("export", "--no-progress", name, "-")[:4] == b"mine"
