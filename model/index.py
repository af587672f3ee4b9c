"""All donors and items as arrays: what transfer reads, kept true by the feed and by the worker's own writes.

A plain object for one thread, without locks; the pipeline's stage that answers owns it. It reads no Redis and no clock,
and knows users only by their keyed hashes. Memory is bounded by a byte budget: the donors least recently active make
room for new ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.audience import NEVER, Audience, Donors, People
from model.donor_vectors import DonorVectors, NearestFactory, Turned, unit
from model.evidence import LATEST, Known, Queries
from model.head import Head, identity
from model.item_table import SLOT_BYTES, STRING_BYTES, ItemEntry, ItemRow, ItemTable, Listing
from model.nearest import MISSING, Floats, NumpyNearest, Rows
from model.users import UserKey
from schemas.state import MAX_ITEMS, MAX_LABELS, UserState

ITEM_SHARE: Final = 0.25
"""Part of the byte budget that items may take; donors have the rest."""
KEY_BYTES: Final = 190
"""A donor's key, its row number and their dict entry, in CPython."""
DONOR_BYTES: Final = 4 * MAX_ITEMS + 6 * MAX_LABELS + 8 + KEY_BYTES
"""A donor without the vectors."""
MAX_KNOWN_LABELS: Final = 1 << 16
"""Labels beyond this many distinct ones are not learned, so that junk labels cannot fill the memory."""

TAKEN_LAST: Final = 200
"""Donors active last whose newest item is a candidate for every newcomer."""

State = tuple[UserKey, UserState | None]


@dataclass(frozen=True, slots=True)
class Changes:
    """A piece of the feed. cursors: one score a shard, to be given back. An erased user comes with state None."""

    cursors: tuple[float, ...]
    users: Sequence[tuple[UserKey, UserState | None]] = ()
    items: Sequence[ItemRow] = ()
    labels: Sequence[tuple[int, str]] = ()


