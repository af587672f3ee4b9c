"""The window lived through once more, to ask what would have been answered: every question sees what was known then.

The worker's own functions are called (`model/update.py`, `model/index.py`, `model/evidence.py`). A question is asked
after every earlier event has entered the index and before its own has, one question at a time: where most of what is
wanted is new, 32 events of delay cost a third of the hits. Users who are held out ask like newcomers and teach nothing.
This module does not know what is fitted on the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.evidence import TOLD, gather
from model.head import Head
from model.index import DONOR_BYTES, ITEM_SHARE, Index
from model.item_table import SLOT_BYTES, STRING_BYTES, ItemRow
from model.nearest import MISSING, Floats, NumpyNearest, Rows, top_k
from model.signals import TABLES, Candidates, candidates, columns_of
from model.update import LogEvent, Outcome, update
from model.users import Stored, UserKey, UserWrite
from schemas.state import UserState
from trainer.later import Later
from trainer.prepare import Prepared
from trainer.questions import Labelled, Questions, ragged, stacked

PIECE: Final = 32
"""Events that may enter the index together while nobody asks."""
KNOWN: Final = (1, 2, 3)
"""Texts that a newcomer has written when the question is asked."""
LONGEST: Final = 20
"""Items of a plain answer."""
PLAIN: Final = {
    "raw_knn": "knn",
    "cooccurrence": "together",
    "popularity": "everybody",
    "decayed_popularity": "popular",
}
"""Plain methods, and the table that each ranks by."""
OWN_LABELS: Final = 0.5
"""Share of the newcomer's own labels in what their labels are taken to be."""
NEAREST: Final = NumpyNearest


