"""What the index knows of items, one slot each: names, popularity, who lately took them, and whether they may be shown.

Slots are small integers so that donors' items fit an integer matrix. Bounded: when the table is full, the least popular
items make room. It knows nothing of users except the row numbers that the index gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.nearest import Floats, Nearest

HOLDERS: Final = 32
"""Latest donors remembered of an item: enough for co-occurrence, and bounds its cost for an item that everybody has."""
STRING_BYTES: Final = 256
"""Allowance for an item's id and title; where titles are longer on average, fewer items fit."""
SLOT_BYTES: Final = 4 * HOLDERS + 262
"""Numbers, holders, and the dict entry with its key."""
POPULAR: Final = 200
"""Most popular items that every newcomer's candidates contain."""
NEVER: Final = np.iinfo(np.int64).max
CENTRE_MEMORY: Final = 1024
"""Latest vectors that a running mean stands for."""


@dataclass(frozen=True, slots=True)
class ItemEntry:
    """An item learned from events: strings live here once. vector: (D,) float16 bytes of its own text, b"" if none."""

    item: int
    item_id: str
    title: str | None = None
    vector: bytes = b""


@dataclass(frozen=True, slots=True)
class ItemRow:
    """An item as the index reads it. popularity: log2 of the decayed sum over all shards, -inf if none; users: how many
    known users hold it among their recent items, summed over the shards."""

    item: int
    item_id: str
    title: str | None
    popularity: float
    users: int
    vector: bytes


@dataclass(frozen=True, slots=True)
class Listing:
    """A record of the `items` topic. vector: (D,) of its own text, None where it has none."""

    item: int
    item_id: str
    title: str | None = None
    vector: Floats | None = None
    available: bool = True
    expires_ms: int | None = None


