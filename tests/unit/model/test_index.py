from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest

from model.evidence import LATEST
from model.index import DONOR_BYTES, ITEM_SHARE, Changes, Index
from model.item_table import POPULAR, ItemEntry, ItemRow, Listing
from model.nearest import Floats
from model.transfer import transfer
from model.transfer_weights import TransferWeights
from schemas.state import UserState, hash64

DIMENSION = 8
BUDGET = 1 << 20
EAST, NORTH = np.eye(DIMENSION, dtype=np.float32)[:2]
NOW = 1_800_000_000_000
WEIGHTS = TransferWeights.default()


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def state(
    vector: Floats = EAST,
    items: Sequence[str] = (),
    labels: Sequence[str] = (),
    *,
    last_time: int = 1,
    count: int = 1,
) -> UserState:
    return UserState(
        vector=vector.astype(np.float16),
        weight=1.0,
        last_time=last_time,
        seen_at=last_time,
        count=count,
        items=tuple(hash64(item) for item in items),
        labels=dict.fromkeys(map(hash64, labels), 1.0),
    )


def rows(*names: str, popularity: float = 0.0, users: int = 1, vector: Floats | None = None) -> list[ItemRow]:
    text = b"" if vector is None else vector.astype(np.float16).tobytes()
    return [ItemRow(hash64(name), name, f"Title of {name}", popularity, users, text) for name in names]


def index_with(*names: str, **options: int) -> Index:
    index = Index(DIMENSION, BUDGET, min_donors=options.pop("min_donors", 1), min_events=options.pop("min_events", 1))
    index.apply(Changes((1.0,), items=rows(*names)), at=10.0)
    return index


def recommended(
    index: Index, vector: Floats = EAST, items: Sequence[str] = (), user: bytes = key(999), now_ms: int = NOW
) -> list[str]:
    queries = index.queries([user], vector[None], [[hash64(item) for item in items]], [{}])
    result = transfer(queries, index.known(now_ms), WEIGHTS)
    names = [index.items.ids[slot] for slot in result.items[0].tolist() if slot >= 0]
    assert None not in names
    return [str(name) for name in names]


def donors_of(index: Index, vector: Floats = EAST, user: bytes = key(999)) -> int:
    result = transfer(index.queries([user], vector[None], [[]], [{}]), index.known(NOW), WEIGHTS)
    return int(result.donors[0])


def test_what_a_donor_took_is_recommended() -> None:
    index = index_with("a", "b")
    index.put_user(key(1), state(EAST, ["a"]))
    assert recommended(index)[0] == "a"
    assert index.donors == 1


def test_a_new_state_replaces_the_old_one() -> None:
    index = index_with("a", "b")
    index.put_user(key(1), state(EAST, ["a"]))
    index.put_users([(key(1), state(NORTH, ["b"])), (key(1), state(NORTH, ["b", "a"], count=2))])
    assert index.donors == 1
    assert donors_of(index, EAST) == 0
    assert donors_of(index, NORTH) == 1


def test_a_batch_gives_the_same_index_as_its_users_one_by_one() -> None:
    random = np.random.default_rng(0)
    names = [f"i{n}" for n in range(30)]
    users = [
        (
            key(int(random.integers(40))),
            state(
                random.standard_normal(DIMENSION).astype(np.float32),
                random.choice(names, 5, replace=False).tolist(),
                random.choice(names, 2, replace=False).tolist(),
            ),
        )
        for _ in range(200)
    ]
    together, single = index_with(*names), index_with(*names)
    together.put_users(users)
    for user, new in users:
        single.put_user(user, new)
    for vector in random.standard_normal((20, DIMENSION)).astype(np.float32):
        asked = [index.queries([key(999)], vector[None], [[hash64("i3")]], [{}]) for index in (together, single)]
        assert together.donors == single.donors
        first, second = (
            transfer(queries, index.known(NOW), WEIGHTS)
            for queries, index in zip(asked, (together, single), strict=True)
        )
        np.testing.assert_array_equal(first.donors, second.donors)
        np.testing.assert_allclose(first.similarity, second.similarity, atol=1e-5)


def test_an_erased_user_is_gone_at_once() -> None:
    index = index_with("a")
    index.put_user(key(1), state(EAST, ["a"]))
    index.put_user(key(1), None)
    assert index.donors == 0
    assert donors_of(index) == 0
    assert recommended(index, items=["a"]) == []
    index.put_user(key(2), state(NORTH, ["a"]))
    assert donors_of(index, EAST) == 0


