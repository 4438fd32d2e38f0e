"""Reading and writing, with ``rbd export`` as the witness."""

import array
import random
from typing import Any

import anyio
import pytest
from fix_witness import Witness
from helpers import MakeImage
from inside import bridge_of

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio

MIB = 1 << 20


async def test_what_is_written_is_read_by_rbd_export(
    ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness
) -> None:
    data = random.Random(1).randbytes(3 * MIB)
    name = await make_image()
    async with ioctx.open_image(name) as image:
        assert await image.write(data, 5 * MIB - 3) == len(data)
        assert await image.read(5 * MIB - 3, len(data)) == data
    exported = await witness.export(name)
    assert exported == bytes(5 * MIB - 3) + data + bytes(16 * MIB - (5 * MIB - 3) - len(data))


async def test_what_rbd_import_wrote_is_read(ioctx: aiorbd.IoCtx, name: str, witness: Witness) -> None:
    data = random.Random(2).randbytes(9 * MIB)
    await witness.import_(data, name)
    async with ioctx.open_image(name, read_only=True) as image:
        assert await image.size() == len(data)
        assert await image.read(0, len(data)) == data
        assert await image.read(4 * MIB - 1, 2) == data[4 * MIB - 1 : 4 * MIB + 1]


async def test_many_at_once(ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness) -> None:
    blocks = {offset: random.Random(offset).randbytes(4096) for offset in range(0, 4 * MIB, 4096)}
    name = await make_image()
    async with ioctx.open_image(name) as image:
        async with anyio.create_task_group() as tasks:
            for offset, data in blocks.items():
                tasks.start_soon(image.write, data, offset)
        seen = {}

        async def read(offset: int) -> None:
            seen[offset] = await image.read(offset, 4096)

        async with anyio.create_task_group() as tasks:
            for offset in blocks:
                tasks.start_soon(read, offset)
        assert seen == blocks
        assert image.in_flight == 0
    assert (await witness.export(name))[: 4 * MIB] == b"".join(blocks.values())


@pytest.mark.parametrize("length", [1, 511, 4096, MIB, 9 * MIB])
async def test_read_into_fills_the_callers_buffer(image: aiorbd.Image, length: Any) -> None:
    data = random.Random(length).randbytes(length)
    await image.write(data, 7)
    buffer = bytearray(length + 2)
    assert await image.read_into(memoryview(buffer)[1:-1], 7) == length
    assert buffer == b"\0" + data + b"\0"


@pytest.mark.parametrize(
    "data",
    [
        b"bytes",
        bytearray(b"bytearray"),
        memoryview(b"memoryview")[1:],
        array.array("I", [1, 2, 3]),
        memoryview(array.array("d", [1.5] * 4)),
    ],
    ids=lambda data: type(data).__name__,
)
async def test_any_contiguous_buffer_is_written(image: aiorbd.Image, data: Any) -> None:
    raw = bytes(memoryview(data).cast("B"))
    assert await image.write(data, 100) == len(raw)
    assert await image.read(99, len(raw) + 2) == b"\0" + raw + b"\0"


async def test_writev_and_readv_transfer_all_buffers(image: aiorbd.Image) -> None:
    parts: list[Any] = [b"", b"a" * 5, bytearray(b"b" * 4096), memoryview(b"c" * 3)]
    total = sum(map(len, parts))
    assert await image.writev(parts, 4 * MIB - 10) == total
    assert await image.read(4 * MIB - 10, total) == b"".join(parts)
    buffers = [bytearray(1), bytearray(4096), bytearray(total - 4097)]
    assert await image.readv(buffers, 4 * MIB - 10) == total
    assert b"".join(buffers) == b"".join(parts)
    assert await image.readv([], 0) == 0
    assert await image.writev([b"", b""], 0) == 0


async def test_write_same(image: aiorbd.Image) -> None:
    assert await image.write_same(b"0123456789abcdef" * 32, 4 * MIB - 512, 2048) == 2048
    assert await image.read(4 * MIB - 513, 2050) == b"\0" + b"0123456789abcdef" * 128 + b"\0"


