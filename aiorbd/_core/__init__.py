"""The way from a completion of librbd to the task that awaits it.

`bridge` owns the operation table of one connection, and `operation` describes one entry. `loops` is the interface of
the event-loop adapters (`loop_asyncio`, `loop_trio`), and `current` chooses one. `workers` runs the C functions that
only block. `lifecycle` opens and closes native objects, within the time limits of `endings`. `handle` makes every
call of C, and `pool_handle` does so for a pool. `stream`, `mailbox`, `listing` and `progress` deliver results that
arrive bit by bit. `observers` counts and reports calls. `resource` is the base of all public objects.
"""