def test_the_row_of_an_erased_user_carries_nothing_over_to_the_next() -> None:
    index = index_with("a", "b", "c")
    index.put_user(key(1), state(EAST, ["a", "b"]))
    index.put_user(key(1), None)
    index.put_user(key(2), state(NORTH, ["c"]))
    queries = index.queries([key(999)], EAST[None], [[hash64("a")]], [{}])
    assert transfer(queries, index.known(NOW), WEIGHTS).sources.tolist() == [0]


def test_erasing_a_user_who_was_never_seen_is_harmless() -> None:
    index = index_with("a")
    index.put_users([(key(5), None)])
    assert index.donors == 0


def test_a_user_with_too_few_events_is_no_donor() -> None:
    index = index_with("a", min_events=2)
    index.put_user(key(1), state(EAST, ["a"], count=1))
    assert index.donors == 0
    index.put_user(key(1), state(EAST, ["a"], count=2))
    assert index.donors == 1


def test_a_user_without_a_vector_still_shares_items() -> None:
    index = index_with("a", "b")
    index.put_user(key(1), state(np.zeros(DIMENSION, np.float32), ["a", "b"]))
    assert donors_of(index) == 0
    assert recommended(index, items=["a"]) == ["b"]


def test_the_budget_holds_and_the_least_recently_active_go_first() -> None:
    index = Index(DIMENSION, 1 << 18)
    random = np.random.default_rng(0)
    times = random.permutation(5000)
    for some in times.reshape(-1, 10).tolist():
        index.put_users([(key(time), state(EAST, [f"i{time % 7}"], last_time=time)) for time in some])
        assert index.bytes <= 1 << 18
    assert index.donors <= index.capacity
    newest = [key(time) for time in range(5000 - index.capacity * 9 // 10, 5000)]
    count = len(newest)
    queries = index.queries(newest, np.ones((count, DIMENSION), np.float32), [[]] * count, [{}] * count)
    assert (queries.rows >= 0).all()


def test_a_batch_larger_than_the_budget_is_cut_not_refused() -> None:
    index = Index(DIMENSION, 1)
    index.put_users([(key(n), state(EAST, ["a"], last_time=n)) for n in range(500)])
    assert index.donors == index.capacity


def test_items_that_made_room_leave_no_trace_in_donors() -> None:
    index = Index(DIMENSION, 1)
    index.apply(Changes((1.0,), items=rows("old", popularity=-9.0)))
    index.put_user(key(1), state(EAST, ["old"]))
    for start in range(0, 200, 20):
        index.apply(
            Changes((1.0,), items=rows(*(f"n{n}" for n in range(start, start + 20)), popularity=-20.0, users=0))
        )
        index.put_user(key(2), state(NORTH, [f"n{start}"]))
    result = transfer(index.queries([key(9)], EAST[None], [[]], [{}]), index.known(NOW), WEIGHTS)
    assert len(index.items) <= index.items.capacity
    assert result.counts[0, :, 0].max() <= 1
    assert index.items.find([hash64("old")]) == [-1] or recommended(index)[0] == "old"


def test_more_new_items_in_one_call_than_fit_are_left_out() -> None:
    index = Index(DIMENSION, 1)
    index.put_user(key(1), state(EAST, [f"i{n}" for n in range(32)]))
    index.apply(Changes((1.0,), items=rows(*(f"n{n}" for n in range(500)))))
    assert len(index.items) <= index.items.capacity


def test_an_item_met_before_its_name_is_recommended_once_it_has_one() -> None:
    index = Index(DIMENSION, BUDGET)
    index.put_user(key(1), state(EAST, ["late"]))
    assert recommended(index) == []
    index.learn([ItemEntry(hash64("late"), "late", "Late")], [(hash64("x"), "x")])
    assert recommended(index) == ["late"]


def test_an_item_has_to_have_enough_known_users() -> None:
    index = index_with("a", "b", min_donors=3)
    index.put_user(key(1), state(EAST, ["a", "b"]))
    index.apply(Changes((2.0,), items=rows("a", users=3)))
    assert recommended(index) == ["a"]


def test_the_feed_replaces_popularity_that_was_added_meanwhile() -> None:
    index = index_with("a", "b")
    index.apply(Changes((2.0,), items=rows("a", popularity=1.0) + rows("b", popularity=2.0)))
    zero = np.zeros(DIMENSION, np.float32)
    assert recommended(index, zero) == ["b", "a"]
    index.add_popularity([hash64("a"), hash64("a"), hash64("unknown")], [3.0, 3.0, 9.0])
    assert recommended(index, zero) == ["a", "b"]
    index.apply(Changes((3.0,), items=rows("a", popularity=1.5)))
    assert recommended(index, zero) == ["b", "a"]


def test_the_catalogue_decides_once_it_has_records() -> None:
    index = index_with("a", "b")
    index.put_user(key(1), state(EAST, ["a", "b"]))
    index.put_item(Listing(hash64("b"), "b", "B"))
    assert recommended(index) == ["b"]
    index.put_item(Listing(hash64("b"), "b", "B", available=False))
    assert recommended(index) == []
    index.put_item(Listing(hash64("b"), "b", "B"))
    assert recommended(index) == ["b"]
    assert index.catalogue_active
    index.withdraw(hash64("b"))
    assert set(recommended(index)) == {"a", "b"}


def test_an_item_is_recommended_until_it_expires() -> None:
    index = index_with("a")
    index.put_user(key(1), state(EAST, ["a"]))
    index.put_item(Listing(hash64("a"), "a", "A", expires_ms=NOW + 1))
    assert recommended(index) == ["a"]
    assert recommended(index, now_ms=NOW + 1) == []


def test_a_catalogue_item_that_nobody_has_is_found_by_its_text() -> None:
    index = Index(DIMENSION, BUDGET, min_donors=5)
    index.put_item(Listing(hash64("new"), "new", "New", vector=EAST))
    index.put_item(Listing(hash64("gone"), "gone", "Gone", vector=EAST, available=False))
    assert recommended(index) == ["new"]


def test_texts_of_learned_items_count_only_while_there_is_no_catalogue() -> None:
    index = Index(DIMENSION, BUDGET)
    index.apply(Changes((1.0,), items=rows("a", vector=EAST)))
    assert recommended(index) == ["a"]
    index.put_item(Listing(hash64("b"), "b", "B", vector=NORTH))
    assert recommended(index) == []
    index.withdraw(hash64("b"))
    assert recommended(index) == ["a"]


def test_the_catalogues_title_is_not_overwritten_by_the_feed() -> None:
    index = Index(DIMENSION, BUDGET)
    index.put_item(Listing(hash64("a"), "a", "From the catalogue"))
    index.apply(Changes((1.0,), items=rows("a")))
    assert index.items.titles == ["From the catalogue"]


def test_a_learned_title_stays_when_a_later_event_has_none() -> None:
    index = index_with("a")
    index.learn([ItemEntry(hash64("a"), "a", None)])
    assert index.items.titles == ["Title of a"]
    assert index.items.named(hash64("a"), with_title=True)


def test_staleness_counts_from_the_last_reading_of_the_feed() -> None:
    index = Index(DIMENSION, BUDGET)
    assert index.staleness(5.0) == np.inf
    index.apply(Changes((1.0,)), at=3.0)
    assert index.staleness(5.0) == 2.0


def test_bytes_are_counted_for_donors_items_and_labels() -> None:
    index = index_with("a")
    before = index.bytes
    index.put_user(key(1), state(EAST, ["a"], ["x"]))
    assert index.bytes >= before + DONOR_BYTES + DIMENSION * 4
    assert 0 < ITEM_SHARE < 1


def test_the_head_is_applied_to_donors_and_to_newcomers() -> None:
    def swap(vectors: Floats) -> Floats:
        return np.ascontiguousarray(vectors[:, ::-1][:, :4])

    index = Index(DIMENSION, BUDGET, interest=swap)
    last = np.eye(DIMENSION, dtype=np.float32)[-1]
    index.put_user(key(1), state(last, ["a"]))
    queries = index.queries([key(9)], last[None], [[]], [{}])
    assert queries.interests.tolist() == [[1, 0, 0, 0]]
    assert transfer(queries, index.known(NOW), WEIGHTS).similarity.tolist() == pytest.approx([1.0])


def mirrored(vectors: Floats) -> Floats:
    return np.ascontiguousarray(vectors[:, ::-1])


def test_an_exchanged_head_is_applied_to_donors_and_to_newcomers() -> None:
    index = index_with("a", "b")
    index.put_user(key(1), state(EAST, ["a"]))
    index.put_user(key(2), state(NORTH, ["b"]))
    index.turn(mirrored, index.turned(mirrored))
    queries = index.queries([key(9)], EAST[None], [[]], [{}])
    assert queries.interests.tolist() == mirrored(EAST[None]).tolist()
    assert queries.vectors.tolist() == EAST[None].tolist(), "item texts are compared in the encoder's space"
    assert transfer(queries, index.known(NOW), WEIGHTS).similarity.tolist() == pytest.approx([1.0])
    index.put_user(key(1), None)
    assert index.donors == 1
    assert recommended(index) == ["b"]


def test_under_a_learned_head_the_budget_has_room_for_fewer_donors() -> None:
    index = Index(DIMENSION, BUDGET)
    index.put_users([(key(time), state(EAST, last_time=time)) for time in range(index.capacity)])
    before, newest = index.donors, key(index.capacity - 1)
    index.turn(mirrored, index.turned(mirrored))
    assert index.donors < before
    assert index.bytes <= BUDGET
    index.put_users([(key(time), state(EAST, last_time=time)) for time in range(5000, 5100)])
    assert index.bytes <= BUDGET
    assert newest in index._rows
    fresh = Index(DIMENSION, BUDGET, interest=mirrored)
    assert fresh.capacity < index.capacity


def test_an_index_in_numpy_does_not_load_torch() -> None:
    code = "import sys, model.index, worker.answer; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_donors_active_last_come_first_and_those_of_one_time_have_one_age() -> None:
    index = Index(DIMENSION, BUDGET)
    times = {1: 50, 2: 70, 3: 70, 4: 10}
    index.put_users([(key(user), state(EAST, ["a"], last_time=time)) for user, time in times.items()])
    index.put_user(key(1), None)
    index.put_user(key(4), state(EAST, ["a"], last_time=60))
    known = index.known(NOW)
    assert known.active_times.tolist() == [70, 70, 60]
    assert known.ages.tolist() == [0, 0, 2]


def test_of_many_donors_the_latest_are_told_apart_whatever_is_erased() -> None:
    index = Index(DIMENSION, 32 << 20)
    times = np.random.default_rng(0).permutation(4 * LATEST)
    for some in times.reshape(-1, 256).tolist():
        index.put_users([(key(time), state(EAST, last_time=time)) for time in some])
        index.known(NOW)
    assert index.known(NOW).active_times.tolist() == list(range(4 * LATEST - 1, 3 * LATEST - 1, -1))
    index.put_users([(key(time), None) for time in range(3 * LATEST, 4 * LATEST)])
    known = index.known(NOW)
    assert known.active_times.tolist() == list(range(3 * LATEST - 1, 2 * LATEST - 1, -1))
    assert known.ages.tolist() == list(range(LATEST))


def test_the_people_of_an_item_follow_what_is_taken_dropped_and_erased() -> None:
    index = index_with("a", "b")
    slot = np.array(index.items.find([hash64("a")]))
    index.put_users([(key(1), state(EAST, ["a"], last_time=5)), (key(2), state(NORTH, ["a"], last_time=3))])
    people = index.known(NOW).audience(slot)
    np.testing.assert_array_equal(people.tastes, [EAST + NORTH])
    assert people.since.tolist() == [3]
    index.put_user(key(2), state(NORTH, ["b"], last_time=9))
    np.testing.assert_array_equal(index.known(NOW).audience(slot).tastes, [EAST])
    index.put_user(key(1), None)
    assert index.known(NOW).audience(slot).count.tolist() == [0]


def test_a_label_is_the_rarer_the_fewer_donors_have_it() -> None:
    index = index_with("a")
    for user, labels in enumerate((["x"], ["x", "y"], ["x"])):
        index.put_user(key(user), state(EAST, ["a"], labels))
    index.learn([], [(hash64(name), name) for name in ("x", "y")])
    names = [name or "" for name in index.label_names]
    rarity = dict(zip(names, index.known(NOW).rarity.tolist(), strict=True))
    assert rarity["y"] > rarity["x"] > 0
    index.put_user(key(1), None)
    index.put_user(key(2), None)
    assert index.known(NOW).rarity[names.index("x")] == pytest.approx(np.log(2))


def test_what_was_taken_last_is_a_candidate_for_everybody_although_it_is_not_popular() -> None:
    index = Index(DIMENSION, BUDGET)
    index.learn(rows(*(f"i{number}" for number in range(POPULAR)), popularity=5.0))
    index.learn(rows("late", popularity=-9.0))
    index.put_user(key(1), state(EAST, ["late"], last_time=9))
    assert index.items.find([hash64("late")])[0] in index.known(NOW).always
