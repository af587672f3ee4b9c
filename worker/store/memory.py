"""States in a dict, by the same rules as Redis: what unit tests of the worker run on.

Several MemoryStore objects may share one MemoryData, as several workers share one Redis; calls of different threads are
serialised. Nothing expires by time here: expiry of users is decided by the update.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import reduce
from math import inf
from threading import RLock
from typing import Final
from uuid import uuid4

from model.index import Changes
from model.item_table import ItemEntry, ItemRow
from model.users import Stored, UserKey, UserWrite
from schemas.state import StateFormatError, UserState, unpack_state
from worker.store.base import FeedLost, FellBack, Identity, StoreRefused, StoreUnavailable, Watermarks, Write
from worker.store.keys import INSTANCE_NOTE, shard_of_hash, shard_of_user
from worker.store.popularity import log2_add

FEED_US: Final = 3600 * 1_000_000
NOTHING: Final = (-inf, 0)
"""Aggregates of an item that a shard has not seen: log2 weight, users."""

_Member = tuple[str, bytes | int]
"""("user", key), ("item", hash) or ("label", hash)."""


@dataclass(slots=True)
class MemoryShard:
    """What Redis keeps under the keys of one shard (worker/store/keys.py)."""

    users: dict[UserKey, tuple[bytes, bytes | None]] = field(default_factory=dict)
    watermarks: dict[int, int] = field(default_factory=dict)
    aggregates: dict[int, tuple[float, int]] = field(default_factory=dict)
    label_weights: dict[int, float] = field(default_factory=dict)
    items: dict[int, ItemEntry] = field(default_factory=dict)
    labels: dict[int, str] = field(default_factory=dict)
    feed: dict[_Member, float] = field(default_factory=dict)
    last: float = 0.0
    trimmed: float = 0.0
    began: float = 0.0

    def check_watermarks(self, number: int, left: dict[int, int]) -> None:
        """Raises FellBack where one is below what was left."""
        for partition, offset in left.items():
            if self.watermarks.get(partition, -1) < offset:
                stored = self.watermarks.get(partition, "nothing")
                raise FellBack(
                    f"shard {number}: watermark of partition {partition} is {stored}, this worker left {offset}"
                )

    def raise_watermarks(self, marks: dict[int, int]) -> None:
        for partition, offset in marks.items():
            self.watermarks[partition] = max(offset, self.watermarks.get(partition, offset))

    def learn(self, entry: ItemEntry) -> bool:
        """Take up a catalogue entry; whether it changed anything. A missing title or vector leaves what is known."""
        known = self.items.get(entry.item)
        title = entry.title or (known.title if known else None)
        vector = entry.vector or (known.vector if known else b"")
        self.items[entry.item] = ItemEntry(entry.item, entry.item_id, title, vector)
        return self.items[entry.item] != known

    def apply(self, user: UserWrite) -> set[_Member]:
        """One accepted write; returns what it changed."""
        self.users[user.user] = (user.position, user.state)
        changed: set[_Member] = {("user", user.user)}
        steps = [(item, -inf, 1) for item in user.entered] + [(item, -inf, -1) for item in user.left]
        steps += [(item, weight, 0) for item, weight in user.popularity]
        for item, weight, users in steps:
            before = self.aggregates.get(item, NOTHING)
            after = log2_add(before[0], weight), max(before[1] + users, 0)
            if after != before:
                self.aggregates[item] = after
                changed.add(("item", item))
            if after == NOTHING:
                self.aggregates.pop(item, None)
        for label, weight in user.labels:
            self.label_weights[label] = self.label_weights.get(label, 0.0) + weight
        return changed

    def enter(self, changed: set[_Member], now: float, kept_us: int) -> float:
        """Put the changes into the feed under one score, which is returned; 0 where there are none."""
        if not changed:
            return 0.0
        self.began = self.began or now
        self.last = max(self.last + 1, now)
        self.feed.update(dict.fromkeys(changed, self.last))
        old = {member: score for member, score in self.feed.items() if score < now - kept_us}
        for member in old:
            del self.feed[member]
        self.trimmed = max(old.values(), default=self.trimmed)
        return self.last


@dataclass(slots=True)
class MemoryData:
    """What several stores share.

    clock: seconds since 1970. down: every call raises StoreUnavailable while it is set. beside: all spaces of the
    namespace by name, this one among them where there are several. kept: whether somebody uses this one.
    """

    shards: int = 4
    clock: Callable[[], float] = time.time
    feed_us: int = FEED_US
    down: bool = False
    stored: list[MemoryShard] = field(default_factory=list)
    identity: Identity | None = None
    notes: dict[str, str] = field(default_factory=dict)
    lock: RLock = field(default_factory=RLock)
    beside: dict[str, MemoryData] = field(default_factory=dict)
    kept: bool = False

    def another(self, own: str, name: str) -> MemoryData:
        """A further space of the namespace; notes and instance are the namespace's."""
        self.beside.setdefault(own, self)
        found = MemoryData(shards=self.shards, clock=self.clock, notes=self.notes, beside=self.beside)
        self.beside[name] = found
        return found

    def __post_init__(self) -> None:
        self.stored = [MemoryShard() for _ in range(self.shards)]

    def now_us(self) -> int:
        return int(self.clock() * 1_000_000)

    def copy(self, shard: int) -> MemoryShard:
        """A shard as it is now, to be given to `restore` later."""
        with self.lock:
            return deepcopy(self.stored[shard])

    def restore(self, shard: int, copy: MemoryShard) -> None:
        """Set one shard back, as a Redis that lost its last seconds."""
        with self.lock:
            self.stored[shard] = deepcopy(copy)

    def flush(self, shard: int | None = None) -> None:
        """Lose one shard, or everything with identity and notes."""
        with self.lock:
            if shard is not None:
                self.stored[shard] = MemoryShard()
                return
            self.stored = [MemoryShard() for _ in range(self.shards)]
            self.identity = None
            self.notes.clear()


