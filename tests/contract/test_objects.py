"""RADOS objects: data, omap and cancellation."""

import time
from typing import Any

import anyio
import pytest
from fix_lag import measured_lag, patience, took
from helpers import new_name

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio


@pytest.fixture
def key() -> Any:
    return new_name("object")


async def rados(cluster: DevCluster, ioctx: aiorbd.IoCtx, *arguments: Any, stdin: Any = None) -> Any:
    """Run Ceph's ``rados`` tool in the pool and namespace of `ioctx`."""
    return await cluster.run("rados", "--pool", ioctx.pool, "--namespace", ioctx.namespace, *arguments, stdin=stdin)


async def test_data_is_written_read_and_removed(ioctx: aiorbd.IoCtx, key: Any, aiorbd_cluster: DevCluster) -> None:
    objects = ioctx.objects
    await objects.write(key, b"hello")
    await objects.write(key, bytearray(b"HE"), 3)
    await objects.append(key, memoryview(b"!?"))
    assert await objects.read(key) == b"helHE!?"
    assert await objects.read(key, 3, 2) == b"lHE"
    assert await objects.read(key, 100, 5) == b"!?"
    assert await objects.read(key, 10, 7) == await objects.read(key, 10, 100) == b""
    assert await objects.read(key, 0) == b""
    assert await rados(aiorbd_cluster, ioctx, "get", key, "-") == b"helHE!?"
    stat = await objects.stat(key)
    assert stat.size == 7
    assert abs(stat.modified.timestamp() - time.time()) < 60
    await objects.write_full(key, b"new")
    assert await rados(aiorbd_cluster, ioctx, "get", key, "-") == b"new"
    await objects.flush()
    await objects.remove(key)
    assert key.encode() not in await rados(aiorbd_cluster, ioctx, "ls")


async def test_objects_of_two_namespaces_are_separate(
    ioctx: aiorbd.IoCtx, aiorbd_ioctx: aiorbd.IoCtx, key: Any
) -> None:
    await ioctx.objects.write_full(key, b"default")
    await aiorbd_ioctx.objects.write_full(key, b"other")
    assert await ioctx.objects.read(key) == b"default"
    assert await aiorbd_ioctx.objects.read(key) == b"other"
    with pytest.raises(aiorbd.ObjectNotFound, match=f"object 'rbd/{aiorbd_ioctx.namespace}/none'"):
        await aiorbd_ioctx.objects.read("none")


async def test_missing_object_raises_object_not_found(ioctx: aiorbd.IoCtx) -> None:
    objects = ioctx.objects
    for call in (objects.read, objects.stat, objects.remove, objects.notify, objects.watch):
        with pytest.raises(aiorbd.ObjectNotFound, match="object 'rbd/none'") as caught:
            await call("none")
        assert not isinstance(caught.value, aiorbd.ImageNotFound | aiorbd.PoolNotFound)
    with pytest.raises(aiorbd.ObjectNotFound, match="object 'rbd/none'"):
        _ = [entry async for entry in objects.omap_items("none")]


async def test_bad_names_ranges_and_data_are_refused(ioctx: aiorbd.IoCtx, key: Any) -> None:
    objects = ioctx.objects
    for bad in ("", "a\0b"):
        for call in (objects.read, objects.stat, objects.remove, lambda key: objects.write(key, b"x")):
            with pytest.raises(aiorbd.InvalidArgument, match="object name must not"):
                await call(bad)
    for length, offset in ((-1, 0), (1 << 31, 0), (1, -1), (1, 1 << 64)):
        with pytest.raises(aiorbd.InvalidArgument, match="out of range"):
            await objects.read(key, length, offset)
    with pytest.raises(TypeError, match="bytes-like"):
        await objects.write(key, "text")  # type: ignore[arg-type]
    with pytest.raises(aiorbd.RbdError):  # beyond the largest size of an object
        await objects.write(key, b"x", 1 << 40)


