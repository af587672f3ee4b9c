"""Step 5: old state + events + vectors → new state. A function of the log alone: no clock, no Kafka, no Redis.

The rules that make any replay give the same bytes:

* An event at or below its partition's position changes nothing.
* The mean is a forward-decayed mean (Cormode et al., "Forward Decay", ICDE 2009): an event of weight w at time t weighs
  w · 2^((t - LANDMARK) / HALF_LIFE), whatever else has arrived, so the order between partitions does not matter.
  Weights are kept as log2, because they grow without bound.
* The mean is rounded to float16 after every event, so the cut of the stream into batches does not matter.
* The mean's weight saturates at SATURATION events of the newest time, so that a float16 mean never freezes.
* Expiry compares Kafka timestamps of the user's own events.
* An event that is not newer than the user's last tombstone, and from another partition, is passed over: partitions are
  read in any order, and what was written before an erasure must not bring the user back.

All events of a batch are mixed in rounds: round r takes the r-th moving event of every user, as one matrix operation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.users import Stored, UserKey, UserWrite
from schemas.state import (
    MAX_EVENT_IDS,
    MAX_ITEMS,
    MAX_LABELS,
    Erasure,
    Position,
    UserState,
    pack_position,
    pack_state,
    unpack_place,
)

DAY_MS: Final = 86_400_000
LANDMARK_MS: Final = 1_577_836_800_000
"""2020-01-01, the origin of forward decay; any fixed time would do."""
HALF_LIFE_MS: Final = 180 * DAY_MS
"""Of an event in the user's mean, in `occurred_at`."""
POPULARITY_HALF_LIFE_MS: Final = 30 * DAY_MS
"""Of an event in an item's popularity, in `occurred_at`."""
SATURATION: Final = 256.0
"""Events' worth at which the mean's weight saturates: one more event still moves a coordinate of .05 by 2e-4, above
half a float16 step there."""

_LOG_SATURATION: Final = math.log2(SATURATION)
_NOTHING: Final = float("-inf")


@dataclass(slots=True)
class LogEvent:
    """One record of the log, as far as the state is concerned. (Not frozen: it is made once an event on the hot path.)

    vector: row of the batch's vectors, -1 where the text was empty. erases: a tombstone. event_id: hash of an id that
    the producer gave, None where the position is the id.
    """

    user: UserKey
    partition: int
    offset: int
    timestamp: int
    occurred: int = 0
    vector: int = -1
    weight: float = 1.0
    item: int | None = None
    labels: tuple[int, ...] = ()
    event_id: int | None = None
    erases: bool = False


@dataclass(slots=True)
class Outcome:
    """What one event came to: nth is its number among the user's first K events (0: not one of them), seen is the state
    that an answer to it may use: it holds this event and every earlier one. replayed: it was applied before. forgotten:
    it is older than its user's erasure."""

    nth: int = 0
    applied: bool = False
    seen: UserState | None = None
    replayed: bool = False
    forgotten: bool = False


