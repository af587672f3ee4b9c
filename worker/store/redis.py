"""States in Redis (or Valkey): one hash a user, one script a shard and batch.

save.lua keeps the rules of `worker/store/base.py`; this file carries batches to it and values back. It never repeats a
save by itself: only the caller knows whether a repeat is right.
"""

from __future__ import annotations

import json
import logging
from binascii import hexlify
from collections.abc import Iterator, Sequence
from struct import unpack
from typing import Final
from uuid import uuid4

from model.index import Changes
from model.users import Stored, UserKey
from schemas.state import StateFormatError, UserState, unpack_state
from worker.store.base import Identity, StoreRefused, Watermarks, Write
from worker.store.connection import Command, Connection, Script, pairs
from worker.store.feed import FeedReader
from worker.store.keys import (
    INSTANCE_NOTE,
    SPACE_CHARACTERS,
    SPACE_NOTE,
    ShardKeys,
    kept_key,
    meta_key,
    notes_key,
    shard_of_user,
    users_pattern,
)
from worker.store.save import DAY_MS, Lifetimes, read_answer, save_calls

log = logging.getLogger(__name__)

LOAD_PIECE: Final = 2000
"""Most users of one shard in one call of load.lua: Redis serves nobody else while a script runs (about 4 ms)."""

GRACE_MS: Final = 7 * DAY_MS
"""How much longer than the log's rule says Redis keeps an inactive user: expiry is decided by the update, from the
records' timestamps; Redis only clears away what no event will touch again."""

_SAVE: Final = Script.read("save.lua")
_LOAD: Final = Script.read("load.lua")
_DISCARD: Final = Script.read("discard.lua")