class Index:
    """Donors and items. Speed: `put_users` takes 128 users in about a millisecond."""

    def __init__(
        self,
        dimension: int,
        budget_bytes: int,
        *,
        interest: Head = identity,
        nearest: NearestFactory = NumpyNearest,
        min_events: int = 1,
        min_donors: int = 1,
    ) -> None:
        """interest: the head. min_events: events a user needs to be a donor. min_donors: known users an item needs to
        be recommended on their account."""
        self.dimension = dimension
        self.budget_bytes = budget_bytes
        self.capacity, item_capacity = capacities(dimension, budget_bytes, nearest, interest)
        self._nearest = nearest
        self._min_events = min_events
        self._min_donors = min_donors
        self._vectors = DonorVectors(dimension, self.capacity, nearest, interest)
        self._room = self.capacity
        """Donors that the budget has room for with the present head."""
        # Pages that were never written cost nothing: every row below is written whole before it is read.
        self._recent = np.empty((self.capacity, MAX_ITEMS), np.int32)
        self._labels = np.empty((self.capacity, MAX_LABELS), np.int32)
        self._label_shares = np.empty((self.capacity, MAX_LABELS), np.float16)
        self._label_donors = np.zeros(MAX_KNOWN_LABELS, np.int32)
        """Donors that have a label, by its slot."""
        self._last_time = np.empty(self.capacity, np.int64)
        self._bound = NEVER
        """At least LATEST donors, if there are so many, were last active after this time."""
        self._rows: dict[UserKey, int] = {}
        self._keys: list[UserKey | None] = []
        self._free: list[int] = []
        self._high = 0
        self.items = ItemTable(nearest(dimension, item_capacity), self._forget_items)
        self._audience = self._new_audience()
        self._label_slots: dict[int, int] = {}
        self.label_names: list[str | None] = []
        self._refreshed = -np.inf

    @property
    def donors(self) -> int:
        return len(self._rows)

    @property
    def bytes(self) -> int:
        """Memory in use, by the sizes above."""
        labels = sum(map(len, filter(None, self.label_names))) + 250 * len(self.label_names)
        audience = len(self.items) * Audience.row_bytes(self._vectors.interests.dimension)
        return len(self._rows) * (DONOR_BYTES + self._vectors.row_bytes) + self.items.bytes + audience + labels

    @property
    def catalogue_active(self) -> bool:
        """Whether the `items` topic has records: then only its available items are recommended."""
        return self.items.listed_count > 0

    @property
    def head(self) -> Head:
        return self._vectors.head

    def turned(self, head: Head) -> Turned:
        """The donors' interest vectors as this head makes them. The one call that may come from another thread, while
        the index changes."""
        return self._vectors.turned(head)

    def turn(self, head: Head, turned: Turned | None = None) -> None:
        """Exchange the head. turned: of this head; without it, or where it is of another index, all is computed here.
        Under a learned head a donor takes more room: those least recently active go where the budget says so."""
        if head is self.head:
            return
        self._vectors.turn(head, turned)
        self._audience = self._new_audience()
        self._room = min(self.capacity, capacities(self.dimension, self.budget_bytes, self._nearest, head)[0])
        if len(self._rows) > self._room:
            self._make_room(len(self._rows) - self._room)

    def staleness(self, now: float) -> float:
        """Seconds since the feed was last read to its end; infinite before the first time."""
        return float(now - self._refreshed)

    def apply(self, changes: Changes, at: float | None = None) -> None:
        """A piece of the feed or of a snapshot. at: when the reading of the feed's last piece began, in the clock that
        `staleness` is asked in; None for a piece that is not the last."""
        self.learn(changes.items, changes.labels)
        self.put_users(changes.users)
        if at is not None:
            self._refreshed = at

    def learn(self, items: Sequence[ItemRow | ItemEntry], labels: Iterable[tuple[int, str]] = ()) -> None:
        """Names (and, from the feed, aggregates) of items and labels met in events."""
        self.items.learn(items)
        for label, name in labels:
            slot = self._label_slot(label)
            if slot >= 0:
                self.label_names[slot] = name

    def named_label(self, label: int) -> bool:
        """Whether the label's name is known, or there is no room to learn it."""
        slot = self._label_slots.get(label, -1)
        if slot < 0:
            return len(self._label_slots) >= MAX_KNOWN_LABELS
        return self.label_names[slot] is not None

    def put_item(self, listing: Listing) -> None:
        """A record of the `items` topic."""
        self.items.put(listing)

    def withdraw(self, item: int) -> None:
        """A null of the `items` topic."""
        self.items.withdraw(item)

    def add_popularity(self, items: Sequence[int], weights: Sequence[float]) -> None:
        """This worker's own events, as in UserWrite.popularity; the feed's sums replace it."""
        self.items.add_popularity(items, weights)

    def put_user(self, user: UserKey, state: UserState | None) -> None:
        self.put_users([(user, state)])

    def put_users(self, users: Sequence[State]) -> None:
        """New states, in order; None erases at once. All vectors, items and labels of the call are moved together."""
        latest = dict(users)
        gone = [user for user, state in latest.items() if state is None or state.count < self._min_events]
        if gone:
            self._drop([latest_row for user in gone if (latest_row := self._rows.get(user)) is not None])
            for user in gone:
                del latest[user]
        if not latest:
            return
        rows = self._rows_of(list(latest))
        states: list[UserState] = [state for state in latest.values() if state is not None]
        if MISSING in rows:
            states = [state for state, row in zip(states, rows, strict=True) if row != MISSING]
            rows = [row for row in rows if row != MISSING]
        at = np.array(rows, np.int64)
        self._last_time[at] = [state.last_time for state in states]
        means = np.concatenate([state.vector for state in states]).reshape(len(states), self.dimension)
        self._vectors.put(at, means.astype(np.float32))
        self._put_items(at, states)
        labels, shares = self.label_rows([state.labels for state in states])
        self._count_labels(self._labels[at], -1)
        self._count_labels(labels, 1)
        self._labels[at], self._label_shares[at] = labels, shares

    def known(self, now_ms: int) -> Known:
        """What transfer reads, as views: valid until the index changes."""
        items, size = self.items, self.items.size
        opened = items.open(now_ms)
        active, ages = self._active()
        taken = self._recent[active[:TAKEN_LAST], -1]
        always, always_vectors = items.always(opened, self._min_donors, taken[taken >= 0])
        return Known(
            donors=self._vectors.interests,
            recent=self._recent,
            labels=self._labels,
            label_shares=self._label_shares,
            centre=self._vectors.centre,
            items=items.vectors,
            item_centre=items.centre,
            holders=items.holders,
            popularity=items.popularity[:size],
            users=items.users[:size],
            always=always,
            always_vectors=always_vectors,
            active=active,
            ages=ages,
            active_times=self._last_time[active],
            audience=self._people,
            rarity=self._rarity(),
            people=items.users[:size] >= self._min_donors,
            listed=items.listed(),
            open=opened,
        )

    def queries(
        self,
        users: Sequence[UserKey],
        vectors: Floats,
        items: Sequence[Sequence[int]],
        labels: Sequence[dict[int, float]],
    ) -> Queries:
        """Newcomers as transfer asks for them; items and labels that the index does not know are left out."""
        flat = self.items.find(chain.from_iterable(items))
        width = max(1, max(map(len, items), default=1))
        label_slots, shares = self.label_rows(labels)
        get = self._rows.get
        units = unit(vectors)
        return Queries(
            vectors=units,
            interests=self._vectors.project(units),
            rows=np.array([get(user, MISSING) for user in users], np.int32),
            items=_right(flat, [len(row) for row in items], width),
            labels=label_slots,
            label_shares=shares,
        )

    def label_rows(self, labels: Sequence[dict[int, float]]) -> tuple[Rows, Floats]:
        """Label counts → (N, 16) slots, -1 for none, and shares of each row's sum."""
        get, new = self._label_slots.get, self._label_slot
        flat = []
        for label in chain.from_iterable(labels):
            slot = get(label)
            flat.append(new(label) if slot is None else slot)
        lengths = [len(row) for row in labels]
        slots = _right(flat, lengths, MAX_LABELS)
        counts = np.zeros(slots.shape, np.float32)
        counts[_at_right(lengths, MAX_LABELS)] = list(chain.from_iterable(row.values() for row in labels))
        counts[slots < 0] = 0
        return slots, counts / np.maximum(counts.sum(axis=1, keepdims=True), np.float32(1e-9))

    def _put_items(self, rows: NDArray[np.int64], states: list[UserState]) -> None:
        flat = self.items.slots(list(chain.from_iterable(state.items for state in states)))
        new = _right(flat, [len(state.items) for state in states], MAX_ITEMS)
        old = self._recent[rows]
        entered = (new >= 0) & ~_among(new, old)
        self._recent[rows] = new
        user, column = np.nonzero(entered)
        if len(user):
            self.items.enter(new[user, column].astype(np.int64), rows[user])
            self._audience.changed(new[user, column])
        gone = old[(old >= 0) & ~_among(old, new)]
        self._audience.changed(gone)

    def _new_audience(self) -> Audience:
        return Audience(self.items.capacity, self._vectors.interests.dimension)

    def _people(self, slots: NDArray[np.int64]) -> People:
        donors = Donors(self.items.holders, self._recent, self._last_time, self._vectors.of)
        return self._audience.of(slots, donors)

    def _active(self) -> tuple[NDArray[np.int64], Rows]:
        """Known.active and Known.ages."""
        times = self._last_time[: self._high]
        rows = np.flatnonzero(times > self._bound)
        wanted = min(LATEST, len(self._rows))
        if wanted and not wanted <= len(rows) <= 2 * LATEST:
            self._bound = int(np.partition(times, self._high - wanted)[self._high - wanted]) - 1
            rows = np.flatnonzero(times > self._bound)
        # Of equals the lower row comes first, so that the same donors give the same answer.
        rows = rows[np.argsort(-times[rows], kind="stable")][:LATEST]
        latest = times[rows]
        return rows, np.searchsorted(-latest, -latest, side="left").astype(np.int32)

    def _count_labels(self, labels: Rows, sign: int) -> None:
        np.add.at(self._label_donors, labels[labels >= 0], sign)

    def _rarity(self) -> Floats:
        """Known.rarity."""
        donors = self._label_donors[: max(1, len(self.label_names))]
        rarity: Floats = np.log1p((1 + len(self._rows)) / (1 + donors)).astype(np.float32)
        return rarity

    def _rows_of(self, users: list[UserKey]) -> list[int]:
        """Rows of users; new ones get a row, -1 where the budget has none for them."""
        get = self._rows.get
        found = [get(user, MISSING) for user in users]
        fresh = [user for user, row in zip(users, found, strict=True) if row == MISSING]
        if not fresh:
            return found
        if len(fresh) > self._room - len(self._rows):
            self._make_room(max(len(fresh), self._room // 64))
            fresh = [user for user in users if user not in self._rows]
        fresh = fresh[: self._room - len(self._rows)]
        rows = [self._free.pop() for _ in range(min(len(fresh), len(self._free)))]
        added = range(self._high, self._high + len(fresh) - len(rows))
        self._high += len(added)
        self._keys.extend([None] * len(added))
        rows.extend(added)
        for user, row in zip(fresh, rows, strict=True):
            self._rows[user] = row
            self._keys[row] = user
        self._recent[rows] = MISSING
        self._labels[rows] = MISSING
        return [get(user, MISSING) for user in users]

    def _make_room(self, wanted: int) -> None:
        rows = np.fromiter(self._rows.values(), np.int64, len(self._rows))
        wanted = min(wanted, len(rows))
        oldest = np.argpartition(self._last_time[rows], wanted - 1)[:wanted]
        self._release(rows[oldest])

    def _drop(self, rows: list[int]) -> None:
        if rows:
            at = np.array(rows, np.int64)
            slots = self._recent[at]
            self.items.leave(slots[slots >= 0].astype(np.int64))
            self._release(at)

    def _release(self, rows: NDArray[np.int64]) -> None:
        self._vectors.remove(rows)
        held = self._recent[rows]
        self._audience.changed(held[held >= 0])
        self._count_labels(self._labels[rows], -1)
        self._recent[rows] = MISSING
        self._labels[rows] = MISSING
        self._last_time[rows] = NEVER
        for row in rows.tolist():
            user = self._keys[row]
            if user is not None:
                del self._rows[user]
            self._keys[row] = None
            self._free.append(row)

    def _forget_items(self, slots: NDArray[np.int64]) -> None:
        """Item slots that will mean other items: take them out of every donor's recent items."""
        self._audience.changed(slots)
        still = np.arange(-1, self.items.high, dtype=np.int32)
        still[slots + 1] = MISSING
        for start in range(0, self._high, 1 << 16):
            stop = min(self._high, start + (1 << 16))
            self._recent[start:stop] = still[self._recent[start:stop] + 1]

    def _label_slot(self, label: int) -> int:
        slot = self._label_slots.get(label, MISSING)
        if slot == MISSING and len(self.label_names) < MAX_KNOWN_LABELS:
            slot = self._label_slots[label] = len(self.label_names)
            self.label_names.append(None)
        return slot


def capacities(dimension: int, budget_bytes: int, nearest: NearestFactory, head: Head = identity) -> tuple[int, int]:
    """How many donors and items fit a budget; at least 64 of each, so that a tiny budget still answers."""
    vector = nearest(dimension, 1).row_bytes
    donors = int(budget_bytes * (1 - ITEM_SHARE)) // (DONOR_BYTES + DonorVectors(dimension, 1, nearest, head).row_bytes)
    audience = Audience.row_bytes(dimension)
    items = int(budget_bytes * ITEM_SHARE) // (SLOT_BYTES + STRING_BYTES + vector + audience)
    return max(64, donors), max(64, items)


def _at_right(lengths: Sequence[int], width: int) -> NDArray[np.bool_]:
    """(N, width) the places of ragged rows, each at the right edge."""
    places: NDArray[np.bool_] = np.arange(width) >= width - np.array(lengths, np.int64)[:, None]
    return places


def _right(slots: Sequence[int], lengths: Sequence[int], width: int) -> Rows:
    """Ragged rows of slots, one behind the other → (N, width), each at the right edge, -1 before it."""
    rows = np.full((len(lengths), width), MISSING, np.int32)
    rows[_at_right(lengths, width)] = slots
    return rows


def _among(values: Rows, others: Rows) -> NDArray[np.bool_]:
    """(N, W) whether each value stands in the same row of others."""
    among: NDArray[np.bool_] = (values[:, :, None] == others[:, None, :]).any(axis=2)
    return among
