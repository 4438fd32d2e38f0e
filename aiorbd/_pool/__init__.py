"""A pool, opened as an I/O context.

`ioctx` has the public class. `trash`, `namespaces` and `objects` hold groups of an I/O context's calls. `object_watch`
delivers the notifications about an object. `removal` removes images. `transfer` imports, exports and copies whole
images.
"""
