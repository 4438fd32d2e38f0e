"""A seeded schedule of operations and faults, and a run of it on a real image against the model."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from fsx_model import ZERO, Change, Discrepancy, Model, Snapshot

import aiorbd
from aiorbd.testing import DevCluster

#: How often each operation comes.
WEIGHTS = {
    "read": 22, "read_into": 6, "readv": 6, "write": 22, "writev": 6, "write_same": 5, "discard": 8, "write_zeroes": 8,
    "compare_and_write": 8, "flush": 4, "resize": 3, "create_snapshot": 2, "remove_snapshot": 1, "read_snapshot": 2,
    "rollback": 1, "clone": 1, "flatten": 1, "reopen": 1, "drain": 1,
}  # fmt: skip
SECTOR = 512

#: Seconds after which an operation is given up, although no schedule says so: librbd is stuck.
PATIENCE = 30


class Stuck(Exception):
    """librbd does not finish an operation, although the cluster is well."""


#: What needs the image to itself.
ALONE = {"rollback", "clone", "reopen"}
#: What is done one at a time.
STRUCTURAL = {"resize", "create_snapshot", "remove_snapshot", "flatten"}
FAULTS = {"pause": 20, "restart": 1}


@dataclass(frozen=True)
class Step:
    """One operation: everything that chance has decided, so that it can be played again without its neighbours."""

    number: int
    kind: str
    where: float  # of the image
    length: int  # units
    cancel_after: float | None  # seconds
    fault: tuple[str, float] | None  # begun together with it


@dataclass(frozen=True)
class Schedule:
    """What is played: decided by the seed alone."""

    seed: int
    backend: str
    unit: int
    conf: dict[str, str]
    steps: tuple[Step, ...]

    @classmethod
    def make(cls, seed: int, operations: int, *, faults: bool = True, policy: str = "writearound") -> "Schedule":
        """Roll the dice."""
        chance = random.Random(seed)
        steps = []
        for number in range(1, operations + 1):
            kind = chance.choices(list(WEIGHTS), WEIGHTS.values())[0]
            cancel = chance.choice((0.0, 0.0003, 0.001, 0.003, 0.01, 0.05)) if chance.random() < 0.25 else None
            fault = None
            if faults and chance.random() < 0.02:
                name = chance.choices(list(FAULTS), FAULTS.values())[0]
                fault = name, chance.uniform(0.005, 0.15)
            steps.append(Step(number, kind, chance.random(), chance.choice((1, 1, 2, 3, 8, 40)), cancel, fault))
        conf = {
            "rbd_cache": chance.choice(("true", "true", "false")),
            "rbd_cache_policy": policy,
            "rbd_discard_granularity_bytes": "4096",
            "rbd_concurrent_management_ops": "2",
        }
        unit = chance.choice((64, 512, 512, 1024, 4096))  # none in two objects, which change one after the other
        return cls(seed, chance.choice(("asyncio", "trio")), unit, conf, tuple(steps))


@dataclass
class Run:
    """One schedule on one image; `play` raises `Discrepancy` when a byte is not what it may be."""

    schedule: Schedule
    ceph: DevCluster
    ioctx: aiorbd.IoCtx
    name: str
    image: aiorbd.Image = field(init=False)
    counts: dict[str, int] = field(default_factory=dict)

    #: Units of the image at first; objects of 4 KiB, so that there are many.
    UNITS = 200
    ORDER = 12

    def __post_init__(self) -> None:
        self.model = Model(self.schedule.unit)
        self.model.grow(self.UNITS)
        self.past_sizes: list[set[int]] = []
        self.sizes = {self.UNITS}
        self.snapshots: list[Snapshot] = []
        self.parents: list[tuple[str, Model, Snapshot]] = []
        self.running: dict[int, str] = {}
        self.generation = 0
        self.parent: dict[int, frozenset[int]] = {}
        self.structure = anyio.Lock()
        # librbd rounds to its granularity: what is smaller may stay as it was.
        self.exact_discard = self.schedule.unit % 4096 == 0
        self.faulty = anyio.Lock()

    @property
    def sizes(self) -> set[int]:
        """What the size may be, in units: more than one while it is not known."""
        return self._sizes

    @sizes.setter
    def sizes(self, sizes: set[int]) -> None:
        self._sizes = sizes
        for seen in self.past_sizes:
            seen.update(sizes)

    @contextmanager
    def seen_sizes(self) -> Iterator[set[int]]:
        """Give the sizes that the image may have had since the block began."""
        seen = set(self.sizes)
        self.past_sizes.append(seen)
        try:
            yield seen
        finally:
            self.past_sizes = [other for other in self.past_sizes if other is not seen]

    @property
    def operate(self) -> dict[str, Callable[[Step], Any]]:
        return {kind: getattr(self, f"do_{kind}") for kind in WEIGHTS}

    async def play(self, workers: int = 8) -> None:
        await self.ioctx.create_image(self.name, self.UNITS * self.model.unit, order=self.ORDER)
        self.image = await self.ioctx.open_image(self.name)
        try:
            try:
                await self._play(list(reversed(self.schedule.steps)), workers)
                await self.quiet()
            except* Stuck as stuck:
                self.counts["stuck"] = 1
                print(f"seed {self.schedule.seed}: librbd is stuck in {self.running}, {stuck.exceptions}", flush=True)
            if self.counts.get("stuck"):
                await self.verify_elsewhere()
            else:
                await self.verify()
        finally:
            with anyio.CancelScope(shield=True):
                self.ceph.resume()
                try:
                    await self.image.close(timeout=1 if self.counts.get("stuck") else 30)
                except aiorbd.CloseTimeout:
                    if not self.counts.get("stuck"):
                        raise

    async def _play(self, steps: list[Step], workers: int) -> None:
        while steps:
            async with anyio.create_task_group() as tasks:
                for _ in range(workers):
                    tasks.start_soon(self._work, steps, tasks)
            if steps:  # the next one wants to be alone
                step = steps.pop()
                await self.quiet()
                await self.one(step)

    async def _work(self, steps: list[Step], tasks: Any) -> None:
        while steps and steps[-1].kind not in ALONE:
            step = steps.pop()
            if step.fault is not None:
                tasks.start_soon(self.fault, *step.fault)
            await self.one(step)

    async def one(self, step: Step) -> None:
        self.counts[step.kind] = self.counts.get(step.kind, 0) + 1
        self.running[step.number] = step.kind
        await self.operate[step.kind](step)
        del self.running[step.number]

    async def fault(self, name: str, seconds: float) -> None:
        """The OSD stands still, or is restarted."""
        async with self.faulty:
            self.counts[name] = self.counts.get(name, 0) + 1
            if name == "restart":
                await self.ceph.restart("osd.0")
                return
            self.ceph.pause()
            await anyio.sleep(seconds)
            self.ceph.resume()

    async def quiet(self) -> None:
        """Wait until nothing is in flight: then every outcome is settled, and the size known."""
        try:
            await self.image.drain(timeout=PATIENCE)
        except aiorbd.Timeout as error:
            raise Stuck from error
        self.model.settled()
        if len(self.sizes) > 1:
            size = await self.image.size() // self.model.unit
            if size not in self.sizes:
                raise Discrepancy(f"the size is {size} units, may be {sorted(self.sizes)}")
            self.sizes = {size}

    # -- how an operation goes -----------------------------------------------------------------

    def extent(self, step: Step) -> tuple[int, int]:
        """Units that the operation is about; past the end at times, when the size is not sure."""
        size = max(self.sizes)
        length = min(step.length, size)
        return int(step.where * (size - length + 1)), length

    async def attempt(self, step: Step, call: Callable[[], Any], *allowed: type[Exception]) -> tuple[str, Any]:
        """Await it, perhaps not to the end: "done", "cancelled", or an error that may be."""
        with anyio.CancelScope() as scope:
            scope.deadline = anyio.current_time() + (PATIENCE if step.cancel_after is None else step.cancel_after)
            try:
                return "done", await call()
            except allowed as error:
                return "error", error
        assert scope.cancelled_caught
        if step.cancel_after is None:
            raise Stuck(f"#{step.number} {step.kind}")
        self.counts["cancelled"] = self.counts.get("cancelled", 0) + 1
        return "cancelled", None

    async def change(
        self, step: Step, label: str, values: dict[int, frozenset[int]], call: Callable[[], Any], *, sure: bool = True
    ) -> Change:
        change = self.model.begin(f"#{step.number} {label}", values)
        with self.seen_sizes() as sizes:
            outcome, error = await self.attempt(step, call, aiorbd.PastEndOfImage, aiorbd.CompareMismatch)
        if outcome == "done":
            if sure:
                self.model.done(change)
            else:
                self.model.perhaps(change, over=True)
        elif outcome == "cancelled":
            self.model.perhaps(change, over=False)
        elif isinstance(error, aiorbd.CompareMismatch):
            self.model.refused(change)
            raise error
        else:
            if max(values) < min(sizes):
                raise Discrepancy(f"#{step.number} {label}: {error}, but the size is {sizes}")
            self.model.perhaps(change, over=True)
        return change

    def bytes_of(self, step: Step, first: int, length: int) -> bytes:
        return b"".join(self.model.pattern(step.number, unit) for unit in range(first, first + length))

    def each(self, value: int, first: int, length: int) -> dict[int, frozenset[int]]:
        return dict.fromkeys(range(first, first + length), frozenset([value]))

    # -- reads ---------------------------------------------------------------------------------

    async def look(self, step: Step, read: Callable[[int, int], Any]) -> None:
        first, length = self.extent(step)
        begun = self.model.begin_look()
        try:
            with self.seen_sizes() as sizes:
                outcome, data = await self.attempt(
                    step, lambda: read(first * self.model.unit, length * self.model.unit),
                    aiorbd.PastEndOfImage, aiorbd.IncompleteReadError,
                )  # fmt: skip
            if outcome == "done":
                possible = [self.model.allowed(unit, begun) for unit in range(first, first + length)]
                self.model.check(f"#{step.number} {step.kind} {first}+{length}", data, first, possible)
            elif outcome == "error" and first + length <= min(sizes):
                raise Discrepancy(f"#{step.number} {step.kind} {first}+{length}: {data}, but the size is {sizes}")
        finally:
            self.model.end_look(begun)

    async def do_read(self, step: Step) -> None:
        await self.look(step, self.image.read)

    async def do_read_into(self, step: Step) -> None:
        async def read(offset: int, length: int) -> bytearray:
            buffer = bytearray(b"?" * length)
            await self.image.read_into(buffer, offset)
            return buffer

        await self.look(step, read)

    async def do_readv(self, step: Step) -> None:
        async def read(offset: int, length: int) -> bytes:
            buffers = bytearray(length // 3), bytearray(length - length // 3)
            await self.image.readv([buffer for buffer in buffers if buffer], offset)
            return b"".join(buffers)

        await self.look(step, read)

    # -- changes of data -----------------------------------------------------------------------

    async def do_write(self, step: Step) -> None:
        first, length = self.extent(step)
        data = self.bytes_of(step, first, length)
        await self.change(
            step, f"write {first}+{length}", self.each(step.number, first, length),
            lambda: self.image.write(data, first * self.model.unit),
        )  # fmt: skip

    async def do_writev(self, step: Step) -> None:
        first, length = self.extent(step)
        data = self.bytes_of(step, first, length)
        parts = [data[:7], data[7:]]
        await self.change(
            step, f"writev {first}+{length}", self.each(step.number, first, length),
            lambda: self.image.writev(parts, first * self.model.unit),
        )  # fmt: skip

    async def do_write_same(self, step: Step) -> None:
        first, length = self.extent(step)
        self.model.same.add(step.number)
        data, unit = self.model.pattern(step.number, 0), self.model.unit
        await self.change(
            step, f"write_same {first}+{length}", self.each(step.number, first, length),
            lambda: self.image.write_same(data, first * unit, length * unit),
        )  # fmt: skip

    async def do_discard(self, step: Step) -> None:
        first, length = self.extent(step)
        unit = self.model.unit
        await self.change(
            step, f"discard {first}+{length}", self.each(ZERO, first, length),
            lambda: self.image.discard(first * unit, length * unit), sure=self.exact_discard,
        )  # fmt: skip

    async def do_write_zeroes(self, step: Step) -> None:
        first, length = self.extent(step)
        unit, thick = self.model.unit, step.where < 0.3
        await self.change(
            step, f"write_zeroes {first}+{length}", self.each(ZERO, first, length),
            lambda: self.image.write_zeroes(first * unit, length * unit, thick=thick),
        )  # fmt: skip

    async def do_compare_and_write(self, step: Step) -> None:
        first, _ = self.extent(step)
        offset, unit = first * self.model.unit, self.model.unit
        if offset % SECTOR + unit > SECTOR:
            return  # librbd compares within one sector
        conf = self.schedule.conf
        if conf["rbd_cache"] == "true" and conf["rbd_cache_policy"] != "writearound":
            return  # refused, since its cache would not notice
        guess = max(self.model.allowed(first, self.model.clock))
        compare, data = self.model.pattern(guess, first), self.model.pattern(step.number, first)
        begun = self.model.begin_look()
        try:
            change = await self.change(
                step, f"compare_and_write {first} {guess}", self.each(step.number, first, 1),
                lambda: self.image.compare_and_write(compare, data, offset),
            )  # fmt: skip
        except aiorbd.CompareMismatch as error:
            if self.model.allowed(first, begun) == {guess}:
                raise Discrepancy(f"#{step.number}: {error}, but only {guess} can be there") from None
        else:
            if change.outcome == "done" and guess not in self.model.allowed(first, begun):
                raise Discrepancy(f"#{step.number}: {guess} was found in unit {first}, and cannot have been there")
        finally:
            self.model.end_look(begun)

    async def do_flush(self, step: Step) -> None:
        await self.attempt(step, self.image.flush)

    async def do_drain(self, step: Step) -> None:
        await self.attempt(step, self.image.drain)

    # -- structure -----------------------------------------------------------------------------

    async def do_resize(self, step: Step) -> None:
        async with self.structure:
            if len(self.sizes) > 1:
                return  # one whose outcome is not known may still be on its way
            (old,) = self.sizes
            new = max(20, int(2 * step.where * self.UNITS))
            self.model.grow(new)
            self.sizes = {old, new}
            # Stopped half way, it shows what is below: nothing, or what the parent of a clone has there.
            below = {unit: frozenset([ZERO]) | self.parent.get(unit, frozenset()) for unit in range(new, old)}
            change = self.model.begin(f"#{step.number} resize {old} -> {new}", below)
            outcome, _ = await self.attempt(step, lambda: self.image.resize(new * self.model.unit))
            if outcome == "done":
                self.sizes = {new}
                for version in change.versions.values():
                    version.values = frozenset([ZERO])
                self.model.done(change)
            else:
                self.model.perhaps(change, over=False)

    async def do_create_snapshot(self, step: Step) -> None:
        async with self.structure:
            if len(self.sizes) > 1 or len(self.snapshots) >= 3:
                return
            name, size, begun = f"s{step.number}", max(self.sizes), self.model.begin_look()
            outcome, _ = await self.attempt(step, lambda: self.image.create_snapshot(name))
            units = [self.model.allowed(unit, begun) for unit in range(size)]
            self.model.end_look(begun)
            if outcome == "done":
                self.snapshots.append(Snapshot(name, units))

    async def do_remove_snapshot(self, step: Step) -> None:
        async with self.structure:
            if self.snapshots:
                snapshot = self.snapshots.pop()
                found = await self.image.get_snapshot(snapshot.name)
                await self.attempt(step, found.remove)

    async def do_flatten(self, step: Step) -> None:
        async with self.structure:
            if await self.image.get_parent() is not None:
                await self.attempt(step, self.image.flatten, aiorbd.OperationCanceled, aiorbd.InvalidArgument)

    async def do_read_snapshot(self, step: Step) -> None:
        if self.snapshots:
            snapshot = self.snapshots[int(step.where * len(self.snapshots))]
            try:
                async with self.ioctx.open_image(self.image.name, snapshot=snapshot.name) as image:
                    data = await image.read(0, await image.size())
            except aiorbd.SnapshotNotFound:
                if snapshot in self.snapshots:
                    raise
            else:
                self.check_snapshot(self.model, snapshot, data)

    def check_snapshot(self, model: Model, snapshot: Snapshot, data: bytes) -> None:
        if len(data) != len(snapshot.units) * model.unit:
            raise Discrepancy(f"snapshot {snapshot.name} has {len(data)} bytes, not {len(snapshot.units)} units")
        found = model.check(f"snapshot {snapshot.name}", data, 0, snapshot.units)
        snapshot.units = [frozenset([value]) for value in found]

    async def do_rollback(self, step: Step) -> None:
        if not self.snapshots:
            return
        snapshot, (old,) = self.snapshots[-1], self.sizes
        size = len(snapshot.units)
        self.model.grow(size)
        values = dict(enumerate(snapshot.units)) | self.each(ZERO, size, max(0, old - size))
        self.sizes = {old, size}
        change = self.model.begin(f"#{step.number} rollback to {snapshot.name}", values)
        found = await self.image.get_snapshot(snapshot.name)
        outcome, _ = await self.attempt(step, found.rollback)
        if outcome == "done":
            self.sizes = {size}
            self.model.done(change)
        else:
            self.model.perhaps(change, over=False)
            await self.quiet()

    async def do_clone(self, step: Step) -> None:
        """Go on with a clone; its parent is looked at in the end."""
        if not self.snapshots or len(self.parents) >= 3:
            return
        snapshot, model = self.snapshots[-1], self.model
        self.generation += 1
        name = f"{self.name}-{self.generation}"
        await self.image.clone(snapshot.name, self.ioctx, name, clone_format=2, order=self.ORDER)
        await self.image.close(timeout=60)
        self.parents.append((self.image.name, model, snapshot))
        self.image = await self.ioctx.open_image(name)
        self.model = Model(model.unit, same=model.same, clock=model.clock)
        self.model.grow(len(snapshot.units))
        self.parent = dict(enumerate(snapshot.units))
        self.sizes, self.snapshots = {len(snapshot.units)}, []
        change: Change = self.model.begin(f"#{step.number} clone of {snapshot.name}", dict(enumerate(snapshot.units)))
        self.model.done(change)

    async def do_reopen(self, step: Step) -> None:
        name = self.image.name
        await self.image.close(timeout=60)
        self.image = await self.ioctx.open_image(name)

    # -- the end -------------------------------------------------------------------------------

    async def verify_elsewhere(self) -> None:
        """What another client reads when this one is stuck: what may be there, as ever."""
        exported = await self.ceph.run("rbd", "export", "--no-progress", self.image.name, "-")
        count = len(exported) // self.model.unit
        if count not in self.sizes:
            raise Discrepancy(f"the size is {count} units, may be {sorted(self.sizes)}")
        possible = [self.model.allowed(unit, self.model.clock) for unit in range(count)]
        self.model.check("rbd export, this client being stuck", exported, 0, possible)

    async def verify(self) -> None:
        """What we read, and what Ceph's own tool exports, is what may be there."""
        (size,) = self.sizes
        await self.image.flush()
        data = await self.image.read(0, size * self.model.unit)
        possible = [self.model.allowed(unit, self.model.clock) for unit in range(size)]
        found = self.model.check("the end", data, 0, possible)
        exported = await self.ceph.run("rbd", "export", "--no-progress", self.image.name, "-")
        self.model.check("rbd export", exported, 0, [frozenset([value]) for value in found])
        for snapshot in self.snapshots:
            await self.verify_snapshot(f"{self.image.name}@{snapshot.name}", self.model, snapshot)
        for name, model, snapshot in self.parents:
            await self.verify_snapshot(f"{name}@{snapshot.name}", model, snapshot)

    async def verify_snapshot(self, spec: str, model: Model, snapshot: Snapshot) -> None:
        """When it is wrong, is it the data, or librbd's map of the objects that exist?"""
        units = list(snapshot.units)
        try:
            self.check_snapshot(model, snapshot, await self.ceph.run("rbd", "export", "--no-progress", spec, "-"))
        except Discrepancy as error:
            await self.ceph.run("rbd", "object-map", "rebuild", "--no-progress", spec)
            snapshot.units = units
            try:
                self.check_snapshot(model, snapshot, await self.ceph.run("rbd", "export", "--no-progress", spec, "-"))
            except Discrepancy:
                raise error from None
            raise Discrepancy(f"{error}\n  With the object map made anew all is right: it was wrong.") from None
