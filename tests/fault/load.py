"""A random but replayable load of `user-text`: everything that real producers send, good and bad, from one seed.

Knows nothing of a broker and nothing of what the worker makes of a record.
"""

from __future__ import annotations

import json
import os
import random
import sys
from dataclasses import dataclass, field
from typing import Any, Final

from schemas.headers import EVENT_ID

START_MS: Final = 1_767_225_600_000
"""Kafka timestamp of the first record, 2026-01-01; one second to the next one."""

WORDS: Final = tuple(
    word
    for words in (
        "telescope galaxy nebula eyepiece bread sourdough oven flour chess opening endgame rook guitar chord",
        "amplifier tuning compost tomato seedling pruning python kernel socket thread sonnet metaphor harbour knot",
    )
    for word in words.split()
)
CHINESE: Final = ("我想学做面包", "望远镜推荐", "围棋入门", "怎么种番茄", "吉他和弦练习", "小火炖汤")
BAD: Final = (b"\xff\xfe", b"not json", b"[1, 2]", b'{"user_id": "somebody else", "text": "x"}', b"{}")


@dataclass(frozen=True, slots=True)
class Sending:
    """One record to be produced. value None: a tombstone."""

    partition: int
    key: bytes
    value: bytes | None
    timestamp_ms: int
    headers: list[tuple[str, bytes]] = field(default_factory=list)


def seed() -> int:
    """KINDRED_TEST_SEED, else a new one; written out, so that a failed run can be repeated."""
    number = int(os.environ.get("KINDRED_TEST_SEED") or random.SystemRandom().randrange(2**32))
    sys.stdout.write(f"KINDRED_TEST_SEED={number}\n")
    return number


class Load:
    """An endless stream of records for `partitions` partitions; the same seed and calls give the same records."""

    def __init__(self, number: int, *, partitions: int, users: int = 300, items: int = 60) -> None:
        self._random = random.Random(number)
        self._partitions = partitions
        self._users = users
        self._items = items
        self._made = 0
        self._roamers = 0
        self._event_ids: dict[str, list[str]] = {}

    def take(self, count: int) -> list[Sending]:
        return [self._next() for _ in range(count)]

    def of_users(self, *users: str) -> list[Sending]:
        """One plain event of each."""
        return [self._event(user) for user in users]

    def tombstone(self, user: str) -> Sending:
        return self._sending(user, None)

    def bad(self, count: int, partition: int) -> list[Sending]:
        """Bad records in a row in one partition."""
        found = [self._sending("bad", self._random.choice(BAD)) for _ in range(count)]
        return [Sending(partition, each.key, each.value, each.timestamp_ms) for each in found]

    def _next(self) -> Sending:
        dice = self._random.random()
        # Few users write much, many write little: there are newcomers to the end.
        user = f"u{int(self._users * self._random.random() ** 2)}"
        if dice < 0.01:
            return self._sending(user, None)
        if dice < 0.02:
            return self._sending(user, self._random.choice(BAD))
        if dice < 0.03:
            return self._roamer()
        return self._event(user)

    def _roamer(self) -> Sending:
        """An event of a user whose partition changed: at most one in each of two, so that both are his first ones."""
        pair, place = divmod(self._roamers, 2)
        self._roamers += 1
        return self._event(f"roamer{pair}", partition=(pair + place) % self._partitions)

    def _event(self, user: str, partition: int | None = None) -> Sending:
        pick = self._random
        value: dict[str, Any] = {"user_id": user, "text": self._text()}
        if pick.random() < 0.7:
            item = int(self._items * pick.random() ** 2)
            value["item_id"] = f"item-{item}"
            value["item_title"] = f"{WORDS[item % len(WORDS)]} {WORDS[item * 7 % len(WORDS)]} no. {item}"
        if pick.random() < 0.6:
            value["labels"] = pick.sample(
                ["astronomy", "baking", "chess", "music", "garden", "code", "诗"], pick.choice([1, 1, 2])
            )
        if pick.random() < 0.3:
            value["weight"] = pick.choice([0, 0.25, 2, 7.5])
        if pick.random() < 0.4:
            days = pick.randrange(1, 300)
            value["occurred_at"] = f"2025-{1 + days // 28 % 12:02d}-{1 + days % 28:02d}T12:00:00Z"
        headers = [("traceparent", b"00-%032x-%016x-01" % (pick.getrandbits(128), pick.getrandbits(64)))]
        # The first of two events with one id counts, so an id is never used in two partitions.
        known = self._event_ids.setdefault(user, [])
        if known and pick.random() < 0.1:
            value["event_id"] = pick.choice(known[-5:])
        elif partition is None and pick.random() < 0.3:
            value["event_id"] = f"{user}-{self._made}"
            known.append(value["event_id"])
        elif pick.random() < 0.1:
            headers.append((EVENT_ID, f"h-{user}-{self._made}".encode()))
        sending = self._sending(user, json.dumps(value, ensure_ascii=pick.random() < 0.5).encode(), partition)
        return Sending(sending.partition, sending.key, sending.value, sending.timestamp_ms, headers)

    def _text(self) -> str:
        pick = self._random
        dice = pick.random()
        if dice < 0.03:
            return "https://example.org/only-a-link"
        if dice < 0.15:
            return pick.choice(CHINESE) + pick.choice(CHINESE)
        return " ".join(pick.choices(WORDS, k=pick.randrange(1, 12)))

    def _sending(self, user: str, value: bytes | None, partition: int | None = None) -> Sending:
        self._made += 1
        home = sum(user.encode()) % self._partitions if partition is None else partition
        return Sending(home, user.encode(), value, START_MS + 1000 * self._made)
