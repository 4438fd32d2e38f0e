"""Options for creating, cloning and copying an image."""

import errno
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Final, TypedDict

from aiorbd._native.loader import ffi, rbd
from aiorbd._native.marshal import encode_name, grow_string, invalid, number
from aiorbd.enums import Feature, ImageOption, MirrorImageMode
from aiorbd.error_codes import error_for
from aiorbd.errors import ArgumentOutOfRange, Target

#: The options with string values. All other options have integer values.
STRINGS: Final = frozenset({ImageOption.JOURNAL_POOL, ImageOption.DATA_POOL})

#: The number of bits that librbd stores of an option's 64-bit value.
_BITS: Final = {
    ImageOption.ORDER: 8,
    ImageOption.STRIPE_UNIT: 32,
    ImageOption.STRIPE_COUNT: 32,
    ImageOption.JOURNAL_ORDER: 8,
    ImageOption.JOURNAL_SPLAY_WIDTH: 8,
    ImageOption.MIRROR_IMAGE_MODE: 31,
}

#: The options for an image format, 1 or 2. librbd takes any other value for 2.
_FORMATS: Final = {ImageOption.FORMAT, ImageOption.CLONE_FORMAT}

#: The orders that librbd supports: objects of 4 KiB to 32 MiB. 0 stands for the cluster's default.
_ORDERS: Final = range(12, 26)


class ImageKeywords(TypedDict, total=False):
    """The options as keyword arguments. For None, librbd or the source image decides.

    Attributes:
        order: The object size is ``1 << order`` bytes. The range is 12 to 25 (4 KiB to 32 MiB); usually 22. A clone or
            a copy keeps the stripe unit, so smaller objects also need a smaller `stripe_unit`.
        features: All features of the image.
        features_set: Features to add to the cluster's default features.
        features_clear: Features to leave out of the cluster's default features.
        stripe_unit: Bytes of a stripe unit. This option needs `stripe_count`.
        stripe_count: The number of objects that a stripe spans.
        data_pool: The pool for the data, if not the pool of the image.
        journal_order: Like `order`, for the objects of the journal.
        journal_splay_width: The number of active objects of the journal.
        journal_pool: The pool for the journal.
        mirror_image_mode: Enable mirroring of the new image in this mode.
        image_format: 2; 1 is obsolete.
        clone_format: With 1, the parent's snapshot must be protected. With 2, this snapshot may even go to the trash.
        flatten: For a deep copy: make the copy without a parent.
    """

    order: int | None
    features: Feature | int | None
    features_set: Feature | int | None
    features_clear: Feature | int | None
    stripe_unit: int | None
    stripe_count: int | None
    data_pool: str | None
    journal_order: int | None
    journal_splay_width: int | None
    journal_pool: str | None
    mirror_image_mode: MirrorImageMode | int | None
    image_format: int | None
    clone_format: int | None
    flatten: bool | None


_BY_KEYWORD: Final = {
    "image_format" if option is ImageOption.FORMAT else option.name.lower(): option for option in ImageOption
}


