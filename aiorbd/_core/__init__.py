"""The path from a librbd completion to the task that awaits the operation.

`bridge` owns the operation table of one connection, and `operation` describes one entry. `loops` is the interface of
the event-loop adapters (`loop_asyncio`, `loop_trio`), and `current` chooses an adapter. `async_calls` submits slow
asynchronous calls on worker threads, and `workers` runs blocking C functions. `lifecycle` opens and closes native
objects, within the time limits of `endings`. `handle` makes the calls of C that block, `long_call` those that report
progress, and `pool_handle` those for a pool. `pool` is the public type of a pool. `stream`, `mailbox`, `listing` and
`progress` deliver results that arrive in parts. `observers` counts and reports calls. `gathering` makes calls at the
same time. `metadata` stores keys and values, and `config` the options of librbd. `resource` is the base of all public
objects.
"""
