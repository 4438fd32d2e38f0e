"""Move a whole image with aiorbd and report the seconds."""

import argparse
import json
import time

import anyio
from client_common import EQUAL

import aiorbd


async def main(options: argparse.Namespace) -> None:
    """Export or import an image, and print one line of JSON."""
    async with aiorbd.connect(options.conffile, conf=EQUAL) as cluster, cluster.open_ioctx("rbd") as ioctx:
        start = time.perf_counter()
        if options.direction == "export":
            async with ioctx.open_image(options.image, read_only=True) as image:
                moved = await aiorbd.export_image(image, options.path)
        else:
            moved = await aiorbd.import_image(ioctx, options.path, options.image)
        print(json.dumps({"seconds": time.perf_counter() - start, "bytes": moved}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("conffile")
    parser.add_argument("direction", choices=["export", "import"])
    parser.add_argument("image")
    parser.add_argument("path")
    anyio.run(main, parser.parse_args())
