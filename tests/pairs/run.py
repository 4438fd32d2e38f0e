"""Run calls in pairs on one image: two tasks repeat one call each. Each pair has its own process.

A pair passes when the process survives and every call returns, with a result or an `aiorbd.Error`. Afterwards the image
must accept a write, a flush, a read and a close.

    python tests/pairs/run.py CONF                        every pair
    python tests/pairs/run.py CONF set_snapshot           the pairs of one call
    python tests/pairs/run.py CONF set_snapshot write     one pair, or three and more calls together
"""

import argparse
import contextlib
import faulthandler
import itertools
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator

import anyio
from pair_calls import CALLS, ELSEWHERE, OBJECT, SIZE, Subject

import aiorbd

#: Seconds for everything to end after the two tasks should have ended.
PATIENCE = 20.0


async def repeat(name: str, subject: Subject, end: float) -> int:
    """Repeat one call until `end`, at least once."""
    call, done = (CALLS | ELSEWHERE)[name], 0
    while not done or time.monotonic() < end:
        with contextlib.suppress(aiorbd.Error):
            await call(subject)
        done += 1
        await anyio.lowlevel.checkpoint()
    return done


async def check(image: aiorbd.Image) -> None:
    """Write, flush and read the image."""
    data = os.urandom(4096)
    await image.write(data, 12 * OBJECT)
    await image.flush()
    assert await image.read(12 * OBJECT, 4096) == data


@contextlib.asynccontextmanager
async def opened_elsewhere(conffile: str, name: str, calls: tuple[str, ...]) -> AsyncIterator[aiorbd.Image | None]:
    """Open the image on another connection if one of the calls needs it."""
    if not set(ELSEWHERE).intersection(calls):
        yield None
        return
    async with aiorbd.connect(conffile, timeout=20) as cluster, cluster.open_ioctx("rbd") as ioctx:
        async with ioctx.open_image(name) as image:
            yield image


async def pair(conffile: str, calls: tuple[str, ...], seconds: float) -> None:
    """Run the calls concurrently on a new image."""
    name = f"pair-{os.getpid()}-{time.monotonic_ns()}"
    with anyio.fail_after(seconds + PATIENCE):
        async with aiorbd.connect(conffile, timeout=20) as cluster, cluster.open_ioctx("rbd") as ioctx:
            await ioctx.create_image(name, SIZE, order=20)
            await ioctx.create_image(f"{name}-target", SIZE + OBJECT, order=20)
            async with ioctx.open_image(name) as image, ioctx.open_image(f"{name}-target") as target:
                for number in range(0, SIZE // OBJECT, 2):
                    await image.write(b"b" * 8192, number * OBJECT)
                base = await image.create_snapshot("base")
                async with opened_elsewhere(conffile, name, calls) as elsewhere:
                    subject = Subject(ioctx, image, base, target, elsewhere)
                    end = time.monotonic() + seconds
                    async with anyio.create_task_group() as tasks:
                        for call in calls:
                            tasks.start_soon(repeat, call, subject, end)
                if image.snapshot is not None:
                    await image.set_snapshot(None)
                if "managed_lock" in calls:  # the lock is no longer acquired automatically, and leaving flushes
                    with contextlib.suppress(aiorbd.Error):
                        await image.exclusive_lock.acquire()
                else:
                    await check(image)
            async with ioctx.open_image(name) as image:
                await check(image)
                await remove_snapshots(image)
            await ioctx.remove_image(name)
            await ioctx.remove_image(f"{name}-target")


async def remove_snapshots(image: aiorbd.Image) -> None:
    """Remove all snapshots, including those that failed calls left."""
    async for snapshot in image.snapshots():
        with contextlib.suppress(aiorbd.Error):
            await snapshot.unprotect()
        await snapshot.remove()


def child(conffile: str, calls: tuple[str, ...], seconds: float, output: int) -> None:
    """In the new process, run the pair, and exit with 0 if it passes."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    faulthandler.enable(all_threads=False)
    faulthandler.dump_traceback_later(seconds + PATIENCE + 15, exit=True)
    try:
        anyio.run(pair, conffile, calls, seconds)
    except TimeoutError:
        print("HUNG: a call did not return")
        traceback.print_exc()
        sys.stdout.flush()
        os._exit(3)
    except BaseException:  # noqa: BLE001 - the exit code informs the parent
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(4)
    os._exit(0)


def describe(status: int) -> str:
    """Return how a process ended, in words."""
    code = os.waitstatus_to_exitcode(status)
    return signal.Signals(-code).name if code < 0 else {3: "a hang", 4: "an exception"}.get(code, f"exit {code}")


def run(conffile: str, pairs: list[tuple[str, ...]], seconds: float, jobs: int, verbose: bool = False) -> list[str]:
    """Run the pairs, `jobs` at a time. Return a text for each failure."""
    running: dict[int, tuple[tuple[str, ...], int]] = {}
    failures: list[str] = []
    waiting = list(reversed(pairs))
    while waiting or running:
        while waiting and len(running) < jobs:
            calls = waiting.pop()
            output = os.memfd_create("output")
            pid = os.fork()
            if not pid:
                child(conffile, calls, seconds, output)
            running[pid] = calls, output
        pid, status = os.wait()
        calls, output = running.pop(pid)
        if status:
            said = os.pread(output, 1 << 16, 0).decode(errors="replace")
            failures.append(f"{' + '.join(calls)}: {describe(status)}\n{said if verbose else said[-300:]}")
            print(f"{' + '.join(calls)}: {describe(status)}", flush=True)
        os.close(output)
    return failures


def main() -> int:
    """Run the pairs of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("conffile")
    parser.add_argument("calls", nargs="*")
    parser.add_argument("--after", action="store_true", help="of one call, only the pairs with itself and later calls")
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("-v", "--verbose", action="store_true")
    options = parser.parse_args()
    if len(options.calls) >= 2:
        pairs = [tuple(options.calls)]
    elif options.calls:
        others = list(CALLS)[list(CALLS).index(options.calls[0]) if options.after else 0 :]
        pairs = [(options.calls[0], other) for other in others]
    else:
        pairs = list(itertools.combinations_with_replacement(CALLS, 2))
    # By another process: this one must not connect before it forks.
    enable = ["rbd", "mirror", "pool", "enable", "rbd", "image"]
    subprocess.run(enable, env=os.environ | {"CEPH_CONF": options.conffile}, check=True)
    begin = time.monotonic()
    failures = run(options.conffile, pairs * options.repeat, options.seconds, options.jobs, options.verbose)
    if options.verbose:
        print(*failures, sep="\n")
    print(f"{len(failures)} of {len(pairs) * options.repeat} runs failed in {time.monotonic() - begin:.0f} s")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