async def test_flush_waits_for_earlier_writes(osd: DevCluster) -> None:
    async with aiorbd.connect(osd.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        osd.pause()
        async with anyio.create_task_group() as tasks:
            for number in range(40):
                tasks.start_soon(ioctx.objects.write_full, f"object-{number}", b"x")
            await anyio.wait_all_tasks_blocked()
            with anyio.move_on_after(0.3) as scope:
                await ioctx.objects.flush()
            assert scope.cancelled_caught
            osd.resume()
            await ioctx.objects.flush()
            for number in range(40):
                assert (await ioctx.objects.stat(f"object-{number}")).size == 1


async def test_many_at_once(ioctx: aiorbd.IoCtx, key: Any) -> None:
    async def one(number: int) -> None:
        await ioctx.objects.write_full(f"{key}-{number}", b"%d" % number)
        assert await ioctx.objects.read(f"{key}-{number}") == b"%d" % number

    async with anyio.create_task_group() as tasks:
        for number in range(200):
            tasks.start_soon(one, number)
    assert ioctx.in_flight == 0


async def test_omap_entries_are_set_listed_and_removed(
    ioctx: aiorbd.IoCtx, key: Any, aiorbd_cluster: DevCluster
) -> None:
    objects = ioctx.objects
    await objects.omap_set(key, {"b": b"2", "a": bytearray(b"1"), "c": b"\0\xff\0", "ü": b""})
    expected = {"a": b"1", "b": b"2", "c": b"\0\xff\0", "ü": b""}
    assert dict([entry async for entry in objects.omap_items(key)]) == expected
    assert (await rados(aiorbd_cluster, ioctx, "listomapkeys", key)).decode().split() == ["a", "b", "c", "ü"]
    assert [name async for name, _ in objects.omap_items(key, start_after="a", prefix="")] == ["b", "c", "ü"]
    assert [entry async for entry in objects.omap_items(key, prefix="c")] == [("c", b"\0\xff\0")]
    await objects.omap_remove(key, ["a", "c", "not there"])
    assert [name async for name, _ in objects.omap_items(key)] == ["b", "ü"]
    for bad in ("", "a\0b"):
        with pytest.raises(aiorbd.InvalidArgument, match="omap name must not"):
            await objects.omap_set(key, {bad: b""})
        with pytest.raises(aiorbd.InvalidArgument, match="omap name must not"):
            await objects.omap_remove(key, [bad])
    await objects.omap_set(key, {})
    await objects.omap_remove(key, [])


async def test_listing_omap_keys_with_nul_raises_operation_not_supported(
    ioctx: aiorbd.IoCtx, key: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other clients make such keys. librados would continue the listing after the part of the key before the NUL."""
    monkeypatch.setattr("aiorbd._pool.objects.encode_name", lambda name, *_: name.encode())
    await ioctx.objects.omap_set(key, {f"n\0{number:04}": b"" for number in range(1000)})
    monkeypatch.undo()
    with pytest.raises(aiorbd.OperationNotSupported, match="NUL"):
        _ = [entry async for entry in ioctx.objects.omap_items(key)]


async def test_listing_a_large_omap_does_not_delay_the_event_loop(ioctx: aiorbd.IoCtx, key: Any) -> None:
    expected = {f"{number:05}": b"x" * (number % 50) for number in range(2500)}
    for start in range(0, 2500, 500):
        await ioctx.objects.omap_set(key, dict(list(expected.items())[start : start + 500]))
    async with measured_lag() as lag:
        seen = [entry async for entry in ioctx.objects.omap_items(key)]
    assert seen == sorted(expected.items())
    assert lag.worst < patience(0.2)


async def test_cancelling_ends_object_requests_at_once(osd: DevCluster) -> None:
    """Requests end although the OSD is paused: librados can cancel a request, and librbd cannot."""
    async with aiorbd.connect(osd.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        objects = ioctx.objects
        await objects.write_full("object", b"before")
        await objects.omap_set("object", {"a": b"1"})
        osd.pause()

        async def listing() -> None:
            async for _ in objects.omap_items("object"):
                pass

        calls = {
            "read": lambda: objects.read("object"),
            "write": lambda: objects.write("object", b"x"),
            "write_full": lambda: objects.write_full("object", b"x"),
            "append": lambda: objects.append("object", b"x"),
            "stat": lambda: objects.stat("object"),
            "remove": lambda: objects.remove("object"),
            "omap_set": lambda: objects.omap_set("object", {"a": b"2"}),
            "omap_remove": lambda: objects.omap_remove("object", ["a"]),
            "omap_items": listing,
        }
        for name, call in calls.items():
            with took(0.3), anyio.move_on_after(0.1) as scope:
                await call()
            assert scope.cancelled_caught, name
            with anyio.fail_after(2):  # the request itself ends, not only the wait for its completion
                await ioctx.drain()
        osd.resume()
        await objects.write_full("object", b"after")  # no cancelled request takes effect later
        assert await objects.read("object") == b"after"


async def test_writes_cancelled_around_submission_leave_none_in_flight(ioctx: aiorbd.IoCtx, key: Any) -> None:
    for delay in (0, 0.0001, 0.0005, 0.002):
        for _ in range(20):
            with anyio.move_on_after(delay):
                await ioctx.objects.write_full(key, b"x")
    await ioctx.drain(timeout=10)
    assert ioctx.in_flight == 0


async def test_in_flight_limit_of_librados_never_blocks_the_event_loop(osd: DevCluster) -> None:
    """librados blocks a thread that submits beyond the limit. The event loop's thread must never block."""
    async with aiorbd.connect(osd.conffile, conf={"objecter_inflight_ops": "4"}) as cluster:
        async with cluster.open_ioctx("rbd") as ioctx:
            await ioctx.objects.write_full("object", b"x")
            osd.pause()
            async with measured_lag() as lag:
                async with anyio.create_task_group() as tasks:
                    for _ in range(50):
                        tasks.start_soon(ioctx.objects.read, "object")
                    await anyio.sleep(0.5)
                    tasks.cancel_scope.cancel()
            assert lag.worst < min(patience(0.2), 0.4)  # the submitting threads wait half a second here
            osd.resume()
            with anyio.fail_after(10):
                await ioctx.drain()
            assert await ioctx.objects.read("object") == b"x"
