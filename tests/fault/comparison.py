"""Whether a stack holds exactly what its log asks for: states, aggregates, catalogue, answers and dead letters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf, isclose
from typing import Any, Final

from model.encoder.base import Encoder
from model.encoder.dummy import DummyEncoder
from schemas.dead_letter import read_dead_letter
from schemas.state import pack_state
from schemas.topics import DEAD_LETTERS, RECOMMENDATIONS, USER_TEXT, topic_name
from tests.fault.harness import NAMESPACE, Stack
from tests.fault.reference import KEY, Answer, Expected, expected, unlike
from worker.broker.base import Record
from worker.store.base import ItemRow, Stored, UserKey

ROAMING: Final = 1e-5
"""Rounding of a user's mean where the order between partitions was another one; see `unlike`."""


@dataclass(slots=True)
class Held:
    """What Redis holds, all shards together."""

    users: dict[UserKey, Stored]
    known: set[UserKey] = field(default_factory=set)
    items: dict[int, ItemRow] = field(default_factory=dict)
    labels: dict[int, str] = field(default_factory=dict)
    label_weights: dict[int, float] = field(default_factory=dict)


def assert_equals_reference(
    stack: Stack, encoder: Encoder | None = None, *, exactly_once: bool = False, tolerance: float = 0.0
) -> Expected:
    """Fails with every difference (at most ten of a kind) between the stack and the serial replay of its log.

    exactly_once: a run without a fault publishes nothing twice, and owes erased users' answers too. tolerance: of
    vectors, see `unlike`; 0 compares states byte for byte. Returns the reference.
    """
    encoder = encoder or DummyEncoder()
    wanted = expected(stack.records(USER_TEXT), encoder)
    held = _held(stack, encoder, list(wanted.users))
    kinds = {
        "users": _users(wanted, held, tolerance),
        "aggregates": _aggregates(wanted, held),
        "catalogue": _catalogue(wanted, held),
        "answers": _answers(wanted, stack.records(RECOMMENDATIONS), exactly_once),
        "dead letters": _dead(wanted, stack.records(DEAD_LETTERS), exactly_once),
    }
    found = []
    for kind, differences in kinds.items():
        lines = list(differences)
        found += [f"{kind}: {line}" for line in lines[:10]]
        found += [f"{kind}: and {len(lines) - 10} more"] if len(lines) > 10 else []
    assert not found, "\n".join(found)
    return wanted


def _held(stack: Stack, encoder: Encoder, users: list[UserKey]) -> Held:
    store = stack.store(encoder.space)
    try:
        held = Held(dict(zip(users, store.load(users), strict=True)), label_weights=store.label_weights())
        for piece in store.snapshot():
            held.known |= {user for user, state in piece.users if state is not None}
            held.items.update((row.item, row) for row in piece.items)
            held.labels.update(piece.labels)
        return held
    finally:
        store.close()


def _users(wanted: Expected, held: Held, tolerance: float) -> Iterator[str]:
    for user, want in wanted.users.items():
        have, name = held.users[user], user.hex()
        if have.position != want.position:
            yield f"{name} stands at {have.position.hex()}, not {want.position.hex()}"
        elif want.state is None or have.state is None:
            if want.state is not have.state:
                yield f"{name} is {'known' if have.state else 'erased'}, not {'known' if want.state else 'erased'}"
        elif user in wanted.roamers or tolerance:
            if unlike(have.state, want.state, tolerance or ROAMING):
                yield f"{name}: {have.state}, not {want.state}"
        elif pack_state(have.state) != pack_state(want.state):
            yield f"{name}: {have.state}, not {want.state}"
    alive = {user for user, want in wanted.users.items() if want.state is not None}
    yield from (f"{user.hex()} should not be there" for user in held.known - alive)


def _aggregates(wanted: Expected, held: Held) -> Iterator[str]:
    for item in wanted.popularity.keys() | {item for item, users in wanted.holders.items() if users}:
        row = held.items.get(item)
        users, popularity = (0, -inf) if row is None else (row.users, row.popularity)
        if users != wanted.holders[item]:
            yield f"item {item} has {users} users, not {wanted.holders[item]}"
        if not isclose(popularity, wanted.popularity.get(item, -inf), rel_tol=1e-9, abs_tol=1e-9):
            yield f"item {item} has popularity {popularity}, not {wanted.popularity.get(item)}"
    for label in wanted.labels.keys() | held.label_weights.keys():
        have, want = held.label_weights.get(label, 0.0), wanted.labels.get(label, 0.0)
        if not isclose(have, want, rel_tol=1e-9, abs_tol=1e-9):
            yield f"label {label} weighs {have}, not {want}"


def _catalogue(wanted: Expected, held: Held) -> Iterator[str]:
    for item, (item_id, title) in wanted.items.items():
        row = held.items.get(item)
        found = None if row is None else (row.item_id, row.title)
        if found != (item_id, title):
            yield f"{item_id} is {found}, not {(item_id, title)}"
    if held.labels != wanted.label_names:
        yield f"labels are {held.labels}, not {wanted.label_names}"


def _answers(wanted: Expected, published: list[Record], exactly_once: bool) -> Iterator[str]:
    seen: dict[str, Any] = {}
    for record in published:
        said = json.loads(record.value or b"")
        key = said["recommendation_id"]
        want = wanted.answers.get(key)
        if want is None:
            yield f"{said['user_id']} was given an answer that nothing asked for: {said['trigger']}"
        elif not _fits(said, record, want):
            yield f"answer {said['nth']} to {said['user_id']} ({said['trigger']}) should be {want}"
        elif exactly_once and key in seen:
            yield f"{key} was published twice"
        seen[key] = said
    for key in wanted.answers if exactly_once else wanted.owed:
        if key not in seen:
            yield f"no answer to {wanted.answers[key]}"


def _fits(said: Any, record: Record, want: Answer) -> bool:
    where = {"topic": topic_name(USER_TEXT, NAMESPACE), "partition": want.partition, "offset": want.offset}
    return bool(
        said["user_id"] == want.user_id
        and record.key == want.user_id.encode()
        and (said["nth"] == want.nth or want.roams)
        and where.items() <= said["trigger"].items()
    )


def _dead(wanted: Expected, published: list[Record], exactly_once: bool) -> Iterator[str]:
    letters = [read_dead_letter(record.headers, record.key, record.value) for record in published]
    found = [(letter.partition, letter.offset) for letter in letters]
    if set(found) != wanted.dead:
        yield f"too many: {set(found) - wanted.dead}, missing: {wanted.dead - set(found)}"
    if exactly_once and len(found) != len(set(found)):
        yield "some were published twice"


def known(stack: Stack, user: str) -> bool:
    """Whether Redis has a state of this user."""
    store = stack.store(DummyEncoder().space)
    try:
        return store.load([KEY(user)])[0].state is not None
    finally:
        store.close()
