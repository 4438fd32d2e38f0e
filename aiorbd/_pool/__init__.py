"""A pool, opened as an I/O context.

`ioctx` has the public class. `trash`, `namespaces` and `objects` are its topics, and `object_watch` delivers the
notifications of an object. `removal` removes images. `transfer` imports, exports and copies whole images.
"""
