"""Ask the cluster whether this client is blocklisted, for a task that only waits for updates."""

import errno
import logging
from typing import TYPE_CHECKING

from aiorbd._core.operation import Probe
from aiorbd._native.loader import ffi, rbd

if TYPE_CHECKING:
    from aiorbd._image.handle import ImageHandle

logger = logging.getLogger("aiorbd")


class Prober:
    """Sends questions about one open image, one at a time. Use a prober on the event loop only.

    A question to a dead cluster blocks a worker thread, so there is never more than one question.
    """

    def __init__(self, handle: "ImageHandle") -> None:
        self._handle = handle
        self._asking = False

    def ask(self) -> None:
        """Send a question to the cluster. The answer tells the connection if this client is blocklisted.

        Before 20.2, librbd does not tell a watch about a blocklisting.
        """
        handle = self._handle
        if self._asking or not handle.usable or handle.bridge.dead or handle.gate is None:
            return
        leave = handle.gate.enter_now()
        if leave is None:  # another call already asks the cluster
            return

        def asked(code: int) -> None:
            self._asking = False
            leave()
            if code == -errno.ESHUTDOWN:
                handle.bridge.lose()

        try:
            handle.bridge.start(Probe(handle, "rbd_metadata_get", self._ask, asked))
            self._asking = True
        except RuntimeError:  # no thread can be started; the next call tries again
            leave()
            logger.warning(
                "cannot start a thread that checks whether the cluster has blocklisted the client of %s", handle.target
            )

    def _ask(self) -> int:
        """Read a metadata key that no image has. Runs on a worker thread."""
        size = ffi.new("size_t *", 0)
        return int(rbd().rbd_metadata_get(self._handle.pointer, b"aiorbd_probe", ffi.NULL, size))