class MemoryStore:
    """The Store protocol over a MemoryData. shards: as the settings say; the data's own number if not given."""

    def __init__(self, data: MemoryData | None = None, *, shards: int | None = None) -> None:
        self._data = MemoryData(shards=shards or 4) if data is None else data
        self.shards = shards or self._data.shards
        self._own: list[set[float]] = [set() for _ in range(self.shards)]

    def load(self, users: Sequence[UserKey]) -> list[Stored]:
        with self._reached() as data:
            return [_stored(data.stored[shard_of_user(user, self.shards)].users.get(user)) for user in users]

    def save(self, write: Write) -> set[int]:
        if len(write.left) != self.shards:
            raise ValueError(
                f"a write names what it left in each shard: {len(write.left)} dicts for {self.shards} shards"
            )
        with self._reached() as data:
            now = data.now_us()
            refused: set[int] = set()
            made: list[float] = []
            fell_back: FellBack | None = None
            for number, shard in enumerate(data.stored):
                try:
                    shard.check_watermarks(number, write.left[number])
                except FellBack as error:
                    fell_back = error
                    made.append(0.0)
                    continue
                changed: set[_Member] = set()
                for entry in write.items:
                    if shard_of_hash(entry.item, self.shards) == number and shard.learn(entry):
                        changed.add(("item", entry.item))
                for label, text in write.labels:
                    if shard_of_hash(label, self.shards) == number and shard.labels.get(label) != text:
                        shard.labels[label] = text
                        changed.add(("label", label))
                here = [n for n, user in enumerate(write.users) if shard_of_user(user.user, self.shards) == number]
                behind = set()
                for index in here:
                    user = write.users[index]
                    if shard.users.get(user.user, (b"", None))[0] == user.expected:
                        changed |= shard.apply(user)
                    else:
                        behind.add(index)
                if not behind:
                    shard.raise_watermarks(write.watermarks)
                refused |= behind
                made.append(shard.enter(changed, now, data.feed_us))
            if fell_back is not None:
                raise fell_back
        for own, score in zip(self._own, made, strict=True):
            own.add(score)
        return refused

    def watermarks(self) -> Watermarks:
        with self._reached() as data:
            return [dict(shard.watermarks) for shard in data.stored]

    def identify(self, topic_id: str, previous: frozenset[str]) -> Identity:
        with self._reached() as data:
            if self.shards != data.shards:
                raise StoreRefused(
                    f"the store keeps this space in {data.shards} shards, the settings say {self.shards}; set the "
                    f"number of shards back to {data.shards}"
                )
            self.keep()
            if data.identity is None:
                instance = data.notes.setdefault(INSTANCE_NOTE, uuid4().hex)
                data.identity = Identity(topic_id, instance, previous)
            return data.identity

    def snapshot(self) -> Iterator[Changes]:
        with self._reached() as data:
            cursors = tuple(shard.last for shard in data.stored)
            users = [
                (key, _stored(value).state) for shard in data.stored for key, value in shard.users.items() if value[1]
            ]
            items = [item for shard in data.stored for item in shard.items]
            labels = [pair for shard in data.stored for pair in shard.labels.items()]
            piece = Changes(cursors, users=users, items=self._rows(data, items), labels=labels)
        yield piece

    def changes(self, cursors: tuple[float, ...]) -> Changes:
        if len(cursors) != self.shards:
            raise ValueError(f"{len(cursors)} cursors for {self.shards} shards")
        with self._reached() as data:
            users: list[tuple[UserKey, UserState | None]] = []
            items: set[int] = set()
            labels: dict[int, str] = {}
            for shard, own, cursor in zip(data.stored, self._own, cursors, strict=True):
                if cursor > shard.last or 0 < cursor < shard.began or cursor < shard.trimmed:
                    raise FeedLost(f"the feed no longer has what came after {cursor:.0f}; read the snapshot again")
                for (kind, name), score in shard.feed.items():
                    if score > cursor and isinstance(name, bytes):
                        if score not in own:
                            users.append((name, _stored(shard.users.get(name)).state))
                    elif score > cursor and isinstance(name, int):
                        if kind == "item":
                            items.add(name)
                        else:
                            labels[name] = data.stored[shard_of_hash(name, self.shards)].labels[name]
            latest = tuple(shard.last for shard in data.stored)
            return Changes(latest, users, self._rows(data, sorted(items)), list(labels.items()))

    def label_weights(self) -> dict[int, float]:
        """Label hash → summed weight of all applied events that carried it, over all shards."""
        with self._reached() as data:
            total: dict[int, float] = {}
            for shard in data.stored:
                for label, weight in shard.label_weights.items():
                    total[label] = total.get(label, 0.0) + weight
            return total

    def users(self) -> Iterator[list[UserKey]]:
        with self._reached() as data:
            found = [user for shard in data.stored for user in shard.users]
        yield found

    def keep(self) -> None:
        with self._reached() as data:
            data.kept = True

    def spaces(self) -> dict[str, tuple[int, bool]]:
        with self._reached() as data:
            return {name: (there.shards, there.kept) for name, there in data.beside.items() if there is not data}

    def discard(self) -> Iterator[None]:
        with self._reached() as data:
            data.stored = [MemoryShard() for _ in range(data.shards)]
            data.identity = None
            for name in [name for name, there in data.beside.items() if there is data]:
                del data.beside[name]
        yield

    def note(self, key: str, value: str | None) -> None:
        with self._reached() as data:
            if value is None:
                data.notes.pop(key, None)
            else:
                data.notes[key] = value

    def noted(self, key: str) -> str | None:
        with self._reached() as data:
            return data.notes.get(key)

    def close(self) -> None:
        """Nothing to release; the data stays."""

    @contextmanager
    def _reached(self) -> Iterator[MemoryData]:
        with self._data.lock:
            if self._data.down:
                raise StoreUnavailable("the in-memory store is set down")
            yield self._data

    def _rows(self, data: MemoryData, items: Sequence[int]) -> list[ItemRow]:
        rows = []
        for item in items:
            entry = data.stored[shard_of_hash(item, self.shards)].items.get(item)
            if entry is not None:
                parts = [shard.aggregates.get(item, NOTHING) for shard in data.stored]
                weight = reduce(log2_add, (weight for weight, _ in parts))
                users = sum(users for _, users in parts)
                rows.append(ItemRow(item, entry.item_id, entry.title, weight, users, entry.vector))
        return rows


def _stored(value: tuple[bytes, bytes | None] | None) -> Stored:
    if value is None:
        return Stored()
    position, state = value
    try:
        return Stored(position, None if state is None else unpack_state(state))
    except StateFormatError as error:
        raise StoreRefused(
            f"a stored user cannot be read: {error}; run the version of Kindred that wrote it"
        ) from error
