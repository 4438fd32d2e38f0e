"""What a short run must not fall below: half to two thirds of the ratios that are usual, for the sake of noise."""

import statistics
import sys
from typing import Any, Final

#: By pattern, block and depth: the client, a peer, and the least ratio of their IOPS.
LEAST: Final = {
    ("randread", 4096, 64): [
        ("aiorbd asyncio", "fio", 0.65),
        ("aiorbd uvloop", "fio", 0.65),
        ("aiorbd trio", "fio", 0.55),
        ("aiorbd asyncio", "rbd.aio_*", 1.0),
        ("aiorbd asyncio", "rbd threads", 1.3),
        ("stream asyncio", "fio", 0.7),
        ("stream asyncio", "rbd.aio_*", 1.3),
    ],
    ("randwrite", 4096, 64): [
        ("aiorbd asyncio", "fio", 0.6),
        ("aiorbd asyncio", "rbd.aio_*", 0.7),
        ("stream asyncio", "fio", 0.6),
    ],
}


def check(cases: list[dict[str, Any]]) -> None:
    """Exit with an error that says which ratio is too low."""
    low, looked = [], 0
    for case in cases:
        rows = {row["client"]: row for row in case["table"]}
        for client, peer, least in LEAST.get((case["pattern"], case["block"], case["depth"]), []):
            looked += 1
            ratio = statistics.median(rows[client][f"iops/{peer}"])
            if ratio < least:
                low.append(f"{case['pattern']}, depth {case['depth']}: {client} / {peer} is {ratio:.2f}, not {least}")
    if not looked:
        sys.exit("there is nothing to check among these cases")
    if low:
        sys.exit("slower than it should be:\n" + "\n".join(low))
    print(f"{looked} ratios are where they should be")
