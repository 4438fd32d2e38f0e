"""The native side of an I/O context."""

from typing import TYPE_CHECKING, Any

from aiorbd._handle import Handle
from aiorbd._marshal import encode_name, encode_new_name
from aiorbd._native import rados
from aiorbd.errors import Target, UsageError

if TYPE_CHECKING:
    from aiorbd._lifecycle import Lifecycle


class IoCtxHandle(Handle):
    """A ``rados_ioctx_t``."""

    #: ``pool`` or ``pool/namespace``, for the names of images in errors.
    name: str = ""

    def __init__(self, cluster: Handle, target: Target) -> None:
        super().__init__(cluster.bridge, cluster, target)
        self.cluster: Lifecycle = cluster

    def image(self, name: str) -> Target:
        """Name an image in errors."""
        return Target("image", f"image {self.name + '/' + name!r}")

    def shut(self) -> None:
        """Destroy it: librados only drops a reference."""
        if self.pointer is not None:
            rados().rados_ioctx_destroy(self.pointer)
        self.closed()


async def clone_snapshot(
    parent: IoCtxHandle, name: str, snapshot: str, child: IoCtxHandle, child_name: str, options: Any
) -> None:
    """Clone an image's snapshot into the same or another pool or namespace."""
    parent.check()
    child.check()
    if str(parent.cluster.target) != str(child.cluster.target):
        raise UsageError(f"{child.target} belongs to another cluster than {parent.target}: only a copy goes there")
    encoded = encode_name(name, "image name", "rbd_clone3")
    encoded_snapshot = encode_name(snapshot, "snapshot name", "rbd_clone3")
    encoded_child = encode_new_name(child_name, "image name", "rbd_clone3")
    on = Target("image", f"{child.image(child_name)}, clone of {name + '@' + snapshot!r}")
    await parent.call(
        "rbd_clone3", encoded, encoded_snapshot, child.pointer, encoded_child, options, on=on, also=[child]
    )
