"""Reads and writes with functions that only later releases of Ceph have."""

import os
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from fix_witness import Witness
from helpers import MakeImage

import aiorbd

pytestmark = pytest.mark.anyio

MIB = 1 << 20


async def refused(function: str, release: str, call: Callable[[], Awaitable[object]]) -> bool:
    """Check that a call names the release that it needs, if this librbd is older. Return False if it is not."""
    if function in aiorbd.capabilities():
        return False
    with pytest.raises(aiorbd.LibraryTooOldError, match=re.escape(f"{function} needs Ceph {release}")):
        await call()
    return True


def shifted(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


TABLE = [shifted(byte) for byte in range(256)]


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[crc & 255 ^ byte]
    return crc ^ 0xFFFFFFFF


@pytest.mark.parametrize("offset", [0, 4 * MIB + 512, 11 * MIB + 65536 - 1024])
@pytest.mark.parametrize(
    "shape", [{}, {"order": 20, "stripe_unit": 65536, "stripe_count": 3}], ids=["plain", "striped"]
)
async def test_compare_and_writev_writes_only_on_a_match(
    ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness, offset: int, shape: Any
) -> None:
    name = await make_image(**shape)
    async with ioctx.open_image(name) as image:
        call = partial(image.compare_and_writev, [b"\0"], [b"b"], 0)
        if await refused("rbd_aio_compare_and_writev", "17.2", call):
            return
        await image.write(b"a" * 1024, offset)
        compare: list[bytes | memoryview] = [b"a" * 100, memoryview(b"a" * 412)]
        assert await image.compare_and_writev(compare, [b"b" * 511, bytearray(b"c")], offset) == 512
        with pytest.raises(aiorbd.CompareMismatch) as caught:
            await image.compare_and_writev([b"b" * 500, b"a" * 12], [b"c" * 512], offset)
        assert caught.value.offset == offset + 500
        assert await image.compare_and_writev([], [], offset) == 0
        with pytest.raises(aiorbd.InvalidArgument, match="compare has 3 bytes"):
            await image.compare_and_writev([b"a", b"bc"], [b"ab"], 0)
    assert (await witness.export(name))[offset : offset + 1024] == b"b" * 511 + b"c" + b"a" * 512


async def test_write_with_crc32c_writes_data_with_its_checksum_only(
    ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness
) -> None:
    name = await make_image()
    expected = bytearray(16 * MIB)
    async with ioctx.open_image(name) as image:
        call = partial(image.write_with_crc32c, b"123456789", 0, 0xE3069283)
        if await refused("rbd_aio_write_with_crc32c", "20.2", call):
            return
        for offset, length in ((0, 4096), (77, 333), (4 * MIB - 1000, 9000), (8 * MIB, 65536)):
            data = os.urandom(length)
            assert await image.write_with_crc32c(data, offset, crc32c(data)) == length
            expected[offset : offset + length] = data
        large = os.urandom(MIB + 1)  # a worker thread submits this one
        assert await image.write_with_crc32c(large, 12 * MIB, crc32c(large)) == len(large)
        expected[12 * MIB : 13 * MIB + 1] = large
        for wrong in (0, crc32c(data) ^ 1, crc32c(data) ^ 0xFFFFFFFF):
            with pytest.raises(aiorbd.ChecksumMismatch, match="another checksum, nothing written"):
                await image.write_with_crc32c(data, MIB, wrong)
        with pytest.raises(aiorbd.ChecksumMismatch):
            await image.write_with_crc32c(large, 0, 1)
        with pytest.raises(aiorbd.InvalidArgument, match="crc32c"):
            await image.write_with_crc32c(data, 0, 1 << 32)
        with pytest.raises(aiorbd.PastEndOfImage):
            await image.write_with_crc32c(data, 16 * MIB - 1, crc32c(data))
        await image.flush()
    assert await witness.export(name) == bytes(expected)


@pytest.mark.parametrize("policy", ["writeback", "writethrough", "writearound"])
async def test_reads_return_the_data_after_the_cache_was_invalidated(
    ioctx: aiorbd.IoCtx, make_image: MakeImage, policy: str
) -> None:
    name = await make_image()
    async with ioctx.open_image(name) as image:
        await image.metadata.set("conf_rbd_cache_policy", policy)
    async with ioctx.open_image(name) as image:
        data = os.urandom(65536)
        await image.write(data, 100)
        assert await image.read(100, len(data)) == data
        await image.invalidate_cache()
        assert await image.read(100, len(data)) == data


async def test_invalidated_caches_show_what_another_client_wrote(
    ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness
) -> None:
    """The other client writes to the object itself, so that librbd cannot notice."""
    name = await make_image(order=22)
    async with ioctx.open_image(name) as image:
        await image.metadata.set("conf_rbd_cache_policy", "writeback")
        await image.write(b"a" * 4096, 0)
    async with ioctx.open_image(name) as image:
        assert await image.read(0, 4096) == b"a" * 4096
        await ioctx.objects.write(f"{image.block_name_prefix}.{0:016x}", b"b" * 4096, 0)
        stale = await image.read(0, 4096)
        await image.invalidate_cache()
        assert await image.read(0, 4096) == b"b" * 4096
        assert stale == b"a" * 4096  # otherwise this test tests nothing
