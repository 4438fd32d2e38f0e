"""aio-fsx: play random schedules of operations, cancellations and faults on a real cluster, and check every byte.

python tests/fsx/run.py --schedules 1000 --seed 1
python tests/fsx/run.py --hours 8
python tests/fsx/run.py --seed 4711 --schedules 1 --minimize
"""

import argparse
import random
import sys
import time
from collections import Counter
from functools import partial

import anyio
from fsx_play import Counts, cause, minimize, play
from fsx_schedule import Schedule, describe

from aiorbd.testing import DevCluster


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=20)
    parser.add_argument("--hours", type=float, help="go on for so long instead")
    parser.add_argument("--operations", type=int, default=150, help="of each schedule")
    parser.add_argument("--seed", type=int, default=None, help="of the first schedule; the others follow")
    parser.add_argument("--report", type=int, default=50, help="after how many schedules to say so")
    parser.add_argument("--no-faults", action="store_true", help="other schedules, without pauses and restarts")
    # With the other policies, librbd 16.2 itself fails: overlapping writes to a clone end in another order than in its
    # cache.
    parser.add_argument("--cache-policy", default="writearound", help="librbd's; also writeback, writethrough")
    parser.add_argument(
        "--minimize", action="store_true", help="find the shortest schedule that still fails, with the same exception"
    )
    return parser.parse_args()


def again(seed: int, options: argparse.Namespace) -> str:
    """Return the command that plays the schedule again, with all options that determine it."""
    faults = " --no-faults" if options.no_faults else ""
    return (
        f"python tests/fsx/run.py --schedules 1 --seed {seed} --operations {options.operations}"
        f" --cache-policy {options.cache_policy}{faults}"
    )


def explain(ceph: DevCluster, schedule: Schedule, options: argparse.Namespace, error: BaseException) -> None:
    """Print the facts that help to find the cause of a failure."""
    print(f"FAILED: seed {schedule.seed}, {schedule.backend}, unit {schedule.unit}, {schedule.conf}")
    print(f"play it again: {again(schedule.seed, options)}", flush=True)
    if options.minimize and isinstance(error, Exception):  # and not an interrupt
        kind = type(cause(error))
        shortest = minimize(ceph, schedule, kind)
        print(f"{len(shortest.steps)} of {len(schedule.steps)} operations are enough for a {kind.__name__}:")
        print("\n".join(map(describe, shortest.steps)))


def table(counts: Counts) -> str:
    """Return one line for each kind of operation, with its outcomes."""
    lines: dict[str, list[str]] = {}
    for (kind, outcome), count in counts.most_common():
        lines.setdefault(kind, []).append(f"{count} {outcome}")
    cancelled = sum(count for (_, outcome), count in counts.items() if outcome == "cancelled")
    return "\n".join([*(f"{kind}: {', '.join(line)}" for kind, line in lines.items()), f"all: {cancelled} cancelled"])


def main() -> int:
    """Play the schedules. Raise when one fails."""
    options = parse()
    seed = random.SystemRandom().randrange(1 << 30) if options.seed is None else options.seed
    counts: Counts = Counter()
    start, played = time.monotonic(), 0
    with DevCluster() as ceph:
        while time.monotonic() - start < options.hours * 3600 if options.hours else played < options.schedules:
            schedule = Schedule.make(
                seed + played, options.operations, faults=not options.no_faults, policy=options.cache_policy
            )
            try:
                anyio.run(partial(play, ceph, schedule, counts), backend=schedule.backend)
            except BaseException as error:
                explain(ceph, schedule, options, error)
                raise
            played += 1
            if played % options.report == 0:
                print(f"{played} schedules, {time.monotonic() - start:.0f} s", flush=True)
    print(f"{played} schedules from seed {seed}, {time.monotonic() - start:.0f} s: not a byte lost or wrong")
    print(table(counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
