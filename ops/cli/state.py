"""What the commands read from, and leave in, Redis. Errors of the store become Unreachable with a remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import redis

from model.users import Stored, user_key
from ops.cli.target import Target
from ops.errors import NotFound, Unreachable
from schemas.interests import LabelScore
from schemas.state import unpack_position
from worker.store.base import StoreError
from worker.store.keys import ShardKeys, hash_bytes, meta_key, shard_of_hash
from worker.store.redis import RedisStore
from worker.stretches import read_stretches, skip_note, write_stretches

TIMEOUT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class UserView:
    """position: partition → offset of the last applied event. labels: heaviest first. points: may be empty."""

    user_id: str
    events: int
    position: dict[int, int]
    labels: tuple[LabelScore, ...]
    points: tuple[str, ...]
    space: str

    def as_json(self) -> dict[str, Any]:
        return {
            "user_id": self.user_id,
            "events": self.events,
            "position": {str(partition): offset for partition, offset in self.position.items()},
            "labels": [label.model_dump() for label in self.labels],
            "points": list(self.points),
            "space": self.space,
        }


@contextmanager
def reachable() -> Iterator[None]:
    """Turns what Redis and the store raise inside into Unreachable; the URL may hold a password and is not printed."""
    try:
        yield
    except (redis.RedisError, StoreError) as error:
        what = str(error) if isinstance(error, StoreError) else type(error).__name__
        raise Unreachable(
            f"Redis did not do what was asked: {what}.",
            "Is the stack running, and is KINDRED_REDIS_URL right? `kindred doctor` checks it.",
        ) from error


@contextmanager
def client(target: Target) -> Iterator[Any]:
    """A redis.Redis. Raises Unreachable, also for Redis errors of the block."""
    with reachable():
        connection = redis.Redis.from_url(
            target.redis_url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
        )
        try:
            yield connection
        finally:
            connection.close()


def read_user(target: Target, user_id: str, secret: bytes) -> UserView:
    """Raises NotFound for a user without a state (never seen, expired or erased), Unreachable."""
    key = user_key(user_id, secret)
    views: list[UserView] = []
    with client(target) as connection:
        for space, shards in _spaces(connection, target.namespace):
            stored = _load(target, space, shards, key)
            if stored.state is None:
                continue
            weights = sorted(stored.state.labels.items(), key=lambda pair: (-pair[1], pair[0]))
            names = _label_names(connection, target.namespace, space, shards, [label for label, _ in weights])
            views.append(
                UserView(
                    user_id=user_id,
                    events=stored.state.count,
                    position=unpack_position(stored.position),
                    labels=tuple(
                        LabelScore(label=name, score=weight)
                        for name, (_, weight) in zip(names, weights, strict=True)
                        if name is not None
                    ),
                    points=(),
                    space=space,
                )
            )
    if not views:
        raise NotFound(
            f"Nothing is known of {user_id}.",
            "Either no event of this user was applied, or the user was forgotten. The id must be written as in the "
            "events, and KINDRED_USER_KEY_SECRET must be the workers'.",
        )
    # While a new space is back-filled a user is in both; the one in service is the further one.
    return max(views, key=lambda view: sum(view.position.values()))


def leave_note(target: Target, key: str, value: str) -> None:
    """Leave a request where the workers look for it each second. Raises Unreachable."""
    with _notes(target) as store:
        store.note(key, value)


def skip(target: Target, partition: int, start: int, stop: int) -> None:
    """Ask the workers to pass over the offsets from start up to, not including, stop. Raises Unreachable."""
    with _notes(target) as store:
        stretches = read_stretches(store.noted(skip_note(partition)))
        store.note(skip_note(partition), write_stretches([*stretches, (start, stop)]))


@contextmanager
def _notes(target: Target) -> Iterator[RedisStore]:
    """They belong to the namespace: any space and number of shards reach them."""
    with reachable():
        store = RedisStore.connect(target.redis_url, namespace=target.namespace, space="", shards=1, user_ttl_ms=None)
        try:
            yield store
        finally:
            store.close()


def _spaces(connection: Any, namespace: str) -> list[tuple[str, int]]:
    """(space as Redis' keys name it, number of shards) of all spaces that this namespace has states of."""
    pattern = meta_key(namespace, "*")
    before, after = meta_key(namespace, "\0").split(b"\0")
    found: list[tuple[str, int]] = []
    for key in connection.scan_iter(match=pattern, count=10_000):
        shards = connection.hget(key, "shards")
        if shards is not None:
            found.append((key[len(before) : len(key) - len(after)].decode(), int(shards)))
    return found


def _load(target: Target, space: str, shards: int, key: bytes) -> Stored:
    store = RedisStore.connect(
        target.redis_url, namespace=target.namespace, space=space, shards=shards, user_ttl_ms=None
    )
    try:
        return store.load([key])[0]
    finally:
        store.close()


def _label_names(connection: Any, namespace: str, space: str, shards: int, labels: list[int]) -> list[str | None]:
    names: list[str | None] = []
    for label in labels:
        keys = ShardKeys.of(namespace, space, shard_of_hash(label, shards))
        name = connection.hget(keys.label_names, hash_bytes(label))
        names.append(None if name is None else name.decode())
    return names
