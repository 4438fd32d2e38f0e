"""The pool class that the calls of an image use as the destination of copies and clones."""

from aiorbd._core.pool_handle import PoolHandle
from aiorbd._core.resource import Resource


class Pool(Resource[PoolHandle]):
    """An open pool, perhaps one namespace of the pool. Users get a pool as an `IoCtx`."""