async def test_write_same_refuses_a_length_that_is_no_multiple_of_the_data(image: aiorbd.Image) -> None:
    with pytest.raises(aiorbd.InvalidArgument, match="no multiple"):
        await image.write_same(b"abc", 0, 10)
    with pytest.raises(aiorbd.InvalidArgument, match="no multiple"):
        await image.write_same(b"", 0, 10)


@pytest.mark.parametrize("offset", [0, 4 * MIB + 512, 11 * MIB + 65536 - 1024])
@pytest.mark.parametrize(
    "shape", [{}, {"order": 20, "stripe_unit": 65536, "stripe_count": 3}], ids=["plain", "striped"]
)
async def test_compare_and_write_writes_only_on_a_match(
    ioctx: aiorbd.IoCtx, make_image: MakeImage, offset: int, shape: Any
) -> None:
    async with ioctx.open_image(await make_image(**shape)) as image:
        await check_compare_and_write(image, offset)


async def check_compare_and_write(image: aiorbd.Image, offset: int) -> None:
    await image.write(b"a" * 1024, offset)
    assert await image.compare_and_write(b"a" * 512, b"b" * 512, offset) == 512
    with pytest.raises(aiorbd.CompareMismatch) as caught:
        await image.compare_and_write(b"b" * 500 + b"a" * 12, b"c" * 512, offset)
    assert caught.value.offset == offset + 500
    assert await image.read(offset, 1024) == b"b" * 512 + b"a" * 512


async def test_compare_and_write_across_objects_is_refused(image: aiorbd.Image) -> None:
    with pytest.raises(aiorbd.InvalidArgument):
        await image.compare_and_write(bytes(1024), bytes(1024), 4 * MIB - 512)
    with pytest.raises(aiorbd.InvalidArgument, match="compare has 1 bytes"):
        await image.compare_and_write(b"a", b"ab", 0)


async def test_thick_zeroes_and_snapshots_run_concurrently(image: aiorbd.Image) -> None:
    """librbd's own thick zeroes sometimes hung here: a snapshot blocks writes and waits for them."""
    done = False

    async def zero() -> None:
        while not done:
            await image.write_zeroes(3136, 2560, thick=True)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(zero)
            for number in range(25):
                snapshot = await image.create_snapshot(f"s{number}")
                await snapshot.remove()
            done = True


@pytest.mark.parametrize("thick", [False, True])
async def test_write_zeroes_keeps_the_space_only_when_thick(
    ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness, thick: bool
) -> None:
    name = await make_image()
    async with ioctx.open_image(name) as image:
        await image.write(b"x" * 9 * MIB, 0)
        await image.write_zeroes(100, 8 * MIB, thick=thick)
        await image.flush()
    assert (await witness.export(name))[: 9 * MIB] == b"x" * 100 + bytes(8 * MIB) + b"x" * (MIB - 100)
    used = (await witness.rbd("du", name, "--format", "json")).decode()
    assert ('"used_size":12582912' in used) == thick  # three objects of 4 MiB


async def test_discard_frees_whole_objects(ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness) -> None:
    name = await make_image()
    async with ioctx.open_image(name) as image:
        await image.write(b"x" * 12 * MIB, 0)
        await image.discard(4 * MIB, 8 * MIB)
        assert await image.read(4 * MIB, 8 * MIB) == bytes(8 * MIB)
        await image.flush()
    assert (await witness.export(name))[: 12 * MIB] == b"x" * 4 * MIB + bytes(8 * MIB)
    assert b'"used_size":4194304' in await witness.rbd("du", name, "--format", "json")


async def test_flush_makes_writes_visible_to_others(
    ioctx: aiorbd.IoCtx, make_image: MakeImage, witness: Witness
) -> None:
    name = await make_image()
    async with ioctx.open_image(name) as image:
        await image.write(b"durable", 0)
        await image.flush()
        async with ioctx.open_image(name, read_only=True) as other:
            assert await other.read(0, 7) == b"durable"
        assert (await witness.export(name))[:7] == b"durable"


