"""Encryption by librbd, with ``cryptsetup`` and ``qemu-img`` as witnesses."""

import logging
import os
import subprocess
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from fix_witness import Witness
from helpers import TWO_LOOPS, new_name
from inside import encryption, ffi

import aiorbd
from aiorbd import EncryptionAlgorithm, EncryptionFormat
from aiorbd.testing import DevCluster

pytestmark = [pytest.mark.anyio, TWO_LOOPS]

MIB = 1 << 20
SECRET = b"correct horse battery staple"
FORMATS = [EncryptionFormat.LUKS1, EncryptionFormat.LUKS2]


def run(*command: str, stdin: bytes = b"") -> bytes:
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def decrypted(path: Path, secret: bytes, directory: Path) -> bytes:
    """Let qemu-img decrypt an encrypted file."""
    key, plain = directory / "key", directory / "plain"
    key.write_bytes(secret)
    run(
        *("qemu-img", "convert", "--object", f"secret,id=key,file={key}"),
        *("--image-opts", f"driver=luks,key-secret=key,file.filename={path}", "-O", "raw", str(plain)),
    )
    return plain.read_bytes()


@pytest.fixture
def make_encrypted(witness: Witness, tmp_path: Path) -> Callable[..., Awaitable[str]]:
    """Return a function that creates an encrypted image of 32 MiB and returns its name.

    ``cryptsetup`` makes a key that takes milliseconds. A key that librbd makes takes seconds, as does each load.
    """

    async def make(encryption_format: EncryptionFormat = EncryptionFormat.LUKS1) -> str:
        path, kind, name = tmp_path / "made", encryption_format.name.lower(), new_name()
        path.write_bytes(bytes(32 * MIB))
        command = ("cryptsetup", "luksFormat", "--batch-mode", "--type", kind, "--pbkdf-force-iterations", "1000")
        key = ("--cipher", "aes-xts-plain64", "--key-size", "512", "--hash", "sha256", "--key-file", "-")
        # From 18.2 on, librbd needs data that begins at a multiple of the object size: 4 MiB are 8192 sectors.
        own = {"luks1": ("--align-payload", "8192"), "luks2": ("--pbkdf", "pbkdf2", "--sector-size", "4096")}[kind]
        run(*command, *key, *own, str(path), stdin=SECRET)
        await witness.import_(path.read_bytes(), name)
        return name

    return make


@pytest.mark.parametrize(
    ("encryption_format", "algorithm"),
    [
        (EncryptionFormat.LUKS1, EncryptionAlgorithm.AES128),
        pytest.param(EncryptionFormat.LUKS1, EncryptionAlgorithm.AES256, marks=pytest.mark.slow),
        pytest.param(EncryptionFormat.LUKS2, EncryptionAlgorithm.AES128, marks=pytest.mark.slow),
        pytest.param(EncryptionFormat.LUKS2, EncryptionAlgorithm.AES256, marks=pytest.mark.slow),
    ],
    ids=lambda one: one.name,
)
async def test_cryptsetup_opens_the_exported_image(
    ioctx: aiorbd.IoCtx, make_image: Any, witness: Witness, tmp_path: Path, encryption_format: Any, algorithm: Any
) -> None:
    name, data = await make_image(32 * MIB), os.urandom(8192)
    async with ioctx.open_image(name) as image:
        assert not image.encryption.loaded
        await image.encryption.format(encryption_format, SECRET, algorithm)
        assert image.encryption.loaded
        await image.write(data, 4096)
        size = await image.size()
        assert size < 32 * MIB
    exported = tmp_path / "exported"
    exported.write_bytes(await witness.export(name))
    assert data not in exported.read_bytes()
    run("cryptsetup", "open", "--test-passphrase", "--key-file", "-", "--type", "luks", str(exported), stdin=SECRET)
    dump = run("cryptsetup", "luksDump", str(exported)).decode()
    assert f"Version:       \t{1 if encryption_format is EncryptionFormat.LUKS1 else 2}" in dump
    if encryption_format is EncryptionFormat.LUKS1:  # qemu-img reads no LUKS2
        plain = decrypted(exported, SECRET, tmp_path)
        assert len(plain) == size
        assert plain[4096 : 4096 + len(data)] == data
    async with ioctx.open_image(name) as image:
        await image.encryption.load(SECRET)
        assert await image.read(4096, len(data)) == data
        assert await image.size() == size


