"""Two development clusters that mirror each other's images."""

import contextlib
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from anyio import to_thread

from aiorbd.testing.cluster import DevCluster
from aiorbd.testing.running import Running


class MirrorPair(Running):
    """Two clusters, each with a ``rbd-mirror`` daemon. Each has the other as its peer.

    Use the pair as an async context manager, or without an event loop as a plain one::

        async with MirrorPair() as pair:
            async with aiorbd.connect(pair.a.conffile) as here, aiorbd.connect(pair.b.conffile) as there:
                ...

    The pool of the clusters mirrors the images for which `ImageMirror.enable` is called. The end of the block ends both
    clusters.

    Attributes:
        a: The cluster with the site name ``site-a``.
        b: The cluster with the site name ``site-b``.
    """

    def __init__(self, **options: Any) -> None:
        """Take the fields of `ClusterConfig` as keyword arguments, for both clusters."""
        options = {"rbd_mirrors": 1, "cephx": True} | options
        self.a: DevCluster = DevCluster(**options)
        self.b: DevCluster = DevCluster(**options)

    def start_blocking(self) -> None:
        """Start both clusters without an event loop, and make them peers."""
        try:
            with ThreadPoolExecutor(2) as threads:
                for started in [threads.submit(site.start_blocking) for site in (self.a, self.b)]:
                    started.result()
            if pool := self.a.config.pool:
                self.peer_blocking(pool)
        except BaseException:
            self.stop_blocking()
            raise

    def stop_blocking(self) -> None:
        """Stop both clusters without an event loop. Stopping twice is allowed."""
        try:
            self.a.stop_blocking()
        finally:
            self.b.stop_blocking()

    def peer_blocking(self, pool: str = "rbd", mode: Literal["image", "pool"] = "image") -> None:
        """Enable mirroring of a pool at both sites, and make the sites peers, without an event loop."""
        for site in (self.a, self.b):
            site.run_blocking("rbd", "mirror", "pool", "enable", pool, mode)
        bootstrap = ("rbd", "mirror", "pool", "peer", "bootstrap")
        token = self.a.run_blocking(*bootstrap, "create", "--site-name", "site-a", pool)
        with tempfile.NamedTemporaryFile() as file:  # only this user can read the file
            file.write(token)
            file.flush()
            # One token is enough: its import also gives the other site a user and a key of this site.
            self.b.run_blocking(*bootstrap, "import", "--site-name", "site-b", pool, file.name)

    async def peer(self, pool: str = "rbd", mode: Literal["image", "pool"] = "image") -> None:
        """Enable mirroring of a pool at both sites, and make the sites peers.

        The start of the pair does this for the pool of its clusters. Call `peer` for more pools, or for another mode.

        Args:
            pool: A pool that exists at both sites.
            mode: ``image`` mirrors the images for which mirroring is enabled, ``pool`` all images with a journal.
        """
        await to_thread.run_sync(self.peer_blocking, pool, mode)

    def wait_until_equal_blocking(self, image: str, pool: str = "rbd", *, seconds: float = 60) -> None:
        """Wait until both sites have an image with the same content, without an event loop.

        Raises:
            RuntimeError: The contents differ after `seconds`, or a site has no such image.
        """
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(RuntimeError):
                if self._export(self.a, pool, image) == self._export(self.b, pool, image):
                    return
            if time.monotonic() > deadline:
                raise RuntimeError(f"the sites have different images {pool}/{image} after {seconds:.0f} s")
            time.sleep(0.3)

    async def wait_until_equal(self, image: str, pool: str = "rbd", *, seconds: float = 60) -> None:
        """Wait until both sites have an image with the same content.

        Raises:
            RuntimeError: The contents differ after `seconds`, or a site has no such image.
        """
        await to_thread.run_sync(lambda: self.wait_until_equal_blocking(image, pool, seconds=seconds))

    @staticmethod
    def _export(site: DevCluster, pool: str, image: str) -> bytes:
        return site.run_blocking("rbd", "export", "--no-progress", f"{pool}/{image}", "-")
