"""Connect, and print the error about the library."""

import anyio

import aiorbd


async def main() -> None:
    try:
        await aiorbd.connect(None)
    except (aiorbd.LibraryNotFoundError, aiorbd.LibraryTooOldError) as error:
        print(type(error).__name__, isinstance(error, ImportError), error)


anyio.run(main)
