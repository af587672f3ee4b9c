from __future__ import annotations

import pytest

from tests.stores import SHARDS, at, batch, event, user, user_in
from worker.store.base import FeedLost, FellBack, StoreUnavailable
from worker.store.memory import MemoryData, MemoryStore


def test_a_store_made_alone_has_its_own_data() -> None:
    one, two = MemoryStore(), MemoryStore()
    one.save(batch(event(user("a"), 1), upto=2))
    assert two.watermarks() == [{} for _ in range(SHARDS)]


def test_a_store_that_is_down_answers_no_call_and_keeps_what_it_had() -> None:
    data = MemoryData()
    store = MemoryStore(data)
    store.save(batch(event(user("a"), 1), upto=2))
    data.down = True
    with pytest.raises(StoreUnavailable):
        store.save(batch(upto=3))
    with pytest.raises(StoreUnavailable):
        store.watermarks()
    data.down = False
    assert store.watermarks() == at(2)


def test_a_shard_set_back_is_the_copy_and_later_writes_do_not_change_the_copy() -> None:
    data = MemoryData()
    store, key = MemoryStore(data), user_in(1)
    store.save(batch(event(key, 1), upto=2))
    copy = data.copy(1)
    for offset in (2, 3):
        store.save(batch(event(key, offset, after=1), upto=offset + 1))
        data.restore(1, copy)
        assert store.watermarks()[1] == {0: 2}
    with pytest.raises(FellBack):
        store.save(batch(upto=5, left=at(4)))


def test_the_feed_is_cut_by_the_clock_that_was_passed_in() -> None:
    now = 1000.0
    data = MemoryData(clock=lambda: now)
    store, reader = MemoryStore(data), MemoryStore(data)
    one, two = [key for key in map(user, range(50)) if key[-1] % SHARDS == 0][:2]
    store.save(batch(event(one, 0), upto=1))
    now += 3601
    store.save(batch(event(two, 0), upto=1))
    with pytest.raises(FeedLost):
        reader.changes((0.0,) * SHARDS)


def test_flushing_everything_takes_identity_and_notes_with_it() -> None:
    data = MemoryData()
    store = MemoryStore(data)
    first = store.identify("t", frozenset())
    store.note("a", "b")
    data.flush()
    assert store.noted("a") is None
    assert store.identify("t", frozenset()) != first
