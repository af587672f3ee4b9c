"""The rules of step 5, one by one; what holds for all streams stands in tests/property/test_update.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from model.update import (
    DAY_MS,
    HALF_LIFE_MS,
    LANDMARK_MS,
    POPULARITY_HALF_LIFE_MS,
    SATURATION,
    LogEvent,
    Update,
    forward_weight,
    update,
)
from model.users import Stored, UserKey
from schemas.state import (
    MAX_EVENT_IDS,
    MAX_ITEMS,
    MAX_LABELS,
    UserState,
    pack_position,
    pack_state,
    unpack_place,
    unpack_state,
)

ANNA, BO = b"anna".ljust(16), b"bo".ljust(16)
TTL = 365 * DAY_MS
NOW = LANDMARK_MS + 1000 * DAY_MS
EAST, NORTH = np.eye(4, dtype=np.float32)[:2]
VECTORS = np.stack([EAST, NORTH])


def event(offset: int, user: UserKey = ANNA, partition: int = 0, at: int = NOW, **changes: object) -> LogEvent:
    made = LogEvent(user, partition, offset, at, occurred=at, vector=0)
    return replace(made, **changes)  # type: ignore[arg-type]


def run(events: Sequence[LogEvent], stored: dict[UserKey, Stored] | None = None, *, k: int = 3) -> Update:
    known = dict.fromkeys((ANNA, BO), Stored()) | (stored or {})
    return update(known, events, VECTORS, newcomer_events=k, user_ttl_ms=TTL)


def after(events: Sequence[LogEvent], stored: dict[UserKey, Stored] | None = None) -> UserState:
    state = run(events, stored).states[0]
    assert state is not None
    return state


def kept(result: Update) -> dict[UserKey, Stored]:
    """What the store holds after the writes of an update."""
    return {
        write.user: Stored(write.position, None if write.state is None else unpack_state(write.state))
        for write in result.writes
    }


def test_the_first_event_makes_the_mean_its_vector() -> None:
    state = after([event(5)])
    assert state.vector.tolist() == EAST.tolist()
    assert (state.count, state.first, state.last_time, state.seen_at) == (1, ((0, 5),), NOW, NOW)


def test_events_of_one_time_and_weight_give_their_mean() -> None:
    assert after([event(0), event(1, vector=1)]).vector.tolist() == [0.5, 0.5, 0, 0]


def test_an_event_of_twice_the_weight_pulls_twice_as_much() -> None:
    state = after([event(0), event(1, vector=1, weight=2.0)])
    assert state.vector == pytest.approx([1 / 3, 2 / 3, 0, 0], abs=1e-3)


def test_an_event_half_a_life_older_counts_half_in_whatever_order_it_comes() -> None:
    old, new = event(0, at=NOW), event(1, vector=1, at=NOW + HALF_LIFE_MS)
    wanted = [1 / 3, 2 / 3, 0, 0]
    long = {"newcomer_events": 3, "user_ttl_ms": 10 * TTL}
    for order in ([old, new], [replace(new, offset=0), replace(old, offset=1)]):
        state = update({ANNA: Stored()}, order, VECTORS, **long).states[0]
        assert state is not None
        assert state.vector == pytest.approx(wanted, abs=1e-3)
        assert state.last_time == NOW + HALF_LIFE_MS


def test_the_mean_never_freezes_however_many_events_it_holds() -> None:
    stored: dict[UserKey, Stored] = {}
    for start in range(0, 2000, 500):
        stored = kept(run([event(offset) for offset in range(start, start + 500)], stored))
    before = stored[ANNA].state
    assert before is not None
    assert before.weight == pytest.approx(math.log2(SATURATION) + 1000 * DAY_MS / HALF_LIFE_MS)
    assert after([event(2000, vector=1)], stored).vector[1] == pytest.approx(1 / (SATURATION + 1), rel=1e-2)


def test_an_event_at_or_below_the_position_changes_nothing_and_is_still_numbered() -> None:
    stored = kept(run([event(3), event(4)]))
    result = run([event(3), event(4)], stored)
    assert result.writes == []
    assert [(o.nth, o.applied) for o in result.outcomes] == [(1, False), (2, False)]
    assert result.outcomes[0].seen == stored[ANNA].state


def test_positions_are_kept_by_partition() -> None:
    result = run([event(7, partition=1), event(3, partition=0)])
    assert result.writes[0].position == pack_position({0: 3, 1: 7})
    assert result.writes[0].expected == b""


def test_only_the_first_k_events_are_numbered() -> None:
    assert [o.nth for o in run([event(n) for n in range(5)]).outcomes] == [1, 2, 3, 0, 0]
    assert [o.nth for o in run([event(n) for n in range(5)], k=1).outcomes] == [1, 0, 0, 0, 0]


def test_each_outcome_sees_its_own_event_and_the_earlier_ones_only() -> None:
    seen = [o.seen for o in run([event(0, item=1), event(1, vector=1, item=2), event(2, BO, item=9)]).outcomes]
    assert [state.items for state in seen if state] == [(1,), (1, 2), (9,)]
    assert [state.vector.tolist() for state in seen if state] == [[1, 0, 0, 0], [0.5, 0.5, 0, 0], [1, 0, 0, 0]]


def test_a_tombstone_leaves_a_position_and_nothing_else() -> None:
    stored = kept(run([event(0, item=5)]))
    result = run([event(1, erases=True)], stored)
    (write,) = result.writes
    assert (write.state, write.position) == (None, pack_position({0: 1}, (NOW, 0)))
    assert (write.entered, write.left) == ((), (5,))


@pytest.mark.parametrize(
    ("at", "partition", "comes_back"),
    [(NOW - 1, 1, False), (NOW, 1, False), (NOW + 1, 1, True), (NOW - 1, 0, True)],
    ids=["older", "of the same time", "newer", "older, but behind the tombstone"],
)
def test_an_event_of_another_partition_that_is_older_than_a_tombstone_brings_nobody_back(
    at: int, partition: int, comes_back: bool
) -> None:
    stored = kept(run([event(0), event(1, erases=True)]))
    result = run([event(7, partition=partition, at=at)], stored)
    (write,) = result.writes
    assert (write.state is not None) is comes_back
    assert result.outcomes[0].forgotten is not comes_back
    # The position moves all the same, and the erasure stays known.
    assert unpack_place(write.position) == ({0: 1} | {partition: 7}, (NOW, 0))


def test_the_newest_of_several_tombstones_counts() -> None:
    stored = kept(run([event(0, erases=True, at=NOW + 5), event(0, partition=1, erases=True)]))
    assert unpack_place(stored[ANNA].position)[1] == (NOW + 5, 0)


def test_an_event_before_a_tombstone_that_comes_again_changes_nothing_and_is_not_answered() -> None:
    stored = kept(run([event(0), event(1, erases=True)]))
    result = run([event(0)], stored)
    assert result.writes == []
    assert (result.outcomes[0].nth, result.outcomes[0].seen) == (0, None)


def test_an_event_after_a_tombstone_begins_anew_within_one_batch_too() -> None:
    result = run([event(0, item=1), event(1, erases=True), event(2, vector=1, item=2)])
    state = result.states[0]
    assert state is not None
    assert (state.count, state.items, state.first, state.vector.tolist()) == (1, (2,), ((0, 2),), NORTH.tolist())
    assert [o.nth for o in result.outcomes] == [1, 0, 1]


def test_a_user_who_was_away_longer_than_the_ttl_by_kafkas_time_begins_anew() -> None:
    stored = kept(run([event(0, item=1)]))
    assert after([event(1, at=NOW + TTL)], stored).count == 2
    expired = run([event(1, at=NOW + TTL + 1)], stored)
    state = expired.states[0]
    assert state is not None
    assert (state.count, state.first) == (1, ((0, 1),))
    assert expired.writes[0].left == (1,)


def test_occurred_at_alone_lets_nobody_expire() -> None:
    stored = kept(run([event(0)]))
    assert after([event(1, occurred=NOW + 2 * TTL)], stored).count == 2


def test_a_known_event_id_moves_the_position_only() -> None:
    stored = kept(run([event(0, event_id=77, item=1, labels=(5,))]))
    result = run([event(1, event_id=77, vector=1, item=2, labels=(6,))], stored)
    (write,) = result.writes
    before = stored[ANNA].state
    assert before is not None
    assert write.state == pack_state(before)
    assert write.position == pack_position({0: 1})
    assert (write.entered, write.popularity, write.labels) == ((), (), ())
    assert (result.outcomes[0].nth, result.outcomes[0].applied) == (0, False)


def test_the_last_event_ids_are_remembered_and_older_ones_forgotten() -> None:
    ids = list(range(100, 100 + MAX_EVENT_IDS + 1))
    state = after([event(n, event_id=one) for n, one in enumerate(ids)])
    assert state.event_ids == tuple(ids[1:])


@pytest.mark.parametrize("light", [event(1, vector=-1), event(1, vector=1, weight=0.0)])
def test_an_event_without_text_or_weight_counts_and_moves_nothing(light: LogEvent) -> None:
    stored = kept(run([event(0)]))
    state = after([light], stored)
    before = stored[ANNA].state
    assert before is not None
    assert state.count == 2
    assert state.vector.tobytes() == before.vector.tobytes()
    assert state.weight == before.weight


def test_a_user_without_any_weight_has_a_zero_vector() -> None:
    state = after([event(0, weight=0.0)])
    assert not state.vector.any()
    assert state.weight == float("-inf")


def test_recent_items_are_unique_bounded_and_the_oldest_go_first() -> None:
    state = after([event(n, item=n) for n in range(MAX_ITEMS + 2)] + [event(MAX_ITEMS + 2, item=5)])
    assert len(state.items) == MAX_ITEMS
    assert state.items[-1] == 5
    assert state.items[0] == 2
    assert state.items.count(5) == 1


def test_items_that_came_and_went_within_a_batch_are_no_change() -> None:
    stored = kept(run([event(0, item=1)]))
    (write,) = run([event(n, item=n + 10) for n in range(1, MAX_ITEMS + 5)], stored).writes
    assert write.left == (1,)
    assert len(write.entered) == MAX_ITEMS
    assert 11 not in write.entered


def test_the_lightest_labels_make_room_but_never_those_of_the_event() -> None:
    heavy = [event(n, labels=(n,), weight=2.0) for n in range(MAX_LABELS - 1)]
    state = after([*heavy, event(50, labels=(99,), weight=1.0), event(51, labels=(100,), weight=0.5)])
    assert len(state.labels) == MAX_LABELS
    assert state.labels[100] == 0.5
    assert 99 not in state.labels


def test_popularity_and_labels_of_each_applied_event_go_with_the_write() -> None:
    (write,) = run([event(0, item=7, labels=(1, 2), weight=3.0), event(1, item=7)]).writes
    assert write.labels == ((1, 3.0), (2, 3.0))
    expected = forward_weight(3.0, NOW, POPULARITY_HALF_LIFE_MS), forward_weight(1.0, NOW, POPULARITY_HALF_LIFE_MS)
    assert write.popularity == ((7, expected[0]), (7, expected[1]))
    assert write.entered == (7,)


def test_an_item_of_an_event_without_weight_is_seen_but_not_popular() -> None:
    (write,) = run([event(0, item=7, weight=0.0)]).writes
    assert (write.entered, write.popularity) == ((7,), ())


def test_the_forward_weight_doubles_every_half_life() -> None:
    assert forward_weight(1.0, LANDMARK_MS, HALF_LIFE_MS) == 0
    assert forward_weight(1.0, LANDMARK_MS + HALF_LIFE_MS, HALF_LIFE_MS) == 1
    assert forward_weight(2.0, LANDMARK_MS - HALF_LIFE_MS, HALF_LIFE_MS) == 0
    assert forward_weight(0.0, LANDMARK_MS, HALF_LIFE_MS) == float("-inf")


def test_a_mean_of_vectors_that_cancel_is_zero_and_can_move_again() -> None:
    opposite = np.stack([EAST, -EAST, NORTH])
    made = update(
        {ANNA: Stored()},
        [event(0), event(1, vector=1), event(2, vector=2)],
        opposite,
        newcomer_events=3,
        user_ttl_ms=TTL,
    )
    seen = [o.seen for o in made.outcomes]
    assert seen[1] is not None
    assert not seen[1].vector.any()
    assert seen[2] is not None
    assert seen[2].vector == pytest.approx([0, 1 / 3, 0, 0], abs=1e-3)
