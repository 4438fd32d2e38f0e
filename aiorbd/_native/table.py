"""The busy half of the operation table, in C: a second module in the bridge's compiled file."""

from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

from aiorbd._native import _compiled


def _load() -> Any:
    loader = ExtensionFileLoader("aiorbd._native._table", _compiled.__file__)
    spec = spec_from_file_location("aiorbd._native._table", _compiled.__file__, loader=loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


_module = _load()
Entry, Owner, ImageOwner, Table = _module.Entry, _module.Owner, _module.ImageOwner, _module.Table