@pytest.mark.parametrize("encryption_format", FORMATS, ids=lambda one: one.name)
async def test_librbd_opens_what_cryptsetup_formatted(
    ioctx: aiorbd.IoCtx, make_encrypted: Any, witness: Witness, tmp_path: Path, encryption_format: Any
) -> None:
    name = await make_encrypted(encryption_format)
    async with ioctx.open_image(name) as image:
        await image.encryption.load(SECRET, encryption_format)
        await image.write(b"hello" * 1000, 0)
        assert await image.read(0, 5) == b"hello"
    if encryption_format is EncryptionFormat.LUKS1:  # qemu-img reads no LUKS2
        path = tmp_path / "exported"
        path.write_bytes(await witness.export(name))
        assert decrypted(path, SECRET, tmp_path)[:5000] == b"hello" * 1000


@pytest.mark.parametrize("encryption_format", FORMATS, ids=lambda one: one.name)
async def test_size_ranges_and_diffs_leave_out_the_header(
    ioctx: aiorbd.IoCtx, make_encrypted: Any, encryption_format: Any
) -> None:
    async with ioctx.open_image(await make_encrypted(encryption_format)) as image:
        await image.encryption.load(SECRET)
        size = await image.size()
        with pytest.raises(aiorbd.PastEndOfImage):
            await image.write(b"x" * 10, size - 5)
        with pytest.raises(aiorbd.PastEndOfImage):
            await image.read(size, 1)
        await image.write(b"x" * 4096, size - 4096)
        for whole_object in (False, True):
            extents = [extent async for extent in image.diff(whole_object=whole_object)]
            assert max(extent.offset + extent.length for extent in extents) == size
            assert min(extent.offset for extent in extents) >= size - 4 * MIB  # an object at most
        chunks = [chunk.data async for chunk in image.read_extents(offset=size - 4096)]
        assert b"".join(data for data in chunks if data) == b"x" * 4096
        await image.resize(64 * MIB)
        assert await image.size() == 64 * MIB
        await image.write(b"y" * 512, 64 * MIB - 512)
        assert await image.read(64 * MIB - 512, 512) == b"y" * 512
        with pytest.raises(aiorbd.InvalidArgument, match="allow_shrink"):
            await image.resize(64 * MIB - 1)
        await image.resize(8 * MIB, allow_shrink=True)
        assert await image.size() == 8 * MIB
        await image.write(b"z" * 512, 8 * MIB - 512)
        snapshot = await image.create_snapshot("one")
        await image.resize(16 * MIB)
        await image.write(b"later", 8 * MIB - 512)
        await snapshot.rollback()
        assert await image.size() == 8 * MIB
        assert await image.read(8 * MIB - 512, 512) == b"z" * 512
        assert (await image.disk_usage()).used > 0


@pytest.mark.slow  # librbd measures the machine for seconds before it makes a key
async def test_errors_are_typed(ioctx: aiorbd.IoCtx, make_image: Any, make_encrypted: Any) -> None:
    async with ioctx.open_image(await make_image()) as image:
        await image.write(b"plain", 0)
        with pytest.raises(aiorbd.ImageNotEncrypted, match="no header"):
            await image.encryption.load(SECRET)
        assert await image.read(0, 5) == b"plain"
    async with ioctx.open_image(await make_image(0)) as image:
        with pytest.raises(aiorbd.ImageNotEncrypted, match="no header"):
            await image.encryption.load(SECRET)
    async with ioctx.open_image(await make_image(64 << 10)) as image:
        with pytest.raises(aiorbd.ImageTooSmall, match="no room"):
            await image.encryption.format(EncryptionFormat.LUKS2, SECRET)
    async with ioctx.open_image(await make_image(32 * MIB)) as image:
        for bad in (EncryptionFormat.LUKS, 7):
            with pytest.raises(aiorbd.InvalidArgument):
                await image.encryption.format(bad, SECRET)  # type: ignore[arg-type]
        with pytest.raises(aiorbd.InvalidArgument, match="must not be empty"):
            await image.encryption.format(EncryptionFormat.LUKS1, b"")
        with pytest.raises(TypeError, match="not str"):
            await image.encryption.format(EncryptionFormat.LUKS1, "secret")  # type: ignore[arg-type]
    name = await make_encrypted()
    async with ioctx.open_image(name) as image:
        with pytest.raises(aiorbd.WrongPassphrase):
            await image.encryption.load(SECRET[:-1])
        with pytest.raises(aiorbd.ImageNotEncrypted):
            await image.encryption.load(SECRET, EncryptionFormat.LUKS2)
        await image.encryption.load(bytearray(SECRET))
        with pytest.raises(aiorbd.OperationNotSupported, match="loaded already"):
            await image.encryption.load(SECRET)
    async with ioctx.open_image(name, read_only=True) as image:
        with pytest.raises(aiorbd.ReadOnlyImage):
            await image.encryption.format(EncryptionFormat.LUKS1, SECRET)
        await image.encryption.load(memoryview(SECRET))


