"""Step 5 is a function of the log alone, whatever the cuts into batches, the order between partitions and replays."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model.update import DAY_MS, HALF_LIFE_MS, LANDMARK_MS, LogEvent, Update, update
from model.users import Stored, UserKey
from schemas.state import UserState, unpack_position, unpack_state

USERS: list[UserKey] = [bytes([n]) * 16 for n in range(3)]
START = LANDMARK_MS + 2000 * DAY_MS
TTL = 30 * DAY_MS
K = 3
_random = np.random.default_rng(5)
_rows = _random.normal(size=(12, 16))
VECTORS = (_rows / np.linalg.norm(_rows, axis=1, keepdims=True)).astype(np.float32)


@dataclass(slots=True)
class Shelf:
    """A store of a few lines: values as bytes, and the sums that the writes' changes make."""

    values: dict[UserKey, tuple[bytes, bytes | None]] = field(default_factory=dict)
    holders: Counter[int] = field(default_factory=Counter)
    popularity: Counter[tuple[int, float]] = field(default_factory=Counter)
    labels: Counter[int] = field(default_factory=Counter)
    numbers: dict[tuple[int, int], int] = field(default_factory=dict)
    """(partition, offset) → nth of the outcomes that had one."""

    def apply(self, batch: Sequence[LogEvent]) -> Update:
        stored = {user: self.stored(user) for user in USERS}
        made = update(stored, batch, VECTORS, newcomer_events=K, user_ttl_ms=TTL)
        for write in made.writes:
            before = unpack_position(write.expected)
            after = unpack_position(write.position)
            assert all(after[partition] >= offset for partition, offset in before.items()), "offsets only rise"
            assert write.expected == stored[write.user].position
            self.values[write.user] = (write.position, write.state)
            self.holders.update(write.entered)
            self.holders.subtract(write.left)
            self.popularity.update(write.popularity)
            for label, weight in write.labels:
                self.labels[label] += weight  # type: ignore[assignment]
        for event, outcome in zip(batch, made.outcomes, strict=True):
            if outcome.nth:
                place = (event.partition, event.offset)
                assert self.numbers.setdefault(place, outcome.nth) == outcome.nth, "a number never changes"
        return made

    def stored(self, user: UserKey) -> Stored:
        position, state = self.values.get(user, (b"", None))
        return Stored(position, None if state is None else unpack_state(state))

    def state(self, user: UserKey = USERS[0]) -> UserState | None:
        return self.stored(user).state

    def same(self, other: Shelf) -> None:
        assert self.values == other.values
        assert +self.holders == +other.holders
        assert self.popularity == other.popularity
        assert self.labels == other.labels


def told(events: Sequence[LogEvent], cuts: Sequence[int] = ()) -> Shelf:
    """The stream, cut before these places."""
    shelf = Shelf()
    edges = [0, *sorted(cut % (len(events) + 1) for cut in cuts), len(events)]
    for start, stop in pairwise(edges):
        shelf.apply(fresh(events[start:stop]))
    return shelf


def fresh(events: Sequence[LogEvent]) -> list[LogEvent]:
    return [replace(event) for event in events]


def numbered(events: Sequence[LogEvent]) -> list[LogEvent]:
    """The events with rising offsets in each partition."""
    ends: Counter[int] = Counter()
    made = []
    for event in events:
        made.append(replace(event, offset=ends[event.partition]))
        ends[event.partition] += 1
    return made


def events(*, users: int = 3, tombstones: bool = True, longest_gap: int = 2 * TTL) -> st.SearchStrategy[LogEvent]:
    times = st.integers(0, longest_gap).map(lambda gap: START + gap)
    return st.builds(
        LogEvent,
        user=st.sampled_from(USERS[:users]),
        partition=st.just(0),
        offset=st.just(0),
        timestamp=times,
        occurred=times,
        vector=st.integers(-1, len(VECTORS) - 1),
        weight=st.sampled_from([0.0, 0.5, 1.0, 7.0]),
        item=st.none() | st.integers(0, 40),
        labels=st.lists(st.integers(0, 30), max_size=3).map(tuple),
        event_id=st.none() | st.integers(0, 5),
        erases=st.integers(0, 9).map(lambda roll: roll == 0) if tombstones else st.just(False),
    )


STREAMS = st.lists(events(), max_size=40).map(numbered)
CUTS = st.lists(st.integers(0, 1000), max_size=8)


@given(STREAMS, CUTS)
def test_the_cut_into_batches_does_not_matter_bit_for_bit(stream: list[LogEvent], cuts: list[int]) -> None:
    whole, cut = told(stream), told(stream, cuts)
    whole.same(cut)
    assert whole.numbers == cut.numbers


@given(STREAMS)
def test_single_events_come_to_the_same_as_one_batch(stream: list[LogEvent]) -> None:
    told(stream).same(told(stream, range(len(stream))))


@given(STREAMS, CUTS, st.randoms(use_true_random=False))
def test_the_order_between_the_partitions_of_different_users_does_not_matter(
    stream: list[LogEvent], cuts: list[int], random: Random
) -> None:
    home = {user: number % 2 for number, user in enumerate(USERS)}
    stream = numbered([replace(event, partition=home[event.user]) for event in stream])
    told(stream).same(told(mixed(stream, random), cuts))


def mixed(stream: Sequence[LogEvent], random: Random) -> list[LogEvent]:
    """Another order that keeps the order within each partition."""
    queues = [[event for event in stream if event.partition == number] for number in (0, 1)]
    made: list[LogEvent] = []
    while any(queues):
        made.append(random.choice([queue for queue in queues if queue]).pop(0))
    return made


