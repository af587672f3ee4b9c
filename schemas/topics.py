"""The topics as data: `kindred topics create`, the AsyncAPI document and the services read the same table.

Knows nothing of a broker; replication is the default of the broker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from schemas.announcement import ReleaseAnnouncement
from schemas.fields import Message
from schemas.interests import UserInterests
from schemas.item import Item
from schemas.recommendation import Recommendation
from schemas.user_text import UserText

_DAY_MS: Final = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic.

    name: without a namespace. direction: as Kindred sees it; `control` is between its own services. key: what a
    record's key is. partitions: how many `topics create` makes by default. config: Kafka topic settings. owner: who
    writes to it. message: model of a value, None where values are another topic's bytes as they came. tombstone: what a
    null value says, None where there is none.
    """

    name: str
    direction: Literal["in", "out", "control"]
    key: str
    partitions: int
    config: Mapping[str, str]
    owner: str
    message: type[Message] | None
    tombstone: str | None
    description: str


def _deleted_after(days: int) -> Mapping[str, str]:
    return MappingProxyType({"cleanup.policy": "delete", "retention.ms": str(days * _DAY_MS)})


_COMPACTED: Final = MappingProxyType({"cleanup.policy": "compact"})

USER_TEXT: Final = Topic(
    name="user-text",
    direction="in",
    key="user_id",
    partitions=8,
    # Longer than users are remembered without an event (365 days): Redis can be healed from the log without a gap.
    config=_deleted_after(400),
    owner="the application",
    message=UserText,
    tombstone="forget this user",
    description="Texts that users wrote. The record of everything Kindred knows; must never be compacted.",
)
ITEMS: Final = Topic(
    name="items",
    direction="in",
    key="item_id",
    partitions=1,
    config=_COMPACTED,
    owner="the application",
    message=Item,
    tombstone="the item is unknown again",
    description="The catalogue; optional. Once it has records, only its available items are recommended.",
)
RECOMMENDATIONS: Final = Topic(
    name="recommendations",
    direction="out",
    key="user_id",
    partitions=8,
    # The trainer joins them with later texts to see which ones hit.
    config=_deleted_after(90),
    owner="worker",
    message=Recommendation,
    tombstone=None,
    description="Answers to newcomers' first events; drop duplicates by recommendation_id.",
)
DEAD_LETTERS: Final = Topic(
    name="user-text.dlq",
    direction="out",
    key="the bad record's own key",
    partitions=1,
    config=_deleted_after(30),
    owner="worker",
    message=None,
    tombstone=None,
    description="Bad records of user-text: original bytes, key and headers, with headers that say why and where from.",
)
MODEL_RELEASES: Final = Topic(
    name="model-releases",
    direction="control",
    key='"current"',
    partitions=1,
    config=_COMPACTED,
    owner="trainer",
    message=ReleaseAnnouncement,
    tombstone=None,
    description="Which release the workers are to serve.",
)
USER_INTERESTS: Final = Topic(
    name="user-interests",
    direction="out",
    key="user_id",
    partitions=8,
    config=_COMPACTED,
    owner="interests",
    message=UserInterests,
    tombstone="the user was erased",
    description="Readable interests of a user, written by a language model off the hot path.",
)

TOPICS: Final = (USER_TEXT, ITEMS, RECOMMENDATIONS, DEAD_LETTERS, MODEL_RELEASES, USER_INTERESTS)


def topic_name(topic: Topic | str, namespace: str = "") -> str:
    """A topic's name on the broker: "user-text", or "shop.user-text" in the namespace "shop"."""
    name = topic if isinstance(topic, str) else topic.name
    return f"{namespace}.{name}" if namespace else name