def replay(
    data: Prepared,
    vectors: NDArray[np.floating],
    interest: Head,
    *,
    user_ttl_ms: int,
    ask_from: int = 0,
    held_out: NDArray[np.bool_] | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[Questions, Labelled]:
    """Questions of all users, and of held-out users what their texts' labels are taken to be.

    vectors: (T, D) of the data's texts. ask_from: the first event that may be asked after: before it too little is
    known to learn from. held_out: (U,) users who are no donors; nobody if None. progress: told the number of events of
    each piece.
    """
    life = Replay(data, vectors, interest, user_ttl_ms, held_out)
    life.run(ask_from, progress)
    return life.questions(), life.labelled()


@dataclass(slots=True)
class _Asked:
    """One question while it is waiting: the user's own state as of its event."""

    event: int
    known: int
    seen: UserState


@dataclass(frozen=True, slots=True)
class Moment:
    """Questions that are asked at once, in the middle of a replay. events: (B,) the data's. known: (B,) texts. seen:
    each asker's state, its event included. index: as it is before these events. found: candidates, the data's items in
    place of slots."""

    events: NDArray[np.int64]
    known: NDArray[np.int32]
    seen: Sequence[UserState]
    index: Index
    found: Candidates


@dataclass(frozen=True, slots=True)
class _Answered:
    """What is kept of a piece's answers."""

    items: Rows
    signals: NDArray[np.float16]
    sharing: Rows
    strength: Floats
    plain: dict[str, Rows]
    reachable: list[bool]


class Replay:
    """A window that is lived through once; see `replay`."""

    def __init__(
        self,
        data: Prepared,
        vectors: NDArray[np.floating],
        interest: Head,
        user_ttl_ms: int,
        held_out: NDArray[np.bool_] | None = None,
    ) -> None:
        self._data = data
        self._vectors = vectors
        self._ttl = user_ttl_ms
        self._held_out = np.zeros(data.users, np.bool_) if held_out is None else held_out
        count = len(data.item_ids)
        self._index = empty_index(vectors.shape[1], interest, data)
        self._stored: dict[UserKey, Stored] = {}
        self._popularity = np.full(count, -np.inf)
        self._holders = np.zeros(count, np.int64)
        self._item_of = np.full(max(1, self._index.items.capacity), MISSING, np.int32)
        self._later = Later(data)
        self._asked: list[_Asked] = []
        self._answers: list[_Answered] = []

    def run(
        self,
        ask_from: int,
        progress: Callable[[int], None] = lambda _: None,
        hear: Callable[[Moment], None] = lambda _: None,
    ) -> None:
        """hear: told what is asked while it is asked, in the order of the log."""
        for start, stop in pairwise(_cuts(self._data.user, ask_from)):
            self._step(start, stop, ask_from, hear)
            progress(stop - start)

    def _step(self, start: int, stop: int, ask_from: int, hear: Callable[[Moment], None]) -> None:
        data = self._data
        rows = np.unique(data.text[start:stop][data.text[start:stop] >= 0])
        place = {int(row): at for at, row in enumerate(rows)}
        events = [self._event(number, place) for number in range(start, stop)]
        result = update(
            {event.user: self._stored.get(event.user, Stored()) for event in events},
            events,
            np.asarray(self._vectors[rows], np.float32).reshape(len(rows), self._vectors.shape[1]),
            newcomer_events=max(KNOWN),
            user_ttl_ms=self._ttl,
        )
        self._ask([(start + i, outcome) for i, outcome in enumerate(result.outcomes) if start + i >= ask_from], hear)
        self._learn(result.writes, result.states)

    def _event(self, number: int, place: dict[int, int]) -> LogEvent:
        data = self._data
        item, text = int(data.item[number]), int(data.text[number])
        return LogEvent(
            user=key_of(int(data.user[number])),
            partition=0,
            offset=number,
            timestamp=int(data.timestamp[number]),
            occurred=int(data.occurred[number]),
            vector=place[text] if text >= 0 else -1,
            weight=float(data.weight[number]),
            item=item if item >= 0 else None,
            labels=tuple(int(label) for label in data.labels[number] if label >= 0),
        )

    def _ask(self, outcomes: Sequence[tuple[int, Outcome]], hear: Callable[[Moment], None]) -> None:
        asked = [
            _Asked(number, outcome.nth, outcome.seen)
            for number, outcome in outcomes
            if outcome.applied and outcome.nth and outcome.seen is not None
        ]
        if not asked:
            return
        index = self._index
        queries = index.queries(
            [key_of(int(self._data.user[one.event])) for one in asked],
            np.array([one.seen.vector for one in asked], np.float32),
            [one.seen.items for one in asked],
            [one.seen.labels for one in asked],
        )
        known = index.known(0)
        evidence = gather(queries, known, OWN_LABELS)
        columns = columns_of(evidence, known, 0, len(asked))
        found = candidates(queries, known, evidence, columns, 0, len(asked), LONGEST)
        reachable = [any(slot >= 0 for slot in index.items.find(self._later.wanted(one.event))) for one in asked]
        self._asked += asked
        found = _numbered(found, self._item_of)
        plain = {name: _ranked(found, TABLES.index(table)) for name, table in PLAIN.items()}
        sharing = found.counts[:, :, 1].astype(np.int32)
        signals = found.signals.astype(np.float16)
        self._answers.append(_Answered(found.slots, signals, sharing, evidence.strength, plain, reachable))
        hear(
            Moment(
                np.array([one.event for one in asked], np.int64),
                np.array([one.known for one in asked], np.int32),
                [one.seen for one in asked],
                index,
                found,
            )
        )

    def _learn(self, writes: Sequence[UserWrite], states: Sequence[UserState | None]) -> None:
        taught: list[tuple[UserKey, UserState | None]] = []
        touched: set[int] = set()
        for write, state in zip(writes, states, strict=True):
            self._stored[write.user] = Stored(write.position, state)
            if self._held_out[int.from_bytes(write.user, "big")]:
                continue
            taught.append((write.user, state))
            for item, weight in write.popularity:
                self._popularity[item] = np.logaddexp2(self._popularity[item], weight)
                touched.add(item)
            for sign, items in ((1, write.entered), (-1, write.left)):
                np.add.at(self._holders, np.array(items, np.int64), sign)
                touched.update(items)
        self._index.learn([self._row(item) for item in sorted(touched)])
        for item, slot in zip(sorted(touched), self._index.items.find(sorted(touched)), strict=True):
            self._item_of[slot] = item
        self._index.put_users(taught)

    def _row(self, item: int) -> ItemRow:
        data = self._data
        text = int(data.title[item])
        vector = np.asarray(self._vectors[text], np.float16).tobytes() if text >= 0 else b""
        held = int(self._holders[item])
        return ItemRow(
            item, data.item_ids[item], data.titles[item] or None, float(self._popularity[item]), held, vector
        )

    def questions(self, until: int | None = None) -> Questions:
        """All that were asked so far. until: an event: what was asked before it, and wanted is what was taken before
        it; None: whatever is taken later is wanted."""
        found = self._answers
        widest = max((answer.items.shape[1] for answer in found), default=1)
        events = np.array([one.event for one in self._asked], np.int64)
        wanted = [self._later.wanted(int(event), until) for event in events]
        every = Questions(
            user=self._data.user[events],
            event=events,
            known=np.array([one.known for one in self._asked], np.int32),
            items=stacked([answer.items for answer in found], widest, MISSING),
            signals=stacked([answer.signals for answer in found], widest, 0),
            sharing=stacked([answer.sharing for answer in found], widest, 0),
            strength=np.concatenate([np.empty(0, np.float32), *(answer.strength for answer in found)]),
            plain={name: stacked([answer.plain[name] for answer in found], LONGEST, MISSING) for name in PLAIN},
            wanted=ragged(wanted),
            reachable=np.array([one for answer in found for one in answer.reachable], np.bool_),
        )
        return every if until is None else every.where(events < until)

    def labelled(self) -> Labelled:
        """Asked once everybody who teaches has taught all of it, without any label of the newcomer's own."""
        data = self._data
        asked = [
            one
            for one in self._asked
            if self._held_out[data.user[one.event]]
            and (data.labels[one.event] >= 0).any()
            and data.text[one.event] >= 0
        ]
        best = np.full(len(asked), MISSING, np.int32)
        for start in range(0, len(asked), 256):
            some = asked[start : start + 256]
            best[start : start + len(some)] = told_labels(
                self._index, [b""] * len(some), [one.seen for one in some], len(data.label_names)
            )
        events = np.array([one.event for one in asked], np.int64)
        return Labelled(
            user=data.user[events],
            event=events,
            known=np.array([one.known for one in asked], np.int32),
            best=best,
            wanted=data.labels[events],
        )


def told_labels(index: Index, users: Sequence[UserKey], seen: Sequence[UserState], labels: int) -> Rows:
    """(B,) the label that those near a user have most, -1 for none; the user's own labels and items are hidden. users:
    keys of those who are no donors of their own. labels: how many there are."""
    count = len(seen)
    queries = index.queries(users, np.array([state.vector for state in seen], np.float32), [()] * count, [{}] * count)
    entries = gather(queries, index.known(0), 0.0).labels
    # The index was told all labels in their order: its slots are the data's numbers.
    width = max(1, labels)
    cell = entries.query * width + entries.slot
    scores = np.bincount(cell, entries.values[TOLD], minlength=count * width).reshape(count, width)
    return np.where(scores.max(axis=1) > 0, scores.argmax(axis=1), MISSING).astype(np.int32)


def _cuts(user: NDArray[np.int32], ask_from: int) -> list[int]:
    """Where pieces begin and the last one ends: a piece has one event that is asked after, its first."""
    order = np.argsort(user, kind="stable")
    first = np.searchsorted(user[order], user[order])
    nth = np.empty(len(user), np.int64)
    nth[order] = np.arange(len(user)) - first
    asks = np.flatnonzero((nth < max(KNOWN)) & (np.arange(len(user)) >= ask_from))
    return sorted({0, len(user), *asks.tolist(), *range(0, len(user), PIECE)})


def empty_index(dimension: int, interest: Head, data: Prepared) -> Index:
    """Knows the data's labels by their numbers and nothing else, and has room for everybody and everything: memory that
    is never written is never taken."""
    row = NEAREST(dimension, 1).row_bytes
    donors = (data.users + 1) * (DONOR_BYTES + row) / (1 - ITEM_SHARE)
    items = (len(data.item_ids) + 1) * (SLOT_BYTES + STRING_BYTES + row) / ITEM_SHARE
    index = Index(dimension, 2 * int(max(donors, items)), interest=interest, nearest=NEAREST)
    index.learn([], [(label, name) for label, name in enumerate(data.label_names)])
    return index


def _numbered(found: Candidates, item_of: Rows) -> Candidates:
    """With the data's items in place of slots."""
    return replace(found, slots=np.where(found.slots >= 0, item_of[found.slots], MISSING).astype(np.int32))


def _ranked(found: Candidates, table: int) -> Rows:
    """(B, 20) the answer of a plain method: the candidates in the order of one table."""
    scores = found.tables[table].copy()
    scores[scores <= 0] = -np.inf
    columns, values = top_k(scores, LONGEST)
    slots = np.take_along_axis(found.slots, columns, axis=1)
    return np.where(np.isneginf(values), MISSING, slots).astype(np.int32)


def key_of(user: int) -> UserKey:
    return user.to_bytes(16, "big")
