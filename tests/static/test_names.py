"""The rules for public names and signatures, which hold without an exception."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_structure import public_callables, public_classes

import aiorbd
from aiorbd._native.loader import SINCE

PACKAGE = Path(aiorbd.__file__).parent
CALLABLES = {name: function for name, function in public_callables() if not name.endswith("__del__")}


def parameters() -> Iterator[Any]:
    """Yield (name, parameter) of every public function and method."""
    for name, function in CALLABLES.items():
        if inspect.isfunction(function):
            yield from ((name, parameter) for parameter in inspect.signature(function).parameters.values())
    for cls in public_classes():
        yield from ((cls.__name__, parameter) for parameter in inspect.signature(cls.__init__).parameters.values())


def test_every_truth_value_is_given_by_keyword() -> None:
    found = 0
    for name, parameter in parameters():
        if parameter.annotation in (bool, "bool") or isinstance(parameter.default, bool):
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, f"{name}: {parameter}"
            found += 1
    assert found > 10


def test_only_what_looks_something_up_is_named_get() -> None:
    lookups = {
        "Config.get",
        "Group.get_snapshot",
        "Groups.get",
        "Image.get_snapshot",
        "ImageOptions.get",
        "Metadata.get",
        "Trash.get",
    }
    assert {name for name in CALLABLES if name.partition(".")[2].startswith("get")} <= lookups


def test_what_may_destroy_data_asks_for_it_by_keyword() -> None:
    for function, keyword in ((aiorbd.Image.resize, "allow_shrink"), (aiorbd.Trash.remove, "force")):
        assert inspect.signature(function).parameters[keyword].default is False


def test_what_closes_has_close_and_aclose_and_works_with_async_with() -> None:
    closing = [cls for cls in public_classes() if hasattr(cls, "aclose")]
    assert not [cls for cls in public_classes() if hasattr(cls, "__aexit__") and cls not in [*closing, aiorbd.Opening]]
    assert len(closing) >= 11
    for cls in closing:
        assert inspect.iscoroutinefunction(cls.close), cls
        assert inspect.iscoroutinefunction(cls.aclose), cls
        assert hasattr(cls, "__aexit__"), cls
    others = [cls for cls in public_classes() if hasattr(cls, "close") and cls not in closing]
    assert others == [aiorbd.BlockingImageFile]  # of the `io` module's kind


def test_a_timeout_of_none_is_for_ever_and_each_default_shows() -> None:
    for name, function in CALLABLES.items():
        for parameter in inspect.signature(function).parameters.values() if inspect.isfunction(function) else ():
            if parameter.name == "timeout":
                assert parameter.default is not inspect.Parameter.empty, name
    for cls in (aiorbd.Cluster, aiorbd.IoCtx, aiorbd.Image, aiorbd.ObjectWatch, aiorbd.ClusterLog):
        default = inspect.signature(cls.close).parameters["timeout"].default
        assert default is aiorbd.Default.CLOSE_TIMEOUT
        assert repr(default) == "<the connection's close_timeout>"


def test_no_default_is_a_number_where_an_enum_has_a_name_for_it() -> None:
    for name, parameter in parameters():
        if "Flag" in str(parameter.annotation) and parameter.default is not inspect.Parameter.empty:
            assert type(parameter.default).__module__ == "aiorbd", f"{name}: {parameter}"


@pytest.mark.parametrize("cls", [*public_classes()], ids=lambda cls: cls.__name__)
def test_every_class_has_a_repr_of_its_own(cls: Any) -> None:
    if cls is not aiorbd.BlockingImageFile:  # the `io` module's
        assert "object" not in cls.__repr__.__qualname__, cls


def test_errors_are_named_by_one_rule() -> None:
    """Errors of Ceph are named after the condition. All others end in Error. The names of Python's `rbd` stay."""
    rbd = {"RbdError", "PermissionError", "InterruptedOrTimeoutError"}
    for name in aiorbd.__all__:
        cls = getattr(aiorbd, name)
        if isinstance(cls, type) and issubclass(cls, aiorbd.Error) and name not in rbd:
            assert name.endswith("Error") != issubclass(cls, aiorbd.RbdError), name


def test_each_errno_of_a_busy_thing_has_the_common_base() -> None:
    for name in ("ImageBusy", "SnapshotBusy", "NamespaceBusy", "LockBusy"):
        assert issubclass(getattr(aiorbd, name), aiorbd.ObjectBusy)


#: The position of the C function among the arguments.
OPERATION = {"error_for": 1, "invalid": 1, "number": 2, "seconds": 2, "encode_name": 2, "encode_new_name": 2}


def test_every_error_names_a_c_function_or_none() -> None:
    """`RbdError.operation` is the name of a C function, or empty."""
    seen = set()
    for path in PACKAGE.rglob("*.py"):
        if path.name == "_declared.py" or "testing" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", "")
            cls = getattr(aiorbd, name, None)
            ours = isinstance(cls, type) and issubclass(cls, aiorbd.RbdError)
            place = 2 if ours else OPERATION.get(name)
            if place is not None and len(node.args) > place and isinstance(node.args[place], ast.Constant):
                operation = node.args[place].value  # type: ignore[attr-defined]
                assert operation in SINCE or operation == "", f"{path.name}:{node.lineno}: {operation}"
                seen.add(operation)
    assert len(seen) > 40


def test_a_very_long_name_is_shortened_in_errors() -> None:
    error = aiorbd.ImageNotFound(2, None, "rbd_aio_open", f"image {'n' * 5000!r}")
    assert len(str(error)) < 600
    assert error.target.startswith("image 'nnn")
    assert error.target.endswith("nnn'")
    assert " [...] " in error.target
    assert len(str(aiorbd.InvalidArgument(22, "m" * 5000))) < 600