class RedisStore:
    """The Store of one namespace and space.

    `save`, `load`, `changes` and `snapshot` are for one thread at a time. `watermarks`, `identify`, `note` and `noted`
    touch nothing but the connection pool and may be called from another thread meanwhile.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        namespace: str,
        space: str,
        shards: int,
        lifetimes: Lifetimes,
    ) -> None:
        """Takes over the connection. Raises ValueError for a namespace with braces or fewer than one shard."""
        if shards < 1:
            raise ValueError(f"{shards} shards: at least one is needed")
        self.shards = shards
        self._connection = connection
        self._keys = [ShardKeys.of(namespace, space, shard) for shard in range(shards)]
        self._meta = meta_key(namespace, space)
        self._notes = notes_key(namespace)
        self._lifetimes = lifetimes
        self._namespace = namespace
        self._space = space[:SPACE_CHARACTERS]
        self._feed = FeedReader(connection, self._keys, users_pattern(namespace, space), self.load)

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        namespace: str,
        space: str,
        shards: int,
        user_ttl_ms: int | None,
        space_ttl_ms: int = 7 * DAY_MS,
    ) -> RedisStore:
        """Connect and check what would lose states.

        user_ttl_ms: after how long without an event a user expires; None = never. space_ttl_ms: how long a space is
        kept that nobody serves. Raises StoreUnavailable, and StoreRefused where Redis would throw states away
        (maxmemory-policy) or the URL, user or password is wrong.
        """
        lifetimes = Lifetimes(users_ms=0 if user_ttl_ms is None else user_ttl_ms + GRACE_MS, space_ms=space_ttl_ms)
        connection = Connection(url)
        try:
            connection.ask([(b"PING",)])
            _check_policy(connection)
            return cls(connection, namespace=namespace, space=space, shards=shards, lifetimes=lifetimes)
        except BaseException:
            connection.close()
            raise

    def load(self, users: Sequence[UserKey]) -> list[Stored]:
        """What is stored of each user, in the given order. Raises StoreRefused for a state this version cannot read."""
        places: list[list[int]] = [[] for _ in self._keys]
        for n, user in enumerate(users):
            places[shard_of_user(user, self.shards)].append(n)
        pieces = [
            (keys.user, here[start : start + LOAD_PIECE])
            for keys, here in zip(self._keys, places, strict=True)
            for start in range(0, len(here), LOAD_PIECE)
        ]
        answers = self._connection.run(
            _LOAD, [([prefix + hexlify(users[n]) for n in here], ()) for prefix, here in pieces]
        ) if pieces else []  # fmt: skip
        out = [Stored()] * len(users)
        for (_, here), flat in zip(pieces, answers, strict=True):
            for n, position, state in zip(here, flat[::2], flat[1::2], strict=True):
                if position is not None:
                    out[n] = Stored(position, None if state is None else _unpacked(state))
        return out

    def save(self, write: Write) -> set[int]:
        """See Store.save: one round trip for all shards."""
        calls = save_calls(write, self._keys, self._lifetimes)
        answers = self._connection.run(_SAVE, [(call.keys, call.arguments) for call in calls])
        saved = [
            read_answer(answer, call, shard) for shard, (answer, call) in enumerate(zip(answers, calls, strict=True))
        ]
        for shard, result in enumerate(saved):
            if result.score:
                self._feed.remember(shard, result.score)
        return {index for result in saved for index in result.refused}

    def watermarks(self) -> Watermarks:
        answers = self._connection.ask([(b"HGETALL", keys.watermarks) for keys in self._keys])
        return [{int(partition): int(offset) for partition, offset in pairs(answer).items()} for answer in answers]

    def identify(self, topic_id: str, previous: frozenset[str]) -> Identity:
        """See Store.identify. Between workers that start together the first one's values stand."""
        (known,) = self._connection.ask([(b"HGET", self._meta, b"instance")])  # as written before spaces shared one
        one: list[Command] = [
            (b"HSETNX", self._notes, INSTANCE_NOTE, known or uuid4().hex),
            (b"HGET", self._notes, INSTANCE_NOTE),
        ]
        self.keep()
        fields = {
            "shards": str(self.shards),
            "topic_id": topic_id,
            "instance": self._connection.ask(one)[1].decode(),
            "previous": json.dumps(sorted(previous)),
        }
        commands: list[Command] = [(b"HSETNX", self._meta, name, value) for name, value in fields.items()]
        stored = pairs(self._connection.ask([(b"MULTI",), *commands, (b"HGETALL", self._meta), (b"EXEC",)])[-1][-1])
        shards = int(stored[b"shards"])
        if shards != self.shards:
            raise StoreRefused(
                f"Redis at {self._connection.server} keeps this space in {shards} shards, the settings say "
                f"{self.shards}; set the number of shards back, or delete {self._meta.decode()!r} "
                "and the keys beside it and let the workers replay the log"
            )
        ids = frozenset(json.loads(stored[b"previous"]))
        return Identity(stored[b"topic_id"].decode(), stored[b"instance"].decode(), ids)

    def snapshot(self) -> Iterator[Changes]:
        return self._feed.snapshot()

    def changes(self, cursors: tuple[float, ...]) -> Changes:
        """See Store.changes. Takes a bounded piece of the feed; a caller that must be up to date repeats until nothing
        comes."""
        return self._feed.since(cursors)

    def label_weights(self) -> dict[int, float]:
        """Label hash → summed weight of all applied events that carried it, over all shards."""
        total: dict[int, float] = {}
        for answer in self._connection.ask([(b"HGETALL", keys.label_weights) for keys in self._keys]):
            for name, weight in pairs(answer).items():
                label = int.from_bytes(name, "little")
                total[label] = total.get(label, 0.0) + float(unpack("<d", weight)[0])
        return total

    def users(self) -> Iterator[list[UserKey]]:
        return self._feed.users()

    def keep(self) -> None:
        ttl = self._lifetimes.space_ms
        self._connection.ask(
            [
                (b"HSET", self._notes, SPACE_NOTE + self._space, self.shards),
                (b"SET", kept_key(self._namespace, self._space), b"1", b"PX", ttl),
            ]
        )

    def spaces(self) -> dict[str, tuple[int, bool]]:
        (flat,) = self._connection.ask([(b"HGETALL", self._notes)])
        names = {name.decode(): value for name, value in pairs(flat).items()}
        found = {
            name.removeprefix(SPACE_NOTE): int(value)
            for name, value in names.items()
            if name.startswith(SPACE_NOTE) and name != SPACE_NOTE + self._space
        }
        kept = self._connection.ask([(b"EXISTS", kept_key(self._namespace, name)) for name in found]) if found else []
        return {name: (found[name], bool(here)) for name, here in zip(found, kept, strict=True)}

    def discard(self) -> Iterator[None]:
        if self._is_kept():
            return
        # What says that users are there goes first, in one piece: from then on whoever comes heals from the beginning.
        self._connection.ask([(b"UNLINK", *keys.of_shard()) for keys in self._keys])
        self._connection.ask([(b"DEL", self._meta)])
        yield
        for users in self._feed.users():
            if self._is_kept():
                return
            here: list[list[UserKey]] = [[] for _ in self._keys]
            for user in users:
                here[shard_of_user(user, self.shards)].append(user)
            self._connection.run(
                _DISCARD,
                [
                    ([keys.watermarks, *(keys.user + hexlify(user) for user in found)], ())
                    for keys, found in zip(self._keys, here, strict=True)
                    if found
                ],
            )
            yield
        (filled,) = self._connection.ask([(b"EXISTS", self._meta)])
        if not filled:
            self._connection.ask([(b"HDEL", self._notes, SPACE_NOTE + self._space)])

    def _is_kept(self) -> bool:
        """Whether somebody uses this space."""
        (found,) = self._connection.ask([(b"EXISTS", kept_key(self._namespace, self._space))])
        return bool(found)

    def note(self, key: str, value: str | None) -> None:
        self._connection.ask([(b"HDEL", self._notes, key) if value is None else (b"HSET", self._notes, key, value)])

    def noted(self, key: str) -> str | None:
        (value,) = self._connection.ask([(b"HGET", self._notes, key)])
        return None if value is None else str(value, "utf-8")

    def close(self) -> None:
        self._connection.close()


def _unpacked(data: bytes) -> UserState:
    try:
        return unpack_state(data)
    except StateFormatError as error:
        raise StoreRefused(
            f"Redis holds a user that this version cannot read: {error}; run the version of Kindred that wrote it, or "
            "delete the space's keys and let the workers replay the log"
        ) from error


def _check_policy(connection: Connection) -> None:
    try:
        ((_, policy),) = connection.ask([(b"CONFIG", b"GET", b"maxmemory-policy")])
    except StoreRefused as error:
        log.warning("the maxmemory policy could not be read; make sure that it is noeviction: %s", error)
        return
    if policy != b"noeviction":
        raise StoreRefused(
            f"Redis at {connection.server} has maxmemory-policy {policy.decode()}: it would throw users away "
            "unnoticed; set maxmemory-policy to noeviction"
        )
