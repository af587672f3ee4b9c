"""What Redis holds, read as it lies there, in bounded pieces and without the store's scripts.

Knows the names of keys and the bytes of values (worker/store/keys.py, schemas/state.py), and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from struct import unpack
from typing import Any, Final

from model.users import UserKey
from schemas.state import Position, StateFormatError, UserState, unpack_position, unpack_state
from worker.store.base import Watermarks
from worker.store.keys import ShardKeys, hash_bytes, meta_key, shard_of_hash, shard_of_user, user_of, users_pattern
from worker.store.popularity import log2_add

PIECE: Final = 1000


@dataclass(frozen=True, slots=True)
class HeldUser:
    """position: None for a user of whom there is nothing. state: None for an erased one. age_ms: how long ago the
    marker of an erased user was written, None where that cannot be told. in_feed: asked for erased users only.
    elsewhere: a state in another space. unreadable: why the bytes make no sense."""

    position: Position | None = None
    state: UserState | None = None
    age_ms: int | None = None
    in_feed: bool = False
    elsewhere: bool = False
    unreadable: str = ""


@dataclass(frozen=True, slots=True)
class HeldItem:
    popularity: float
    users: int
    item_id: str | None
    title: str | None


class Held:
    """One space of a namespace. connection: a redis.Redis that gives bytes."""

    def __init__(self, connection: Any, namespace: str, space: str) -> None:
        """Raises LookupError where Redis has nothing of this space."""
        self._redis = connection
        meta = connection.hgetall(meta_key(namespace, space))
        if b"shards" not in meta:
            raise LookupError(f"nothing of space {space[:12]}")
        self.topic_id = meta.get(b"topic_id", b"").decode()
        self.shards = int(meta[b"shards"])
        self._keys = [ShardKeys.of(namespace, space, shard) for shard in range(self.shards)]
        self._pattern = users_pattern(namespace, space)
        self._others = [
            _Space(tuple(ShardKeys.of(namespace, other, shard).user for shard in range(shards)))
            for other, shards in spaces(connection, namespace).items()
            if not space.startswith(other)
        ]

    def watermarks(self) -> Watermarks:
        with self._redis.pipeline(transaction=False) as ask:
            for keys in self._keys:
                ask.hgetall(keys.watermarks)
            return [{int(part): int(mark) for part, mark in found.items()} for found in ask.execute()]

    def users(self, users: Sequence[UserKey], marker_ms: int) -> list[HeldUser]:
        """In the given order. marker_ms: how long the marker of an erased user lives."""
        names = [self._keys[shard_of_user(user, self.shards)].user + user.hex().encode() for user in users]
        with self._redis.pipeline(transaction=False) as ask:
            for name in names:
                ask.hmget(name, b"p", b"s")
            values = ask.execute()
            erased = [n for n, (_, state) in enumerate(values) if state is None]
            for n in erased:
                ask.pttl(names[n])
                ask.zscore(self._keys[shard_of_user(users[n], self.shards)].feed, b"u" + users[n])
                for other in self._others:
                    ask.hexists(other.key_of(users[n]), b"s")
            more = ask.execute()
        found = [_user(position, state) for position, state in values]
        width = 2 + len(self._others)
        for place, n in enumerate(erased):
            left, score, *elsewhere = more[width * place : width * (place + 1)]
            found[n] = HeldUser(
                found[n].position,
                None,
                marker_ms - left if left >= 0 else None,
                score is not None,
                any(elsewhere),
                found[n].unreadable,
            )
        return found

    def user_keys(self) -> Iterator[list[UserKey]]:
        """All users that Redis has a key of, each at least once."""
        cursor = 0
        while True:
            cursor, names = self._redis.scan(cursor, match=self._pattern, count=PIECE)
            if names:
                yield [user_of(name) for name in names]
            if cursor == 0:
                return

    def feed(self) -> Iterator[tuple[int, float, list[tuple[UserKey, float]]]]:
        """Pieces of each shard's feed: (shard, highest score that its head tells, [(user, score)])."""
        for shard, keys in enumerate(self._keys):
            last = float(self._redis.hget(keys.head, b"last") or 0)
            cursor = 0
            while True:
                cursor, rows = self._redis.zscan(keys.feed, cursor, match=b"u*", count=PIECE)
                if rows:
                    yield shard, last, [(member[1:], score) for member, score in rows]
                if cursor == 0:
                    break

    def items(self, items: Sequence[int]) -> list[HeldItem]:
        with self._redis.pipeline(transaction=False) as ask:
            names = [hash_bytes(item) for item in items]
            for keys in self._keys:
                ask.hmget(keys.aggregates, names)
            for item, name in zip(items, names, strict=True):
                home = self._keys[shard_of_hash(item, self.shards)]
                ask.hget(home.item_ids, name)
                ask.hget(home.titles, name)
            answers = ask.execute()
        sums, strings = answers[: self.shards], answers[self.shards :]
        found = []
        for n in range(len(items)):
            popularity, users = -inf, 0.0
            for shard in sums:
                if shard[n] is not None:
                    weight, holders = unpack("<dd", shard[n])
                    popularity, users = log2_add(popularity, weight), users + holders
            found.append(HeldItem(popularity, int(users), _text(strings[2 * n]), _text(strings[2 * n + 1])))
        return found

    def item_hashes(self) -> Iterator[list[int]]:
        """Every item that has an aggregate or a name, each at least once."""
        for keys in self._keys:
            for name in (keys.aggregates, keys.item_ids, keys.titles):
                yield from self._hashes(name)

    def label_hashes(self) -> Iterator[list[int]]:
        for keys in self._keys:
            for name in (keys.label_weights, keys.label_names):
                yield from self._hashes(name)

    def labels(self, labels: Sequence[int]) -> list[tuple[float, str | None]]:
        """(summed weight, name) of each."""
        with self._redis.pipeline(transaction=False) as ask:
            names = [hash_bytes(label) for label in labels]
            for keys in self._keys:
                ask.hmget(keys.label_weights, names)
            for label, name in zip(labels, names, strict=True):
                ask.hget(self._keys[shard_of_hash(label, self.shards)].label_names, name)
            answers = ask.execute()
        sums, strings = answers[: self.shards], answers[self.shards :]
        return [
            (sum(unpack("<d", shard[n])[0] for shard in sums if shard[n] is not None), _text(strings[n]))
            for n in range(len(labels))
        ]

    def _hashes(self, name: bytes) -> Iterator[list[int]]:
        cursor = 0
        while True:
            cursor, found = self._redis.hscan(name, cursor, count=PIECE)
            if found:
                yield [int.from_bytes(field, "little") for field in found]
            if cursor == 0:
                return


@dataclass(frozen=True, slots=True)
class _Space:
    """Another space of the namespace."""

    prefixes: tuple[bytes, ...]

    def key_of(self, user: UserKey) -> bytes:
        return self.prefixes[shard_of_user(user, len(self.prefixes))] + user.hex().encode()


def spaces(connection: Any, namespace: str) -> dict[str, int]:
    """Space, as Redis' keys name it → number of shards, of all that this namespace has states of."""
    before, after = meta_key(namespace, "\0").split(b"\0")
    found = {}
    for name in connection.scan_iter(match=meta_key(namespace, "*"), count=10_000):
        shards = connection.hget(name, b"shards")
        if shards is not None:
            found[name[len(before) : len(name) - len(after)].decode()] = int(shards)
    return found


def _user(position: bytes | None, state: bytes | None) -> HeldUser:
    if position is None and state is None:
        return HeldUser()
    try:
        return HeldUser(unpack_position(position or b""), None if state is None else unpack_state(state))
    except StateFormatError as error:
        return HeldUser({}, unreadable=str(error))


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")