class ItemTable:
    """Used from one thread. `evicted` is told the slots that are about to be given to other items."""

    def __init__(self, vectors: Nearest, evicted: Callable[[NDArray[np.int64]], None]) -> None:
        capacity = vectors.capacity
        self.capacity = capacity
        self.high = 0
        """Slots from here on were never used."""
        self.vectors = vectors
        self.ids: list[str | None] = []
        self.titles: list[str | None] = []
        self.holders = np.empty((capacity, HOLDERS), np.int32)
        self.popularity = np.empty(capacity, np.float64)
        self.users = np.empty(capacity, np.int32)
        self.listed_count = 0
        self.centre = np.zeros(vectors.dimension, np.float32)
        self.string_bytes = 0
        self._evicted = evicted
        self._slots: dict[int, int] = {}
        self._hashes: list[int] = []
        self._free: list[int] = []
        self._cursor = np.empty(capacity, np.int64)
        self._listed = np.empty(capacity, np.bool_)
        self._told = np.empty(capacity, np.bool_)
        self._told_title = np.empty(capacity, np.bool_)
        self._available = np.empty(capacity, np.bool_)
        self._has_vector = np.empty(capacity, np.bool_)
        self._expires = np.empty(capacity, np.int64)
        self._popular = np.empty(0, np.int64)
        self._popular_vectors = np.empty((0, vectors.dimension), np.float32)
        self._moved = 0
        """Changes since `popular` was last made."""
        self._clear(np.zeros(1, np.int64))

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def size(self) -> int:
        """Length of the arrays below, at least 1: an empty table has one slot that is never shown."""
        return max(1, self.high)

    @property
    def bytes(self) -> int:
        return len(self._slots) * (SLOT_BYTES + self.vectors.row_bytes) + self.string_bytes

    def find(self, items: Iterable[int]) -> list[int]:
        """Slots of item hashes, -1 for those that are not known."""
        get = self._slots.get
        return [get(item, -1) for item in items]

    def named(self, item: int, *, with_title: bool) -> bool:
        """Whether Redis knows the item's id (and title) from events, whatever the catalogue says of it; may be asked
        from another thread."""
        slot = self._slots.get(item, -1)
        return slot >= 0 and bool(self._told[slot]) and not (with_title and not self._told_title[slot])

    def slots(self, items: Sequence[int]) -> list[int]:
        """Slots of item hashes; an unknown one gets a slot without a name, which is not shown until it has one. -1 for
        those that do not fit."""
        found = list(map(self._slots.get, items))
        if None not in found:
            return found  # type: ignore[return-value]
        fresh = [item for item in dict.fromkeys(items) if item not in self._slots]
        if len(fresh) > self.capacity - len(self._slots) or self.string_bytes > self.capacity * STRING_BYTES:
            self._evict(max(len(fresh), self.capacity // 16))
            fresh = [item for item in dict.fromkeys(items) if item not in self._slots]
        self._take(fresh[: self.capacity - len(self._slots)])
        return self.find(items)

    def learn(self, items: Sequence[ItemRow | ItemEntry]) -> None:
        """Take over what the feed (rows) or this worker's own batch (entries: names only) says of items in events."""
        slots = self.slots([row.item for row in items])
        vectors: dict[int, bytes] = {}
        for slot, row in zip(slots, items, strict=True):
            if slot < 0:
                continue
            if isinstance(row, ItemRow):
                self.popularity[slot] = row.popularity
                self.users[slot] = row.users
            self._told[slot] = True
            self._told_title[slot] |= row.title is not None
            if self._listed[slot]:
                continue  # the catalogue knows better
            self._name(slot, row.item_id, row.title or self.titles[slot])
            if row.vector:
                vectors[slot] = row.vector
        self._moved = self.capacity
        if vectors:
            rows = np.fromiter(vectors, np.int64, len(vectors))
            self._set_vectors(rows, np.frombuffer(b"".join(vectors.values()), np.float16).reshape(len(rows), -1))

    def put(self, listing: Listing) -> None:
        """A record of the catalogue; the first one makes the catalogue decide what may be shown."""
        slot = self.slots([listing.item])[0]
        if slot < 0:
            return
        if not self._listed[slot]:
            self._listed[slot] = True
            self.listed_count += 1
            if self.listed_count == 1:
                self.vectors.hide(self._with_vectors())
        self._name(slot, listing.item_id, listing.title)
        self._available[slot] = listing.available
        self._expires[slot] = NEVER if listing.expires_ms is None else listing.expires_ms
        row = np.array([slot])
        if listing.vector is not None and listing.vector.any():
            self._set_vectors(row, listing.vector[None])
        elif self._has_vector[slot]:
            (self.vectors.show if listing.available else self.vectors.hide)(row)
        self._moved = self.capacity

    def withdraw(self, item: int) -> None:
        """The catalogue's null: the item is again what events say of it; without any record left, all items are."""
        slot = self._slots.get(item, -1)
        if slot < 0 or not self._listed[slot]:
            return
        self._unlist(np.array([slot]))
        self._moved = self.capacity

    def add_popularity(self, items: Sequence[int], weights: Sequence[float]) -> None:
        """Add events' forward-decayed weights, given as log2; unknown items are left to the feed."""
        slots = np.array(self.find(items), np.int64)
        known = slots >= 0
        np.logaddexp2.at(self.popularity, slots[known], np.array(weights, np.float64)[known])
        self._moved += int(known.sum())

    def enter(self, slots: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        """Donor rows that took items: distinct (slot, row) pairs, oldest first."""
        self.users[slots] = np.maximum(self.users[slots], 1)
        new = ~(self.holders[slots] == rows[:, None]).any(axis=1)
        slots, rows = slots[new], rows[new]
        order = np.argsort(slots, kind="stable")
        slots, rows = slots[order], rows[order]
        first = np.flatnonzero(np.diff(slots, prepend=-1))
        run = np.diff(first, append=len(slots))
        place = np.arange(len(slots)) - np.repeat(first, run)
        self.holders[slots, (self._cursor[slots] + place) % HOLDERS] = rows
        self._cursor[slots[first]] += run

    def leave(self, slots: NDArray[np.int64]) -> None:
        """An erased user had these items; the feed's count follows."""
        np.subtract.at(self.users, slots, 1)
        self.users[slots] = np.maximum(self.users[slots], 0)

    def open(self, now_ms: int) -> NDArray[np.bool_]:
        """(size,) whether each item may be recommended at this time."""
        size = self.size
        opened: NDArray[np.bool_] = self._available[:size] & (self._expires[:size] > now_ms)
        if self.listed_count:
            opened &= self._listed[:size]
        return opened

    def listed(self) -> NDArray[np.bool_]:
        """(size,) whether the catalogue has the item."""
        return self._listed[: self.size]

    def popular(self, opened: NDArray[np.bool_], min_users: int) -> tuple[NDArray[np.int64], Floats]:
        """The most popular open items with enough users, and their vectors (zeros for none).

        Made anew when 1/64 of the table has moved: scores are read afresh, only who is a candidate is a little late.
        """
        if self._moved * 64 >= self.high:
            slots = np.flatnonzero(opened & (self.users[: self.size] >= min_users))
            if len(slots) > POPULAR:
                slots = slots[np.argpartition(self.popularity[slots], -POPULAR)[-POPULAR:]]
            with_vector = self._has_vector[slots]
            self._popular = slots
            self._popular_vectors = np.zeros((len(slots), self.vectors.dimension), np.float32)
            self._popular_vectors[with_vector] = self.vectors.get(slots[with_vector])
            self._moved = 0
        return self._popular, self._popular_vectors

    def always(
        self, opened: NDArray[np.bool_], min_users: int, taken: NDArray[np.integer]
    ) -> tuple[NDArray[np.int64], Floats]:
        """The popular ones and, behind them, those of the items `taken` that are none, each once; and their vectors."""
        popular, vectors = self.popular(opened, min_users)
        added = np.setdiff1d(taken, popular).astype(np.int64)
        more = np.zeros((len(added), self.vectors.dimension), np.float32)
        with_vector = self._has_vector[added]
        more[with_vector] = self.vectors.get(added[with_vector])
        return np.concatenate([popular, added]), np.concatenate([vectors, more])

    def _take(self, items: Sequence[int]) -> None:
        reused = [self._free.pop() for _ in range(min(len(items), len(self._free)))]
        added = range(self.high, self.high + len(items) - len(reused))
        self.high += len(added)
        self.ids.extend([None] * len(added))
        self.titles.extend([None] * len(added))
        self._hashes.extend([0] * len(added))
        slots = [*reused, *added]
        for item, slot in zip(items, slots, strict=True):
            self._slots[item] = slot
            self._hashes[slot] = item
        self._clear(np.array(slots, np.int64))

    def _clear(self, rows: NDArray[np.int64]) -> None:
        """Slots of items of which nothing is known."""
        self.holders[rows] = -1
        self.popularity[rows] = -np.inf
        self.users[rows] = 0
        self._cursor[rows] = 0
        self._listed[rows] = False
        self._told[rows] = False
        self._told_title[rows] = False
        self._available[rows] = False
        self._has_vector[rows] = False
        self._expires[rows] = NEVER

    def _evict(self, wanted: int) -> None:
        slots = np.fromiter(self._slots.values(), np.int64, len(self._slots))
        wanted = min(wanted, len(slots))
        # The catalogue's items go last.
        slots = slots[np.lexsort((self.popularity[slots], self._listed[slots]))[:wanted]]
        self._unlist(slots[self._listed[slots]])
        self.vectors.remove(slots)
        self._evicted(slots)
        self._available[slots] = False
        self._has_vector[slots] = False
        self._moved = self.capacity
        for slot in slots.tolist():
            del self._slots[self._hashes[slot]]
            self.string_bytes -= _length(self.ids[slot]) + _length(self.titles[slot])
            self.ids[slot] = self.titles[slot] = None
            self._free.append(slot)

    def _name(self, slot: int, item_id: str, title: str | None) -> None:
        self.string_bytes += _length(item_id) + _length(title) - _length(self.ids[slot]) - _length(self.titles[slot])
        if self.ids[slot] is None:
            self._available[slot] = True
        self.ids[slot], self.titles[slot] = item_id, title

    def _unlist(self, slots: NDArray[np.int64]) -> None:
        if not len(slots):
            return
        self.listed_count -= len(slots)
        self._listed[slots] = False
        self._available[slots] = True
        self._expires[slots] = NEVER
        if self.listed_count:
            self.vectors.hide(slots[self._has_vector[slots]])
        else:
            self.vectors.show(self._with_vectors())

    def _with_vectors(self) -> NDArray[np.int64]:
        return np.flatnonzero(self._has_vector[: self.high])

    def _set_vectors(self, slots: NDArray[np.int64], vectors: NDArray[np.floating]) -> None:
        full = vectors.astype(np.float32)
        length = np.linalg.norm(full, axis=1)
        slots, full = slots[length > 0], full[length > 0] / length[length > 0, None]
        self.vectors.set(slots, full)
        self._has_vector[slots] = True
        self.centre = drift(self.centre, full)
        shown = self._available[slots] & (self._listed[slots] if self.listed_count else True)
        self.vectors.hide(slots[~shown])


def drift(centre: Floats, vectors: Floats) -> Floats:
    """The running mean of vectors after some more of them; the first ones start it."""
    if not len(vectors):
        return centre
    share = np.float32(len(vectors) / (len(vectors) + CENTRE_MEMORY) if centre.any() else 1.0)
    moved: Floats = centre + share * (vectors.mean(axis=0) - centre)
    return moved


def _length(text: str | None) -> int:
    return 0 if text is None else 49 + len(text.encode())
