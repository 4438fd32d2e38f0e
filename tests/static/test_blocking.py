"""The check of each test that no C function blocks the event loop."""

import fix_blocking
import pytest
from anyio import to_thread

from aiorbd._native import loader


@pytest.mark.anyio
async def test_a_call_that_may_block_is_noted_on_the_loop_only() -> None:
    function = fix_blocking.Watched("rbd_that_blocks", lambda number: number + 1)
    assert await to_thread.run_sync(function, 1) == 2
    assert fix_blocking.noted() == set()
    assert function(1) == 2
    assert fix_blocking.noted() == {"rbd_that_blocks"}


def test_functions_that_may_block_are_watched() -> None:
    assert isinstance(loader.rbd().rbd_resize2, fix_blocking.Watched)
    assert isinstance(loader.rados().rados_connect, fix_blocking.Watched)
    assert not isinstance(loader.rbd().rbd_version, fix_blocking.Watched)
