"""Follows `user-text` and `recommendations` for the online truth, by consumers of the trainer's own, in no group.

Nothing is stored: a trainer that starts reads as far back as its figures reach, the topics side by side in the order of
time, and has the same figures again; popularity begins one half-life earlier. Knows no Kafka and no thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from model.kafka.base import Record
from model.update import DAY_MS, POPULARITY_HALF_LIFE_MS
from model.users import user_key
from schemas.announcement import ReleaseAnnouncement
from schemas.codec import Tombstone, decode_recommendation, decode_release_announcement, decode_user_text
from schemas.errors import BadRecord
from schemas.state import hash64
from trainer.compare import Comparison, Tally, difference
from trainer.errors import Stopped
from trainer.in_time import InTime
from trainer.online import TOP, Answer, Erased, Event, Online, Said
from trainer.read import Log, Piece, starts

log = logging.getLogger(__name__)

LATE_MS: Final = 5_000
"""What is younger waits for the next look: records are published some time after their timestamp."""
LONGEST_NAME: Final = 128
"""Of a release (schemas/release.py); an answer of one that cannot be has nobody to be counted for."""
_TEXTS: Final = 0
_NEVER: Final = 1 << 62


class Topics(NamedTuple):
    texts: Log
    answers: Log
    releases: Log


@dataclass(frozen=True, slots=True)
class Span:
    """horizon_ms, window_ms: of the figures (trainer/online.py). newest: how many records of a topic are read at most
    when it begins."""

    horizon_ms: int
    window_ms: int
    newest: int


@dataclass(frozen=True, slots=True)
class Figures:
    """tallies: the release that answered last first. comparison: None while there are not two releases. until_ms: up to
    when the log is judged."""

    tallies: Mapping[str, Tally]
    comparison: Comparison | None
    until_ms: int


class Follower:
    """secret: keys the hashes of users. clock: milliseconds since 1970. stopped: whether to read no more."""

    def __init__(
        self,
        topics: Topics,
        span: Span,
        *,
        secret: bytes,
        clock: Callable[[], int],
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._topics = topics
        self._span = span
        self._secret = secret
        self._clock = clock
        self._stopped = stopped
        self._begin()

    def look(self) -> Figures:
        """Read on to the end of the log; where a topic was made anew, from the beginning. Raises BrokerUnavailable and
        BrokerRefused: call again, nothing is lost. Raises Stopped."""
        now = self._clock()
        try:
            return self._read_to_the_end(now)
        except _MadeAnew as made:
            log.warning("the topic %s was made anew: so are the figures of what its answers led to", made)
            self._begin()
            return self._read_to_the_end(now)

    def _begin(self) -> None:
        self._online = Online(self._span.horizon_ms, self._span.window_ms)
        self._merged = InTime[Said]()
        self._announced: ReleaseAnnouncement | None = None
        self._texts, self._answers, self._releases = (
            _Followed(number, found) for number, found in enumerate(self._topics)
        )

    def _read_to_the_end(self, now: int) -> Figures:
        since = (now - self._span.window_ms) // DAY_MS * DAY_MS
        self._releases.look(0, self._span.newest)
        for piece in self._releases.pieces():
            for record in piece.records:
                self._announced = _announcement(record) or self._announced
        self._texts.look(since - POPULARITY_HALF_LIFE_MS, self._span.newest)
        self._answers.look(since, self._span.newest)
        settled = now - LATE_MS
        while unread := [one for one in (self._texts, self._answers) if one.unread]:
            if self._stopped():
                raise Stopped("stopped before the end of the log")
            behind = min(unread, key=lambda one: one.clock(self._merged))
            for record in behind.piece().records:
                self._put(behind.number, record, now)
            self._judge(min(settled, *(one.clock(self._merged) for one in (self._texts, self._answers))))
        self._judge(settled)
        self._online.passed(settled)
        tallies = self._online.tallies()
        return Figures(tallies, self._comparison(tallies), settled)

    def _put(self, number: int, record: Record, now: int) -> None:
        """What cannot be read is passed over: the worker tells of it. A time that is still to come is now."""
        try:
            said = (_text if number == _TEXTS else _answer)(record, self._secret)
        except BadRecord:
            return
        if said is not None:
            self._merged.put((number, record.partition), record.offset, min(record.timestamp, now), said)

    def _judge(self, until: int) -> None:
        for at, said in self._merged.until(until):
            self._online.take(at, said)

    def _comparison(self, tallies: Mapping[str, Tally]) -> Comparison | None:
        """What is announced against what `kindred model rollback` goes back to: the release before it, or, where none
        was announced before, the one that answered before it."""
        if self._announced is None:
            return None
        current = self._announced.release
        before = next(iter(self._announced.before), None) or next((name for name in tallies if name != current), None)
        if before is None:
            return None
        found = difference(tallies.get(current, Tally()), tallies.get(before, Tally()))
        return Comparison(current, before, found)


class _MadeAnew(Exception):
    """This topic is not the one that was read before."""


class _Followed:
    """One topic, from one look to the next."""

    def __init__(self, number: int, source: Log) -> None:
        self.number = number
        self._log = source
        self._id: str | None = None
        self._nexts: dict[int, int] = {}
        self._stops: dict[int, int] = {}
        self._reading: Iterator[Piece] = iter(())

    def look(self, since_ms: int, newest: int) -> None:
        """Find the end as it is now, and at first where to begin. Raises _MadeAnew."""
        found, bounds = self._log.topic_id(), self._log.bounds()
        if self._id is None:
            oldest = self._log.offsets_at(since_ms) if bounds else {}
            self._nexts = starts(bounds, oldest, newest)
        elif found != self._id or any(p not in bounds or bounds[p].end < at for p, at in self._nexts.items()):
            raise _MadeAnew(self._log.topic)
        self._id = found
        self._nexts = {p: max(self._nexts.get(p, 0), held.begin) for p, held in bounds.items()}
        self._stops = {p: held.end for p, held in bounds.items()}
        self._reading = self._log.read(self._nexts, self._stops)

    @property
    def unread(self) -> list[int]:
        """Partitions that have not been read to the end."""
        return [p for p, stop in self._stops.items() if self._nexts[p] < stop]

    def clock(self, merged: InTime[Said]) -> int:
        """The time before which nothing more will come up to the end."""
        return min((merged.clock((self.number, p)) for p in self.unread), default=_NEVER)

    def piece(self) -> Piece:
        found = next(self._reading)
        self._nexts = {**self._nexts, **found.reached}
        return found

    def pieces(self) -> Iterator[Piece]:
        while self.unread:
            yield self.piece()


def _text(record: Record, secret: bytes) -> Said:
    """Raises BadRecord."""
    read = decode_user_text(record.value, record.key, record.timestamp, record.headers)
    user = user_key(read.user_id, secret)
    if isinstance(read, Tombstone):
        return Erased(user)
    item = None if read.item_id is None else hash64(read.item_id)
    return Event((record.partition, record.offset), user, item, read.weight, read.occurred_ms)


def _answer(record: Record, secret: bytes) -> Said | None:
    """Raises BadRecord."""
    read = decode_recommendation(record.value, record.key, record.headers)
    if len(read.release) > LONGEST_NAME:
        return None
    place = (read.trigger.partition, read.trigger.offset)
    items = tuple(hash64(item.item_id) for item in read.items[:TOP])
    return Answer(place, user_key(read.user_id, secret), read.nth, read.release, items)


def _announcement(record: Record) -> ReleaseAnnouncement | None:
    try:
        return decode_release_announcement(record.value, record.key, record.headers)
    except BadRecord:
        return None