async def test_chain_of_passphrases_needs_a_new_release(
    ioctx: aiorbd.IoCtx, make_image: Any, make_encrypted: Any
) -> None:
    name, clone = await make_encrypted(), new_name()
    async with ioctx.open_image(name) as image:
        await image.encryption.load(SECRET)
        await image.resize(48 * MIB)  # the header of the clone takes more
        await image.write(b"from the parent", 0)
        await image.create_snapshot("one")
        await image.clone("one", ioctx, clone, clone_format=2)
    async with ioctx.open_image(clone) as image:
        if "rbd_encryption_load2" not in aiorbd.capabilities():
            with pytest.raises(aiorbd.LibraryTooOldError, match=r"needs Ceph 18\.2"):
                await image.encryption.load_chain([b"clone's", SECRET])
            with pytest.raises(aiorbd.OperationNotSupported):
                await image.encryption.format(EncryptionFormat.LUKS2, b"clone's")
            return
        await image.encryption.format(EncryptionFormat.LUKS2, b"clone's")
        assert not image.encryption.loaded
        for call in refused_without_load(image):
            with pytest.raises(aiorbd.OperationNotSupported, match="call load or load_chain first"):
                await call
        await image.encryption.load_chain([b"clone's", SECRET])
        assert await image.read(0, 15) == b"from the parent"
    async with ioctx.open_image(clone) as image:
        with pytest.raises(aiorbd.WrongPassphrase):
            await image.encryption.load_chain([b"clone's", b"wrong"])
    async with ioctx.open_image(clone) as image:
        with pytest.raises(aiorbd.InvalidArgument):
            await image.encryption.load_chain([b"clone's", SECRET, b"nobody's"])
    async with ioctx.open_image(await make_image()) as image:
        with pytest.raises(aiorbd.ImageNotEncrypted):
            await image.encryption.load_chain([b"clone's"])
    async with ioctx.open_image(clone) as image:
        await image.encryption.load_chain([b"clone's", SECRET])
        assert await image.read(0, 15) == b"from the parent"
        await image.write(b"from the clone ", 0)
        assert await image.read(0, 15) == b"from the clone "


def refused_without_load(image: aiorbd.Image) -> list[Any]:
    """Calls that would read or write beside the encryption."""
    return [
        image.write(b"plain", 0),
        image.write(memoryview(b"plain"), 8 * MIB),
        image.writev([b"plain"], 8 * MIB),
        image.write_zeroes(0, 512),
        image.discard(0, 65536),
        image.read(0, 5),
        image.read_into(bytearray(5), 0),
        image.size(),
        image.set_snapshot(None),
    ]


async def test_formatted_clone_takes_no_data_until_its_encryption_is_loaded(
    ioctx: aiorbd.IoCtx, make_image: Any, witness: Witness
) -> None:
    """The parent is not encrypted."""
    name, clone = await make_image(32 * MIB), new_name()
    async with ioctx.open_image(name) as image:
        await image.write(b"from the parent", 0)
        await image.create_snapshot("one")
        await image.clone("one", ioctx, clone, clone_format=2)
    secret = b"SECRET-PLAINTEXT"
    async with ioctx.open_image(clone) as image:
        if "rbd_encryption_load2" not in aiorbd.capabilities():
            with pytest.raises(aiorbd.OperationNotSupported):
                await image.encryption.format(EncryptionFormat.LUKS1, SECRET)
            return
        await image.encryption.format(EncryptionFormat.LUKS1, SECRET)
        for call in refused_without_load(image):
            with pytest.raises(aiorbd.OperationNotSupported, match="call load or load_chain first"):
                await call
        with pytest.raises(aiorbd.OperationNotSupported, match="first"):
            async with image.writer() as writer:
                await writer.write(secret, 0)
        await image.encryption.load(SECRET)
        assert image.encryption.loaded
        assert await image.size() < 32 * MIB
        await image.write(secret, 8 * MIB)
    async with ioctx.open_image(clone) as image:
        await image.encryption.load(SECRET)
        assert await image.read(0, 15) == b"from the parent"
        assert await image.read(8 * MIB, len(secret)) == secret
    assert secret not in await witness.export(clone)


