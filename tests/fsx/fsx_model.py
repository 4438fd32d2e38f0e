"""The possible content of an image, unit by unit, when many operations overlap and some have an unknown outcome.

Each unit of an image is a register. A change creates a version of it, which lives from the start of the change to its
end. A change with an unknown outcome may have happened or not.

A read may return any version that began before the read ended, unless another version surely replaced it. The replacing
version must have begun after the first version ended, and have ended before the read began. Any other content is a lost
write, a write that came back, or foreign data.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

ZERO = 0  # the value of units that are zeroes: never written, or zeroed again


class Discrepancy(AssertionError):
    """The image contains forbidden content."""


@dataclass(slots=True, eq=False)
class Version:
    """One unit's part of one change."""

    values: frozenset[int]  # possible values; more than one after a rollback to a snapshot that is not sure
    begun: int
    ended: float = float("inf")
    sure: bool = False  # it happened


@dataclass(slots=True, eq=False)
class Change:
    """An operation that changes units."""

    label: str
    versions: dict[int, Version]
    begun: int
    ended: float = float("inf")
    outcome: str = "in flight"


@dataclass(slots=True, eq=False)
class Snapshot:
    """The possible content of a snapshot. A value once read remains the only possible one."""

    name: str
    units: list[frozenset[int]]


@dataclass
class Model:
    """The possible content of one image."""

    unit: int
    units: list[list[Version]] = field(default_factory=list)
    clock: int = 0
    reads: dict[int, int] = field(default_factory=dict)  # start times of the reads in flight
    same: set[int] = field(default_factory=set)  # values with the same pattern in all units
    history: list[Change] = field(default_factory=list)
    unknown: list[Change] = field(default_factory=list)

    def pattern(self, value: int, unit: int) -> bytes:
        """Return the bytes of a value in a unit. They identify the operation and the unit."""
        if value == ZERO:
            return bytes(self.unit)
        word = struct.pack("<II", value, 0 if value in self.same else unit + 1)
        return (word * (self.unit // len(word) + 1))[: self.unit]

    def grow(self, count: int) -> None:
        """Extend the image to `count` units. New units are zeroes."""
        while len(self.units) < count:
            self.units.append([Version(frozenset([ZERO]), 0, 0, sure=True)])

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    # -- changes -------------------------------------------------------------------------------

    def begin(self, label: str, values: "dict[int, frozenset[int]]") -> Change:
        """Record that a change of some units is about to be submitted."""
        now = self.tick()
        change = Change(label, {unit: Version(possible, now) for unit, possible in values.items()}, now)
        for unit, version in change.versions.items():
            self.units[unit].append(version)
        self.history.append(change)
        return change

    def done(self, change: Change) -> None:
        """Record that a change happened."""
        change.outcome, change.ended = "done", self.tick()
        oldest = min(self.reads.values(), default=self.clock)
        for unit, version in change.versions.items():
            version.ended, version.sure = change.ended, True
            self.units[unit] = [v for v in self.units[unit] if not self._replaced(v, self.units[unit], oldest)]

    def refused(self, change: Change) -> None:
        """Record that a change did not happen."""
        change.outcome, change.ended = "refused", self.tick()
        for unit, version in change.versions.items():
            self.units[unit].remove(version)

    def perhaps(self, change: Change, *, over: bool) -> None:
        """Record that a change may have happened, at least in part. Without `over`, it may still happen."""
        change.outcome = "unknown"
        if over:
            change.ended = self.tick()
            for version in change.versions.values():
                version.ended = change.ended
        else:
            self.unknown.append(change)

    def settled(self) -> None:
        """Record that no operation is in flight."""
        for change in self.unknown:
            self.perhaps(change, over=True)
        self.unknown.clear()

    # -- looks ---------------------------------------------------------------------------------

    @staticmethod
    def _replaced(version: Version, versions: Sequence[Version], begun: int) -> bool:
        return any(w.sure and version.ended < w.begun and w.ended <= begun for w in versions)

    def allowed(self, unit: int, begun: int) -> frozenset[int]:
        """Return the possible values for a look that began at `begun` and ends now."""
        versions = self.units[unit]
        return frozenset().union(*(v.values for v in versions if not self._replaced(v, versions, begun)))

    def begin_look(self) -> int:
        """Record that a read or a snapshot is about to be submitted."""
        begun = self.tick()
        self.reads[begun] = begun
        return begun

    def end_look(self, begun: int) -> None:
        """Record that a look has ended, with or without a result."""
        del self.reads[begun]

    def value_of(self, data: bytes, unit: int) -> int | None:
        """Return the value of these bytes, or None for foreign bytes."""
        if data == bytes(self.unit):
            return ZERO
        value = int.from_bytes(data[:4].ljust(4, b"\0"), "little")
        return value if self.pattern(value, unit) == data else None

    def check(self, label: str, data: bytes, first: int, possible: Iterable[frozenset[int]]) -> list[int]:
        """Compare data with the possible values of each unit, and return the values found."""
        found = []
        for index, allowed in enumerate(possible):
            unit, part = first + index, data[index * self.unit : (index + 1) * self.unit]
            value = self.value_of(part, unit)
            if value not in allowed:
                raise Discrepancy(self._explain(label, unit, part, value, allowed))
            found.append(value)
        return found

    def _explain(self, label: str, unit: int, part: bytes, value: int | None, allowed: frozenset[int]) -> str:
        """Return a message with all changes that ever touched the unit, and no others."""
        found = f"value {value}" if value is not None else f"foreign bytes {part[:24].hex()}..."
        lines = [f"{label}: unit {unit} (bytes {unit * self.unit} on) holds {found}, may hold {sorted(allowed)}"]
        for change in self.history:
            if unit in change.versions:
                values = sorted(change.versions[unit].values)
                lines.append(f"  {change.begun:5}-{change.ended:<6} {change.outcome:10} {change.label} -> {values}")
        return "\n".join(lines)
