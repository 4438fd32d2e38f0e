"""Open a pool, or a namespace of a pool."""

from aiorbd._core.handle import Handle
from aiorbd._core.pool_handle import PoolHandle
from aiorbd._native.loader import ffi, rados
from aiorbd._native.marshal import encode_name, grow_string, number
from aiorbd.errors import Target


async def open_pool(cluster: Handle, pool: str | int, namespace: str, *, full_try: bool) -> tuple[PoolHandle, str]:
    """Open a pool by name or id, or a namespace of the pool. Return its handle and the name of the pool."""
    encoded = encode_name(namespace, "namespace", "rados_ioctx_set_namespace") if namespace else b""
    if isinstance(pool, int):
        pool = number(pool, "pool id", "rados_ioctx_create2", f"pool {pool}")
    name = encode_name(pool, "pool name", "rados_ioctx_create") if isinstance(pool, str) else b""
    handle = PoolHandle(cluster, Target("pool", f"pool {pool!r}"), namespace)
    handle.full_try = full_try
    if full_try:
        handle.plain = PoolHandle(handle, handle.target, namespace)
        handle.plain.cluster = cluster

    def call() -> str:
        pointer = ffi.new("rados_ioctx_t *")
        if isinstance(pool, str):
            handle.raise_for(rados().rados_ioctx_create(cluster.pointer, name, pointer), "rados_ioctx_create")
        else:
            handle.raise_for(rados().rados_ioctx_create2(cluster.pointer, pool, pointer), "rados_ioctx_create2")
        handle.take(pointer[0])
        handle.pool_id = rados().rados_ioctx_get_id(handle.pointer)
        handle.raise_for(rados().rados_ioctx_create2(cluster.pointer, handle.pool_id, pointer), "rados_ioctx_create2")
        handle.idle = pointer[0]
        rados().rados_ioctx_set_namespace(handle.pointer, encoded)
        if full_try:
            handle.raise_for(
                rados().rados_ioctx_create2(cluster.pointer, handle.pool_id, pointer),
                "rados_ioctx_create2",
            )
            handle.plain.take(pointer[0])
            rados().rados_ioctx_set_namespace(handle.plain.pointer, encoded)
            rados().rados_set_pool_full_try(handle.pointer)
        return grow_string(
            lambda buffer, size: rados().rados_ioctx_get_pool_name(handle.pointer, buffer, size),
            lambda code: handle.raise_for(code, "rados_ioctx_get_pool_name"),
        )

    try:
        pool_name = await handle.run("rados_ioctx_create", call, also=[handle.plain])
    except BaseException:
        handle.begin_close()
        raise
    handle.group = handle.plain.group = handle.plain.pool_id = handle.pool_id
    handle.pool_name = handle.plain.pool_name = pool_name
    handle.name = f"{pool_name}/{namespace}" if namespace else pool_name
    handle.target = Target("pool", f"pool {pool_name!r}" + (f" namespace {namespace!r}" if namespace else ""))
    return handle, pool_name
