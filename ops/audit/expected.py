"""What the log asks for, as values: users, questions that are to be answered, bad records, sums, the catalogue.

Knows neither how they are computed nor where they are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from model.users import UserKey
from schemas.state import UserState


@dataclass(slots=True)
class History:
    """What the log says of one user so far.

    flags: see ops/audit/replay.py. life: how often the user began anew. partition: the last one written in; ordinal:
    applied events there in this life. events, ids, mass: over all lives, applied events, those with a producer's id,
    their summed weight. oldest, newest: of all timestamps, milliseconds.
    """

    user: UserKey
    position: bytes = b""
    state: UserState | None = None
    flags: int = 0
    life: int = 0
    partition: int = -1
    ordinal: int = 0
    events: int = 0
    ids: int = 0
    mass: float = 0.0
    oldest: int = 1 << 62
    newest: int = 0


@dataclass(frozen=True, slots=True)
class Question:
    """An event that may be answered. nth: its number among the user's events in its partition; seen: items that must
    not be recommended; own: the event's, 0 for none; needed: whether its answer may be missed; answers: how many there
    were."""

    partition: int
    offset: int
    user: UserKey
    life: int
    nth: int
    event_id: int
    timestamp: int
    seen: frozenset[int]
    own: int
    needed: bool
    answers: int = 0


@dataclass(frozen=True, slots=True)
class Bad:
    """A bad record, with digests of its key and value. found: how many dead letters it had."""

    partition: int
    offset: int
    reason: str
    timestamp: int
    key: bytes
    value: bytes
    needed: bool
    found: int = 0


@dataclass(slots=True)
class Sums:
    """What a piece of the log adds to the aggregates. spare: users of an item whom Redis may have dropped unnoticed."""

    popularity: dict[int, float] = field(default_factory=dict)
    users: dict[int, int] = field(default_factory=dict)
    spare: dict[int, int] = field(default_factory=dict)
    labels: dict[int, float] = field(default_factory=dict)
    label_names: dict[int, str] = field(default_factory=dict)
    titles: set[tuple[int, str, str]] = field(default_factory=set)
    holders: set[tuple[int, UserKey]] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class ItemSum:
    item: int
    popularity: float
    users: int
    spare: int


@dataclass(frozen=True, slots=True)
class Version:
    """What the catalogue said of an item from a record on. listed: no null."""

    timestamp: int
    listed: bool
    available: bool
    expires: int | None
