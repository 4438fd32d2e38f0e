"""The NBD server, with libnbd's and QEMU's programs as clients, and with the ``rbd`` tool as witness."""

import contextlib
import hashlib
import json
import os
import random
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from fix_lag import patience
from helpers import new_name
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nbd_clients import Client, Server, changed, mapped, output

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.slow

MIB = 1 << 20


Start = Callable[..., Server]


@pytest.fixture
def start(aiorbd_cluster: DevCluster, tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a server. All servers end with the test."""
    servers = []

    def begin(*options: Any, cluster: DevCluster = aiorbd_cluster, path: Path | None = None) -> Server:
        servers.append(Server(cluster, tmp_path, *options, path=path))
        return servers[-1]

    yield begin
    for server in servers:
        server.close()


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def server(request: pytest.FixtureRequest, aiorbd_cluster: DevCluster, tmp_path_factory: Any) -> Iterator[Server]:
    """Start a server on each backend."""
    server = Server(aiorbd_cluster, tmp_path_factory.mktemp("nbd"), "--backend", request.param)
    assert server.ready == f"ready: {server.path}\n"
    yield server
    assert server.process.poll() is None, "the server ended"
    assert server.stop() == 0
    assert not server.path.exists()
    server.close()


@pytest.fixture
def image(rbd: Any) -> str:
    """An image with data, holes, and the snapshots "one" and "two" with changes after each."""
    name = new_name()
    data = bytearray(48 * MIB)
    data[: 3 * MIB] = os.urandom(3 * MIB)
    data[20 * MIB : 22 * MIB] = os.urandom(2 * MIB)
    rbd("import", "--no-progress", "-", name, stdin=bytes(data))
    for snapshot, offset in (("one", 8 * MIB), ("two", MIB)):
        rbd("snap", "create", "--no-progress", f"{name}@{snapshot}")
        diff = b"rbd diff v1\nw" + struct.pack("<QQ", offset, 70_000) + os.urandom(70_000) + b"e"
        rbd("import-diff", "--no-progress", "-", name, stdin=diff)
    return name


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_list_names_images_and_snapshots(server: Server, image: str) -> None:
    found = json.loads(output("nbdinfo", "--list", "--json", server.uri("")))
    exports = {one["export-name"]: one for one in found["exports"]}
    assert {image, f"{image}@one", f"{image}@two"} <= set(exports)
    for name in (image, f"{image}@one"):
        assert exports[name]["export-size"] == 48 * MIB
        assert exports[name]["is_read_only"] == ("@" in name)
        assert exports[name]["can_multi_conn"]
        assert exports[name]["can_trim"] == ("@" not in name)
    bitmaps = [f"qemu:dirty-bitmap:{name}" for name in ("one", "two")]
    assert exports[image]["contexts"] == ["base:allocation", *bitmaps]
    assert exports[f"{image}@two"]["contexts"] == ["base:allocation", bitmaps[0]]


def test_copies_with_four_connections_are_equal(server: Server, rbd: Any, tmp_path: Path) -> None:
    name = new_name()
    rbd("create", "--size", "96M", name)
    (tmp_path / "from").write_bytes(data := os.urandom(96 * MIB))
    output("nbdcopy", "--connections=4", "--requests=16", tmp_path / "from", server.uri(name))
    assert sha256(rbd("export", "--no-progress", name, "-")) == sha256(data)
    output("nbdcopy", "--connections=4", server.uri(name), tmp_path / "back")
    assert sha256((tmp_path / "back").read_bytes()) == sha256(data)


@pytest.mark.parametrize("snapshot", ["", "@one"])
def test_allocation_is_what_the_tool_reports(server: Server, rbd: Any, image: str, snapshot: str) -> None:
    expected = changed(rbd, image + snapshot)
    assert len(expected) >= 2
    assert mapped(server.uri(image + snapshot), "base:allocation", 0) == expected


@pytest.mark.parametrize(("export", "since"), [("", "one"), ("", "two"), ("@two", "one")])
def test_bitmaps_are_what_the_tool_reports(server: Server, rbd: Any, image: str, export: str, since: str) -> None:
    expected = changed(rbd, "--from-snap", since, image + export)
    assert expected
    assert mapped(server.uri(image + export), f"qemu:dirty-bitmap:{since}", 1) == expected


def test_long_status_of_many_ranges_is_complete(server: Server, aiorbd_cluster: DevCluster, rbd: Any) -> None:
    name = new_name()
    rbd("create", "--size", "1G", name)
    places = [*range(0, 80 * MIB, 8192), 300 * MIB, 700 * MIB]  # more than 8192 ranges, and more than 256 MiB

    async def fill() -> None:
        async with aiorbd.connect(aiorbd_cluster.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
            async with ioctx.open_image(name) as image, image.writer() as writer:
                for offset in range(0, 80 * MIB, 4 * MIB):
                    await writer.write(b"x" * (4 * MIB), offset)
                await writer.write(b"x" * 4096, 300 * MIB)
                await writer.write(b"x" * 4096, 700 * MIB)
            async with ioctx.open_image(name) as image:
                await image.create_snapshot("full")
                async with image.writer() as writer:
                    for offset in places:
                        await writer.write(b"y" * 4096, offset)

    anyio.run(fill)
    expected = [(offset, 4096) for offset in places]
    assert changed(rbd, "--from-snap", "full", name) == expected
    assert mapped(server.uri(name), "qemu:dirty-bitmap:full", 1) == expected
    assert mapped(server.uri(name), "base:allocation", 0) == [(0, 80 * MIB), (300 * MIB, 4096), (700 * MIB, 4096)]


def test_qemu_converts_and_compares(server: Server, rbd: Any, image: str, tmp_path: Path) -> None:
    output("qemu-img", "convert", "-f", "raw", "-O", "qcow2", server.uri(f"{image}@two"), tmp_path / "copy.qcow2")
    output("qemu-img", "compare", "-f", "raw", "-F", "qcow2", server.uri(f"{image}@two"), tmp_path / "copy.qcow2")
    name = new_name()
    rbd("create", "--size", "48M", name)
    output("qemu-img", "convert", "-n", "-f", "qcow2", "-O", "raw", tmp_path / "copy.qcow2", server.uri(name))
    assert rbd("export", "--no-progress", name, "-") == rbd("export", "--no-progress", f"{image}@two", "-")
    assert sum(length for _, length in changed(rbd, name)) < 24 * MIB  # the holes are holes


def test_requests_of_each_kind_change_the_image_as_they_should(server: Server, rbd: Any) -> None:
    name = new_name()
    rbd("import", "--no-progress", "-", name, stdin=b"\x01" * (16 * MIB))
    commands = [
        "write -f -P 2 0 64k",
        "write -P 3 1M 1M",
        "write -z 2M 64k",
        "write -z -u 4M 4M",
        "discard 8M 4M",
        "flush",
        "read -P 2 0 64k",
        "read -P 1 64k 64k",
        "read -P 0 2M 64k",
    ]
    output("qemu-io", "-f", "raw", *(part for command in commands for part in ("-c", command)), server.uri(name))
    data = bytearray(b"\x01" * (16 * MIB))
    data[:65536] = b"\x02" * 65536
    data[MIB : 2 * MIB] = b"\x03" * MIB
    data[2 * MIB : 2 * MIB + 65536] = bytes(65536)
    data[4 * MIB : 12 * MIB] = bytes(8 * MIB)
    assert sha256(rbd("export", "--no-progress", name, "-")) == sha256(bytes(data))
    assert changed(rbd, name) == [(0, 4 * MIB), (12 * MIB, 4 * MIB)]  # zeroes without -u keep their space


@pytest.fixture
def lazy_conf(aiorbd_cluster: DevCluster, tmp_path: Path) -> Path:
    """A configuration with which written data stays in librbd's cache until a flush."""
    path = tmp_path / "lazy.conf"
    lazy = {
        "rbd_cache_policy": "writeback",
        "rbd_cache_writethrough_until_flush": "false",
        "rbd_cache_max_dirty_age": "600",
    }
    options = "".join(f"{key} = {value}\n" for key, value in lazy.items())
    path.write_text(f"{Path(aiorbd_cluster.conffile).read_text()}\n[client]\n{options}")
    return path


@pytest.mark.parametrize("durable", ["flush", "FUA"])
def test_flush_of_one_connection_covers_the_writes_of_another(
    start: Start, lazy_conf: Path, rbd: Any, durable: str
) -> None:
    name = new_name()
    rbd("create", "--size", "16M", name)
    server = start("--conf", lazy_conf)
    with Client(server, name) as one, Client(server, name) as two:
        assert one.ask(1, 0, 4096, b"a" * 4096) == 0
        assert two.ask(0, 0, 4096) == 0
        assert two.data == b"a" * 4096
        assert rbd("export", "--no-progress", name, "-")[:4096] == bytes(4096)  # it is only in the cache
        if durable == "flush":
            assert two.ask(3, 0, 0) == 0
        else:
            assert two.ask(1, 8192, 512, b"b" * 512, flags=1) == 0
        server.stop(signal.SIGKILL)
    assert rbd("export", "--no-progress", name, "-")[:4096] == b"a" * 4096


def test_read_only_exports_refuse_changes(start: Start, image: str, rbd: Any) -> None:
    before = rbd("export", "--no-progress", image, "-")
    for server, export in ((start(), f"{image}@one"), (start("--read-only"), image)):
        assert json.loads(output("nbdinfo", "--json", server.uri(export)))["exports"][0]["is_read_only"]
        with Client(server, export) as client:
            assert client.ask(1, 0, 512, bytes(512)) == 1  # EPERM
            assert client.ask(4, 0, 4 * MIB) == 1
            assert client.ask(6, 0, 4 * MIB) == 1
            assert client.ask(0, 0, 512) == 0
    assert rbd("export", "--no-progress", image, "-") == before


def test_unknown_exports_are_refused(server: Server, image: str) -> None:
    for name in ("none", f"{image}@none", f"{image}@", "", "@one", "x" * 300):
        assert "nbdinfo: " in output("nbdinfo", server.uri(name), code=1)


def test_wrong_requests_get_errors_and_the_connection_goes_on(server: Server, rbd: Any) -> None:
    name = new_name()
    rbd("create", "--size", "16M", name)
    with Client(server, name) as client:
        assert client.size == 16 * MIB
        assert client.ask(0, 16 * MIB - 512, 1024) == 22  # EINVAL
        assert client.ask(0, 2**64 - 1, 512) == 22
        assert client.ask(0, 0, 33 * MIB) == 22
        assert client.ask(1, 16 * MIB - 512, 1024, bytes(1024)) == 28  # ENOSPC
        assert client.ask(6, 0, 17 * MIB) == 28
        assert client.ask(4, 0, 17 * MIB) == 22
        assert client.ask(0, 0, 512, flags=16) == 22  # FAST_ZERO belongs to another request
        assert client.ask(0, 0, 0) == 0
        assert client.ask(6, 0, 4096, flags=16 | 2) == 95  # ENOTSUP: allocating zeroes is not fast
        assert client.ask(7, 0, 4096) == 22  # no context was chosen
        assert client.ask(99, 0, 4096) == 22
        assert client.ask(0, 0, 32 * MIB) == 22
        assert client.ask(0, 0, 16 * MIB) == 0
        assert client.data == bytes(16 * MIB)
        client.send(1, 0, 33 * MIB)  # too large to read over its data
        with pytest.raises(EOFError):
            client.receive(1)
    with Client(server, name) as client:
        assert client.ask(0, 0, 512) == 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=80),
            st.builds(
                lambda option, data, cut: b"IHAVEOPT" + struct.pack(">II", option, len(data) + cut) + data,
                st.integers(0, 12),
                st.binary(max_size=64),
                st.sampled_from([0, 0, 0, 1, 1 << 20]),
            ),
            st.builds(
                lambda option, name, rest: (
                    b"IHAVEOPT" + struct.pack(">III", option, 4 + len(name + rest), len(name)) + name + rest
                ),
                st.sampled_from([6, 7, 9, 10]),
                st.binary(max_size=20),
                st.binary(max_size=20),
            ),
        ),
        max_size=6,
    )
)
def test_hostile_handshakes_end_alone(server: Server, stream: list[bytes]) -> None:
    with server.connect() as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(struct.pack(">I", 3) + b"".join(stream))
            client.shutdown(socket.SHUT_WR)
        received = 0
        with contextlib.suppress(ConnectionError):
            while part := client.recv(1 << 16):
                received += len(part)
        assert received >= 18  # the greeting
    assert server.process.poll() is None


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_hostile_requests_end_alone(server: Server, hostile_target: str, seed: int) -> None:
    chance = random.Random(seed)
    with Client(server, hostile_target) as client:
        with contextlib.suppress(ConnectionError):
            for _ in range(20):
                magic = 0x25609513 if chance.random() < 0.97 else chance.getrandbits(32)
                length = chance.choice([0, 1, 512, 4096, chance.getrandbits(32)])
                head = (
                    chance.getrandbits(5),
                    chance.randrange(9),
                    chance.getrandbits(64),
                    chance.getrandbits(26),
                    length,
                )
                client.socket.sendall(
                    struct.pack(">IHHQQI", magic, *head) + chance.randbytes(chance.choice([0, 0, 512]))
                )
            client.socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while client.socket.recv(1 << 20):
                pass
    with Client(server, hostile_target) as client:
        assert client.ask(0, 0, 512) == 0


