"""The announcement of a release, on `model-releases` under the key "current". Knows nothing of what a release holds."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from schemas.fields import Message, Time
from schemas.release import Sha256

CURRENT: Final = "current"
"""Key of every announcement: compaction keeps the last one."""


class ReleaseAnnouncement(Message):
    """This release is to be served now. uri must lie under KINDRED_RELEASES; sha256 is of its manifest file."""

    release: Annotated[str, Field(min_length=1)]
    uri: Annotated[str, Field(min_length=1)]
    sha256: Sha256
    space: Annotated[str, Field(min_length=1)]
    verdict: Literal["accept", "reject"]
    created_at: Time