PLAIN = st.lists(events(users=1, tombstones=False, longest_gap=TTL), min_size=1, max_size=20)


@given(PLAIN, st.lists(st.booleans(), min_size=20, max_size=20), st.randoms(use_true_random=False))
def test_one_user_over_two_partitions_is_the_same_in_all_that_has_no_order(
    stream: list[LogEvent], sides: list[bool], random: Random
) -> None:
    """The mean only to float16, because it is rounded after every event. (Items and labels stay below their bounds.)"""
    plain = [
        replace(e, partition=int(side), event_id=None, labels=tuple(label % 16 for label in e.labels))
        for e, side in zip(stream, sides, strict=False)
    ]
    stream = numbered(plain)
    shelf, other = told(stream), told(mixed(stream, random))
    one, two = shelf.state(), other.state()
    assert one is not None
    assert two is not None
    assert np.allclose(one.vector.astype(float), two.vector.astype(float), atol=len(stream) * 2.0**-11)
    assert math.isclose(one.weight, two.weight, rel_tol=1e-12) or one.weight == two.weight
    assert (one.count, one.last_time, one.seen_at) == (two.count, two.last_time, two.seen_at)
    assert set(one.items) == set(two.items)
    assert one.labels == two.labels
    assert shelf.values[USERS[0]][0] == other.values[USERS[0]][0]
    assert (+shelf.holders, shelf.popularity, shelf.labels) == (+other.holders, other.popularity, other.labels)


@given(STREAMS, st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=6))
def test_replays_of_any_stretch_change_nothing(stream: list[LogEvent], stretches: list[tuple[int, int]]) -> None:
    shelf = told(stream)
    before = dict(shelf.values)
    for start, stop in stretches:
        made = shelf.apply(fresh(stream[start:stop]))
        assert made.writes == []
        assert not any(outcome.applied for outcome in made.outcomes)
    assert shelf.values == before


@given(STREAMS, CUTS, st.lists(st.integers(0, 10), max_size=8))
def test_a_reader_that_goes_back_again_and_again_comes_to_the_same(
    stream: list[LogEvent], cuts: list[int], backs: list[int]
) -> None:
    shelf = Shelf()
    at = 0
    for cut, back in zip(sorted(cut % (len(stream) + 1) for cut in cuts), backs, strict=False):
        shelf.apply(fresh(stream[at:cut]))
        at = max(0, cut - back)
    shelf.apply(fresh(stream[at:]))
    told(stream).same(shelf)


@given(st.lists(events(tombstones=False, longest_gap=TTL), max_size=12), st.lists(st.integers(0, 11), max_size=12))
def test_a_repeat_of_an_event_id_leaves_no_trace_in_the_state(stream: list[LogEvent], repeats: list[int]) -> None:
    """Originals keep their places, so that only the repeats differ."""
    originals = [replace(event, offset=2 * n, event_id=n) for n, event in enumerate(stream)]
    doubled = []
    for event in originals:
        doubled.append(event)
        if event.event_id in repeats:
            doubled.append(replace(event, offset=event.offset + 1))
    one, two = told(originals), told(doubled)
    assert {user: state for user, (_, state) in one.values.items()} == {u: s for u, (_, s) in two.values.items()}
    assert (one.popularity, one.labels, one.numbers) == (two.popularity, two.labels, two.numbers)


@given(STREAMS, events(tombstones=False))
def test_an_event_of_weight_0_moves_no_mean_and_no_popularity(stream: list[LogEvent], light: LogEvent) -> None:
    shelf = told(stream)
    before, popular = shelf.state(light.user), Counter(shelf.popularity)
    shelf.apply([replace(light, offset=len(stream), weight=0.0, event_id=None)])
    after = shelf.state(light.user)
    assert after is not None
    assert shelf.popularity == popular
    if before is None or light.timestamp - before.seen_at > TTL:
        assert not after.vector.any()
    else:
        assert after.vector.tobytes() == before.vector.tobytes()
        assert after.weight == before.weight


@given(STREAMS)
def test_users_expire_by_kafkas_time_alone(stream: list[LogEvent]) -> None:
    plain = [replace(event, event_id=None) for event in stream]
    counts: Counter[UserKey] = Counter()
    seen: dict[UserKey, int] = {}
    for event in plain:
        if event.erases or event.timestamp - seen.get(event.user, event.timestamp) > TTL:
            counts[event.user] = 0
            seen.pop(event.user, None)
        if not event.erases:
            counts[event.user] += 1
            seen[event.user] = max(seen.get(event.user, 0), event.timestamp)
    shelf = told(plain)
    for user in USERS:
        state = shelf.state(user)
        assert (state.count if state else 0) == counts[user]


@given(PLAIN)
def test_the_mean_is_the_forward_decayed_mean_of_the_users_events(stream: list[LogEvent]) -> None:
    shelf = told(numbered([replace(event, event_id=None) for event in stream]))
    moving = [event for event in stream if event.vector >= 0 and event.weight > 0]
    state = shelf.state()
    assert state is not None
    if not moving:
        assert not state.vector.any()
        return
    weights = np.array([event.weight * 2 ** ((event.occurred - START) / HALF_LIFE_MS) for event in moving])
    mean = weights @ VECTORS[[event.vector for event in moving]].astype(float) / weights.sum()
    assert np.allclose(state.vector.astype(float), mean, atol=len(moving) * 2.0**-11)
