"""What every store promises of its feed of changes and its snapshot (worker/store/base.py), on each of them."""

from __future__ import annotations

import time

import numpy as np
import pytest

from model.item_table import ItemRow
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
    lost,
    nothing_new,
    user,
    user_in,
)
from worker.store.base import FeedLost, Write


def test_what_another_worker_saved_comes_once_with_its_items_and_labels(
    store: AuditedStore, other: AuditedStore
) -> None:
    cursors = everything(other).cursors
    write = event(ANNA, 1, entered=(FILM,), popularity=((FILM, 1.5),))
    store.save(batch(write, upto=2, items=ENTRIES, labels=[(RED, "red")]))
    seen = other.changes(cursors)
    assert counts(seen.users) == {ANNA: 2}
    assert sorted(seen.items, key=lambda row: row.item_id) == [
        ItemRow(BOOK, "book", None, -np.inf, 0, b""),
        ItemRow(FILM, "film", None, 1.5, 1, b""),
    ]
    assert seen.labels == [(RED, "red")]
    assert nothing_new(other, seen.cursors)


def test_an_unchanged_catalogue_is_not_announced_again(store: AuditedStore, other: AuditedStore) -> None:
    store.save(Write({0: 1}, UNSEEN, items=ENTRIES, labels=[(RED, "red")]))
    cursors = everything(other).cursors
    store.save(Write({0: 2}, UNSEEN, items=ENTRIES, labels=[(RED, "red")]))
    assert nothing_new(other, cursors)


def test_scores_rise_with_every_call(store: AuditedStore, other: AuditedStore) -> None:
    here = user_in(0)
    cursors = START
    for offset in range(200):
        store.save(batch(event(here, offset, after=offset - 1 if offset else None), upto=offset + 1))
        seen = other.changes(cursors)
        assert counts(seen.users) == {here: offset + 1}
        assert seen.cursors[0] > cursors[0]
        cursors = seen.cursors


def test_own_writes_are_left_out_until_somebody_else_changes_the_user(store: AuditedStore, other: AuditedStore) -> None:
    cursors = everything(store).cursors
    store.save(batch(event(ANNA, 1), event(BO, 1), upto=2))
    assert store.changes(cursors).users == []
    other.save(batch(event(ANNA, 2, after=1), upto=3))
    assert counts(store.changes(cursors).users) == {ANNA: 3}
    assert counts(other.changes(cursors).users) == {BO: 2}
    store.save(batch(event(ANNA, 3, after=2), upto=4))
    assert store.changes(cursors).users == []


def test_what_is_saved_while_a_snapshot_is_read_comes_with_the_snapshot_or_after_it(
    store: AuditedStore, other: AuditedStore
) -> None:
    keys = [user(n) for n in range(3000)]
    store.save(batch(*(event(key, 0) for key in keys[:2000]), upto=1))
    seen: dict[bytes, int | None] = {}
    cursors = START
    for n, piece in enumerate(other.snapshot()):
        if n == 0:
            store.save(batch(*(event(key, 1) for key in keys[2000:]), event(keys[0], 1, after=0), upto=2, left=at(1)))
        seen |= counts(piece.users)
        cursors = piece.cursors
    seen |= counts(other.changes(cursors).users)
    assert seen == {keys[0]: 2} | dict.fromkeys(keys[1:2000], 1) | dict.fromkeys(keys[2000:], 2)


def test_a_reader_of_an_emptied_shard_must_reload_even_after_it_filled_again(
    backend: Backend, store: AuditedStore, other: AuditedStore
) -> None:
    here = user_in(1)
    store.save(batch(event(here, 1), upto=2))
    cursors = everything(other).cursors
    backend.lose(1)
    with pytest.raises(FeedLost):
        other.changes(cursors)
    store.save(batch(event(here, 1), upto=2))
    with pytest.raises(FeedLost):
        other.changes(cursors)
    assert counts(other.changes(everything(other).cursors).users) == {}


def test_a_reader_that_sees_the_highest_score_fall_must_reload(
    backend: Backend, store: AuditedStore, other: AuditedStore
) -> None:
    here = user_in(3)
    store.save(batch(event(here, 1), upto=2))
    copy = backend.copy(3)
    store.save(batch(event(here, 2, after=1), upto=3))
    cursors = everything(other).cursors
    backend.set_back(3, copy)
    with pytest.raises(FeedLost):
        other.changes(cursors)


def test_a_reader_older_than_the_feed_must_reload(backend: Backend) -> None:
    store, other = backend.open(feed_us=1000), backend.open(feed_us=1000)
    one, two = [key for key in map(user, range(50)) if key[-1] % SHARDS == 0][:2]
    store.save(batch(event(one, 0), upto=1))
    early = everything(other).cursors
    deadline = time.monotonic() + 10
    offset = 0
    while not lost(other, START):
        assert time.monotonic() < deadline, "the feed was never trimmed"
        store.save(batch(event(two, offset, after=offset - 1 if offset else None), upto=offset + 1))
        offset += 1
    assert counts(other.changes(early).users) == {two: offset}, "this reader had seen all that was trimmed"


def test_an_idle_reader_of_an_idle_feed_has_lost_nothing(backend: Backend) -> None:
    store, other = backend.open(feed_us=0), backend.open(feed_us=0)
    store.save(batch(event(ANNA, 1), upto=2))
    cursors = everything(other).cursors
    store.save(Write({0: 3}, at(2)))
    assert nothing_new(other, cursors)


def test_cursors_of_another_number_of_shards_are_an_error(store: AuditedStore) -> None:
    with pytest.raises(ValueError, match="cursors"):
        store.changes((0.0,))
