"""Live migration of images, and imports that clients can use at once."""

import hashlib
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import pytest
from fix_witness import Witness
from helpers import new_name

import aiorbd
from aiorbd import MigrationState
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio

MIB = 1 << 20


@pytest.fixture
async def source(ioctx: aiorbd.IoCtx, make_image: Any) -> tuple[str, bytes]:
    """Make an image with data. Return its name and its data."""
    name, data = await make_image(16 * MIB), os.urandom(16 * MIB)
    async with ioctx.open_image(name) as image:
        await image.write(data, 0)
    return name, data


async def test_prepare_execute_and_commit(
    ioctx: aiorbd.IoCtx, source: tuple[str, bytes], witness: Witness, name: str
) -> None:
    old, data = source
    migration = ioctx.migration
    await migration.prepare(old, ioctx, name, order=23)
    status = await migration.status(name)
    assert (status.source_image_name, status.dest_image_name) == (old, name)
    assert status.state is MigrationState.PREPARED
    assert await migration.status(old) == status
    assert json.loads(await witness.rbd("status", name, "--format", "json"))["migration"]["state"] == "prepared"
    async with ioctx.open_image(name) as image:  # clients use the new image from now on
        assert json.loads(await image.migration_source())["image_name"] == old
        assert await image.read(0, 4096) == data[:4096]
        await image.write(b"new" * 100, MIB)
        reports: list[tuple[int, int]] = []
        await migration.execute(name, progress=lambda done, total: reports.append((done, total)))
        assert reports
        assert all(0 <= done <= total for done, total in reports)
    assert (await migration.status(name)).state is MigrationState.EXECUTED
    await migration.commit(name)
    expected = data[:MIB] + b"new" * 100 + data[MIB + 300 :]
    assert hashlib.sha256(await witness.export(name)).digest() == hashlib.sha256(expected).digest()
    assert old not in await witness.names()
    async with ioctx.open_image(name) as image:
        assert (await image.stat()).order == 23
        with pytest.raises(aiorbd.RbdError):
            await image.migration_source()


async def test_abort_makes_the_source_usable_again(
    ioctx: aiorbd.IoCtx, source: tuple[str, bytes], witness: Witness, name: str
) -> None:
    old, data = source
    await ioctx.migration.prepare(old, ioctx, name)
    await ioctx.migration.abort(name)
    assert name not in await witness.names()
    assert hashlib.sha256(await witness.export(old)).digest() == hashlib.sha256(data).digest()


async def test_errors_name_the_migration(ioctx: aiorbd.IoCtx, source: tuple[str, bytes], name: str) -> None:
    old, _ = source
    migration = ioctx.migration
    for call in (migration.status, migration.execute, migration.commit, migration.abort):
        with pytest.raises(aiorbd.ImageNotFound, match="no-such-image"):
            await call("no-such-image")
        with pytest.raises(aiorbd.InvalidArgument, match="not in a migration"):
            await call(old)
    async with ioctx.open_image(old):
        with pytest.raises(aiorbd.ImageBusy, match="open somewhere"):
            await migration.prepare(old, ioctx, name)
    await migration.prepare(old, ioctx, name)
    with pytest.raises(aiorbd.ImageBusy, match="in a migration already"):
        await migration.prepare(name, ioctx, new_name())
    with pytest.raises(aiorbd.ImageNotFound, match=f"migrates to '{name}'"):
        await ioctx.open_image(old)
    with pytest.raises(aiorbd.ImageBusy, match="in a migration"):
        await ioctx.remove_image(name)
    with pytest.raises(aiorbd.InvalidArgument, match="not in a migration that allows this step"):
        await migration.commit(name)
    await migration.abort(name)


