"""Shared code of the Python clients: arguments, offsets and reports.

This module imports only the standard library: one of the clients runs in a Python without aiorbd.
"""

import argparse
import itertools
import json
import random
import statistics
import time
from collections.abc import Sequence
from typing import Any

#: Number of random offsets. They are made before the clock starts, so that making them is not measured.
PLACES = 1 << 16

#: Ceph's own value of a setting that aiorbd changes, so that all clients have the same.
EQUAL = {"ms_tcp_prefetch_max_size": "4096"}

SHARE_OF_READS = {"randread": 1.0, "read": 1.0, "randwrite": 0.0, "write": 0.0, "randrw": 0.7}


def parser() -> Any:
    """Return the parser of the arguments that all clients have."""
    parser = argparse.ArgumentParser()
    parser.add_argument("conffile")
    parser.add_argument("image")
    parser.add_argument("--pattern", choices=list(SHARE_OF_READS), default="randread")
    parser.add_argument("--depth", type=int, default=64)
    parser.add_argument("--block", type=int, default=4096)
    parser.add_argument("--seconds", type=float, default=3)
    return parser


class Load:
    """The offsets for reads or writes, the time limit, and the latencies."""

    def __init__(self, size: Any, options: Any) -> None:
        dice = random.Random(options.depth)
        blocks = size // options.block
        self.block = options.block
        self.data = dice.randbytes(options.block)
        self.share = SHARE_OF_READS[options.pattern]
        if options.pattern.startswith("rand"):
            places: Sequence[int] = [dice.randrange(blocks) * options.block for _ in range(PLACES)]
        else:
            places = range(0, blocks * options.block, options.block)
        #: All tasks take from one sequence.
        self.places = itertools.cycle(places)
        self.reads = itertools.cycle([dice.random() < self.share for _ in range(PLACES)])
        self.latencies: list[float] = []
        self.lags: list[float] = []
        self.start = time.perf_counter()
        self.end = self.start + options.seconds

    def report(self, operations: Any = None) -> None:
        """Print the report as one line of JSON."""
        result = {
            "operations": len(self.latencies) if operations is None else operations,
            "seconds": time.perf_counter() - self.start,
            "latency_us": percentiles(self.latencies, 1e6),
            "lag_ms": percentiles(self.lags, 1e3),
        }
        print(json.dumps(result))


def percentiles(values: Any, unit: Any) -> Any:
    """Return p50, p99 and p99.9, or None for fewer than two values."""
    if len(values) < 2:
        return None
    cuts = statistics.quantiles(values, n=1000, method="inclusive")
    return [cuts[at] * unit for at in (499, 989, 998)]
