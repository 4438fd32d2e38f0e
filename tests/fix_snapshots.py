"""Give an image very many snapshots in little time."""

import aiorbd


async def add_snapshots(ioctx: aiorbd.IoCtx, name: str, count: int) -> None:
    """Create one real snapshot, and write the records of the others into the image's header in Ceph's format.

    Real ones would be slow: each takes longer than the one before.
    """
    async with ioctx.open_image(name) as image:
        first = await image.create_snapshot("snapshot-000000")
        header = f"rbd_header.{image.id}"
    ((key, record),) = [entry async for entry in ioctx.objects.omap_items(header, prefix="snapshot_")]
    assert (key, record[6:14]) == (f"snapshot_{first.id:016x}", first.id.to_bytes(8, "little"))
    for start in range(1, count, 500):
        numbers = range(start, min(start + 500, count))
        ids = {number: first.id + number for number in numbers}
        await ioctx.objects.omap_set(
            header,
            {
                f"snapshot_{ids[number]:016x}": record[:6]
                + ids[number].to_bytes(8, "little")
                + record[14:].replace(b"snapshot-000000", b"snapshot-%06d" % number)
                for number in numbers
            },
        )
    await ioctx.objects.omap_set(header, {"snap_seq": (first.id + count - 1).to_bytes(8, "little")})
