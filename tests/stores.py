"""The stores that a contract is checked on, each with what only a test does to it: lose a shard, set one back.

Also short ways to write values, so that a test shows only what it is about.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, Protocol
from uuid import uuid4

import numpy as np
import redis

from model.index import Changes
from model.item_table import ItemEntry, ItemRow
from model.users import UserKey, UserWrite
from schemas.state import UserState, hash64, pack_position, pack_state
from worker.store.base import FeedLost, Store, Watermarks, Write
from worker.store.connection import Connection
from worker.store.keys import ShardKeys, meta_key, notes_key
from worker.store.memory import MemoryData, MemoryStore
from worker.store.redis import RedisStore
from worker.store.save import FEED_US, Lifetimes

SPACE = "5bace0" * 10
SHARDS = 4
UNSEEN: Watermarks = [{} for _ in range(SHARDS)]
"""What a worker left that has written nothing yet."""


class AuditedStore(Store, Protocol):
    """A Store whose label counts can be read."""

    def label_weights(self) -> dict[int, float]: ...


class Backend(Protocol):
    """One place of states; every `open` is another worker's store over it."""

    def open(self, *, shards: int = SHARDS, feed_us: int = FEED_US) -> AuditedStore: ...

    def lose(self, shard: int | None = None) -> None:
        """Everything, or one shard, is gone."""

    def copy(self, shard: int) -> Any: ...

    def set_back(self, shard: int, copy: Any) -> None: ...


class MemoryBackend:
    def __init__(self) -> None:
        self.data = MemoryData(shards=SHARDS)

    def open(self, *, shards: int = SHARDS, feed_us: int = FEED_US) -> AuditedStore:
        self.data.feed_us = feed_us
        return MemoryStore(self.data, shards=shards)

    def lose(self, shard: int | None = None) -> None:
        self.data.flush(shard)

    def copy(self, shard: int) -> Any:
        return self.data.copy(shard)

    def set_back(self, shard: int, copy: Any) -> None:
        self.data.restore(shard, copy)


class RedisBackend:
    """A namespace of its own on a running server, so that tests share the server and nothing else."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.namespace = uuid4().hex
        self.client = redis.Redis.from_url(url, protocol=2)
        self._opened: list[RedisStore] = []

    def open(self, *, shards: int = SHARDS, feed_us: int = FEED_US, users_ms: int = 60_000) -> RedisStore:
        lifetimes = Lifetimes(users_ms=users_ms, feed_us=feed_us)
        connection = Connection(self.url)
        store = RedisStore(connection, namespace=self.namespace, space=SPACE, shards=shards, lifetimes=lifetimes)
        self._opened.append(store)
        return store

    def keys(self, shard: int) -> ShardKeys:
        return ShardKeys.of(self.namespace, SPACE, shard)

    def lose(self, shard: int | None = None) -> None:
        for number in range(SHARDS) if shard is None else [shard]:
            self._delete(number)
        if shard is None:
            self.client.delete(meta_key(self.namespace, SPACE), notes_key(self.namespace))

    def copy(self, shard: int) -> Any:
        return {key: (self.client.dump(key), max(self.client.pttl(key), 0)) for key in self._names(shard)}

    def set_back(self, shard: int, copy: Any) -> None:
        self._delete(shard)
        for key, (value, ttl) in copy.items():
            self.client.restore(key, ttl, value)

    def close(self) -> None:
        for store in self._opened:
            store.close()
        self.client.close()

    def _names(self, shard: int) -> list[bytes]:
        return list(self.client.scan_iter(match=f"kindred:{self.namespace}:*{{s{shard:02d}}}:*", count=1000))

    def _delete(self, shard: int) -> None:
        names = self._names(shard)
        if names:
            self.client.delete(*names)


@contextmanager
def redis_backend(url: str) -> Iterator[RedisBackend]:
    backend = RedisBackend(url)
    try:
        yield backend
    finally:
        backend.close()


def user(name: object) -> UserKey:
    return blake2b(str(name).encode(), digest_size=16).digest()


def user_in(shard: int, shards: int = SHARDS) -> UserKey:
    """Some user who lives in the given shard."""
    return next(key for key in map(user, range(1000)) if int.from_bytes(key, "big") % shards == shard)


def state(count: int = 1, *, dimension: int = 8, items: tuple[int, ...] = ()) -> UserState:
    return UserState(np.full(dimension, count, np.float16), weight=float(count), count=count, items=items)


def event(
    key: UserKey, offset: int, *, after: int | None = None, partition: int = 0, erase: bool = False, **changes: Any
) -> UserWrite:
    """The write of a worker that applied the event at offset to a user whom it knew at `after` (None = never seen)."""
    expected = b"" if after is None else pack_position({partition: after})
    value = None if erase else pack_state(state(offset + 1))
    return UserWrite(key, expected, pack_position({partition: offset}), value, **changes)


def batch(*users: UserWrite, upto: int, left: Watermarks = UNSEEN, partition: int = 0, **more: Any) -> Write:
    """A batch of one partition that ends before the offset `upto`."""
    return Write({partition: upto}, left, users, **more)


def at(offset: int, partition: int = 0) -> Watermarks:
    """What a worker left that has written up to offset in every shard."""
    return [{partition: offset} for _ in range(SHARDS)]


ANNA, BO = user("anna"), user("bo")
FILM, BOOK = hash64("film"), hash64("book")
RED = hash64("red")
ENTRIES = (ItemEntry(FILM, "film"), ItemEntry(BOOK, "book"))
START = (0.0,) * SHARDS


def everything(store: AuditedStore) -> Changes:
    """All pieces of a snapshot as one."""
    pieces = list(store.snapshot())
    return Changes(
        pieces[-1].cursors,
        [pair for piece in pieces for pair in piece.users],
        [row for piece in pieces for row in piece.items],
        [pair for piece in pieces for pair in piece.labels],
    )


def item(store: AuditedStore, number: int) -> ItemRow:
    return next(row for row in everything(store).items if row.item == number)


def counts(pairs: Sequence[tuple[bytes, object]]) -> dict[bytes, int | None]:
    return {key: getattr(value, "count", None) for key, value in pairs}


def nothing_new(store: AuditedStore, cursors: tuple[float, ...]) -> bool:
    seen = store.changes(cursors)
    return seen.cursors == cursors and not (seen.users or seen.items or seen.labels)


def lost(store: AuditedStore, cursors: tuple[float, ...]) -> bool:
    try:
        store.changes(cursors)
    except FeedLost:
        return True
    return False
