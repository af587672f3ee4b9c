"""What a newcomer is given, on `recommendations`. Knows nothing of how it was found."""

from __future__ import annotations

from hashlib import sha1
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import Field

from schemas.fields import Finite, Id, Message, Time
from schemas.interests import LabelScore

Part = Literal["donors", "shared_items", "item_text", "popularity"]
Strategy = Literal["transfer", "blend", "popular"]

NAMESPACE: Final = UUID("6f2b6c0e-3f0a-5d51-9d0c-8f6a4b1f7c25")
"""Namespace of recommendation ids (uuid5). It must never change: ids in the log depend on it."""

_NAMESPACE_BYTES: Final = NAMESPACE.bytes
_VARIANT_MASK: Final = ~((0xF000 << 64) | (0xC000 << 48)) & (1 << 128) - 1
_VARIANT_BITS: Final = (5 << 76) | (0x8000 << 48)


class Trigger(Message):
    """The event that is answered."""

    topic: str
    partition: Annotated[int, Field(ge=0)]
    offset: Annotated[int, Field(ge=0)]
    event_id: str


class ItemReason(Message):
    """Why an item was recommended.

    share: of the item's score, 0 to 1; the shares of an item add up to 1. count: how many users or items stand behind
    it. phrases: only from the newcomer's own texts and public titles. text: a sentence for people.
    """

    part: Part
    share: Finite
    count: int | None = None
    phrases: tuple[str, ...] = ()
    text: str


class RecommendedItem(Message):
    item_id: Id
    title: str | None = None
    score: Finite
    reasons: tuple[ItemReason, ...]


class Donors(Message):
    """How many known users stand behind the answer, and their mean cosine to the newcomer; never who they are."""

    count: Annotated[int, Field(ge=0)]
    mean_similarity: Finite


class Recommendation(Message):
    """The answer to a newcomer's n-th event.

    nth: 1 to K. confidence: 0 to 1. interests, items: best first, both may be empty. points: phrases a person can read.
    """

    recommendation_id: str
    user_id: Id
    nth: Annotated[int, Field(ge=1)]
    trigger: Trigger
    created_at: Time
    release: str
    space: str
    strategy: Strategy
    confidence: Finite
    interests: tuple[LabelScore, ...]
    points: tuple[str, ...]
    items: tuple[RecommendedItem, ...]
    donors: Donors


def recommendation_id(user_id: str, topic: str, partition: int, offset: int) -> str:
    """uuid5 of where the answered event stands and whose it is; a replay gives the same id.

    The same as str(uuid.uuid5(NAMESPACE, "topic/partition/offset/user_id")) in half of its time (2.6 µs against 5.5). A
    topic's name holds no slash, so no two events share a name.
    """
    name = f"{topic}/{partition}/{offset}/{user_id}".encode()
    digest = sha1(_NAMESPACE_BYTES + name, usedforsecurity=False).digest()
    number = int.from_bytes(digest[:16], "big") & _VARIANT_MASK | _VARIANT_BITS
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
