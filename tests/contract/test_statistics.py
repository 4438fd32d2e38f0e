"""Statistics, observers and logs of a connection, and the secrets that must not appear in them."""

import contextvars
import logging
import math
import threading
import traceback
import warnings
from pathlib import Path
from typing import Any

import anyio
import pytest
from inside import bridge_of, change, handle_of

import aiorbd
from aiorbd.testing import DevCluster

pytestmark = pytest.mark.anyio


async def test_stats_count_operations_failures_and_bytes(cluster: aiorbd.Cluster, image: aiorbd.Image) -> None:
    before = cluster.stats
    for number in range(10):
        await image.write(bytes([number]) * 4096, number * 4096)
    await image.readv([bytearray(1000), bytearray(24)], 0)
    for _ in range(5):
        await image.read(0, 512)
    await image.flush()
    await image.stat()
    with pytest.raises(aiorbd.CompareMismatch):
        await image.compare_and_write(b"a" * 512, b"b" * 512, 0)
    with pytest.raises(aiorbd.MetadataNotFound):
        await image.metadata.get("none")
    after = cluster.stats

    def done(name: str) -> Any:
        old, new = before.operations.get(name), after.operations[name]
        return new.count - (old.count if old else 0), new.failed - (old.failed if old else 0)

    assert done("rbd_aio_write2") == (10, 0)
    assert done("rbd_aio_read2") == (5, 0)
    assert done("rbd_aio_readv") == (1, 0)
    assert done("rbd_aio_flush") == (1, 0)
    assert done("rbd_aio_compare_and_write") == (1, 1)
    assert done("rbd_metadata_get") == (1, 1)
    assert done("rbd_stat")[0] == 1
    assert after.bytes_read - before.bytes_read == 5 * 512 + 1024
    assert after.bytes_written - before.bytes_written == 10 * 4096
    assert after.operations["rbd_aio_open"].count == 1
    assert after.completions - before.completions >= 18
    assert 1 <= after.wakeups - before.wakeups <= after.completions - before.completions
    assert (after.in_flight, after.abandoned, after.queued) == (0, 0, 0)
    assert 1 <= after.threads <= 16


async def test_stats_report_mean_and_quantiles_of_latency(cluster: aiorbd.Cluster, image: aiorbd.Image) -> None:
    await image.write(bytes(4096), 0)
    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(image.read, 0, 4096)
    reads = cluster.stats.operations["rbd_aio_read2"]
    assert reads.count == sum(reads.buckets) == 100
    assert reads.mean == reads.seconds / 100
    assert 0 < reads.quantile(0.01) <= reads.quantile(0.5) <= reads.quantile(0.99) <= reads.quantile(1.0) < math.inf
    assert 0.00001 < reads.mean < 1
    nothing = aiorbd.OperationStats(0, 0, 0, 0.0, (0,) * len(aiorbd.LATENCY_BOUNDS))
    assert (nothing.mean, nothing.quantile(0.5)) == (0.0, 0.0)
    one = aiorbd.OperationStats(1, 0, 0, 3e-6, (0, 0, 1, *(0,) * 25))
    assert one.quantile(0.5) == 4e-6  # between 2 and 4 microseconds
    assert len(aiorbd.LATENCY_BOUNDS) == len(one.buckets)


async def test_stats_of_a_closed_connection_raise_closed_error(aiorbd_cluster: DevCluster) -> None:
    async with aiorbd.connect(aiorbd_cluster.conffile) as cluster:
        pass
    with pytest.raises(aiorbd.ClosedError):
        _ = cluster.stats


request = contextvars.ContextVar("request", default="none")


