"""Asking the cluster, for a task that only waits for updates, whether it still knows this client."""

import errno
import logging
from typing import TYPE_CHECKING

from aiorbd._core.operation import Probe
from aiorbd._native.loader import ffi, rbd

if TYPE_CHECKING:
    from aiorbd._image.handle import ImageHandle

logger = logging.getLogger("aiorbd")


class Prober:
    """Questions about one open image, one at a time: a thread that asks a dead cluster hangs. On the loop."""

    def __init__(self, handle: "ImageHandle") -> None:
        self._handle = handle
        self._asking = False

    def ask(self) -> None:
        """Begin to ask for something. The cluster answers a blocklisted client so that the connection notices.

        librbd tells a watch nothing of a blocklisting before 20.2.
        """
        handle = self._handle
        if self._asking or not handle.usable or handle.bridge.dead or handle.gate is None:
            return
        leave = handle.gate.enter_now()
        if leave is None:  # another call asks the cluster anyway
            return

        def asked(code: int) -> None:
            self._asking = False
            leave()
            if code == -errno.ESHUTDOWN:
                handle.bridge.lose()

        try:
            handle.bridge.start(Probe(handle, "rbd_metadata_get", self._ask, asked))
            self._asking = True
        except RuntimeError:  # no thread can be started: the next time
            leave()
            logger.warning("no thread can ask whether the cluster knows the client of %s", handle.target)

    def _ask(self) -> int:
        """On a worker thread: read a key that no image has."""
        size = ffi.new("size_t *", 0)
        return int(rbd().rbd_metadata_get(self._handle.pointer, b"aiorbd_probe", ffi.NULL, size))