class ImageOptions(MutableMapping[ImageOption, int | str]):
    """A set of options in librbd: a mapping from `ImageOption` to int or str.

    ``option in options`` tells whether an option is set, ``del options[option]`` unsets an option, and `clear` unsets
    all options. Functions with options accept an `ImageOptions` object, the keywords of `ImageKeywords`, or both. A
    keyword takes precedence. A function uses the options as they are at the call, and later changes have no effect.

    Implements: rbd_image_options_create, rbd_image_options_destroy
    """

    def __init__(self, values: Mapping[ImageOption, int | str] | None = None) -> None:
        pointer = ffi.new("rbd_image_options_t *")
        rbd().rbd_image_options_create(pointer)
        #: The ``rbd_image_options_t``, for C.
        self._pointer: Any = ffi.gc(pointer[0], rbd().rbd_image_options_destroy)
        if values is not None and not isinstance(values, Mapping):
            raise TypeError(f"takes a mapping of options, not {type(values).__name__}")
        for option, value in (values or {}).items():
            self[option] = value

    def __setitem__(self, option: ImageOption, value: int | str) -> None:
        """Set an option.

        Raises:
            ArgumentOutOfRange: librbd cannot store the value.
            InvalidArgument: The value is negative or has more than 64 bits, or no option has that number.
            TypeError: The value has the wrong type for the option: int for str, or str for int.

        Implements: rbd_image_options_set_string, rbd_image_options_set_uint64
        """
        option = _known(option)
        target = Target("other", f"image option {option.name.lower()}")
        wanted = str if option in STRINGS else int
        if isinstance(value, str) != (wanted is str) or not hasattr(value, "__index__" if wanted is int else "encode"):
            raise TypeError(f"{target} must be {wanted.__name__}, not {type(value).__name__}")
        if isinstance(value, str):
            operation = "rbd_image_options_set_string"
            encoded = encode_name(value, str(target), operation)
            code = rbd().rbd_image_options_set_string(self._pointer, option, encoded)
        else:
            operation = "rbd_image_options_set_uint64"
            checked = number(value, "value", operation, target, bits=64)
            _check(option, checked, operation, target)
            code = rbd().rbd_image_options_set_uint64(self._pointer, option, checked)
        if code < 0:
            raise error_for(code, operation, target)

    def __getitem__(self, option: ImageOption) -> int | str:
        """Return the value of an option.

        Raises:
            KeyError: The option is not set.

        Implements: rbd_image_options_get_string, rbd_image_options_get_uint64
        """
        if option not in self:
            raise KeyError(option)
        target = Target("other", f"image option {ImageOption(option).name.lower()}")

        def check(code: int, operation: str) -> int:
            if code < 0:
                raise error_for(code, operation, target)
            return code

        if option in STRINGS:
            operation = "rbd_image_options_get_string"
            return grow_string(
                lambda buffer, size: rbd().rbd_image_options_get_string(self._pointer, option, buffer, size),
                lambda code: check(code, operation),
                4096,  # librbd does not return -ERANGE here
            )
        out = ffi.new("uint64_t *")
        operation = "rbd_image_options_get_uint64"
        check(rbd().rbd_image_options_get_uint64(self._pointer, option, out), operation)
        return int(out[0])

    def __delitem__(self, option: ImageOption) -> None:
        """Unset an option.

        Raises:
            KeyError: The option is not set.

        Implements: rbd_image_options_unset
        """
        if option not in self:
            raise KeyError(option)
        rbd().rbd_image_options_unset(self._pointer, option)

    def __contains__(self, option: object) -> bool:
        """Return whether an option is set.

        Implements: rbd_image_options_is_set
        """
        if not isinstance(option, int) or option not in _NUMBERS:
            return False
        out = ffi.new("bool *")
        return rbd().rbd_image_options_is_set(self._pointer, option, out) >= 0 and bool(out[0])

    def __iter__(self) -> Iterator[ImageOption]:
        return (option for option in ImageOption if option in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"ImageOptions({dict(self)!r})"

    def clear(self) -> None:
        """Unset all options.

        Implements: rbd_image_options_clear
        """
        rbd().rbd_image_options_clear(self._pointer)

    @property
    def is_empty(self) -> bool:
        """Whether no option is set.

        Implements: rbd_image_options_is_empty
        """
        return bool(rbd().rbd_image_options_is_empty(self._pointer))


_NUMBERS: Final = frozenset(ImageOption)


def _check(option: ImageOption, value: int, operation: str, target: Target) -> None:
    if option is ImageOption.ORDER and value and value not in _ORDERS:
        message = f"order {value} is not between {_ORDERS[0]} (objects of 4 KiB) and {_ORDERS[-1]} (32 MiB)"
        raise ArgumentOutOfRange(errno.EDOM, message, operation, str(target))
    if option in _FORMATS and value not in (1, 2):
        raise ArgumentOutOfRange(errno.EDOM, f"format {value} is neither 1 nor 2", operation, str(target))
    if value >= 1 << _BITS.get(option, 64):
        message = f"{value} is out of range: librbd keeps {_BITS[option]} bits"
        raise ArgumentOutOfRange(errno.EDOM, message, operation, str(target))


def _known(option: int) -> ImageOption:
    try:
        return ImageOption(option)
    except ValueError:
        raise invalid("no such image option", "rbd_image_options_set_uint64", f"image option {option!r}") from None


def merged(options: "ImageOptions | None", keywords: Mapping[str, Any], caller: str) -> ImageOptions:
    """Return a new set of options from a caller's options and keywords.

    Later changes of the caller's options have no effect on the new set.
    """
    if options is not None and not isinstance(options, ImageOptions):
        raise TypeError(f"{caller}() takes ImageOptions, or keywords like order=22, not {options!r}")
    result = ImageOptions(options)
    for keyword, value in keywords.items():
        if keyword not in _BY_KEYWORD:
            raise TypeError(f"{caller}() got an unexpected keyword argument {keyword!r}")
        if value is not None:
            result[_BY_KEYWORD[keyword]] = value
    return result
