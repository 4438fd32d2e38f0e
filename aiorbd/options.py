"""Options for making an image, as C wants them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aiorbd._marshal import encode_name
from aiorbd._native import ffi, rbd
from aiorbd.enums import ImageOption
from aiorbd.errors import error_for


@contextmanager
def image_options(values: Mapping[ImageOption, int | str | None]) -> Iterator[Any]:
    """Give an ``rbd_image_options_t`` with what is not None set.

    Implements: rbd_image_options_create, rbd_image_options_set_string,
    rbd_image_options_set_uint64, rbd_image_options_destroy
    """
    pointer = ffi.new("rbd_image_options_t *")
    rbd().rbd_image_options_create(pointer)
    try:
        for option, value in values.items():
            if value is None:
                continue
            target = f"image option {option.name.lower()}"
            if isinstance(value, str):
                operation = "rbd_image_options_set_string"
                code = rbd().rbd_image_options_set_string(pointer[0], option, encode_name(value, target, operation))
            else:
                operation = "rbd_image_options_set_uint64"
                code = rbd().rbd_image_options_set_uint64(pointer[0], option, value)
            if code < 0:
                raise error_for(code, operation, target)
        yield pointer[0]
    finally:
        rbd().rbd_image_options_destroy(pointer[0])
