"""Made-up people that can be learned from: they write about one of a few topics and take its items, new ones first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.windows import NOW_MS, MemoryLog

WORDS = ("beer", "proof", "boat", "garden", "camera")
HOUR_MS = 3_600_000


def community(users: int, *, events: int = 4, noise: int = 0, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Fields of `user-text`, oldest first. Each user has one topic, comes, writes for a while and goes. An item lives
    for a while and is taken by who writes then: what is new in one's topic is what one takes next. Labels are the
    topics. noise: words of a text that everybody writes; with any, a single word tells the topic."""
    draw = np.random.default_rng(seed)
    topic_of = draw.integers(len(WORDS), size=users)
    writers = np.repeat(np.arange(users), events)
    turns = writers[np.argsort(np.arange(len(writers)) + draw.integers(60, size=len(writers)), kind="stable")]
    for turn, user in enumerate(turns.tolist()):
        word = WORDS[int(topic_of[user])]
        item = f"{word}-{turn // 40}-{draw.integers(4)}"
        told = [word] if noise else [f"{word}{draw.integers(6)}" for _ in range(6)]
        words = " ".join([*told, *(f"noise{draw.integers(16)}" for _ in range(noise))])
        yield {
            "user_id": f"user-{user}",
            "text": f"{words} {draw.integers(10_000)}",
            "item_id": item,
            "item_title": f"About {word}",
            "labels": [word],
            "lang": "en" if user % 2 else "",
        }


def write_community(log: MemoryLog, users: int, *, noise: int = 0) -> None:
    """An event an hour."""
    for turn, event in enumerate(community(users, noise=noise)):
        log.write(event.pop("user_id"), event.pop("text"), timestamp=NOW_MS + turn * HOUR_MS, **event)
