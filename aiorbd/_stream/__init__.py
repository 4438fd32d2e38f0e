"""Files, byte streams, and Ceph's formats for diffs and images. Nothing here needs librbd or a cluster.

`local_file` calls functions with a file on worker threads, and `zeroes` has zero bytes. `source` reads bytes from a
file or a stream, and `target` writes them. `records` has the parts of a diff. `reader` reads them, `encoding` writes
them, and `merge` makes one diff of two.
"""
