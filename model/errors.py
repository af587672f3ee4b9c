"""What model/ raises.

ModelError
├── EncoderError
│   ├── EncoderNotFound     the name stands for no encoder here; the text says how to get it
│   ├── EncoderUnusable     the files are there and are not what they must be
│   └── ExtraMissing        a package of an optional extra is not installed
├── ModelImportError        an encoder could not be fetched or converted
├── ReleaseUnwritten        a release could not be written; nothing of it is left
├── ReleasesUnreachable     the place behind a URL of releases did not do what was asked
└── ReleaseRefused          a release directory that must not be served; reason, remedy
"""

from __future__ import annotations

from enum import StrEnum, unique


@unique
class Refusal(StrEnum):
    """Why a release is refused. The strings are stable: metrics and `kindred model show` rely on them."""

    NO_MANIFEST = "no_manifest"
    BAD_MANIFEST = "bad_manifest"
    UNKNOWN_FORMAT = "unknown_format"
    UNSAFE_PATH = "unsafe_path"
    MISSING_FILE = "missing_file"
    CHECKSUM = "checksum"
    NOT_SAFETENSORS = "not_safetensors"
    SHAPE = "shape"
    ENCODER = "encoder"
    HEAD = "head"
    SPACE = "space"
    GOLDEN = "golden"
    UNREACHABLE = "unreachable"


class ModelError(Exception):
    """Base of what model/ raises."""


class EncoderError(ModelError):
    """An encoder cannot be loaded."""


class EncoderNotFound(EncoderError):
    """The name stands for no encoder that can be reached from here."""


class EncoderUnusable(EncoderError):
    """A directory that is no encoder this version can run; the text names the file."""


class ExtraMissing(EncoderError):
    """A package of an optional extra is not installed; the text names the extra."""


class ModelImportError(ModelError):
    """An encoder could not be fetched or converted."""


class ReleaseUnwritten(ModelError):
    """The directory of releases takes no more: a full disk, a missing right. Nothing of the release is left there."""


class ReleasesUnreachable(ModelError):
    """The place that KINDRED_RELEASES names by a URL cannot be read or written: the same call may be repeated."""


class ReleaseRefused(ModelError):
    """A release directory that must not be served. The one in service stays."""

    def __init__(self, reason: Refusal, what: str, remedy: str) -> None:
        super().__init__(f"release refused ({reason}): {what}; {remedy}")
        self.reason = reason
        self.remedy = remedy