async def test_observer_runs_in_the_context_of_the_caller(
    cluster: aiorbd.Cluster, ioctx: aiorbd.IoCtx, image: aiorbd.Image
) -> None:
    told = []
    cluster.add_observer(lambda completed: told.append((request.get(), completed)))

    async def work(name: str) -> None:
        request.set(name)
        await image.write(b"x" * 512, 0)
        await image.flush()
        await ioctx.list_images()
        with pytest.raises(aiorbd.ImageNotFound):
            await ioctx.open_image("none")
        await ioctx.objects.write_full("object", b"x")

    async with anyio.create_task_group() as tasks:
        for name in "ab":
            tasks.start_soon(work, name)
    for name in "ab":
        mine = [
            completed
            for context, completed in told  # without the questions for the reason of an error
            if context == name and completed.operation not in ("rados_pool_reverse_lookup", "rbd_migration_status")
        ]
        operations = [completed.operation for completed in mine]
        assert operations == [
            "rbd_aio_write2",
            "rbd_aio_flush",
            "rbd_list2",
            "rbd_aio_open",
            "rados_aio_write_full",
        ]
        write, _, _, opening, rados = mine
        assert f"image 'rbd/{image.name}', 512 bytes at 0" == write.target
        assert (write.length, write.error, write.abandoned) == (512, None, False)
        assert 0 < write.seconds < 5
        assert write.started > 1e18
        assert isinstance(opening.error, aiorbd.ImageNotFound)
        assert rados.target == "object 'rbd/object'"


async def test_failing_observer_is_logged_and_fails_no_call(
    cluster: aiorbd.Cluster, image: aiorbd.Image, caplog: pytest.LogCaptureFixture
) -> None:
    def observer(_completed: Any) -> None:
        raise LookupError("mine")

    cluster.add_observer(observer)
    assert await image.read(0, 1) == b"\0"
    assert "an observer failed" in caplog.text
    cluster.remove_observer(observer)
    with pytest.raises(ValueError, match="not an observer of this connection"):
        cluster.remove_observer(observer)
    caplog.clear()
    await image.read(0, 1)
    assert not caplog.records


