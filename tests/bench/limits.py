"""The least ratios that a short run must reach: half to four fifths of the usual ones, because of noise."""

import statistics
import sys
from typing import Any, Final

_ASYNCIO: Final = ("aiorbd asyncio", "fio")
_UVLOOP: Final = ("aiorbd uvloop", "fio")
_TRIO: Final = ("aiorbd trio", "fio")
_STREAM: Final = ("stream asyncio", "fio")
_TO_PEER: Final = ("aiorbd asyncio", "rbd.aio_*")

#: By pattern, block, depth and delay: the client, a peer, and the least ratio of their IOPS. The cases with a delay
#: show whether requests are held back.
LEAST: Final = {
    ("randread", 4096, 16, 0): [(*_ASYNCIO, 0.55), (*_UVLOOP, 0.55), (*_TRIO, 0.45), (*_STREAM, 0.7)],
    ("randread", 4096, 64, 0): [(*_ASYNCIO, 0.6), (*_UVLOOP, 0.65), (*_TRIO, 0.5), (*_STREAM, 0.7), (*_TO_PEER, 1.0)],
    ("randread", 4096, 256, 0): [(*_ASYNCIO, 0.6), (*_UVLOOP, 0.65), (*_TRIO, 0.5), (*_STREAM, 0.7), (*_TO_PEER, 1.0)],
    ("randread", 4096, 16, 1): [(*_ASYNCIO, 0.8), (*_UVLOOP, 0.8), (*_TRIO, 0.7), (*_STREAM, 0.8)],
    ("randread", 4096, 64, 1): [(*_ASYNCIO, 0.8), (*_UVLOOP, 0.8), (*_TRIO, 0.6), (*_STREAM, 0.75), (*_TO_PEER, 1.0)],
    ("randread", 4096, 256, 1): [(*_ASYNCIO, 0.8), (*_UVLOOP, 0.8), (*_TRIO, 0.6), (*_STREAM, 0.8), (*_TO_PEER, 1.0)],
    ("randwrite", 4096, 64, 0): [(*_ASYNCIO, 0.55), (*_STREAM, 0.6), (*_TO_PEER, 0.7)],
}


def check(cases: list[dict[str, Any]]) -> None:
    """Exit with an error that names each ratio that is too low."""
    low, looked = [], 0
    for case in cases:
        rows = {row["client"]: row for row in case["table"]}
        for client, peer, least in LEAST.get((case["pattern"], case["block"], case["depth"], case["delay"]), []):
            looked += 1
            ratio = statistics.median(rows[client][f"iops/{peer}"])
            if ratio < least:
                low.append(
                    f"{case['pattern']}, depth {case['depth']}, delay {case['delay']:g} ms: "
                    f"{client} / {peer} is {ratio:.2f}, not {least}"
                )
    if not looked:
        sys.exit("there is nothing to check among these cases")
    if low:
        sys.exit("slower than it should be:\n" + "\n".join(low))
    print(f"{looked} ratios are where they should be")
