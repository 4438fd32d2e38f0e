"""Random reads with aiorbd: `depth` tasks, each awaiting one read after the other."""

import argparse
import asyncio
import json
import random
import time

import anyio

import aiorbd


async def measure(options: argparse.Namespace) -> dict[str, float]:
    """Read for a while; return how many operations in how many seconds."""
    conf = {"librados_thread_count": str(options.threads)} if options.threads else {}
    async with aiorbd.connect(options.conffile, conf=conf) as cluster, cluster.open_ioctx("rbd") as ioctx:
        async with ioctx.open_image(options.image) as image:
            await image.flush()
            blocks = await image.size() // options.block
            done = 0
            start = time.perf_counter()
            end = start + options.seconds

            async def reader(seed: int) -> None:
                nonlocal done
                pick = random.Random(seed).randrange
                block = options.block
                while time.perf_counter() < end:
                    await image.read(pick(blocks) * block, block)
                    done += 1

            if options.backend == "trio":
                async with anyio.create_task_group() as tasks:
                    for seed in range(options.depth):
                        tasks.start_soon(reader, seed)
            else:
                async with asyncio.TaskGroup() as group:
                    for seed in range(options.depth):
                        group.create_task(reader(seed))
            return {"operations": done, "seconds": time.perf_counter() - start}


def main() -> None:
    """Print one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("conffile")
    parser.add_argument("image")
    parser.add_argument("--backend", choices=["asyncio", "uvloop", "trio"], default="asyncio")
    parser.add_argument("--depth", type=int, default=64)
    parser.add_argument("--block", type=int, default=4096)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--threads", type=int, help="librados_thread_count")
    options = parser.parse_args()
    if options.backend == "trio":
        result = anyio.run(measure, options, backend="trio")
    else:
        uvloop = options.backend == "uvloop"
        result = anyio.run(measure, options, backend="asyncio", backend_options={"use_uvloop": uvloop})
    print(json.dumps(result))


if __name__ == "__main__":
    main()
