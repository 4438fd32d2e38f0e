"""The NBD server as a process, a client that does no checks of its own, and what other clients report."""

import json
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from helpers import new_name

from aiorbd.testing import DevCluster

PROGRAM = Path(__file__).parents[2] / "examples/nbd_server.py"


def output(*command: Any, code: int = 0) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


class Server:
    """The program, which listens at a path, or at a port."""

    def __init__(self, cluster: DevCluster, directory: Path, *options: Any, path: Path | None = None) -> None:
        self.path = path or directory / f"{new_name()}.sock"
        self.log = directory / f"{new_name()}.log"
        place = [] if "--port" in options else ["--socket", self.path]
        command = [sys.executable, PROGRAM, "--conf", cluster.conffile, *place, *options]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [str(part) for part in command], stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        self.ready = self.process.stdout.readline()

    def uri(self, export: str) -> str:
        return f"nbd+unix:///{export}?socket={self.path}"

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(20)
        client.connect(str(self.path))
        return client

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(40)

    def close(self) -> None:
        """End the program, and check what it wrote."""
        if self.process.poll() is None:
            self.stop(signal.SIGKILL)
        assert self.process.stdout is not None
        self.process.stdout.close()
        assert "Traceback" not in self.log.read_text(), self.log.read_text()


class Client:
    """A client with simple replies, which does no checks of its own."""

    def __init__(self, server: Server, export: str) -> None:
        self.socket = server.connect()
        self.data = b""
        try:
            assert self.receive(18)[:16] == b"NBDMAGICIHAVEOPT"
            self.socket.sendall(struct.pack(">I8sII", 3, b"IHAVEOPT", 1, len(export)) + export.encode())
            self.size, self.flags = struct.unpack(">QH", self.receive(10))
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def receive(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            data += (part := self.socket.recv(length - len(data)))
            if not part:
                raise EOFError
        return data

    def send(self, command: int, offset: int, length: int, data: bytes = b"", flags: int = 0) -> None:
        self.socket.sendall(struct.pack(">IHHQQI", 0x25609513, flags, command, 77, offset, length) + data)

    def ask(self, command: int, offset: int, length: int, data: bytes = b"", flags: int = 0) -> int:
        """Send a request. Return the error number of the reply."""
        self.send(command, offset, length, data, flags)
        magic, code, cookie = struct.unpack(">IIQ", self.receive(16))
        assert (magic, cookie) == (0x67446698, 77)
        self.data = self.receive(length) if command == 0 and not code else b""
        return int(code)


def changed(rbd: Any, *arguments: str) -> list[tuple[int, int]]:
    """Return the ranges with data, or those that changed, as the tool reports them. Neighbours are one range."""
    found: list[tuple[int, int]] = []
    extents = json.loads(rbd("diff", "--format", "json", *arguments))
    for extent in sorted(extents, key=lambda one: one["offset"]):
        if found and sum(found[-1]) == extent["offset"]:
            found[-1] = (found[-1][0], found[-1][1] + extent["length"])
        else:
            found.append((extent["offset"], extent["length"]))
    return found


def mapped(uri: str, context: str, kind: int) -> list[tuple[int, int]]:
    """Return the ranges of a kind, as a client reports them."""
    ranges = json.loads(output("nbdinfo", "--json", f"--map={context}", uri))
    found: list[tuple[int, int]] = []
    for one in ranges:
        if one["type"] != kind:
            continue
        if found and sum(found[-1]) == one["offset"]:
            found[-1] = (found[-1][0], found[-1][1] + one["length"])
        else:
            found.append((one["offset"], one["length"]))
    return found
