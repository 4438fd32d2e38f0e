"""Print the public names of Ceph's module `rbd`, without helpers and imported names. Runs under the system's Python."""

import json

import rbd  # type: ignore[import-not-found]

helpers = {
    "chain",
    "datetime",
    "errno",
    "json",
    "sys",
    "time",
    "timezone",
    "Iterable",
    "cstr",
    "decode_cstr",
    "requires_not_closed",
}
names = {name for name in dir(rbd) if not name.startswith("_")} - helpers
for cls in ("RBD", "Image", "Group"):
    names |= {f"{cls}.{name}" for name in dir(getattr(rbd, cls)) if not name.startswith("_")}
print(json.dumps(sorted(names)))
