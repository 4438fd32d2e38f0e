"""Ceph's own ``rbd`` tool as an independent witness of what is in an image."""

import json
from typing import Any

import pytest

from aiorbd.testing import DevCluster


class Witness:
    """Runs ``rbd`` in a process of its own."""

    def __init__(self, cluster: DevCluster) -> None:
        self._cluster = cluster

    async def export(self, spec: str) -> bytes:
        """All bytes of an image or of a snapshot."""
        return await self._cluster.run("rbd", "export", "--no-progress", spec, "-")

    async def import_(self, data: bytes, name: str, *options: str) -> None:
        """Make an image of bytes."""
        await self._cluster.run("rbd", "import", "--no-progress", *options, "-", name, stdin=data)

    async def info(self, spec: str) -> dict[str, Any]:
        """What ``rbd info`` knows."""
        return dict(json.loads(await self._cluster.run("rbd", "info", spec, "--format", "json")))

    async def names(self, pool: str = "rbd") -> list[str]:
        """Every image of a pool."""
        return list(json.loads(await self._cluster.run("rbd", "ls", pool, "--format", "json")))

    async def rbd(self, *arguments: str) -> bytes:
        """Any other command."""
        return await self._cluster.run("rbd", *arguments)


@pytest.fixture
def witness(aiorbd_cluster: DevCluster) -> Witness:
    """Ceph's ``rbd`` tool."""
    return Witness(aiorbd_cluster)
