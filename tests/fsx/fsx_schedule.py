"""Schedules: operations and faults that a seed alone determines."""

import random
from dataclasses import dataclass

#: The frequency of each operation. A change of the order or of a number gives each seed another schedule.
WEIGHTS = {
    "read": 22, "read_into": 6, "readv": 6, "write": 22, "writev": 6, "write_same": 5, "discard": 8, "write_zeroes": 8,
    "compare_and_write": 8, "flush": 4, "resize": 3, "create_snapshot": 2, "remove_snapshot": 1, "read_snapshot": 2,
    "move_diff": 3, "rollback": 1, "clone": 1, "flatten": 1, "reopen": 1, "drain": 1,
}  # fmt: skip
#: Operations that need the image to themselves.
ALONE = {"rollback", "clone", "reopen"}
FAULTS = {"pause": 20, "restart": 1}


@dataclass(frozen=True)
class Step:
    """One operation with all of its random choices, so that it can be played again without its neighbours."""

    number: int
    kind: str
    where: float  # of the image
    length: int  # units
    cancel_after: float | None  # seconds
    fault: tuple[str, float] | None  # started together with it


@dataclass(frozen=True)
class Schedule:
    """The steps and settings that a seed alone determines."""

    seed: int
    backend: str
    unit: int
    conf: dict[str, str]
    steps: tuple[Step, ...]

    @classmethod
    def make(cls, seed: int, operations: int, *, faults: bool = True, policy: str = "writearound") -> "Schedule":
        """Make the schedule of a seed."""
        chance = random.Random(seed)
        steps = []
        for number in range(1, operations + 1):
            kind = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            cancel = chance.choice((0.0, 0.0003, 0.001, 0.003, 0.01, 0.05)) if chance.random() < 0.25 else None
            fault = None
            if faults and chance.random() < 0.02:
                name = chance.choices(list(FAULTS), list(FAULTS.values()))[0]
                fault = name, chance.uniform(0.005, 0.15)
            steps.append(Step(number, kind, chance.random(), chance.choice((1, 1, 2, 3, 8, 40)), cancel, fault))
        conf = {
            "rbd_cache": chance.choice(("true", "true", "false")),
            "rbd_cache_policy": policy,
            "rbd_discard_granularity_bytes": "4096",
            "rbd_concurrent_management_ops": "2",
        }
        unit = chance.choice((64, 512, 512, 1024, 4096))  # no unit spans two objects, which change one after the other
        return cls(seed, chance.choice(("asyncio", "trio")), unit, conf, tuple(steps))


def describe(step: Step) -> str:
    """Return one line of a schedule."""
    cancelled = f", cancelled after {step.cancel_after * 1e3:g} ms" if step.cancel_after is not None else ""
    fault = f", with {step.fault[0]}" if step.fault else ""
    return f"#{step.number} {step.kind} at {step.where:.3f}, {step.length} units{cancelled}{fault}"