@pytest.fixture
def hostile_target(rbd: Any) -> str:
    name = new_name()
    rbd("create", "--size", "64M", name)
    return name


def test_server_outlives_killed_clients(server: Server, image: str, tmp_path: Path) -> None:
    for _ in range(3):
        client = Client(server, image)
        for number in range(20):
            client.send(0, number * MIB, MIB)
        client.send(1, 0, MIB, b"half of the data" * 1000)
        client.socket.close()
    client_program = subprocess.Popen(["nbdcopy", server.uri(image), str(tmp_path / "copy")])
    time.sleep(0.2)
    client_program.kill()
    client_program.wait()
    with Client(server, image) as one:
        assert one.ask(0, 0, 512) == 0


def test_client_that_reads_no_replies_costs_little_memory_and_no_exit_code(start: Start, image: str) -> None:
    server = start("--stop-timeout", 4)
    with Client(server, image) as greedy:
        for _ in range(40):
            greedy.send(0, 0, 32 * MIB)
        time.sleep(2)
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        assert int(status.partition("VmRSS:")[2].split()[0]) < 400 << 10
        with Client(server, image) as other:
            assert other.ask(0, 0, 512) == 0
        assert server.stop() == 0


def test_server_at_a_port_and_in_a_namespace(
    start: Start, aiorbd_cluster: DevCluster, tmp_path: Path, rbd: Any
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    namespace, name = new_name("namespace"), new_name()
    rbd("namespace", "create", f"rbd/{namespace}")
    rbd("import", "--no-progress", "-", f"rbd/{namespace}/{name}", stdin=b"x" * MIB)
    server = start("--port", port, "--host", "127.0.0.1", "--namespace", namespace)
    assert str(port) in server.ready
    assert json.loads(output("nbdinfo", "--json", f"nbd://127.0.0.1:{port}/{name}"))["exports"][0]["export-size"] == MIB
    assert output("nbdinfo", "--list", f"nbd://127.0.0.1:{port}").count("export=") == 1
    second = start("--port", port, "--host", "127.0.0.1")
    assert second.process.wait(patience(20)) == 1
    assert "error: " in second.log.read_text()


def test_path_of_something_else_is_left_alone(start: Start, tmp_path: Path, image: str) -> None:
    first = start()
    second = start(path=first.path)
    assert second.process.wait(patience(20)) == 1
    assert "error: " in second.log.read_text()
    with Client(first, image) as client:
        assert client.ask(0, 0, 512) == 0
    (tmp_path / "file").write_text("precious")
    assert start(path=tmp_path / "file").process.wait(patience(20)) == 1
    assert (tmp_path / "file").read_text() == "precious"
    first.stop(signal.SIGKILL)
    third = start(path=first.path)  # the path that a killed server left
    assert third.ready == f"ready: {first.path}\n"


@pytest.mark.parametrize("first", ["an old connection", "a new connection"])
def test_blocklisted_server_acknowledges_no_flush(start: Start, osd: DevCluster, first: str) -> None:
    name = new_name()
    osd.run_blocking("rbd", "create", "--size", "16M", name)
    server = start(cluster=osd)
    with Client(server, name) as one:
        assert one.ask(1, 0, 4096, b"a" * 4096) == 0
        watchers = json.loads(osd.run_blocking("rbd", "status", "--format", "json", name))["watchers"]
        osd.run_blocking("ceph", "osd", "blocklist", "add", watchers[0]["address"])
        if first == "an old connection":
            assert one.ask(3, 0, 0) == 108 or one.ask(3, 0, 0) == 108  # ESHUTDOWN
        else:
            with contextlib.suppress(EOFError, ConnectionError), Client(server, name) as two:
                assert two.ask(3, 0, 0) != 0
        assert server.process.wait(patience(40)) == 1
    assert "blocklisted" in server.log.read_text()


def plain_options(server: Server, export: str) -> str:
    return f"driver=nbd,server.type=unix,server.path={server.path},export={export}"


def test_tls_protects_the_exports(start: Start, image: str, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca-cert.pem")
    issued = authority.issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    server = start("--tls-certificate", tmp_path / "server.pem")
    uri = f"nbds+unix://localhost/{image}@one?socket={server.path}&tls-certificates={tmp_path}&tls-hostname=localhost"
    output("nbdcopy", uri, tmp_path / "copy")
    plain = start()
    output("nbdcopy", plain.uri(f"{image}@one"), tmp_path / "plain")
    assert sha256((tmp_path / "copy").read_bytes()) == sha256((tmp_path / "plain").read_bytes())
    assert mapped(uri, "base:allocation", 0) == mapped(plain.uri(f"{image}@one"), "base:allocation", 0)
    for begin in (b"", b"this is no TLS"):
        with server.connect() as client:
            client.sendall(struct.pack(">I8sII", 3, b"IHAVEOPT", 5, 0) + begin)
            client.shutdown(socket.SHUT_WR)
            while client.recv(1 << 16):
                pass
    assert "requires TLS" in output("qemu-img", "info", "--image-opts", plain_options(server, image), code=1)
    assert image not in output("nbdinfo", "--list", server.uri(""), code=1)


def test_options_of_tls_need_a_certificate(start: Start, tmp_path: Path) -> None:
    """A server that ignored the option would serve everyone."""
    server = start("--tls-clients", tmp_path / "ca-cert.pem")
    assert server.process.wait(patience(20)) == 2
    assert server.ready == ""
    assert "need --tls-certificate" in server.log.read_text()


def test_tls_can_require_certificates_of_clients(start: Start, image: str, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca-cert.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    server = start("--tls-certificate", tmp_path / "server.pem", "--tls-clients", tmp_path / "ca-cert.pem")
    uri = f"nbds+unix://localhost/{image}?socket={server.path}&tls-certificates={tmp_path}"
    output("nbdinfo", uri, code=1)
    client = authority.issue_cert("client")
    client.private_key_pem.write_to_path(tmp_path / "client-key.pem")
    client.cert_chain_pems[0].write_to_path(tmp_path / "client-cert.pem")
    assert str(48 * MIB) in output("nbdinfo", uri)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_server_beside_idle_clients(start: Start, image: str, number: int) -> None:
    server = start()
    with Client(server, image), Client(server, image), server.connect():
        begin = time.monotonic()
        assert server.stop(number) == 0
        assert time.monotonic() - begin < patience(3)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_acknowledged_writes_survive_a_stop(start: Start, rbd: Any, lazy_conf: Path, backend: str) -> None:
    name = new_name()
    rbd("create", "--size", "64M", name)
    server = start("--backend", backend, "--conf", lazy_conf)
    acknowledged = 0
    with Client(server, name) as client, contextlib.suppress(EOFError, ConnectionError):
        for number in range(64):
            if number == 40:
                server.process.send_signal(signal.SIGTERM)
            assert client.ask(1, number * MIB, MIB, bytes([number + 1]) * MIB) == 0
            acknowledged = number + 1
    assert server.process.wait(patience(20)) == 0
    assert acknowledged >= 40
    data = rbd("export", "--no-progress", name, "-")
    assert all(data[number * MIB] == number + 1 for number in range(acknowledged))


def test_exit_code_tells_of_writes_that_were_not_flushed(start: Start, osd: DevCluster) -> None:
    name = new_name()
    osd.run_blocking("rbd", "create", "--size", "16M", name)
    server = start("--stop-timeout", 4, cluster=osd)
    with Client(server, name) as client:
        assert client.ask(1, 0, 4096, b"a" * 4096) == 0
        assert client.ask(3, 0, 0) == 0  # from now on, librbd acknowledges writes that are only in its cache
        osd.pause()
        assert client.ask(1, 0, 4096, b"b" * 4096) == 0
        assert server.stop() == 1
    assert "may be lost" in server.log.read_text()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_dead_cluster_delays_the_end_no_longer_than_its_bound(start: Start, osd: DevCluster, backend: str) -> None:
    names = [new_name() for _ in range(3)]
    for name in names:
        osd.run_blocking("rbd", "create", "--size", "16M", name)
    server = start("--stop-timeout", 4, "--backend", backend, cluster=osd)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server, name)) for name in names]
        for client in clients:
            assert client.ask(1, 0, 4096, b"a" * 4096) == 0
        osd.pause()
        for client in clients:
            client.send(1, MIB, 4096, b"b" * 4096)
            client.send(3, 0, 0)
        time.sleep(0.5)
        begin = time.monotonic()
        assert server.stop() == 1  # the outcome of the last writes is unknown
        assert time.monotonic() - begin < min(patience(7), 11)  # three bounds would take twelve seconds