async def test_observer_gets_abandoned_operations_at_their_completion(osd: DevCluster) -> None:
    async with aiorbd.connect(osd.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        await ioctx.create_image("abandoned", 1 << 20)
        async with ioctx.open_image("abandoned") as image:
            await image.write(b"a", 0)
            await image.flush()
            told: list[Any] = []
            cluster.add_observer(told.append)
            osd.pause()
            with anyio.move_on_after(0.2):
                await image.read(0, 1)
            assert not told
            stats = cluster.stats
            assert (stats.in_flight, stats.abandoned) == (1, 1)
            with anyio.move_on_after(0.1):
                await image.metadata.set("key", "value")
            assert cluster.stats.abandoned == 2
            osd.resume()
            await image.drain(timeout=20)
            assert {(c.operation, c.error, c.abandoned) for c in told} == {
                ("rbd_aio_read2", None, True),
                ("rbd_metadata_set", None, True),
            }
            assert min(c.seconds for c in told) > 0.05
            assert cluster.stats.abandoned == 0
        await ioctx.remove_image("abandoned")


async def test_connecting_opening_and_closing_are_logged(
    aiorbd_cluster: DevCluster, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "aiorbd")
    async with aiorbd.connect(aiorbd_cluster.conffile) as cluster, cluster.open_ioctx("rbd") as ioctx:
        await ioctx.create_image(name, 1 << 20)
        async with ioctx.open_image(name):
            pass
        fsid = cluster.fsid
    messages = [record.message for record in caplog.records]
    assert messages[0].startswith(f"connected: cluster {fsid} as client.admin, id ")
    assert f"opened: image 'rbd/{name}', 1048576 bytes" in messages
    assert messages[-3:] == [f"closed: image 'rbd/{name}'", "closed: pool 'rbd'", f"closed: cluster {fsid}"]


async def test_nothing_is_logged_at_info_or_above_by_default(
    cluster: aiorbd.Cluster, image: aiorbd.Image, caplog: pytest.LogCaptureFixture
) -> None:
    await image.write(b"x", 0)
    with anyio.move_on_after(0):
        await image.read(0, 1)
    assert not [record for record in caplog.records if record.levelno >= logging.INFO]


async def test_cluster_log_goes_to_the_logging_module(
    aiorbd_cluster: DevCluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aiorbd.cluster_log")
    async with aiorbd.connect(aiorbd_cluster.conffile, cluster_log="info") as cluster:
        await cluster.mon_command({"prefix": "log", "logtext": ["a line of the log"]})
        with anyio.fail_after(10):
            # Newer monitors also log the command.
            while not (lines := [record for record in caplog.records if record.message.endswith("a line of the log")]):
                await anyio.sleep(0.01)
        with pytest.raises(aiorbd.UsageError, match="open already"):
            await cluster.monitor_log()
    (record,) = lines
    assert record.name == "aiorbd.cluster_log"
    assert record.levelno == logging.INFO
    with pytest.raises(aiorbd.InvalidArgument, match="none of debug"):
        await aiorbd.connect(aiorbd_cluster.conffile, cluster_log="loud")  # type: ignore[arg-type]


async def test_a_timeout_that_loses_data_is_warned_of(aiorbd_cluster: DevCluster) -> None:
    with pytest.warns(RuntimeWarning, match=r"rados_osd_op_timeout is 2 s, less than .* \(26 s\)"):
        async with aiorbd.connect(aiorbd_cluster.conffile, conf={"rados_osd_op_timeout": "2"}):
            pass
    async with aiorbd.connect(aiorbd_cluster.conffile, conf={"rados_osd_op_timeout": "60"}):
        pass


async def test_keys_and_image_data_reach_no_log_and_no_error(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, cephx_cluster: DevCluster, name: str
) -> None:
    """The test uses a key in a file, a key in the options, a wrong key, and secret data."""
    caplog.set_level(logging.DEBUG)
    texts = []
    secret = b"a very secret sentence "
    key = (await cephx_cluster.run("ceph", "auth", "get-key", "client.admin")).decode().strip()
    wrong = (await cephx_cluster.run("ceph-authtool", "--gen-print-key")).decode().strip()
    keyring = tmp_path / "keyring"
    keyring.write_text(f"[client.admin]\n\tkey = {wrong}\n")

    async def fails(call: Any) -> None:
        try:
            await call()
        except aiorbd.RbdError as error:
            texts.append("".join(traceback.format_exception(error)) + repr(error) + repr(error.__dict__))
        else:
            pytest.fail("it went well")

    await fails(lambda: aiorbd.connect(cephx_cluster.conffile, conf={"key": wrong}, timeout=5).__aenter__())
    await fails(lambda: aiorbd.connect(cephx_cluster.conffile, conf={"keyring": str(keyring)}, timeout=5).__aenter__())
    await fails(lambda: aiorbd.connect(cephx_cluster.conffile, conf={"key": key, "no_such": wrong}).__aenter__())
    await fails(lambda: aiorbd.connect(cephx_cluster.conffile, conf={"ms_type": key}, timeout=5).__aenter__())
    async with aiorbd.connect(cephx_cluster.conffile, conf={"key": key}) as cluster, cluster.open_ioctx("rbd") as ioctx:
        cluster.add_observer(lambda completed: texts.append(repr(completed)))
        texts.extend((repr(cluster), repr(handle_of(cluster)), repr(ioctx)))
        await ioctx.create_image(name, 1 << 20)
        async with ioctx.open_image(name) as image:
            await image.write(secret, 0)
            await image.read(0, len(secret))
            await fails(lambda: image.compare_and_write(secret[::-1], secret, 0))
            await fails(lambda: image.write(secret, 1 << 20))
            await fails(lambda: image.write_same(secret, 0, 1))
            await image.metadata.set("key", secret.decode())
            await ioctx.objects.write_full("object", secret)
        await fails(lambda: cluster.mon_command({"prefix": "nothing", "key": key}))
    everything = "\n".join([*texts, caplog.text])
    assert len(texts) > 15
    for word in (key, wrong, secret.decode()):
        assert word not in everything


async def test_call_cancelled_before_it_starts_counts_as_failed(cluster: aiorbd.Cluster, ioctx: aiorbd.IoCtx) -> None:
    """Sixteen calls occupy all worker threads. One more call is cancelled in the queue, and ends at once."""
    told: list[Any]
    held, told = threading.Event(), []
    async with anyio.create_task_group() as tasks:
        for _ in range(16):
            tasks.start_soon(handle_of(ioctx).run, "rbd_held", held.wait)
        await anyio.sleep(0.05)
        cluster.add_observer(told.append)
        with anyio.move_on_after(0.05):
            await ioctx.list_images()
        with anyio.fail_after(5):
            while not told:
                await anyio.sleep(0.001)
        assert (cluster.stats.queued, ioctx.in_flight) == (0, 16)
        held.set()
    await ioctx.drain(timeout=10)
    (given_up,) = [completed for completed in told if completed.operation == "rbd_list2"]
    assert given_up.abandoned
    assert isinstance(given_up.error, aiorbd.OperationCanceled)
    figures = cluster.stats.operations["rbd_list2"]
    assert (figures.count, figures.failed) == (1, 1)


async def test_warning_raised_as_an_error_leaves_no_connection(aiorbd_cluster: DevCluster) -> None:
    from aiorbd._core import bridge

    before = set(bridge._live)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning):
            await aiorbd.connect(aiorbd_cluster.conffile, conf={"rados_osd_op_timeout": "2"})
    with anyio.fail_after(10):
        while set(bridge._live) - before:
            await anyio.sleep(0.01)


async def test_each_start_has_one_end_with_its_number(
    cluster: aiorbd.Cluster, image: aiorbd.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This holds for reads, large writes, calls on worker threads, failures, cancellations, and without a thread."""
    started: list[aiorbd.StartedOperation] = []
    ended: list[aiorbd.CompletedOperation] = []
    cluster.add_observer(ended.append, on_start=started.append)
    await image.write(b"x" * 4096, 0)
    await image.write(bytes(4 << 20), 0)
    await image.read(0, 4096)
    await image.flush()
    await image.create_snapshot("one")
    with pytest.raises(aiorbd.SnapshotExists):
        await image.create_snapshot("one")
    with anyio.move_on_after(0):
        await image.read(0, 4096)
    _ = [chunk async for chunk in image.read_extents(length=1 << 20, chunk_size=65536)]
    with monkeypatch.context() as patch:
        patch.setattr(bridge_of(image)._workers, "submit", refuse)
        with pytest.raises(RuntimeError, match="no thread"):
            await image.create_snapshot("two")
    await image.drain(timeout=10)
    cluster.remove_observer(ended.append)
    assert len({one.number for one in started}) == len(started) > 20
    assert sorted(one.number for one in ended) == [one.number for one in started]
    begun = {one.number: one for one in started}
    for one in ended:
        first = begun[one.number]
        assert (one.operation, one.target, one.length) == (first.operation, first.target, first.length)
        assert one.started == first.started
    failed = [one.operation for one in ended if isinstance(one.error, Exception)]  # a cancellation is none
    assert failed == ["rbd_snap_create2", "rbd_snap_create2"]


async def test_writes_that_a_writer_drops_have_one_end_each(cluster: aiorbd.Cluster, image: aiorbd.Image) -> None:
    """The image changes while the block is left with an exception, so some writes are refused and never submitted."""
    started: list[aiorbd.StartedOperation] = []
    ended: list[aiorbd.CompletedOperation] = []
    cluster.add_observer(ended.append, on_start=started.append)
    for _ in range(20):
        with pytest.raises(LookupError):
            async with image.writer(depth=2) as writer:
                for number in range(16):
                    await writer.write(b"x" * 4096, number * 4096)
                change(image)
                raise LookupError
    with anyio.fail_after(10):
        while len(ended) < len(started) or image.in_flight:
            await anyio.sleep(0.01)
    writes = [one.number for one in started if one.operation == "rbd_aio_write2"]
    assert len(writes) == 20 * 16
    assert sorted(one.number for one in ended if one.operation == "rbd_aio_write2") == writes
    cluster.remove_observer(ended.append)


def refuse(*_arguments: Any) -> None:
    raise RuntimeError("no thread")
