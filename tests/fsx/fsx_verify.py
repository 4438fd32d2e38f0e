"""Verify the image, its snapshots and the parents of clones after a schedule has been played."""

from fsx_model import Discrepancy, Model, Snapshot
from fsx_run import Run

from aiorbd.testing import DevCluster


async def verify(run: Run) -> None:
    """Compare the content that aiorbd reads, and the content that Ceph's tool exports, with the possible content."""
    (size,) = run.sizes.now
    await run.image.flush()
    data = await run.image.read(0, size * run.model.unit)
    possible = [run.model.allowed(unit, run.model.clock) for unit in range(size)]
    found = run.model.check("the end", data, 0, possible)
    exported = await export(run.ceph, run.image.name)
    try:
        run.model.check("rbd export", exported, 0, [frozenset([value]) for value in found])
    except Discrepancy as error:
        raise Discrepancy(f"{error}\n{await objects(run)}") from None
    for snapshot in run.snapshots:
        await verify_snapshot(run.ceph, f"{run.image.name}@{snapshot.name}", run.model, snapshot)
    for name, model, snapshot in run.parents:
        await verify_snapshot(run.ceph, f"{name}@{snapshot.name}", model, snapshot)


async def verify_elsewhere(run: Run) -> None:
    """Compare the content that another client reads with the possible content, while this client is stuck."""
    exported = await export(run.ceph, run.image.name)
    count = len(exported) // run.model.unit
    if count not in run.sizes.now:
        raise Discrepancy(f"the size is {count} units, may be {sorted(run.sizes.now)}")
    possible = [run.model.allowed(unit, run.model.clock) for unit in range(count)]
    run.model.check("rbd export, this client being stuck", exported, 0, possible)


async def verify_snapshot(ceph: DevCluster, spec: str, model: Model, snapshot: Snapshot) -> None:
    """Check a snapshot. On a failure, find out whether its data or librbd's object map is wrong."""
    units = list(snapshot.units)
    try:
        check_snapshot(model, snapshot, await export(ceph, spec))
    except Discrepancy as error:
        await ceph.run("rbd", "object-map", "rebuild", "--no-progress", spec)
        snapshot.units = units
        try:
            check_snapshot(model, snapshot, await export(ceph, spec))
        except Discrepancy:
            raise error from None
        raise Discrepancy(f"{error}\n  With the object map made anew all is right: it was wrong.") from None


async def objects(run: Run) -> str:
    """Return the image's objects and their snapshots in the cluster, for the analysis of a failure."""
    prefix = (await run.image.stat()).block_name_prefix
    names = (await run.ceph.run("rados", "-p", "rbd", "ls")).decode().split()
    commands = [("rados", "-p", "rbd", "listsnaps", name) for name in sorted(names) if name.startswith(prefix)]
    commands.insert(0, ("rbd", "snap", "ls", "--all", run.image.name))
    return "\n".join([(await run.ceph.run(*command)).decode() for command in commands])


def check_snapshot(model: Model, snapshot: Snapshot, data: bytes) -> None:
    """Compare a snapshot's data with its possible content. The data becomes the only possible content."""
    if len(data) != len(snapshot.units) * model.unit:
        raise Discrepancy(f"snapshot {snapshot.name} has {len(data)} bytes, not {len(snapshot.units)} units")
    found = model.check(f"snapshot {snapshot.name}", data, 0, snapshot.units)
    snapshot.units = [frozenset([value]) for value in found]


async def export(ceph: DevCluster, spec: str) -> bytes:
    return await ceph.run("rbd", "export", "--no-progress", spec, "-")
