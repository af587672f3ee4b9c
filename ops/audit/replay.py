"""The serial replay of the log: one event after the other through the pure update, partition after partition.

Uses the service's own decoding, cleaning, encoder and `model/update.py` (their rules have tests of their own), and
nothing that a worker has written. Knows no Kafka and no Redis.

Order between partitions is free, so a user who wrote in several (ROAMS) is compared as far as no order matters; where
one does (see `entangled`), only what every order gives. A user whose log begins in the middle (PARTIAL) likewise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.encoder.base import Encoder
from model.update import POPULARITY_HALF_LIFE_MS, SATURATION, LogEvent, forward_weight, update
from model.users import Stored, UserWrite, user_key
from ops.audit.expected import Bad, History, Question, Sums
from ops.audit.rules import Rules, within
from ops.audit.spill import Spill
from schemas.state import MAX_EVENT_IDS, MAX_ITEMS, MAX_LABELS, hash64
from schemas.user_text import default_event_id
from worker.broker.base import Record
from worker.decode import Entry, decode
from worker.store.popularity import log2_add

ROAMS: Final = 1
PARTIAL: Final = 2
ERASED: Final = 4
"""At least once."""
EXPIRED: Final = 8
REPEATED: Final = 16
"""An event was skipped for its id."""
CUT: Final = 32
"""An earlier life of the user began before the log does: which number its events had nobody knows."""

DIGEST: Final = 16


@dataclass(slots=True)
class Counts:
    """What the replay has read. encoded: texts whose vectors were computed."""

    records: int = 0
    events: int = 0
    tombstones: int = 0
    bad: int = 0
    skipped: int = 0
    encoded: int = 0


def entangled(history: History, user_ttl_ms: int) -> bool:
    """Whether the order between partitions decides more than rounding: what was erased, repeated, expired, crowded out
    or saturated."""
    state = history.state
    return bool(history.flags & ROAMS) and (
        bool(history.flags & (ERASED | EXPIRED | REPEATED))
        or history.ids > MAX_EVENT_IDS
        or history.newest - history.oldest > user_ttl_ms
        or history.mass > SATURATION
        or state is None
        or len(state.items) == MAX_ITEMS
        or len(state.labels) == MAX_LABELS
    )


def digest(data: bytes | None) -> bytes:
    """Of a bad record's key or value; b"" for none."""
    return b"" if data is None else blake2b(data, digest_size=DIGEST).digest()


