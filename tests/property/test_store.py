"""Two writers in any order against a model of a few lines: what was refused left nothing, what was taken left all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.item_table import ItemEntry
from model.users import UserKey, UserWrite
from schemas.state import hash64, pack_position, pack_state, unpack_position, unpack_state
from tests.redis_servers import redis_server
from tests.stores import SHARDS, UNSEEN, AuditedStore, MemoryBackend, RedisBackend, state, user
from worker.store.base import Write
from worker.store.keys import shard_of_user

USERS = [user(n) for n in range(3)]
ITEMS = [hash64(f"item {n}") for n in range(2)]
ENTRIES = [ItemEntry(number, f"item {n}") for n, number in enumerate(ITEMS)]


@dataclass(frozen=True, slots=True)
class Step:
    """What one of the two writers does: look up all users, or save a batch of (user, item, erase)."""

    writer: int
    batch: tuple[tuple[int, int, bool], ...]
    """Empty: load."""


@dataclass(slots=True)
class Model:
    """alive: the items of each user who is not erased."""

    positions: dict[UserKey, bytes] = field(default_factory=dict)
    alive: dict[UserKey, tuple[int, ...]] = field(default_factory=dict)
    weights: dict[int, list[float]] = field(default_factory=dict)
    labels: dict[int, float] = field(default_factory=dict)
    watermarks: list[int] = field(default_factory=lambda: [0] * SHARDS)


Known = dict[UserKey, tuple[bytes, tuple[int, ...]]]
"""What a writer believes of each user: position and items, perhaps out of date."""

STEPS = st.lists(
    st.builds(
        Step,
        writer=st.integers(0, 1),
        batch=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.booleans()), max_size=4).map(tuple),
    ),
    max_size=12,
)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], RedisBackend]]:
    with redis_server("embedded", tmp_path_factory.mktemp("embedded")) as server:
        yield lambda: RedisBackend(server.url)


@given(steps=STEPS)
def test_two_writers_in_any_order_leave_in_memory_what_the_model_says(steps: list[Step]) -> None:
    backend = MemoryBackend()
    check([backend.open(), backend.open()], steps)


@pytest.mark.embedded
@settings(deadline=None, max_examples=60)
@given(steps=STEPS)
def test_two_writers_in_any_order_leave_in_redis_what_the_model_says(
    embedded: Callable[[], RedisBackend], steps: list[Step]
) -> None:
    backend = embedded()
    try:
        check([backend.open(), backend.open()], steps)
    finally:
        backend.close()


def check(stores: list[AuditedStore], steps: list[Step]) -> None:
    model = Model()
    beliefs: list[Known] = [dict.fromkeys(USERS, (b"", ())) for _ in stores]
    for offset, step in enumerate(steps, start=1):
        store, known = stores[step.writer], beliefs[step.writer]
        if not step.batch:
            for key, stored in zip(USERS, store.load(USERS), strict=True):
                known[key] = stored.position, stored.state.items if stored.state else ()
            continue
        writes = [write_of(USERS[who], ITEMS[what], erase, known, offset) for who, what, erase in step.batch]
        refused = apply(model, writes, offset)
        assert store.save(Write({0: offset}, UNSEEN, writes, ENTRIES)) == refused
        for index, write in enumerate(writes):
            if index not in refused:
                known[write.user] = write.position, items_of(write)
    compare(model, stores[0])


def items_of(write: UserWrite) -> tuple[int, ...]:
    return () if write.state is None else unpack_state(write.state).items


def write_of(key: UserKey, number: int, erase: bool, known: Known, offset: int) -> UserWrite:
    expected, items = known[key]
    position = pack_position(unpack_position(expected) | {0: offset})
    if erase:
        return UserWrite(key, expected, position, None, left=items)
    entered = () if number in items else (number,)
    value = pack_state(state(offset, items=items + entered))
    return UserWrite(key, expected, position, value, entered, (), ((number, float(offset)),), ((number, 1.0),))


def apply(model: Model, writes: list[UserWrite], offset: int) -> set[int]:
    """The rules in plain words; returns what must be refused."""
    refused = set()
    for index, write in enumerate(writes):
        if model.positions.get(write.user, b"") != write.expected:
            refused.add(index)
            continue
        model.positions[write.user] = write.position
        if write.state is None:
            model.alive.pop(write.user, None)
        else:
            model.alive[write.user] = items_of(write)
        for number, weight in write.popularity:
            model.weights.setdefault(number, []).append(weight)
        for number, weight in write.labels:
            model.labels[number] = model.labels.get(number, 0.0) + weight
    waiting = {shard_of_user(writes[index].user, SHARDS) for index in refused}
    for shard in set(range(SHARDS)) - waiting:
        model.watermarks[shard] = offset
    return refused


def compare(model: Model, store: AuditedStore) -> None:
    stored = dict(zip(USERS, store.load(USERS), strict=True))
    assert {key: value.position for key, value in stored.items() if value.position} == model.positions
    assert {key: value.state.items for key, value in stored.items() if value.state} == model.alive
    assert store.watermarks() == [{0: mark} if mark else {} for mark in model.watermarks]
    assert store.label_weights() == pytest.approx(model.labels)
    rows = {row.item: row for piece in store.snapshot() for row in piece.items}
    for number, row in rows.items():
        assert row.users == sum(number in items for items in model.alive.values())
        weights = model.weights.get(number, [])
        assert row.popularity == pytest.approx(np.log2(np.exp2(weights).sum()) if weights else -np.inf)
