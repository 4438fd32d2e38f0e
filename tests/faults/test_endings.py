"""Programs end on a dead cluster, each in its own process. The tests count seconds, descriptors and threads."""

import json
import signal
import time
from typing import Any

import pytest
from fix_lag import patience
from fix_programs import finish

from aiorbd.testing import DevCluster


def go_on(process: Any, osd: DevCluster) -> None:
    """Pause the OSD, and let the program continue."""
    osd.pause()
    process.stdin.write("\n")
    process.stdin.flush()


def last_line(output: Any) -> Any:
    return json.loads(output.strip().splitlines()[-1])


@pytest.mark.parametrize("what", ["image", "cluster"])
def test_close_with_a_timeout(start: Any, osd: DevCluster, what: str) -> None:
    """`close` returns in time. Once the cluster works again, the rest is closed and nothing is left."""
    process = start("endings", "close_with_a_timeout", what)
    go_on(process, osd)
    assert process.stdout.readline() == "waiting\n", process.communicate()[1]
    osd.resume()
    code, output, errors = finish(process, 20)
    assert code == 0, errors
    seconds, clean, now, before = last_line(output)
    assert 0.5 <= seconds < patience(0.8)
    assert clean, (now, before)


def test_hundred_connections_leave_no_descriptor_and_no_thread(start: Any) -> None:
    process = start("endings", "hundred_connections")
    code, output, errors = finish(process, 60)
    assert code == 0, errors
    seconds, clean, now, before = last_line(output)
    assert clean, (now, before)
    assert seconds < patience(30)


def test_sigterm_that_is_handled(start: Any, osd: DevCluster) -> None:
    """Act as a service: the signal cancels its work, and everything is closed within its timeout."""
    process = start("endings", "sigterm_that_is_handled")
    go_on(process, osd)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    code, output, errors = finish(process, 2.5)
    assert code == 0, errors
    assert output == "stopping\nstopped\n"
    assert "64 operations in flight" in errors  # in the log


def test_forgotten_objects_block_nobody(start: Any, osd: DevCluster) -> None:
    """Garbage collection of open images on a dead cluster warns for each, without network access or a wait."""
    process = start("endings", "forgotten_objects")
    go_on(process, osd)
    code, output, errors = finish(process, 3)
    assert code == 0, errors
    seconds, warned = last_line(output)
    assert seconds < patience(1)  # a wait for the network would never end
    assert warned >= 21


def test_fork_in_a_connected_process(start: Any, osd: DevCluster) -> None:
    """The child is refused at once and ends at once, also on a dead cluster. The parent continues."""
    process = start("endings", "fork_in_a_connected_process")
    go_on(process, osd)
    assert process.stdout.readline() == "child 0\n", process.communicate()[1]
    osd.resume()
    code, output, errors = finish(process, 20)
    assert code == 0, errors
    assert output == "parent fine\n"