@dataclass(slots=True)
class _User:
    """A user while the batch is applied. row: of the current incarnation in the matrix of means; moves: how many events
    have moved that row so far."""

    stored: Stored
    position: Position
    erased: Erasure | None
    state: UserState | None
    row: int
    moves: int = 0
    dirty: bool = False
    popularity: list[tuple[int, float]] = field(default_factory=list)
    labels: list[tuple[int, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Move:
    """One event's pull on a mean: row of the mean, share of the event in the new mean, row of its vector."""

    row: int
    share: float
    vector: int


@dataclass(slots=True)
class Update:
    """outcomes: one an event, in order. writes: one a user whose position moved. states: the new state of each write
    (None: erased), in the order of writes."""

    outcomes: list[Outcome]
    writes: list[UserWrite]
    states: list[UserState | None]


def forward_weight(weight: float, occurred: int, half_life_ms: int) -> float:
    """log2 of the forward-decayed weight of an event; -inf for weight 0."""
    if weight <= 0:
        return _NOTHING
    return math.log2(weight) + (occurred - LANDMARK_MS) / half_life_ms


def update(
    stored: Mapping[UserKey, Stored],
    events: Sequence[LogEvent],
    vectors: NDArray[np.float32],
    *,
    newcomer_events: int,
    user_ttl_ms: int,
) -> Update:
    """Apply events in order. vectors: (N, D) float32 that LogEvent.vector points into."""
    nothing = np.zeros(vectors.shape[1], np.float16)
    users: dict[UserKey, _User] = {}
    start: list[NDArray[np.float16]] = []  # the mean of each row before the batch
    rounds: list[list[_Move]] = []
    made: list[tuple[UserState, int, int]] = []  # state, its row, moves of that row it has seen
    outcomes: list[Outcome] = []
    for event in events:
        user = users.get(event.user)
        if user is None:
            known = stored[event.user]
            user = users[event.user] = _User(known, *unpack_place(known.position), known.state, len(start))
            start.append(known.state.vector if known.state else nothing)
        outcome = Outcome()
        outcomes.append(outcome)
        state = user.state
        if event.offset <= user.position.get(event.partition, -1):
            outcome.replayed = True
            if state is not None:
                outcome.nth, outcome.seen = _number(state, event), state
            continue
        user.position[event.partition] = event.offset
        user.dirty = True
        if event.erases:
            user.state = None
            user.erased = max(user.erased or (0, 0), (event.timestamp, event.partition))
            continue
        if user.erased is not None and event.timestamp <= user.erased[0] and event.partition != user.erased[1]:
            outcome.forgotten = True
            continue
        if state is not None and event.timestamp - state.seen_at > user_ttl_ms:
            state = None
        if state is None:
            state, user.row, user.moves = UserState(nothing), len(start), 0
            start.append(nothing)
        elif event.event_id is not None and event.event_id in state.event_ids:
            continue
        state = user.state = _facts(state, event, newcomer_events)
        for label in event.labels:
            user.labels.append((label, event.weight))
        if event.item is not None and event.weight > 0:
            user.popularity.append((event.item, forward_weight(event.weight, event.occurred, POPULARITY_HALF_LIFE_MS)))
        if event.vector >= 0 and event.weight > 0:
            if user.moves == len(rounds):
                rounds.append([])
            rounds[user.moves].append(_Move(user.row, _weigh(state, event), event.vector))
            user.moves += 1
        made.append((state, user.row, user.moves))
        outcome.nth, outcome.applied, outcome.seen = _number(state, event), True, state
    _mix(start, rounds, made, vectors)
    touched = [(key, user) for key, user in users.items() if user.dirty]
    return Update(outcomes, [_write(key, user) for key, user in touched], [user.state for _, user in touched])


def _number(state: UserState, event: LogEvent) -> int:
    """1 … K where the event is one of the user's first K, else 0."""
    place = (event.partition, event.offset)
    return state.first.index(place) + 1 if place in state.first else 0


def _facts(state: UserState, event: LogEvent, newcomer_events: int) -> UserState:
    """The state after the event in all but its vector and weight."""
    items, labels, ids, first = state.items, state.labels, state.event_ids, state.first
    if event.item is not None:
        if event.item in items:
            items = tuple(item for item in items if item != event.item)
        items = (*items, event.item)[-MAX_ITEMS:]
    if event.labels:
        labels = _count(labels, event)
    if event.event_id is not None:
        ids = (*ids, event.event_id)[-MAX_EVENT_IDS:]
    if state.count < newcomer_events and len(first) < newcomer_events:
        first = (*first, (event.partition, event.offset))
    return UserState(
        state.vector,
        state.weight,
        max(state.last_time, event.occurred) if state.count else event.occurred,
        max(state.seen_at, event.timestamp),
        state.count + 1,
        first,
        items,
        labels,
        ids,
    )


def _count(labels: dict[int, float], event: LogEvent) -> dict[int, float]:
    """Label weights after the event, each rounded to float32 as it is stored; the lightest, then oldest, go first."""
    counted = dict(labels)
    for label in event.labels:
        counted[label] = float(np.float32(counted.get(label, 0.0) + event.weight))
    excess = len(counted) - MAX_LABELS
    if excess > 0:
        current = set(event.labels)
        for label in sorted(counted, key=lambda known: (known in current, counted[known]))[:excess]:
            del counted[label]
    return counted


def _weigh(state: UserState, event: LogEvent) -> float:
    """Add the event's weight to the state's; returns the share of the event in the new mean."""
    gain = forward_weight(event.weight, event.occurred, HALF_LIFE_MS)
    high, low = (state.weight, gain) if state.weight > gain else (gain, state.weight)
    total = high + math.log2(1.0 + 2.0 ** max(low - high, -1074.0))
    saturated = _LOG_SATURATION + (state.last_time - LANDMARK_MS) / HALF_LIFE_MS
    state.weight = min(total, saturated)
    return float(2.0 ** (gain - total))


def _mix(
    start: Sequence[NDArray[np.float16]],
    rounds: Sequence[Sequence[_Move]],
    made: Sequence[tuple[UserState, int, int]],
    vectors: NDArray[np.float32],
) -> None:
    """Move the means, one round after the other, and hang into every state the mean that it has seen."""
    if not rounds:
        return
    means = np.stack(start)
    seen: list[tuple[NDArray[np.float16], dict[int, int]]] = []
    for moves in rounds:
        rows = [move.row for move in moves]
        share = np.array([move.share for move in moves], np.float32)[:, None]
        old = means[rows].astype(np.float32)
        mixed = (old + share * (vectors[[move.vector for move in moves]] - old)).astype(np.float16)
        means[rows] = mixed
        seen.append((mixed, {row: place for place, row in enumerate(rows)}))
    for state, row, moved in made:
        if moved:
            mixed, places = seen[moved - 1]
            state.vector = mixed[places[row]]


def _write(key: UserKey, user: _User) -> UserWrite:
    before = user.stored.state.items if user.stored.state is not None else ()
    after = user.state.items if user.state is not None else ()
    entered = left = ()  # type: tuple[int, ...]
    if before != after:
        entered = tuple(item for item in after if item not in before)
        left = tuple(item for item in before if item not in after)
    return UserWrite(
        key,
        user.stored.position,
        pack_position(user.position, user.erased),
        pack_state(user.state) if user.state is not None else None,
        entered,
        left,
        tuple(user.popularity),
        tuple(user.labels),
    )
