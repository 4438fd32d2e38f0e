"""What is looked at when a schedule has been played: the image, its snapshots, and the parents of clones."""

from fsx_model import Discrepancy, Model, Snapshot
from fsx_run import Run

from aiorbd.testing import DevCluster


async def verify(run: Run) -> None:
    """What we read, and what Ceph's own tool exports, is what may be there."""
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
    """What another client reads when this one is stuck: what may be there, as ever."""
    exported = await export(run.ceph, run.image.name)
    count = len(exported) // run.model.unit
    if count not in run.sizes.now:
        raise Discrepancy(f"the size is {count} units, may be {sorted(run.sizes.now)}")
    possible = [run.model.allowed(unit, run.model.clock) for unit in range(count)]
    run.model.check("rbd export, this client being stuck", exported, 0, possible)


async def verify_snapshot(ceph: DevCluster, spec: str, model: Model, snapshot: Snapshot) -> None:
    """When it is wrong, is it the data, or librbd's map of the objects that exist?"""
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
    """What the cluster has of the image, for whoever looks into a failure: its objects and their snapshots."""
    prefix = (await run.image.stat()).block_name_prefix
    names = (await run.ceph.run("rados", "-p", "rbd", "ls")).decode().split()
    commands = [("rados", "-p", "rbd", "listsnaps", name) for name in sorted(names) if name.startswith(prefix)]
    commands.insert(0, ("rbd", "snap", "ls", "--all", run.image.name))
    return "\n".join([(await run.ceph.run(*command)).decode() for command in commands])


def check_snapshot(model: Model, snapshot: Snapshot, data: bytes) -> None:
    """Compare what was read of it with what it may hold; from then on that is what it holds."""
    if len(data) != len(snapshot.units) * model.unit:
        raise Discrepancy(f"snapshot {snapshot.name} has {len(data)} bytes, not {len(snapshot.units)} units")
    found = model.check(f"snapshot {snapshot.name}", data, 0, snapshot.units)
    snapshot.units = [frozenset([value]) for value in found]


async def export(ceph: DevCluster, spec: str) -> bytes:
    return await ceph.run("rbd", "export", "--no-progress", spec, "-")
