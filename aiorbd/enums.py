"""Ceph's integers by name. A test compares each value with the C headers."""

from enum import IntEnum, IntFlag


class OpFlag(IntFlag):
    """Hints for one read or write, passed on to the OSDs (``LIBRADOS_OP_FLAG_...``)."""

    NONE = 0
    EXCL = 0x1
    FAILOK = 0x2
    FADVISE_RANDOM = 0x4
    FADVISE_SEQUENTIAL = 0x8
    FADVISE_WILLNEED = 0x10
    FADVISE_DONTNEED = 0x20
    FADVISE_NOCACHE = 0x40
    FADVISE_FUA = 0x80


class Feature(IntFlag):
    """Features of an image (``RBD_FEATURE_...``)."""

    LAYERING = 1 << 0
    STRIPINGV2 = 1 << 1
    EXCLUSIVE_LOCK = 1 << 2
    OBJECT_MAP = 1 << 3
    FAST_DIFF = 1 << 4
    DEEP_FLATTEN = 1 << 5
    JOURNALING = 1 << 6
    DATA_POOL = 1 << 7
    OPERATIONS = 1 << 8
    MIGRATING = 1 << 9
    NON_PRIMARY = 1 << 10
    DIRTY_CACHE = 1 << 11


class ImageOption(IntEnum):
    """What can be chosen when an image is made (``RBD_IMAGE_OPTION_...``)."""

    FORMAT = 0
    FEATURES = 1
    ORDER = 2
    STRIPE_UNIT = 3
    STRIPE_COUNT = 4
    JOURNAL_ORDER = 5
    JOURNAL_SPLAY_WIDTH = 6
    JOURNAL_POOL = 7
    FEATURES_SET = 8
    FEATURES_CLEAR = 9
    DATA_POOL = 10
    FLATTEN = 11
    CLONE_FORMAT = 12
    MIRROR_IMAGE_MODE = 13


class MirrorImageMode(IntEnum):
    """How an image is mirrored (``RBD_MIRROR_IMAGE_MODE_...``)."""

    JOURNAL = 0
    SNAPSHOT = 1
