from __future__ import annotations

import pytest

from tests.stores import SHARDS, RedisBackend, batch, event, user
from worker.store import feed

pytestmark = pytest.mark.embedded

SAME_SHARD = [key for key in map(user, range(200)) if key[-1] % SHARDS == 0]


def test_a_reader_that_fell_behind_takes_whole_calls_piece_by_piece(
    backend: RedisBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "FEED_PIECE", 3)
    store, reader = backend.open(), backend.open()
    for offset, size in enumerate((2, 2, 5, 1)):
        keys = SAME_SHARD[offset * 5 :][:size]
        store.save(batch(*(event(key, offset) for key in keys), upto=offset + 1))
    cursors: tuple[float, ...] = (0.0,) * SHARDS
    pieces = []
    while (seen := reader.changes(cursors)).users:
        pieces.append(len(seen.users))
        cursors = seen.cursors
    assert pieces == [4, 5, 1]


def test_only_a_bounded_number_of_own_calls_is_remembered(
    backend: RedisBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "OWN_SCORES", 2)
    store = backend.open()
    for offset, key in enumerate(SAME_SHARD[:4]):
        store.save(batch(event(key, offset), upto=offset + 1))
    assert {key for key, _ in store.changes((0.0,) * SHARDS).users} == set(SAME_SHARD[:2])


def test_a_snapshot_comes_in_pieces_of_bounded_size(backend: RedisBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "PIECE", 10)
    store = backend.open()
    store.save(batch(*(event(user(n), 0) for n in range(200)), upto=1))
    sizes = [len(piece.users) for piece in store.snapshot()]
    assert sum(sizes) >= 200
    assert max(sizes) < 40


def test_a_user_whose_key_expired_comes_as_erased(backend: RedisBackend) -> None:
    store, reader = backend.open(), backend.open()
    store.save(batch(event(SAME_SHARD[0], 0), upto=1))
    backend.client.delete(backend.keys(0).user + SAME_SHARD[0].hex().encode())
    assert reader.changes((0.0,) * SHARDS).users == [(SAME_SHARD[0], None)]


def test_scores_rise_though_the_clock_of_the_server_goes_back(backend: RedisBackend) -> None:
    store, reader = backend.open(), backend.open()
    store.save(batch(event(SAME_SHARD[0], 0), upto=1))
    tomorrow = reader.changes((0.0,) * SHARDS).cursors[0] + 86_400e6
    backend.client.hset(backend.keys(0).head, "last", f"{tomorrow:.0f}")
    cursors: tuple[float, ...] = (tomorrow, 0.0, 0.0, 0.0)
    for offset, key in enumerate(SAME_SHARD[1:4], start=1):
        store.save(batch(event(key, offset), upto=offset + 1))
        seen = reader.changes(cursors)
        assert [user for user, _ in seen.users] == [key]
        assert seen.cursors[0] == cursors[0] + 1
        cursors = seen.cursors


def test_entries_older_than_the_feed_leave_redis(backend: RedisBackend) -> None:
    store = backend.open(feed_us=0)
    for offset, key in enumerate(SAME_SHARD[:20]):
        store.save(batch(event(key, offset), upto=offset + 1))
    assert backend.client.zcard(backend.keys(0).feed) == 1