async def test_passphrases_show_up_nowhere(
    aiorbd_cluster: Any, make_image: Any, make_encrypted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """No log, error, repr or event for observers shows a passphrase."""
    caplog.set_level(logging.DEBUG)
    seen: list[str] = []
    async with aiorbd.connect(aiorbd_cluster.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        cluster.add_observer(lambda operation: seen.append(repr(operation)))
        async with ioctx.open_image(await make_image(32 * MIB)) as image:
            await image.encryption.format(EncryptionFormat.LUKS1, SECRET)
            seen += [repr(image), repr(image.encryption), repr(cluster.stats)]
        async with ioctx.open_image(await make_encrypted()) as image:
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: image.encryption.load(SECRET + b"x"),
                lambda: image.encryption.load(SECRET, EncryptionFormat.LUKS2),
                lambda: image.encryption.load(SECRET, 99),  # type: ignore[arg-type]
                lambda: image.encryption.load_chain([SECRET + b"x"]),
            ]
            for call in calls:
                with pytest.raises(aiorbd.Error) as caught:
                    await call()
                seen += [repr(caught.value), str(caught.value), *traceback.format_exception(caught.value)]
    assert any("rbd_encryption_load" in one for one in seen)
    assert SECRET.decode() not in "\n".join([*seen, caplog.text])


async def test_load_beside_reads_writes_snapshots_and_diffs(ioctx: aiorbd.IoCtx, make_encrypted: Any) -> None:
    """Each read sees either the encrypted or the decrypted data, never a mixture."""
    name, data = await make_encrypted(), os.urandom(64 << 10)
    async with ioctx.open_image(name) as image:
        await image.encryption.load(SECRET)
        await image.write(data, 8 * MIB)
    async with ioctx.open_image(name) as image:
        raw = await image.read(8 * MIB, len(data))
        seen: set[bytes] = set()

        async def read() -> None:
            while True:
                seen.add(await image.read(8 * MIB, len(data)))

        async def walk() -> None:
            while True:
                assert [extent async for extent in image.diff()]

        async def snapshots() -> None:
            for number in range(1000):
                await image.create_snapshot(f"s{number}")

        async with anyio.create_task_group() as tasks:
            for work in (read, read, walk, snapshots):
                tasks.start_soon(work)
            await anyio.sleep(0.2)
            with anyio.fail_after(30):
                await image.encryption.load(SECRET)
            await anyio.sleep(0.2)
            tasks.cancel_scope.cancel()
        assert seen == {raw, data}


@pytest.mark.parametrize("call", ["format", "load"])
async def test_advisory_lock_can_be_released_beside_a_call(
    ioctx: aiorbd.IoCtx, make_image: Any, make_encrypted: Any, call: str
) -> None:
    """librbd takes the exclusive lock, for which it waits while an advisory lock is held."""
    name = await make_encrypted() if call == "load" else await make_image(32 * MIB)
    async with ioctx.open_image(name) as image:
        await image.advisory_locks.lock_exclusive("cookie")
        async with anyio.create_task_group() as tasks:
            if call == "format":
                tasks.start_soon(image.encryption.format, EncryptionFormat.LUKS1, SECRET)
            else:
                tasks.start_soon(image.encryption.load, SECRET)
            await anyio.sleep(0.5)
            with anyio.fail_after(20):
                await image.advisory_locks.unlock("cookie")
        assert image.encryption.loaded


async def test_shared_connection_gives_decrypted_data_to_no_further_task(
    aiorbd_cluster: DevCluster, make_encrypted: Any
) -> None:
    name = await make_encrypted()
    async with aiorbd.SharedConnection(lambda: aiorbd.connect(aiorbd_cluster.conffile)) as shared:
        async with shared.open_image("rbd", name) as image:
            await image.encryption.load(SECRET)
            await image.write(b"in clear", 0)
            async with shared.open_image("rbd", name, read_only=True) as other:
                assert not other.encryption.loaded
        async with shared.open_image("rbd", name) as image:
            assert not image.encryption.loaded
            assert (await image.read(0, 4)) == b"LUKS"


async def test_copies_of_passphrases_are_wiped(
    ioctx: aiorbd.IoCtx, make_image: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after an error, after a cancellation, and if a later passphrase of a list is not acceptable."""
    copies: list[Any] = []
    original = encryption.Passphrase.__init__

    def remember(self: Any, *arguments: Any) -> None:
        original(self, *arguments)
        copies.append(self)

    monkeypatch.setattr(encryption.Passphrase, "__init__", remember)
    async with ioctx.open_image(await make_image(32 * MIB)) as image:
        with pytest.raises(aiorbd.ImageNotEncrypted):
            await image.encryption.load(SECRET)
        with pytest.raises(TypeError):
            await image.encryption.load_chain([SECRET, "text"])  # type: ignore[list-item]
        with anyio.CancelScope() as scope:
            scope.cancel()
            await image.encryption.load(SECRET)
        with anyio.move_on_after(0.005):
            await image.encryption.format(EncryptionFormat.LUKS1, SECRET)
        await image.drain()
        assert len(copies) == 4
        assert all(bytes(ffi.buffer(copy.memory, copy.size)) == bytes(len(SECRET)) for copy in copies)
        assert all(repr(copy) == "<a passphrase>" for copy in copies)
