"""Run aio-fsx for a short time, and prove that it finds faults."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import anyio
import fsx_play
import pytest
from fsx_model import Discrepancy, Model
from fsx_play import OPERATIONS, failure, minimize, play
from fsx_run import Stuck
from fsx_schedule import FAULTS, WEIGHTS, Schedule

import aiorbd
from aiorbd._image.io import ImageData
from aiorbd.testing import DevCluster

#: The least number of operations of each kind in the test of twenty schedules: half of the usual number, and less for
#: rare kinds.
FLOORS = {
    "read": 210, "read_into": 55, "readv": 65, "write": 220, "writev": 60, "write_same": 45, "discard": 80,
    "write_zeroes": 75, "compare_and_write": 35, "flush": 40, "drain": 8, "resize": 25, "create_snapshot": 15,
    "remove_snapshot": 3, "read_snapshot": 2, "move_diff": 8, "rollback": 2, "clone": 6, "flatten": 1, "reopen": 14,
    "pause": 32, "restart": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[Any]:
    """Start a cluster with little data: an OSD that restarts writes all of its data to disk."""
    with DevCluster() as cluster:
        yield cluster


def played(ceph: Any, schedule: Any) -> Any:
    counts: Counter[Any] = Counter()
    anyio.run(partial(play, ceph, schedule, counts), backend=schedule.backend)
    return counts


def test_twenty_schedules_with_faults_find_no_discrepancy(own_cluster: DevCluster) -> None:
    """Play a few thousand operations, with pauses, restarts and cancellations."""
    counts: Counter[Any] = Counter()
    for seed in range(20, 40):  # these seeds have four restarts; the twenty before have none
        counts += played(own_cluster, Schedule.make(seed, 150))
    assert sum(count for (_, outcome), count in counts.items() if outcome == "cancelled") > 100
    missing = {kind: counts[kind, "done"] for kind, floor in FLOORS.items() if counts[kind, "done"] < floor}
    assert not missing


def test_schedules_without_faults_find_no_discrepancy(own_cluster: DevCluster) -> None:
    for seed in range(100, 105):
        counts = played(own_cluster, Schedule.make(seed, 300, faults=False))
        assert counts["write", "done"]
        assert not counts["pause", "done"]


async def lost(right: Any, image: aiorbd.Image, data: Any, offset: int, **_keywords: Any) -> Any:
    return len(data)


async def elsewhere(right: Any, image: aiorbd.Image, data: Any, offset: int, **_keywords: Any) -> Any:
    return await right(image, data, max(0, offset - 4096))


async def nothing(right: Any, image: aiorbd.Image, offset: int, length: int, **_keywords: Any) -> None:
    return None


BREAKS: dict[str, tuple[str, Any]] = {
    "a write is lost": ("write", lost),
    "a write goes elsewhere": ("write", elsewhere),
    "zeroes are not written": ("write_zeroes", nothing),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_broken_library_is_found(own_cluster: DevCluster, monkeypatch: pytest.MonkeyPatch, broken: Any) -> None:
    """Break the library in one place: the failure names a unit, and lists only the changes of that unit."""
    name, instead = BREAKS[broken]
    right = getattr(ImageData, name)
    calls = []

    async def wrong(self: Any, *arguments: Any, **keywords: Any) -> Any:
        calls.append(arguments)
        if len(calls) % 7 == 0:
            return await instead(right, self, *arguments, **keywords)
        return await right(self, *arguments, **keywords)

    monkeypatch.setattr(ImageData, name, wrong)
    found = [failure(own_cluster, Schedule.make(seed, 150, faults=False)) for seed in range(6)]
    caught = [error for error in found if error is not None]
    assert caught
    assert {type(error) for error in caught} == {Discrepancy}
    assert any("may hold" in str(error) for error in caught)


def test_minimize_finds_a_short_schedule_with_the_broken_call(
    own_cluster: DevCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wrong(self: Any, *arguments: Any, **keywords: Any) -> None:
        return None

    monkeypatch.setattr(ImageData, "write_zeroes", wrong)
    schedules = (Schedule.make(seed, 40, faults=False) for seed in range(20))
    whole = next(schedule for schedule in schedules if type(failure(own_cluster, schedule)) is Discrepancy)
    shortest = minimize(own_cluster, whole, Discrepancy, tries=2)
    assert any(type(failure(own_cluster, shortest)) is Discrepancy for _ in range(3))
    assert len(shortest.steps) <= 5
    assert "write_zeroes" in {step.kind for step in shortest.steps}


def test_minimize_ignores_another_kind_of_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the culprit the schedule still fails, but in another way."""
    whole = Schedule.make(7, 40)
    culprit = whole.steps[25]
    monkeypatch.setattr(fsx_play, "failure", lambda _, tried: Discrepancy() if culprit in tried.steps else Stuck())
    no_cluster: Any = None
    assert minimize(no_cluster, whole, Discrepancy).steps == (culprit,)


def test_same_seed_gives_the_same_schedule() -> None:
    assert Schedule.make(7, 100) == Schedule.make(7, 100) != Schedule.make(8, 100)


def test_all_kinds_of_operations_have_a_weight_and_a_floor() -> None:
    assert set(OPERATIONS) == set(WEIGHTS)
    assert set(FLOORS) == {*WEIGHTS, *FAULTS}


@pytest.fixture
def model() -> Any:
    model = Model(16)
    model.grow(1)
    return model


def one(value: Any) -> Any:
    return {0: frozenset([value])}


def test_overlapping_changes_allow_either_value(model: Any) -> None:
    first, second = model.begin("a", one(1)), model.begin("b", one(2))
    model.done(first)
    model.done(second)
    assert model.allowed(0, model.tick()) == {1, 2}


def test_replaced_value_is_not_allowed(model: Any) -> None:
    for value in (1, 2):
        model.done(model.begin("write", one(value)))
    assert model.allowed(0, model.tick()) == {2}


def test_unknown_change_stays_possible_until_a_later_write_after_settling(model: Any) -> None:
    lost = model.begin("a", one(1))
    model.perhaps(lost, over=False)
    model.done(model.begin("b", one(2)))
    assert model.allowed(0, model.tick()) == {1, 2}
    model.settled()
    assert model.allowed(0, model.tick()) == {1, 2}
    model.done(model.begin("c", one(3)))
    assert model.allowed(0, model.tick()) == {3}


def test_refused_change_is_not_allowed(model: Any) -> None:
    model.refused(model.begin("a", one(1)))
    assert model.allowed(0, model.tick()) == {0}


def test_read_in_flight_may_return_the_old_value(model: Any) -> None:
    begun = model.begin_look()
    model.done(model.begin("a", one(1)))
    assert model.allowed(0, begun) == {0, 1}
    model.end_look(begun)


def test_foreign_bytes_are_a_discrepancy(model: Any) -> None:
    with pytest.raises(Discrepancy, match=r"unit 0 .* holds foreign bytes 787878.* may hold"):
        model.check("read", b"x" * 16, 0, [frozenset([0])])
