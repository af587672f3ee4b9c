"""The manifest of a release: what lies in its directory and how to tell that it is whole.

Knows nothing of files, of encoders or of how a verdict is reached; `model/release.py` reads and writes directories, and
`schemas/codec.py` turns a manifest into bytes and back.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from schemas.fields import Finite, Message, Time

MANIFEST_FILE: Final = "manifest.json"
"""Its name in the release directory; written last, so that a directory without it is no release."""

MANIFEST_FORMAT: Final = 1
"""Version of the manifest. A reader refuses a higher one."""


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if (
        not name
        or "\\" in name
        or "\0" in name
        or path.is_absolute()
        or ".." in path.parts
        or path == PurePosixPath(".")
    ):
        raise ValueError("must be a relative path inside the release directory, with / and without ..")
    return name


FileName = Annotated[str, AfterValidator(_inside)]
"""Path of a file, relative to its directory, with forward slashes; it cannot lead out of it."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

ReleaseName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
"""Name of a release and of its directory."""


class EncoderEntry(Message):
    """Which encoder the release was made with.

    reference: where the encoder lies when the release holds no copy of it: a short name (`minilm`), a directory or a
        hub name; None when its files are in the release directory.
    dimension: D of its vectors. max_tokens: where a text is cut. pooling: `mean`, `cls`, or what the backend names.
    cleaning: version of the text cleaning. files: file → sha256, of everything that changes a vector.
    """

    name: str
    dimension: Annotated[int, Field(ge=1)]
    max_tokens: Annotated[int, Field(ge=1)]
    pooling: str
    cleaning: Annotated[int, Field(ge=0)]
    reference: str | None = None
    files: dict[FileName, Sha256] = Field(default_factory=dict)


class HeadEntry(Message):
    """The MLP on top of the encoder. file: safetensors; shapes: tensor → its shape, all of them and no other."""

    file: FileName
    shapes: dict[str, tuple[Annotated[int, Field(ge=1)], ...]]


class Golden(Message):
    """A fixed sentence (no user's text) and the vector, (D,), that the encoder gave when the release was made.

    interest: (D,), what the head made of that vector; None in a release whose head is the identity.
    """

    text: str
    vector: tuple[Finite, ...]
    interest: tuple[Finite, ...] | None = None


class Window(Message):
    """The stretch of `user-text` that a release was fitted on.

    start, end: partition → offset, the end not included. events, users: how many of them were used.
    """

    start: dict[str, Annotated[int, Field(ge=0)]]
    end: dict[str, Annotated[int, Field(ge=0)]]
    events: Annotated[int, Field(ge=0)]
    users: Annotated[int, Field(ge=0)]


class Verdict(Message):
    """Whether the release may be served, why, and the numbers that it was judged by."""

    accepted: bool
    reasons: tuple[str, ...] = ()
    numbers: dict[str, Finite] = Field(default_factory=dict)


class Manifest(Message):
    """One release.

    space: hash of all that changes a vector. head: None stands for the identity. transfer: weights of the blend by
    name. labels: what the head's label scores stand for, in their order. window: None for what was fitted on no log.
    metrics: what was measured, by name, such as `folds.hit@10.mean`. checksums: file → sha256, every file of the
    directory but the manifest itself.
    """

    format: Annotated[int, Field(ge=1)] = MANIFEST_FORMAT
    name: ReleaseName
    created_at: Time
    space: Annotated[str, Field(min_length=1)]
    encoder: EncoderEntry
    head: HeadEntry | None = None
    transfer: dict[str, Finite] = Field(default_factory=dict)
    labels: tuple[str, ...] = ()
    golden: tuple[Golden, ...] = ()
    window: Window | None = None
    metrics: dict[str, Finite] = Field(default_factory=dict)
    verdict: Verdict | None = None
    checksums: dict[FileName, Sha256] = Field(default_factory=dict)
