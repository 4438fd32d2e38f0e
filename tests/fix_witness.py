"""Ceph's ``rbd`` tool as an independent witness of an image's content."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from aiorbd.testing import DevCluster


class Witness:
    """Runs ``rbd`` in its own process."""

    def __init__(self, cluster: DevCluster) -> None:
        self._cluster = cluster

    async def export(self, spec: str) -> bytes:
        """Return all bytes of an image or of a snapshot."""
        return await self._cluster.run("rbd", "export", "--no-progress", spec, "-")

    async def import_(self, data: bytes, name: str, *options: str) -> None:
        """Make an image of the given bytes."""
        await self._cluster.run("rbd", "import", "--no-progress", *options, "-", name, stdin=data)

    async def info(self, spec: str) -> dict[str, Any]:
        """Return the output of ``rbd info``."""
        return dict(json.loads(await self._cluster.run("rbd", "info", spec, "--format", "json")))

    async def names(self, pool: str = "rbd") -> list[str]:
        """Return the names of all images of a pool."""
        return list(json.loads(await self._cluster.run("rbd", "ls", pool, "--format", "json")))

    async def rbd(self, *arguments: str) -> bytes:
        """Run any other ``rbd`` command."""
        return await self._cluster.run("rbd", *arguments)


@pytest.fixture
def witness(aiorbd_cluster: DevCluster) -> Witness:
    """Return Ceph's ``rbd`` tool."""
    return Witness(aiorbd_cluster)


@pytest.fixture
def rbd(aiorbd_cluster: DevCluster) -> Callable[..., bytes]:
    """Return a function that runs the ``rbd`` tool without an event loop."""

    def call(*arguments: str, stdin: bytes | None = None) -> bytes:
        return aiorbd_cluster.run_blocking("rbd", *arguments, stdin=stdin)

    return call
