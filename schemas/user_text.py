"""One text that a user wrote, as it stands on `user-text` (UserText) and as the worker uses it (Event).

Knows nothing of bytes, of cleaning or of what is made of the text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from schemas.fields import Id, Labels, Lang, Message, Text, Time, Title


class UserText(Message):
    """A record of `user-text`; a null value on the topic asks to forget the user.

    event_id: a producer's own id; a repeat with the same one is skipped. occurred_at: when the user wrote, default: the
    record's timestamp. weight: how much the text counts, 1 by default, finite and not negative; more than a million
    counts as a million.
    """

    user_id: Id
    text: Text
    event_id: Id | None = None
    occurred_at: Time | None = None
    item_id: Id | None = None
    item_title: Title | None = None
    labels: Labels = ()
    weight: Annotated[float, Field(json_schema_extra={"minimum": 0})] = 1.0
    lang: Lang | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A UserText that kept every rule, with its defaults filled in from the record.

    event_id: None when the producer gave none. occurred_ms: milliseconds since 1970. weight: 0 to MAX_WEIGHT.
    """

    user_id: str
    text: str
    event_id: str | None
    occurred_ms: int
    item_id: str | None
    item_title: str | None
    labels: tuple[str, ...]
    weight: float
    lang: str | None


def default_event_id(topic: str, partition: int, offset: int) -> str:
    """The id of an event whose producer gave none: where it stands in the log."""
    return f"{topic}-{partition}-{offset}"
