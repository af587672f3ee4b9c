"""What an audit can find, and how much of it was found.

A finding names a place (a user's keyed hash, a partition and offset, an item), never a user id and never a text. Knows
nothing of how anything is found.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

EXAMPLES: Final = 10
"""Findings of a kind that are kept with their place; the others are counted."""


@unique
class Kind(StrEnum):
    """The strings are stable: scripts that read `kindred audit --json` rely on them."""

    OTHER_LOG = "other_log"
    WATERMARK = "watermark"
    LOST_USER = "lost_user"
    UNKNOWN_USER = "unknown_user"
    UNREADABLE_USER = "unreadable_user"
    POSITION = "position"
    COUNT = "count"
    FIRST_EVENTS = "first_events"
    FACTS = "facts"
    VECTOR = "vector"
    NOT_ERASED = "not_erased"
    LOST_MARKER = "lost_marker"
    FEED = "feed"
    POPULARITY = "popularity"
    USERS_PER_ITEM = "users_per_item"
    LABEL_WEIGHT = "label_weight"
    ITEM_NAME = "item_name"
    LABEL_NAME = "label_name"
    MISSING_ANSWER = "missing_answer"
    UNASKED_ANSWER = "unasked_answer"
    OTHER_ID = "other_id"
    DOUBLED_ANSWER = "doubled_answer"
    WRONG_USER = "wrong_user"
    WRONG_NTH = "wrong_nth"
    WRONG_TRIGGER = "wrong_trigger"
    UNREADABLE_ANSWER = "unreadable_answer"
    REPEATED_ITEM = "repeated_item"
    SEEN_ITEM = "seen_item"
    WITHDRAWN_ITEM = "withdrawn_item"
    EXPIRED_ITEM = "expired_item"
    UNLISTED_ITEM = "unlisted_item"
    TOO_FEW_DONORS = "too_few_donors"
    LEAKED_USER = "leaked_user"
    MISSING_LETTER = "missing_letter"
    UNDESERVED_LETTER = "undeserved_letter"
    DOUBLED_LETTER = "doubled_letter"
    WRONG_REASON = "wrong_reason"
    ALTERED_LETTER = "altered_letter"
    KEPT_INTERESTS = "kept_interests"


MEANING: Final = {
    Kind.OTHER_LOG: "Redis holds the state of another log",
    Kind.WATERMARK: "a shard of Redis has seen less of a partition than the group has committed",
    Kind.LOST_USER: "a user of the log is not in Redis",
    Kind.UNKNOWN_USER: "Redis or its feed knows a user that the log does not have",
    Kind.UNREADABLE_USER: "a user's value in Redis cannot be read",
    Kind.POSITION: "a user stands at another position than the log's",
    Kind.COUNT: "a user's number of events is wrong",
    Kind.FIRST_EVENTS: "a user's first K events are others",
    Kind.FACTS: "a user's items, labels, event ids, times or weight are wrong",
    Kind.VECTOR: "a user's vector is not what the texts give",
    Kind.NOT_ERASED: "an erased user is still known",
    Kind.LOST_MARKER: "the marker of an erased user is gone: a late write could bring the user back",
    Kind.FEED: "the feed does not tell workers what they must know",
    Kind.POPULARITY: "an item's popularity is wrong",
    Kind.USERS_PER_ITEM: "the number of users who have an item is wrong",
    Kind.LABEL_WEIGHT: "a label's weight is wrong",
    Kind.ITEM_NAME: "an item's id or title is missing, wrong, or of no event",
    Kind.LABEL_NAME: "a label's name is missing, wrong, or of no event",
    Kind.MISSING_ANSWER: "a newcomer's event was never answered",
    Kind.UNASKED_ANSWER: "an answer to something that asks for none",
    Kind.OTHER_ID: "an event was answered under another id than its own",
    Kind.DOUBLED_ANSWER: "an answer was published more than once",
    Kind.WRONG_USER: "an answer under the name of another user",
    Kind.WRONG_NTH: "an answer's nth is not the event's number",
    Kind.WRONG_TRIGGER: "an answer names another event id than the event has",
    Kind.UNREADABLE_ANSWER: "a record of the recommendations topic is no recommendation",
    Kind.REPEATED_ITEM: "an item stands twice in one answer",
    Kind.SEEN_ITEM: "a newcomer was recommended an item of his own",
    Kind.WITHDRAWN_ITEM: "a withdrawn item was recommended",
    Kind.EXPIRED_ITEM: "an expired item was recommended",
    Kind.UNLISTED_ITEM: "an item was recommended that the catalogue does not have",
    Kind.TOO_FEW_DONORS: "an item that fewer than min_donors users had was recommended on their account",
    Kind.LEAKED_USER: "another user's id, or its hash, stands in an answer",
    Kind.MISSING_LETTER: "a bad record has no dead letter",
    Kind.UNDESERVED_LETTER: "a dead letter of a record that is not bad",
    Kind.DOUBLED_LETTER: "a dead letter was published more than once",
    Kind.WRONG_REASON: "a dead letter gives another reason than the record's",
    Kind.ALTERED_LETTER: "a dead letter's key or value is not the record's",
    Kind.KEPT_INTERESTS: "published interests of a user who is erased or unknown",
}


@dataclass(frozen=True, slots=True)
class Example:
    """where: a place that an operator can look at. said: what is there, and what must be."""

    where: str
    said: str


class Findings:
    """Counts of all kinds, and the first few examples of each."""

    def __init__(self) -> None:
        self.counts: Counter[Kind] = Counter()
        self.examples: dict[Kind, list[Example]] = {}

    def add(self, kind: Kind, where: str, said: str) -> None:
        self.counts[kind] += 1
        if self.counts[kind] <= EXAMPLES:
            self.examples.setdefault(kind, []).append(Example(where, said))

    def merge(self, others: Findings) -> None:
        """Take over what was found aside."""
        for kind, examples in others.examples.items():
            kept = self.examples.setdefault(kind, [])
            kept += examples[: EXAMPLES - len(kept)]
        self.counts.update(others.counts)
