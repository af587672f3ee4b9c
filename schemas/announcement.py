"""The announcement of a release, on `model-releases` under the key "current". Knows nothing of what a release holds."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from schemas.fields import Message, Time
from schemas.release import ReleaseName, Sha256

CURRENT: Final = "current"
"""Key of every announcement: compaction keeps the last one."""


MAX_BEFORE: Final = 16
"""Releases that an announcement remembers."""


class ReleaseAnnouncement(Message):
    """This release is to be served now.

    uri: must lie under KINDRED_RELEASES. sha256: of its manifest file. verdict: `reject` for one that was forced.
    created_at: when it was announced. before: the releases that were current before it, the last one first, where a
    rollback goes; the topic is compacted and does not keep them.
    """

    release: Annotated[str, Field(min_length=1)]
    uri: Annotated[str, Field(min_length=1)]
    sha256: Sha256
    space: Annotated[str, Field(min_length=1)]
    verdict: Literal["accept", "reject"]
    created_at: Time
    before: Annotated[tuple[ReleaseName, ...], Field(max_length=MAX_BEFORE)] = ()
