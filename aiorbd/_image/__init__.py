"""An open image.

`image` has the public class. `compare` is a part of `io`, and `snapshot_owners` of `snapshots`. `io`, `streams`,
`image_snapshots`, `diff`, `copies`, `info` and `updates` are its topics, and `advisory_locks`, `exclusive_lock`,
`encryption`, `mirror`, `file` and `snapshots` are the objects that it hands out. `mirror_values` converts the structs
of mirroring, `aio_calls` makes rare asynchronous calls, `quiesce` answers clients that are about to take a snapshot,
and `usage` counts the bytes that the image uses. `diff_walk` is librbd's walk behind a diff. `handle` is the native
side: `opening` opens it, `size` knows its size, `requests` submits reads and writes, `durability` flushes,
`maintenance` runs the calls that may shrink it, and `gate` keeps apart the calls that librbd does not survive together.
`request_queue` submits the reads and writes of `read_stream` and `writer`. `large_write` lets a worker thread copy
large data, `strays` knows the cancelled writes in flight, and `probe` asks the cluster for tasks that wait. `new_image`
creates and clones images. `presence`, `snapshot_ids` and `read_cache` check what librbd does not check itself.
"""
