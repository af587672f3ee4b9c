"""Short logs and answers to write down in a test of the audit."""

from __future__ import annotations

import json
from typing import Any, Final

from model.encoder.dummy import DummyEncoder
from model.update import DAY_MS
from model.users import user_key
from ops.audit.expected import History
from ops.audit.replay import Replay
from ops.audit.rules import Rules
from ops.audit.spill import Spill
from schemas.recommendation import recommendation_id
from worker.broker.base import Record

START_MS: Final = 1_767_225_600_000
TTL_MS: Final = 30 * DAY_MS
RULES: Final = Rules(now_ms=START_MS, newcomer_events=3, user_ttl_ms=TTL_MS)
TOPIC: Final = "user-text"


def event(
    user: str, offset: int, partition: int = 0, text: str = "bread and tea", day: float = 0, **more: Any
) -> Record:
    """day: of its timestamp, after START_MS."""
    value = {"user_id": user, "text": text, **more}
    return Record(TOPIC, partition, offset, START_MS + int(day * DAY_MS), user.encode(), json.dumps(value).encode(), ())


def tombstone(user: str, offset: int, partition: int = 0) -> Record:
    return Record(TOPIC, partition, offset, START_MS, user.encode(), None, ())


def bad(offset: int, partition: int = 0) -> Record:
    return Record(TOPIC, partition, offset, START_MS, b"bad", b"not json", ())


def answer(user: str, offset: int, partition: int = 0, nth: int = 1, **changes: Any) -> Record:
    said = {
        "recommendation_id": recommendation_id(user, TOPIC, partition, offset),
        "user_id": user,
        "nth": nth,
        "trigger": {
            "topic": TOPIC,
            "partition": partition,
            "offset": offset,
            "event_id": f"{TOPIC}-{partition}-{offset}",
        },
        "created_at": "2026-01-02T00:00:00Z",
        "release": "built-in",
        "space": "s",
        "strategy": "popular",
        "confidence": 0.5,
        "interests": [],
        "points": [],
        "items": [],
        "donors": {"count": 0, "mean_similarity": 0.0},
    } | changes
    return Record("recommendations", 0, offset, START_MS, user.encode(), json.dumps(said).encode(), ())


def replayed(spill: Spill, *records: Record, rules: Rules = RULES, whole: bool = True, filled: bool = False) -> Replay:
    """The log, one partition after the other; each partition's records must be in order."""
    replay = Replay(rules, DummyEncoder(), spill)
    for partition in sorted({record.partition for record in records}):
        replay.take([record for record in records if record.partition == partition], whole=whole)
    replay.loosen(records, filled=filled)
    return replay


def history(spill: Spill, user: str) -> History:
    key = user_key(user, b"")
    return spill.load([key])[key]
