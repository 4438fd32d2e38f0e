"""The operations that change more than data: the size, snapshots, the parent, and the handle itself."""

import tempfile
from pathlib import Path

from fsx_model import ZERO, Discrepancy, Model, Snapshot
from fsx_run import ORDER, UNITS, Run
from fsx_schedule import Step
from fsx_verify import check_snapshot, verify_snapshot

import aiorbd


async def resize(run: Run, step: Step) -> None:
    async with run.structure:
        old = run.sizes.known
        if old is None:
            return  # an earlier resize with an unknown outcome may still be in flight
        new = max(20, int(2 * step.where * UNITS))
        run.model.grow(new)
        run.sizes.become(old, new)
        # A resize that stops half way may leave units that show zeroes, or the content of a clone's parent.
        below = {unit: frozenset([ZERO]) | run.parent.get(unit, frozenset()) for unit in range(new, old)}
        change = run.model.begin(f"#{step.number} resize {old} -> {new}", below)
        outcome, _ = await run.attempt(step, lambda: run.image.resize(new * run.model.unit, allow_shrink=True))
        if outcome == "done":
            run.sizes.become(new)
            for version in change.versions.values():
                version.values = frozenset([ZERO])
            run.model.done(change)
        else:
            run.model.perhaps(change, over=False)


# -- snapshots ---------------------------------------------------------------------------------


async def create_snapshot(run: Run, step: Step) -> None:
    async with run.structure:
        size = run.sizes.known
        if size is None or len(run.snapshots) >= 3:
            return
        name, begun = f"s{step.number}", run.model.begin_look()
        outcome, _ = await run.attempt(step, lambda: run.image.create_snapshot(name))
        units = [run.model.allowed(unit, begun) for unit in range(size)]
        run.model.end_look(begun)
        if outcome == "done":
            run.snapshots.append(Snapshot(name, units))


async def remove_snapshot(run: Run, step: Step) -> None:
    async with run.structure:
        if run.snapshots:
            snapshot = run.snapshots.pop()
            found = await run.image.get_snapshot(snapshot.name)
            await run.attempt(step, found.remove)


async def read_snapshot(run: Run, step: Step) -> None:
    if not run.snapshots:
        return
    snapshot = run.snapshots[int(step.where * len(run.snapshots))]
    try:
        async with run.ioctx.open_image(run.image.name, snapshot=snapshot.name) as image:
            data = await image.read(0, await image.size())
    except aiorbd.SnapshotNotFound as error:
        if snapshot in run.snapshots:
            raise
        run.counts[step.kind, type(error).__name__] += 1
    else:
        if snapshot not in run.snapshots:  # it is being removed: removed content reads as zeroes
            run.counts[step.kind, "removed meanwhile"] += 1
            return
        units = list(snapshot.units)
        try:
            check_snapshot(run.model, snapshot, data)
        except Discrepancy:
            snapshot.units = units
            await verify_snapshot(run.ceph, f"{run.image.name}@{snapshot.name}", run.model, snapshot)
            raise
        run.counts[step.kind, "done"] += 1


async def move_diff(run: Run, step: Step) -> None:
    """Apply the diff that leads to a snapshot to the data of the snapshot before. The result is the snapshot's data."""
    async with run.structure:
        if not run.snapshots:
            return
        number = int(step.where * len(run.snapshots))
        snapshot, before = run.snapshots[number], run.snapshots[number - 1] if number else None
        since, data = None, bytearray()
        if before is not None:
            since = before.name
            async with run.ioctx.open_image(run.image.name, snapshot=since) as image:
                data[:] = await image.read(0, await image.size())
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "diff")
            async with run.ioctx.open_image(run.image.name, snapshot=snapshot.name) as image:
                outcome, _ = await run.attempt(step, lambda: aiorbd.export_diff(image, path, since))
            if outcome != "done":
                assert not path.exists()
                return
            async with aiorbd.read_diff(path) as records:
                async for record in records:
                    if isinstance(record, aiorbd.DiffHeader):
                        data = data[: record.size] + bytes(max(0, record.size - len(data)))
                    elif isinstance(record, aiorbd.DiffData | aiorbd.DiffZeroes):
                        new = record.data if isinstance(record, aiorbd.DiffData) else bytes(record.length)
                        data[record.offset : record.offset + record.length] = new
        check_snapshot(run.model, snapshot, bytes(data))


async def rollback(run: Run, step: Step) -> None:
    if not run.snapshots:
        return
    snapshot, (old,) = run.snapshots[-1], run.sizes.now
    size = len(snapshot.units)
    run.model.grow(size)
    run.sizes.become(old, size)
    values = dict(enumerate(snapshot.units)) | dict.fromkeys(range(size, old), frozenset([ZERO]))
    change = run.model.begin(f"#{step.number} rollback to {snapshot.name}", values)
    found = await run.image.get_snapshot(snapshot.name)
    outcome, _ = await run.attempt(step, found.rollback)
    if outcome == "done":
        run.sizes.become(size)
        run.model.done(change)
    else:
        run.model.perhaps(change, over=False)
        await run.quiet()


# -- clones, and the handle --------------------------------------------------------------------


async def clone(run: Run, step: Step) -> None:
    """Continue with a clone. The verification checks the parent at the end."""
    if not run.snapshots or len(run.parents) >= 3:
        return
    snapshot, model = run.snapshots[-1], run.model
    name = f"{run.name}-{len(run.parents) + 1}"
    await run.image.clone(snapshot.name, run.ioctx, name, clone_format=2, order=ORDER)
    await run.image.close(timeout=60)
    run.parents.append((run.image.name, model, snapshot))
    run.image = await run.ioctx.open_image(name)
    run.model = Model(model.unit, same=model.same, clock=model.clock)
    run.model.grow(len(snapshot.units))
    run.parent = dict(enumerate(snapshot.units))
    run.sizes.become(len(snapshot.units))
    run.snapshots = []
    run.model.done(run.model.begin(f"#{step.number} clone of {snapshot.name}", run.parent))
    run.counts[step.kind, "done"] += 1


async def flatten(run: Run, step: Step) -> None:
    async with run.structure:
        if await run.image.parent() is not None:
            await run.attempt(step, run.image.flatten, aiorbd.OperationCanceled, aiorbd.InvalidArgument)


async def reopen(run: Run, step: Step) -> None:
    name = run.image.name
    await run.image.close(timeout=60)
    run.image = await run.ioctx.open_image(name)
    run.counts[step.kind, "done"] += 1


STRUCTURE = (
    resize, create_snapshot, remove_snapshot, read_snapshot, move_diff, rollback, clone, flatten, reopen,
)  # fmt: skip
