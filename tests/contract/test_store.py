"""What every store promises (worker/store/base.py), on each of them."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from model.item_table import ItemEntry, ItemRow
from model.users import Stored, UserWrite
from schemas.state import hash64, pack_position, pack_state
from tests.stores import (
    ANNA,
    BO,
    BOOK,
    ENTRIES,
    FILM,
    RED,
    SHARDS,
    START,
    UNSEEN,
    AuditedStore,
    Backend,
    at,
    batch,
    counts,
    event,
    everything,
    item,
    nothing_new,
    state,
    user,
    user_in,
)
from worker.store.base import FellBack, Identity, StoreRefused, Write

# Load and save


def test_a_user_never_seen_is_empty(store: AuditedStore) -> None:
    assert store.load([ANNA]) == [Stored()]
    assert store.load([]) == []


def test_states_come_back_in_the_order_asked_for_in_every_field(store: AuditedStore) -> None:
    value = state(3, items=(1, 2**64 - 1))
    value.first, value.labels, value.event_ids = ((0, 5), (7, 2**40)), {2**64 - 1: 0.5}, (9,)
    many = {0: 2**62, 4_000_000_000: 1}
    write = UserWrite(ANNA, b"", pack_position(many), pack_state(value))
    assert store.save(batch(event(BO, 8), write, upto=9)) == set()

    bo, nobody, anna = store.load([BO, user("nobody"), ANNA])
    assert anna.position == pack_position(many)
    assert nobody == Stored()
    assert bo.state is not None
    assert bo.state.count == 9
    assert anna.state is not None
    np.testing.assert_array_equal(anna.state.vector, value.vector)
    assert (anna.state.items, anna.state.first, anna.state.labels, anna.state.event_ids) == (
        value.items, value.first, value.labels, value.event_ids,
    )  # fmt: skip


def test_five_thousand_users_in_one_call_are_all_saved_loaded_and_read(
    store: AuditedStore, other: AuditedStore
) -> None:
    keys = [user(n) for n in range(5000)]
    items = [hash64(f"item {n}") for n in range(5000)]
    writes = [
        event(key, n, entered=(number,), popularity=((number, 1.0),), labels=((number, 1.0),))
        for n, (key, number) in enumerate(zip(keys, items, strict=True))
    ]
    entries = [ItemEntry(number, f"item {n}", "a title", b"\1" * 16) for n, number in enumerate(items)]
    labels = [(number, f"label {n}") for n, number in enumerate(items)]
    assert store.save(Write({0: 5000}, UNSEEN, writes, entries, labels)) == set()

    assert [stored.state.count for stored in store.load(keys) if stored.state] == list(range(1, 5001))
    for seen in (everything(other), other.changes(START)):
        assert counts(seen.users) == {key: n + 1 for n, key in enumerate(keys)}
        rows = {row.item_id: row for row in seen.items}
        assert len(rows) == 5000
        assert rows["item 77"] == ItemRow(items[77], "item 77", "a title", 1.0, 1, b"\1" * 16)
        assert sorted(seen.labels) == sorted(labels)
    assert len(store.label_weights()) == 5000


def test_a_write_must_name_every_shard(store: AuditedStore) -> None:
    with pytest.raises(ValueError, match="shards"):
        store.save(batch(upto=1, left=[{}]))


# Compare and set


def test_a_write_from_an_older_position_is_refused_and_the_others_are_kept(
    store: AuditedStore, other: AuditedStore
) -> None:
    store.save(batch(event(ANNA, 1), upto=2))
    zombie = batch(event(BO, 1), event(ANNA, 1), event(user("cy"), 1), upto=2)
    assert other.save(zombie) == {1}
    anna, bo = store.load([ANNA, BO])
    assert anna.position == pack_position({0: 1})
    assert bo.position == pack_position({0: 1})


def test_a_refused_write_leaves_nothing(store: AuditedStore, other: AuditedStore) -> None:
    first = event(ANNA, 1, entered=(FILM,), popularity=((FILM, 2.0),), labels=((RED, 1.0),))
    store.save(batch(first, upto=2, items=ENTRIES, labels=[(RED, "red")]))
    before, weights = everything(store), store.label_weights()

    late = event(ANNA, 5, entered=(BOOK,), left=(FILM,), popularity=((FILM, 9.0), (BOOK, 9.0)), labels=((RED, 8.0),))
    assert other.save(batch(late, upto=6)) == {0}

    after = everything(store)
    assert counts(after.users) == counts(before.users)
    assert sorted(after.items, key=lambda row: row.item) == sorted(before.items, key=lambda row: row.item)
    assert store.label_weights() == weights
    assert nothing_new(other, before.cursors)


def test_a_repeated_batch_is_refused_and_doubles_no_aggregate(store: AuditedStore) -> None:
    write = batch(
        event(ANNA, 1, entered=(FILM,), popularity=((FILM, 2.0),), labels=((RED, 1.0),)), upto=2, items=ENTRIES
    )
    assert store.save(write) == set()
    assert store.save(write) == {0}
    assert (item(store, FILM).users, item(store, FILM).popularity) == (1, 2.0)
    assert store.label_weights() == {RED: 1.0}


def test_a_recomputed_write_after_a_refusal_is_taken(store: AuditedStore, other: AuditedStore) -> None:
    store.save(batch(event(ANNA, 1), upto=2))
    assert other.save(batch(event(ANNA, 2), upto=3)) == {0}
    assert other.save(batch(event(ANNA, 2, after=1), upto=3, left=at(2))) == set()


def test_two_writes_of_one_user_in_a_batch_are_compared_one_after_the_other(store: AuditedStore) -> None:
    assert store.save(batch(event(ANNA, 1), event(ANNA, 2), event(ANNA, 3, after=1), upto=4)) == {1}
    assert store.load([ANNA])[0].position == pack_position({0: 3})


# Erasing


def test_an_erased_user_keeps_nothing_but_the_position(store: AuditedStore, other: AuditedStore) -> None:
    store.save(batch(event(ANNA, 1, entered=(FILM, BOOK)), upto=2, items=ENTRIES))
    cursors = everything(other).cursors
    assert store.save(batch(event(ANNA, 2, after=1, erase=True, left=(FILM, BOOK)), upto=3)) == set()
    assert store.load([ANNA]) == [Stored(pack_position({0: 2}), None)]
    assert item(store, FILM).users == 0
    assert everything(other).users == []
    assert other.changes(cursors).users == [(ANNA, None)]


def test_a_late_write_does_not_bring_an_erased_user_back(store: AuditedStore, other: AuditedStore) -> None:
    store.save(batch(event(ANNA, 1), upto=2))
    store.save(batch(event(ANNA, 2, after=1, erase=True), upto=3))
    assert other.save(batch(event(ANNA, 2, after=1), upto=3)) == {0}
    assert other.save(batch(event(ANNA, 1), upto=2)) == {0}
    assert store.load([ANNA])[0].state is None


def test_a_tombstone_from_an_older_position_is_refused(store: AuditedStore, other: AuditedStore) -> None:
    store.save(batch(event(ANNA, 1), event(BO, 1), upto=2))
    store.save(batch(event(ANNA, 3, after=1), upto=4))
    assert other.save(batch(event(ANNA, 2, after=1, erase=True), upto=3)) == {0}
    assert store.load([ANNA])[0].state is not None


def test_an_erased_user_who_writes_again_starts_anew(store: AuditedStore) -> None:
    store.save(batch(event(ANNA, 1, erase=True), upto=2))
    assert store.save(batch(event(ANNA, 2, after=1), upto=3)) == set()
    assert counts(everything(store).users) == {ANNA: 3}


# Watermarks


def test_every_batch_raises_the_watermark_of_every_shard(store: AuditedStore) -> None:
    assert store.watermarks() == UNSEEN
    store.save(batch(event(ANNA, 1), upto=2))
    store.save(Write({3: 2**53 + 1}, at(2)))
    assert store.watermarks() == [{0: 2, 3: 2**53 + 1} for _ in range(SHARDS)]


def test_watermarks_never_go_down(store: AuditedStore, other: AuditedStore) -> None:
    store.save(Write({0: 100, 1: 9}, UNSEEN))
    other.save(Write({0: 99, 1: 10}, UNSEEN))
    other.save(Write({0: 2**60 + 1, 1: 2}, at(100)))
    other.save(Write({0: 2**60}, at(2**60)))
    assert store.watermarks() == [{0: 2**60 + 1, 1: 10} for _ in range(SHARDS)]
    with pytest.raises(FellBack):
        store.save(Write({}, at(2**60 + 2)))


def test_a_watermark_is_not_raised_over_an_event_of_a_refused_user(store: AuditedStore, other: AuditedStore) -> None:
    here, there = user_in(1), user_in(2)
    other.save(batch(event(here, 1), upto=2))
    assert store.save(batch(event(here, 5), event(there, 5), upto=6)) == {0}
    assert [marks.get(0) for marks in store.watermarks()] == [6, 2, 6, 6]
    assert store.save(batch(event(here, 5, after=1), upto=6)) == set()
    assert store.watermarks() == at(6)


def test_a_shard_that_was_lost_writes_nothing_until_it_is_healed(backend: Backend, store: AuditedStore) -> None:
    here, there = user_in(1), user_in(2)
    store.save(batch(event(here, 1), event(there, 1), upto=2))
    backend.lose(1)
    with pytest.raises(FellBack, match="shard 1"):
        store.save(batch(event(here, 2), event(there, 2, after=1), upto=3, left=at(2), items=ENTRIES))
    assert store.load([here]) == [Stored()]
    assert store.watermarks()[1] == {}
    assert store.watermarks()[0] == {0: 3}

    replayed = batch(event(here, 1), event(there, 1), upto=2, left=store.watermarks())
    assert store.save(replayed) == {1}
    assert store.load([here])[0].position == pack_position({0: 1})


def test_a_shard_that_was_set_back_writes_nothing_until_it_is_healed(backend: Backend, store: AuditedStore) -> None:
    here = user_in(2)
    store.save(batch(event(here, 1), upto=2))
    copy = backend.copy(2)
    store.save(batch(event(here, 2, after=1), upto=3, left=at(2)))
    backend.set_back(2, copy)
    with pytest.raises(FellBack, match="watermark of partition 0 is 2, this worker left 3"):
        store.save(batch(event(here, 3, after=2), upto=4, left=at(3)))
    assert store.load([here])[0].position == pack_position({0: 1})
    assert store.watermarks()[2] == {0: 2}

    assert store.save(batch(event(here, 2, after=1), upto=3, left=store.watermarks())) == set()


def test_a_partition_that_was_never_left_there_is_no_fallback(store: AuditedStore, other: AuditedStore) -> None:
    store.save(Write({0: 5}, UNSEEN))
    other.save(Write({1: 7}, UNSEEN))
    store.save(Write({0: 6}, at(5)))
    with pytest.raises(FellBack):
        store.save(Write({2: 1}, at(1, partition=2)))


# Aggregates


def test_popularity_is_the_log_of_the_sum_over_users_and_shards(store: AuditedStore) -> None:
    rng = np.random.default_rng(0)
    weights = rng.uniform(-60, 60, 40)
    for n, weight in enumerate(weights):
        write = event(user(n), n, popularity=((FILM, float(weight)), (FILM, -np.inf)))
        store.save(batch(write, upto=n + 1, items=ENTRIES))
    assert item(store, FILM).popularity == pytest.approx(np.log2(np.exp2(weights).sum()), abs=1e-9)
    assert item(store, BOOK).popularity == -np.inf


def test_popularity_beyond_the_range_of_a_float_is_summed_all_the_same(store: AuditedStore) -> None:
    for n, weight in enumerate((20_000.0, 20_000.0, -20_000.0)):
        store.save(batch(event(user_in(n), n, popularity=((FILM, weight), (FILM, weight))), upto=n + 1, items=ENTRIES))
    assert item(store, FILM).popularity == pytest.approx(20_002.0)


def test_an_event_without_weight_changes_no_item(store: AuditedStore, other: AuditedStore) -> None:
    store.save(batch(event(ANNA, 1, popularity=((FILM, 2.0),)), upto=2, items=ENTRIES))
    cursors = everything(other).cursors
    store.save(batch(event(ANNA, 2, after=1, popularity=((FILM, -np.inf),)), upto=3))
    seen = other.changes(cursors)
    assert (len(seen.users), seen.items) == (1, [])
    assert item(store, FILM).popularity == 2.0


def test_users_of_an_item_rise_and_fall_over_all_shards(store: AuditedStore) -> None:
    for shard in range(SHARDS):
        store.save(batch(event(user_in(shard), 1, entered=(FILM, BOOK)), upto=2, items=ENTRIES))
    assert (item(store, FILM).users, item(store, BOOK).users) == (SHARDS, SHARDS)
    for shard in range(SHARDS):
        store.save(batch(event(user_in(shard), 2, after=1, left=(FILM,)), upto=3))
    assert (item(store, FILM).users, item(store, BOOK).users) == (0, SHARDS)


def test_weights_of_labels_are_summed(store: AuditedStore) -> None:
    for n in range(8):
        store.save(batch(event(user(n), n, labels=((RED, 0.1), (2**64 - 1, 2.0), (RED, 0.1))), upto=n + 1))
    assert store.label_weights() == pytest.approx({RED: 1.6, 2**64 - 1: 16.0})


def test_a_hash_above_two_to_the_53_keeps_every_bit(store: AuditedStore) -> None:
    twins = (2**63 + 1, 2**63 + 3)
    entries = [ItemEntry(twin, f"item {twin}") for twin in twins]
    store.save(batch(event(ANNA, 1, entered=twins[:1], popularity=((twins[1], 1.0),)), upto=2, items=entries))
    assert item(store, twins[0]) == ItemRow(twins[0], f"item {twins[0]}", None, -np.inf, 1, b"")
    assert item(store, twins[1]) == ItemRow(twins[1], f"item {twins[1]}", None, 1.0, 0, b"")


# Catalogue


def test_an_entry_without_title_or_vector_leaves_what_is_known(store: AuditedStore) -> None:
    store.save(Write({0: 1}, UNSEEN, items=[ItemEntry(FILM, "film", "Der blaue Engel 蓝天使", b"\7" * 8)]))
    store.save(Write({0: 2}, UNSEEN, items=[ItemEntry(FILM, "film")]))
    assert item(store, FILM) == ItemRow(FILM, "film", "Der blaue Engel 蓝天使", -np.inf, 0, b"\7" * 8)
    store.save(Write({0: 3}, UNSEEN, items=[ItemEntry(FILM, "film", "The Blue Angel", b"\x08" * 8)]))
    assert (item(store, FILM).title, item(store, FILM).vector) == ("The Blue Angel", b"\x08" * 8)


def test_an_item_without_a_catalogue_entry_is_no_row(store: AuditedStore) -> None:
    store.save(batch(event(ANNA, 1, entered=(FILM,), popularity=((FILM, 1.0),)), upto=2))
    assert everything(store).items == []


# Identity and notes


def test_the_first_identity_stands(store: AuditedStore, other: AuditedStore) -> None:
    first = store.identify("topic-1", frozenset({"a", "b"}))
    assert first.topic_id == "topic-1"
    assert first.previous == {"a", "b"}
    assert len(first.instance) == 32
    assert other.identify("topic-2", frozenset()) == first


def test_workers_that_start_together_agree_on_one_identity(backend: Backend) -> None:
    stores = [backend.open() for _ in range(8)]
    answers: list[Identity] = []
    barrier = threading.Barrier(len(stores))

    def start(number: int) -> None:
        barrier.wait(timeout=10)
        answers.append(stores[number].identify(f"topic-{number}", frozenset({str(number)})))

    threads = [threading.Thread(target=start, args=(number,)) for number in range(len(stores))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert len(answers) == len(stores)
    assert len(set(answers)) == 1
    assert {f"topic-{number}" for number in answers[0].previous} == {answers[0].topic_id}


def test_data_that_was_lost_gets_another_identity(backend: Backend, store: AuditedStore) -> None:
    first = store.identify("topic", frozenset())
    backend.lose()
    second = store.identify("topic", frozenset({first.instance}))
    assert second.instance != first.instance
    assert second.previous == {first.instance}


def test_another_number_of_shards_is_refused_with_the_remedy(backend: Backend, store: AuditedStore) -> None:
    store.identify("topic", frozenset())
    with pytest.raises(StoreRefused, match=r"in 4 shards, the settings say 3; set the number of shards back"):
        backend.open(shards=3).identify("topic", frozenset())
    assert store.identify("topic", frozenset()).topic_id == "topic"


def test_notes_are_kept_read_by_others_and_deleted(store: AuditedStore, other: AuditedStore) -> None:
    assert other.noted("release") is None
    store.note("release", "größer")
    assert other.noted("release") == "größer"
    other.note("release", None)
    other.note("release", None)
    assert store.noted("release") is None


def test_a_state_of_a_newer_version_is_refused_with_the_remedy(store: AuditedStore, other: AuditedStore) -> None:
    newer = b"\xff" + pack_state(state())[1:]
    store.save(batch(UserWrite(ANNA, b"", pack_position({0: 1}), newer), upto=2))
    for read in (lambda: store.load([ANNA]), lambda: other.changes(START), lambda: everything(other)):
        with pytest.raises(StoreRefused, match="run the version of Kindred that wrote it"):
            read()
