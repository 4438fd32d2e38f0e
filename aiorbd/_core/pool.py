"""A pool as the calls of an image know it: where copies and clones go."""

from aiorbd._core.pool_handle import PoolHandle
from aiorbd._core.resource import Resource


class Pool(Resource[PoolHandle]):
    """An open pool, perhaps a namespace of it. Users have it as an `IoCtx`."""
