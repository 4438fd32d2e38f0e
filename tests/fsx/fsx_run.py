"""A run of a schedule on a real image: the known state of the image, and the execution of an operation or a fault."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
from fsx_model import Discrepancy, Model, Snapshot
from fsx_schedule import Schedule, Step
from fsx_sizes import Sizes

import aiorbd
from aiorbd.testing import DevCluster

#: Units of the image at first. Objects have 4 KiB, so that there are many.
UNITS = 200
ORDER = 12

#: Seconds after which an operation without a scheduled cancellation counts as stuck in librbd.
PATIENCE = 30


class Stuck(Exception):
    """librbd does not finish an operation, although the cluster works."""


@dataclass(frozen=True)
class Extent:
    """Some units of the image."""

    first: int
    length: int
    unit: int  # bytes

    @property
    def units(self) -> range:
        return range(self.first, self.first + self.length)

    @property
    def offset(self) -> int:
        return self.first * self.unit

    @property
    def size(self) -> int:
        """Return the size in bytes."""
        return self.length * self.unit

    def __str__(self) -> str:
        return f"{self.first}+{self.length}"


@dataclass
class Run:
    """One schedule on one image."""

    schedule: Schedule
    ceph: DevCluster
    ioctx: aiorbd.IoCtx
    name: str
    image: aiorbd.Image = field(init=False)
    #: The operations that were really started, by kind and outcome: "done", "cancelled", or the name of an allowed
    #: error.
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    stuck: bool = False

    def __post_init__(self) -> None:
        self.model = Model(self.schedule.unit)
        self.model.grow(UNITS)
        self.sizes = Sizes(UNITS)
        self.snapshots: list[Snapshot] = []
        self.parents: list[tuple[str, Model, Snapshot]] = []
        self.parent: dict[int, frozenset[int]] = {}  # possible content of each unit of a clone's parent
        self.running: dict[int, str] = {}
        self.structure = anyio.Lock()  # operations that change more than data run one at a time
        self.faulty = anyio.Lock()

    def extent(self, step: Step) -> Extent:
        """Return the extent of an operation. While the size is not sure, the extent may exceed the image."""
        size = max(self.sizes.now)
        length = min(step.length, size)
        return Extent(int(step.where * (size - length + 1)), length, self.model.unit)

    async def attempt(self, step: Step, call: Callable[[], Any], *allowed: type[Exception]) -> tuple[str, Any]:
        """Await a call, perhaps with a cancellation. Return "done", "cancelled", or "error" for an allowed error."""
        with anyio.CancelScope() as scope:
            scope.deadline = anyio.current_time() + (PATIENCE if step.cancel_after is None else step.cancel_after)
            try:
                result = await call()
            except allowed as error:
                self.counts[step.kind, type(error).__name__] += 1
                return "error", error
            self.counts[step.kind, "done"] += 1
            return "done", result
        assert scope.cancelled_caught
        if step.cancel_after is None:
            raise Stuck(f"#{step.number} {step.kind}")
        self.counts[step.kind, "cancelled"] += 1
        return "cancelled", None

    async def fault(self, name: str, seconds: float) -> None:
        """Pause the OSD for some seconds, or restart it."""
        async with self.faulty:
            if name == "restart":
                await self.ceph.restart("osd.0")
            else:
                self.ceph.pause()
                await anyio.sleep(seconds)
                self.ceph.resume()
            self.counts[name, "done"] += 1

    async def quiet(self) -> None:
        """Wait until no operation is in flight. Then every outcome is settled, and the size is known."""
        try:
            await self.image.drain(timeout=PATIENCE)
        except aiorbd.Timeout as error:
            raise Stuck from error
        self.model.settled()
        if self.sizes.known is None:
            size = await self.image.size() // self.model.unit
            if size not in self.sizes.now:
                raise Discrepancy(f"the size is {size} units, may be {sorted(self.sizes.now)}")
            self.sizes.become(size)
