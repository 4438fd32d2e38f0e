"""Pause processes, and tell their states."""

import os
import signal
import time
from pathlib import Path


def _state(task: Path) -> str:
    """Return the state of a thread. "T" means stopped, and stands also for a thread that has just ended."""
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "T"


def pause(pid: int) -> None:
    """Pause a process, and wait until all its threads have stopped.

    The kernel stops one thread after the other. Until the last thread stops, a daemon might answer a request.
    """
    os.kill(pid, signal.SIGSTOP)
    while any("T" not in _state(task) for task in Path(f"/proc/{pid}/task").iterdir()):
        time.sleep(0.001)


def resume(pid: int) -> None:
    """Continue a paused process."""
    os.kill(pid, signal.SIGCONT)


def describe(pid: int) -> str:
    """Return whether a process is running, paused or ended."""
    if not Path(f"/proc/{pid}").exists():
        return "ended"
    return "paused" if _state(Path(f"/proc/{pid}")) == "T" else "running"
