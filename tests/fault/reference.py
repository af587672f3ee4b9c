"""What must come out of a log: the serial reference, one event at a time through the pure update.

Knows no broker, no Redis and no batch of events.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.encoder.base import Encoder
from schemas.recommendation import recommendation_id
from schemas.state import UserState
from worker.broker.base import Record
from worker.decode import Entry, decode
from worker.store.base import Stored, UserKey, UserWrite
from worker.store.keys import user_key
from worker.store.popularity import log2_add
from worker.update import DAY_MS, update

NEWCOMER_EVENTS: Final = 3
USER_TTL_MS: Final = 365 * DAY_MS

KEY: Final[Callable[[str], UserKey]] = partial(user_key, secret=b"")


@dataclass(frozen=True, slots=True)
class Answer:
    """One recommendation that the log asks for. roams: its user wrote in several partitions, so `nth` depends on which
    of them was read first."""

    user_id: str
    nth: int
    partition: int
    offset: int
    roams: bool


@dataclass(slots=True)
class Expected:
    """answers: by id. owed: ids of answers to users who are still known at the end; an erased user's answer is owed
    only by a run without a fault, for a replay that begins behind the tombstone knows the user no more.
    dead: (partition, offset) of bad records. popularity: item → log2 weight. holders: item → users who have it among
    their recent items. labels: hash → summed weight. items: hash → (id, title)."""

    users: dict[UserKey, Stored] = field(default_factory=dict)
    roamers: set[UserKey] = field(default_factory=set)
    answers: dict[str, Answer] = field(default_factory=dict)
    owed: set[str] = field(default_factory=set)
    dead: set[tuple[int, int]] = field(default_factory=set)
    popularity: dict[int, float] = field(default_factory=dict)
    holders: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    labels: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    items: dict[int, tuple[str, str | None]] = field(default_factory=dict)
    label_names: dict[int, str] = field(default_factory=dict)


def expected(log: Sequence[Record], encoder: Encoder) -> Expected:
    """log: all records of `user-text`, partition after partition in offset order.

    Exact with an encoder that gives the same bits in every batch, as the dummy does.
    """
    out = Expected()
    entries = [decode(record, KEY) for record in log]
    vectors = _encode(entries, encoder)
    partitions: dict[UserKey, set[int]] = defaultdict(set)
    for entry in entries:
        if entry.log is not None:
            partitions[entry.log.user].add(entry.record.partition)
    out.roamers = {user for user, where in partitions.items() if len(where) > 1}
    for entry in entries:
        if entry.dead is not None:
            out.dead.add((entry.record.partition, entry.record.offset))
        else:
            _apply(out, entry, vectors)
    places = {(answer.partition, answer.offset): key for key, answer in out.answers.items()}
    for stored in out.users.values():
        if stored.state is not None:
            out.owed |= {places[place] for place in stored.state.first}
    return out


def _encode(entries: Sequence[Entry], encoder: Encoder) -> NDArray[np.float32]:
    """(N, D), LogEvent.vector points into it; all at once, because the batch makes no difference (see `expected`)."""
    read = [entry for entry in entries if entry.text and entry.log is not None]
    tokens = encoder.tokenise([entry.text for entry in read])
    for row, (entry, ids) in enumerate(zip(read, tokens.ids, strict=True)):
        if entry.log is not None and len(ids):
            entry.log.vector = row
    return encoder.encode(tokens)


def _apply(out: Expected, entry: Entry, vectors: NDArray[np.float32]) -> None:
    event, record = entry.log, entry.record
    assert event is not None
    before = out.users.get(event.user, Stored())
    result = update({event.user: before}, [event], vectors, newcomer_events=NEWCOMER_EVENTS, user_ttl_ms=USER_TTL_MS)
    for write, state in zip(result.writes, result.states, strict=True):
        out.users[event.user] = Stored(write.position, state)
        _aggregate(out, write)
    if entry.event is not None:
        _catalogue(out, entry)
        nth = result.outcomes[0].nth
        if nth:
            user = entry.event.user_id
            key = recommendation_id(user, record.topic, record.partition, record.offset)
            out.answers[key] = Answer(user, nth, record.partition, record.offset, event.user in out.roamers)


def _aggregate(out: Expected, write: UserWrite) -> None:
    for item in write.entered:
        out.holders[item] += 1
    for item in write.left:
        out.holders[item] -= 1
    for item, weight in write.popularity:
        out.popularity[item] = log2_add(out.popularity.get(item, float("-inf")), weight)
    for label, weight in write.labels:
        out.labels[label] += weight


def _catalogue(out: Expected, entry: Entry) -> None:
    event, log = entry.event, entry.log
    assert event is not None
    assert log is not None
    if log.item is not None and event.item_id is not None:
        title = event.item_title or out.items.get(log.item, ("", None))[1]
        out.items[log.item] = (event.item_id, title)
    out.label_names.update(zip(log.labels, event.labels, strict=True))


def unlike(state: UserState, other: UserState, tolerance: float) -> bool:
    """Whether two states differ in more than the rounding of their vectors and weights. tolerance: of half the squared
    distance of the vectors, which for unit vectors is 1 - cosine."""
    distance = state.vector.astype(np.float64) - other.vector
    return (
        float(distance @ distance) / 2 > tolerance
        or state.count != other.count
        or sorted(state.items) != sorted(other.items)
        or state.labels.keys() != other.labels.keys()
        or not np.allclose(list(state.labels.values()), [other.labels[label] for label in state.labels], rtol=1e-5)
        or set(state.event_ids) != set(other.event_ids)
        or (state.last_time, state.seen_at) != (other.last_time, other.seen_at)
        or not np.isclose(state.weight, other.weight, rtol=1e-9)
    )
