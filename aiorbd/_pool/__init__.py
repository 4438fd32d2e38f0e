"""A pool, opened as an I/O context.

`ioctx` has the public class, and `opening` opens the pool. `trash`, `namespaces`, `groups`, `migration`, `mirror`,
`mirror_peers` and `objects` hold parts of an I/O context's calls. `group` is one consistency group, and `group_members`
holds up the calls on its open members. `object_watch` delivers the notifications about an object. `usage` counts the
bytes that images use, and `applications` lists the pool's applications. `removal` removes images. `transfer` imports,
exports and copies whole images. `stream_transfer` does so through streams, and `restore` restores data onto an existing
image. `diff_streams` exports and imports diffs, and images with their snapshots.
"""