class Replay:
    def __init__(self, rules: Rules, encoder: Encoder, spill: Spill) -> None:
        self._rules = rules
        self._encoder = encoder
        self._spill = spill
        self._key = partial(user_key, secret=rules.secret)
        self._nothing = np.zeros((0, encoder.dimension), np.float32)
        self.counts = Counts()

    def take(self, records: Sequence[Record], *, whole: bool) -> None:
        """A piece of one partition, in order. whole: the log has all that was ever applied of this partition."""
        counts = self.counts
        counts.records += len(records)
        entries = self._decoded(records)
        counts.skipped += len(records) - len(entries)
        vectors = self._encode(entries)
        histories = self._spill.load({entry.log.user for entry in entries if entry.log is not None})
        sums, bad, questions = Sums(), [], []
        for entry in entries:
            if entry.log is None:
                bad.append(self._bad(entry))
                continue
            history = histories.get(entry.log.user)
            if history is None:
                history = histories[entry.log.user] = History(entry.log.user)
            question = self._apply(history, entry, entry.log, vectors, sums, whole=whole)
            if question is not None:
                questions.append(question)
        counts.bad += len(bad)
        self._spill.save(histories.values())
        self._spill.add(sums)
        self._spill.ask(questions)
        self._spill.bad(bad)

    def loosen(self, records: Sequence[Record], *, filled: bool) -> None:
        """A piece of the log again, once all of it has been taken: notes the items and labels of users with whom the
        order between partitions decides more than rounding. Nobody can tell what their sums must be.

        filled: the space may have been filled while another one served. Who was erased meanwhile was erased in both at
        once, so that earlier events may never have been added to the one that was behind.
        """
        events = [entry.log for entry in self._decoded(records) if entry.log is not None]
        histories = self._spill.load({event.user for event in events})
        popularity: dict[int, float] = {}
        labels: dict[int, float] = {}
        for event in events:
            history = histories[event.user]
            if entangled(history, self._rules.user_ttl_ms):
                self._spill.loosen(event.labels if event.item is None else (event.item, *event.labels))
            elif filled and history.flags & ERASED:
                if event.item is not None:
                    weight = forward_weight(event.weight, event.occurred, POPULARITY_HALF_LIFE_MS)
                    popularity[event.item] = log2_add(popularity.get(event.item, float("-inf")), weight)
                for label in event.labels:
                    labels[label] = labels.get(label, 0.0) + event.weight
        self._spill.erasable(popularity, labels)

    def _decoded(self, records: Sequence[Record]) -> list[Entry]:
        """Without what an operator has skipped, of which only users who are to be forgotten count."""
        found = []
        for record in records:
            skipped = within(self._rules.skipped, record.partition, record.offset)
            if skipped and record.value is not None:
                continue
            entry = decode(record, self._key)
            if not skipped or entry.dead is None:
                found.append(entry)
        return found

    def _encode(self, entries: Iterable[Entry]) -> NDArray[np.float32]:
        """(N, D), LogEvent.vector points into it."""
        read = [e for e in entries if e.text and e.log is not None and self._rules.sampled(e.log.user)]
        if not read:
            return self._nothing
        tokens = self._encoder.tokenise([entry.text for entry in read])
        for row, (entry, ids) in enumerate(zip(read, tokens.ids, strict=True)):
            if entry.log is not None and len(ids):
                entry.log.vector = row
        self.counts.encoded += len(read)
        return self._encoder.encode(tokens)

    def _apply(
        self,
        history: History,
        entry: Entry,
        event: LogEvent,
        vectors: NDArray[np.float32],
        sums: Sums,
        *,
        whole: bool,
    ) -> Question | None:
        rules = self._rules
        if event.partition != history.partition:
            history.flags |= (ROAMS if history.partition >= 0 else 0) | (0 if whole else PARTIAL)
            history.partition, history.ordinal = event.partition, 0
        history.oldest = min(history.oldest, event.timestamp)
        history.newest = max(history.newest, event.timestamp)
        before = history.state
        expires = not event.erases and before is not None and event.timestamp - before.seen_at > rules.user_ttl_ms
        if event.erases or expires:
            history.life += 1
            history.ordinal = 0
            history.flags |= ERASED if event.erases else EXPIRED
        if event.erases:
            self.counts.tombstones += 1
            if history.flags & PARTIAL and not history.flags & ROAMS:
                history.flags = history.flags & ~PARTIAL | CUT
        made = update(
            {event.user: Stored(history.position, before)},
            [event],
            vectors,
            newcomer_events=rules.newcomer_events,
            user_ttl_ms=rules.user_ttl_ms,
        )
        for write, state in zip(made.writes, made.states, strict=True):
            history.position, history.state = write.position, state
            _aggregate(sums, write, expires=expires)
        self._name(sums, entry, event)
        if event.erases:
            return None
        if not made.outcomes[0].applied:
            history.flags |= REPEATED
            return None
        self.counts.events += 1
        history.events += 1
        history.ordinal += 1
        history.mass += event.weight
        history.ids += event.event_id is not None
        return self._question(history, entry, event)

    def _question(self, history: History, entry: Entry, event: LogEvent) -> Question | None:
        """By its number in its own partition: no order of partitions makes it a smaller one."""
        read, state = entry.event, history.state
        if read is None or state is None or history.ordinal > self._rules.newcomer_events:
            return None
        own = () if event.item is None else (event.item,)
        record = entry.record
        event_id = read.event_id or default_event_id(record.topic, record.partition, record.offset)
        late = record.timestamp >= self._rules.answer_after_ms
        return Question(
            partition=event.partition,
            offset=event.offset,
            user=event.user,
            life=history.life,
            nth=history.ordinal,
            event_id=hash64(event_id),
            timestamp=record.timestamp,
            seen=frozenset(state.items if self._knows_items(history) else own),
            own=event.item or 0,
            needed=late and not within(self._rules.unanswered, event.partition, event.offset),
        )

    def _knows_items(self, history: History) -> bool:
        """Whether every earlier event was surely seen before this one: not with several partitions, nor where one may
        repeat an id from before the log, and was skipped."""
        return not (history.flags & ROAMS or (history.flags & PARTIAL and history.ids))

    def _bad(self, entry: Entry) -> Bad:
        record = entry.record
        return Bad(
            record.partition,
            record.offset,
            "" if entry.dead is None else str(entry.dead.reason),
            record.timestamp,
            digest(record.key),
            digest(record.value),
            needed=not within(self._rules.unanswered, record.partition, record.offset),
        )

    def _name(self, sums: Sums, entry: Entry, event: LogEvent) -> None:
        """Also of an event that was skipped for its id: names do not change, and workers keep them too."""
        read = entry.event
        if read is None:
            return
        if event.item is not None and read.item_id is not None:
            sums.titles.add((event.item, read.item_id, read.item_title or ""))
            if self._rules.min_donors > 1:
                sums.holders.add((event.item, event.user))
        sums.label_names.update(zip(event.labels, read.labels, strict=True))


def _aggregate(sums: Sums, write: UserWrite, *, expires: bool) -> None:
    for item in write.entered:
        sums.users[item] = sums.users.get(item, 0) + 1
    for item in write.left:
        sums.users[item] = sums.users.get(item, 0) - 1
        if expires:
            sums.spare[item] = sums.spare.get(item, 0) + 1
    for item, weight in write.popularity:
        sums.popularity[item] = log2_add(sums.popularity.get(item, float("-inf")), weight)
    for label, weight in write.labels:
        sums.labels[label] = sums.labels.get(label, 0.0) + weight
