"""Run `tests/pairs/run.py` with a call that kills its process and a call that raises."""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "pairs"))

import pair_calls
import run


@pair_calls.call
async def dies(_subject: pair_calls.Subject) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pair_calls.call
async def fails(_subject: pair_calls.Subject) -> None:
    raise ZeroDivisionError


sys.exit(run.main())