async def test_cancelled_execute_continues(ioctx: aiorbd.IoCtx, source: tuple[str, bytes], name: str) -> None:
    old, _ = source
    await ioctx.migration.prepare(old, ioctx, name)
    with anyio.move_on_after(0.01) as scope:
        await ioctx.migration.execute(name)
    await ioctx.drain(60)
    if scope.cancelled_caught and (await ioctx.migration.status(name)).state is MigrationState.PREPARED:
        await ioctx.migration.execute(name)  # the cancellation came before the call began
    assert (await ioctx.migration.status(name)).state is MigrationState.EXECUTED
    await ioctx.migration.commit(name)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serve the files of a directory over HTTP, with ranges."""

    class Handler(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            data = (tmp_path / self.path.lstrip("/")).read_bytes()
            start, _, end = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
            part = data[int(start) : int(end) + 1 if end else len(data)]
            self.send_response(206)
            self.send_header("Content-Length", str(len(part)))
            self.send_header("Content-Range", f"bytes {start}-{int(start) + len(part) - 1}/{len(data)}")
            self.end_headers()
            self.wfile.write(part)

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str((tmp_path / self.path.lstrip("/")).stat().st_size))
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler)) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()
        thread.join()


@pytest.mark.parametrize("stream", ["file", "http", "s3"])
@pytest.mark.parametrize("kind", ["raw", "qcow"])
async def test_import(
    ioctx: aiorbd.IoCtx, witness: Witness, tmp_path: Path, name: str, server: str, kind: str, stream: str
) -> None:
    data = os.urandom(3 * MIB) + bytes(MIB)
    (tmp_path / "raw").write_bytes(data)
    subprocess.run(
        ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(tmp_path / "raw"), str(tmp_path / "qcow")], check=True
    )
    place = {"file_path": str(tmp_path / kind)} if stream == "file" else {"url": f"{server}/{kind}"}
    if stream == "s3":  # the server is not an S3 server, but librbd sends it the same requests
        place |= {"access_key": "access", "secret_key": "secret-7Qx"}
    await ioctx.migration.prepare_import({"type": kind, "stream": {"type": stream, **place}}, name)
    async with ioctx.open_image(name) as image:
        assert json.loads(await image.migration_source())["stream"]["type"] == stream
        assert await image.read(MIB, 4096) == data[MIB : MIB + 4096]
    assert (await ioctx.migration.status(name)).state is MigrationState.PREPARED
    await ioctx.migration.execute(name)
    await ioctx.migration.commit(name)
    assert hashlib.sha256(await witness.export(name)).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("source", ["secret-7Qx\0", "secret-7Qx\udfff", '{"secret_key": "secret-7Qx"}', "secret-7Qx"])
async def test_errors_about_a_source_do_not_contain_it(ioctx: aiorbd.IoCtx, name: str, source: str) -> None:
    """The source may contain a key of an S3 server."""
    with pytest.raises(aiorbd.InvalidArgument) as caught:
        await ioctx.migration.prepare_import(source, name)
    assert "7Qx" not in f"{caught.value!r} {caught.value}"


async def test_import_of_another_image(
    ioctx: aiorbd.IoCtx, source: tuple[str, bytes], witness: Witness, name: str
) -> None:
    old, data = source
    async with ioctx.open_image(old) as image:
        await image.create_snapshot("one")
    spec = json.dumps({"type": "native", "pool_name": "rbd", "image_name": old, "snap_name": "one"})
    await ioctx.migration.prepare_import(spec, name)
    await ioctx.migration.execute(name)
    await ioctx.migration.commit(name)
    assert hashlib.sha256(await witness.export(name)).digest() == hashlib.sha256(data).digest()
    assert old in await witness.names()


async def test_bad_sources_are_refused(ioctx: aiorbd.IoCtx, name: str) -> None:
    missing = {"type": "raw", "stream": {"type": "file", "file_path": "/no/such/file"}}
    with pytest.raises(aiorbd.ObjectNotFound, match="the source does not exist"):
        await ioctx.migration.prepare_import(missing, name)
    for source in ("{", {"type": "no such type"}, {}):
        with pytest.raises(aiorbd.InvalidArgument):
            await ioctx.migration.prepare_import(source, name)
    for wrong in (object(), ["raw"]):
        with pytest.raises(TypeError, match="JSON text or a mapping"):
            await ioctx.migration.prepare_import(wrong, name)  # type: ignore[arg-type]
    with pytest.raises(aiorbd.InvalidArgument, match="not JSON"):
        await ioctx.migration.prepare_import({"type": object()}, name)
    assert name not in await ioctx.list_images()


async def test_image_that_is_only_kept_for_later_counts_as_closed(
    aiorbd_cluster: DevCluster, source: tuple[str, bytes], name: str
) -> None:
    old, data = source
    async with aiorbd.SharedConnection(lambda: aiorbd.connect(aiorbd_cluster.conffile)) as shared:
        async with shared.open_image("rbd", old) as image:
            assert await image.read(0, 512) == data[:512]
        async with shared.open_ioctx("rbd") as ioctx:
            await ioctx.migration.prepare(old, ioctx, name)
            async with shared.open_image("rbd", name) as image:
                assert await image.read(0, 512) == data[:512]
            await ioctx.migration.abort(name)
        async with shared.open_image("rbd", old) as image:
            assert await image.read(0, 512) == data[:512]
