"""A stack's log in lists: events, and answers to them by one release after the other, as the trainer follows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from schemas.announcement import CURRENT
from schemas.codec import encode
from schemas.recommendation import recommendation_id
from tests.windows import NOW_MS, SECRET, MemoryLog
from trainer.compare import Tally
from trainer.follow import LATE_MS, Figures, Follower, Span, Topics

MINUTE: Final = 60_000
SPAN: Final = Span(horizon_ms=60 * MINUTE, window_ms=7 * 24 * 60 * MINUTE, newest=1_000_000)


def recommended(
    user: str, nth: int, place: tuple[int, int], at: int, release: str, items: Sequence[str]
) -> dict[str, Any]:
    """What a worker publishes."""
    return {
        "recommendation_id": recommendation_id(user, "user-text", *place),
        "user_id": user,
        "nth": nth,
        "trigger": {"topic": "user-text", "partition": place[0], "offset": place[1], "event_id": "e"},
        "created_at": datetime.fromtimestamp(at / 1000, UTC).isoformat(),
        "release": release,
        "space": "s",
        "strategy": "transfer",
        "confidence": 0.5,
        "interests": [],
        "points": [],
        "items": [{"item_id": item, "title": None, "score": 1.0, "reasons": []} for item in items],
        "donors": {"count": 1, "mean_similarity": 0.5},
    }


@dataclass
class Lived:
    """What was written so far. Times in minutes since it began. release: who answers now. counted: events by user."""

    count: int = 2
    release: str = "first"
    counted: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.texts = MemoryLog(count=self.count)
        self.answers = MemoryLog(topic="recommendations", count=self.count)
        self.releases = MemoryLog(topic="model-releases")

    def event(
        self, at: float, user: str, item: str | None = None, answered: Sequence[str] = ("boat",), *, after: float = 0.1
    ) -> None:
        """One event of the user's, answered where it is among the first three."""
        when = NOW_MS + int(at * MINUTE)
        partition = sum(user.encode()) % self.count
        named = {} if item is None else {"item_id": item}
        record = self.texts.write(user, partition=partition, timestamp=when, **named)
        nth = self.counted[user] = self.counted.get(user, 0) + 1
        if nth <= 3:
            then = when + int(after * MINUTE)
            said = recommended(user, nth, (partition, record.offset), then, self.release, answered)
            self.answers.append(user.encode(), encode(said), partition=partition, timestamp=then)

    def forget(self, at: float, user: str) -> None:
        self.texts.forget(user, partition=sum(user.encode()) % self.count, timestamp=NOW_MS + int(at * MINUTE))
        self.counted.pop(user, None)

    def newcomer(self, at: float, user: str, *, hit: bool) -> None:
        """Comes, is answered, and takes what was recommended, or something else."""
        self.event(at, user, None, ["boat" if hit else "kite"])
        self.event(at + 1, user, "boat", [])

    def announce(self, release: str, *before: str) -> None:
        """It answers from now on."""
        self.release = release
        told = {
            "release": release,
            "uri": f"/releases/{release}",
            "sha256": "0" * 64,
            "space": "s",
            "verdict": "accept",
            "created_at": "2026-01-31T00:00:00Z",
            "before": list(before),
        }
        self.releases.append(CURRENT.encode(), encode(told))

    def until(self, at: float) -> Lived:
        """What of it was written by then, in the order of the timestamps in each partition."""
        then = Lived(self.count)
        for whole, seen in ((self.texts, then.texts), (self.answers, then.answers)):
            for partition, records in enumerate(whole.partitions):
                written = sorted((r for r in records if r is not None), key=lambda record: record.timestamp)
                for record in written:
                    if record.timestamp <= NOW_MS + at * MINUTE:
                        seen.append(record.key or b"", record.value, partition=partition, timestamp=record.timestamp)
        return then

    def follower(self, span: Span = SPAN) -> Looking:
        return Looking(self, span)


class Looking:
    """A follower of what was lived, and its clock."""

    def __init__(self, lived: Lived, span: Span) -> None:
        self.now = 0
        self.stopped = False
        topics = Topics(lived.texts, lived.answers, lived.releases)
        self.follower = Follower(topics, span, secret=SECRET, clock=lambda: self.now, stopped=lambda: self.stopped)

    def look(self, at: float) -> Figures:
        """What is settled `at` minutes after the beginning."""
        self.now = NOW_MS + int(at * MINUTE) + LATE_MS
        return self.follower.look()

    def tallies(self, at: float) -> dict[str, Tally]:
        return dict(self.look(at).tallies)
