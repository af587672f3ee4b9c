"""What a person can read of a user's interests, on `user-interests`. Knows nothing of who wrote it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from schemas.fields import Finite, Id, Message, Time


class LabelScore(Message):
    """label: exactly as in events. score: higher is more."""

    label: str
    score: Finite


class UserInterests(Message):
    """A user's interests; a null value on the topic says that the user was erased. labels: best first."""

    user_id: Id
    points: tuple[str, ...] = ()
    labels: tuple[LabelScore, ...] = ()
    summary: str | None = None
    release: Annotated[str, Field(min_length=1)]
    updated_at: Time