@pytest.mark.parametrize("flag", list(aiorbd.OpFlag))
async def test_every_op_flag_is_accepted(image: aiorbd.Image, flag: Any) -> None:
    await image.write(b"data", 0, op_flags=flag & ~(aiorbd.OpFlag.EXCL | aiorbd.OpFlag.FAILOK))
    assert await image.read(0, 4, op_flags=flag) == b"data"
    await image.write_same(b"x", 0, 4, op_flags=aiorbd.OpFlag.FADVISE_DONTNEED)
    assert await image.compare_and_write(b"xxxx", b"yyyy", 0, op_flags=aiorbd.OpFlag.FADVISE_FUA) == 4
    await image.write_zeroes(0, 4, op_flags=aiorbd.OpFlag.FADVISE_SEQUENTIAL)
    assert await image.read(0, 4) == bytes(4)


async def test_read_returns_the_buffer_that_librbd_filled(image: aiorbd.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a copy, `read` returns the very object that the operation table keeps while librbd fills it."""
    bridge, kept = bridge_of(image), []
    begin = bridge.read

    def spy(*arguments: Any) -> Any:
        kept.append(begin(*arguments))
        return kept[-1]

    await image.write(b"x" * 4096, 0)
    monkeypatch.setattr(bridge, "read", spy)
    data = await image.read(0, 4096)
    assert data is kept[-1].keep
    assert data == b"x" * 4096


@pytest.mark.parametrize("policy", ["writeback", "writethrough", "writearound"])
@pytest.mark.parametrize("where", ["connection", "image"])
async def test_compare_and_write_needs_the_cache_policy_writearound(
    aiorbd_cluster: DevCluster, make_image: MakeImage, policy: str, where: str
) -> None:
    """With the other policies, librbd answers reads with the old data after such a write."""
    name = await make_image()
    conf = {"rbd_cache_policy": policy} if where == "connection" else {}
    async with aiorbd.connect(aiorbd_cluster.conffile, conf=conf) as cluster, cluster.open_ioctx("rbd") as ioctx:
        if where == "image":
            async with ioctx.open_image(name) as image:
                await image.metadata.set("conf_rbd_cache_policy", policy)
        async with ioctx.open_image(name) as image:
            await image.write(b"a" * 512, 0)
            assert await image.read(0, 512) == b"a" * 512
            if policy == "writearound":
                await image.compare_and_write(b"a" * 512, b"b" * 512, 0)
                assert await image.read(0, 512) == b"b" * 512
            else:
                with pytest.raises(aiorbd.OperationNotSupported, match="returning the old data: set rbd_cache_policy"):
                    await image.compare_and_write(b"a" * 512, b"b" * 512, 0)
                assert await image.read(0, 512) == b"a" * 512


@pytest.mark.parametrize(
    ("unit", "offset", "length"),
    [(512, 0, 512), (512, 1024, 257), (512, 1024, 300), (4096, 0, 4096), (None, 0, (2 << 20) + 1), (None, 0, 4 << 20)],
)
async def test_compare_and_write_of_more_than_half_a_stripe_unit_is_refused(
    ioctx: aiorbd.IoCtx, name: str, unit: Any, offset: int, length: int
) -> None:
    """librbd would abort the process if the first difference is late in the data."""
    keywords = {} if unit is None else {"stripe_unit": unit, "stripe_count": 2}
    await ioctx.create_image(name, 8 << 20, **keywords)
    async with ioctx.open_image(name) as image:
        with pytest.raises(aiorbd.InvalidArgument, match="more than half of the stripe unit"):
            await image.compare_and_write(bytes(length), bytes(length), offset)


@pytest.mark.parametrize("at", [0, 1, 100, 255])
async def test_compare_and_write_reports_the_offset_of_the_mismatch_in_a_stripe_unit(
    ioctx: aiorbd.IoCtx, name: str, at: int
) -> None:
    await ioctx.create_image(name, 8 << 20, stripe_unit=512, stripe_count=4, order=20)
    async with ioctx.open_image(name) as image:
        for offset in (0, 256, 512 * 5 + 128):
            there = bytearray(256)
            there[at] = 1
            await image.write(there, offset)
            with pytest.raises(aiorbd.CompareMismatch) as caught:
                await image.compare_and_write(bytes(256), b"x" * 256, offset)
            assert caught.value.offset == offset + at
            assert await image.read(offset, 256) == there
