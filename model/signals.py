"""Candidates for a batch of newcomers, and what speaks for each: a row of signals between 0 and 1.

Evidence is added up into dense (B, C) tables, one for each way to count, where C are the items that anything speaks for
in this batch. The best of every table are a query's candidates; a signal is a table, or a product of tables, as its
share of the query's highest, or the rank in it. How much each signal is to be believed is the blend's affair
(`model/transfer.py`), and the trainer's, who fits it.

Pure functions over arrays: this module does not know who a row is, what an item is called, or what time it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from model.audience import People
from model.evidence import FOR_ITEMS, Entries, Evidence, Known, Queries
from model.nearest import MISSING, Floats, Rows, top_k

PARTS: Final = ("donors", "shared_items", "item_text", "popularity")
DONORS, SHARED, TEXT, POPULAR = range(4)

TABLES: Final = (
    "knn",
    "wide",
    "sharp",
    "together",
    "lately",
    "alike",
    "text",
    "popular",
    "everybody",
    "labels",
    "labels_fresh",
    "people",
    "taken",
    "taken_wide",
    "new",
    "rate",
    "last",
)
"""What is added up: donors' items by plain similarity (text kNN), widely, sharply; items taken together with the
newcomer's (co-occurrence), lately, by users who write alike; nearness of texts; decayed popularity; number of users;
labels of those who have the item against the newcomer's, as it is and for what is popular now; how alike its people
and the newcomer write; how many of the donors active last took it, within few and within many donors; how few donors
have been active since it was first taken, and its people ÷ these; and since it was taken last."""

SIGNALS: Final = (
    ("donors.knn", DONORS),
    ("donors.wide", DONORS),
    ("donors.sharp", DONORS),
    ("donors.rank", DONORS),
    ("donors.untrusted", DONORS),
    ("donors.labels", DONORS),
    ("donors.labels_fresh", DONORS),
    ("donors.labels_rank", DONORS),
    ("shared_items.together", SHARED),
    ("shared_items.lately", SHARED),
    ("shared_items.alike", SHARED),
    ("shared_items.rare", SHARED),
    ("shared_items.lately_fresh", SHARED),
    ("shared_items.alike_fresh", SHARED),
    ("shared_items.rank", SHARED),
    ("item_text.near", TEXT),
    ("item_text.near_square", TEXT),
    ("item_text.near_fresh", TEXT),
    ("item_text.rank", TEXT),
    ("popularity.fresh", POPULAR),
    ("popularity.everybody", POPULAR),
    ("popularity.rank", POPULAR),
    ("donors.knn_level", DONORS),
    ("donors.wide_level", DONORS),
    ("donors.sharp_level", DONORS),
    ("donors.labels_level", DONORS),
    ("donors.people_level", DONORS),
    ("shared_items.together_level", SHARED),
    ("shared_items.lately_level", SHARED),
    ("shared_items.alike_level", SHARED),
    ("item_text.near_level", TEXT),
    ("popularity.fresh_level", POPULAR),
    ("popularity.everybody_level", POPULAR),
    ("popularity.taken_level", POPULAR),
    ("popularity.taken_wide_level", POPULAR),
    ("popularity.new_level", POPULAR),
    ("popularity.rate_level", POPULAR),
    ("popularity.last_level", POPULAR),
    ("donors.labels_plain_rank", DONORS),
    ("donors.people_rank", DONORS),
    ("popularity.taken_rank", POPULAR),
    ("popularity.taken_wide_rank", POPULAR),
    ("popularity.new_rank", POPULAR),
    ("popularity.rate_rank", POPULAR),
)
"""Name and part of each signal, in their order everywhere. New ones come last."""
FIRST: Final = 22
"""Signals of the first release; one that was written without a later signal gives it no weight."""
SIGNAL_PARTS: Final = np.array([part for _, part in SIGNALS])
"""(S,) the part of each signal."""

BEST: Final = 32
"""Items of each table that become candidates; more where more items are asked for."""
DOUBLINGS: Final = 8.0
"""Below 2 ** -DOUBLINGS of the query's highest, a level is 0."""
FEW: Final = 10.0
MANY: Final = 100.0
"""Donors active since, after whom what one took counts half."""
LAST_ITEMS: Final = 8
"""Of a donor's items, that count as taken lately; the n-th most recent counts 1 / n."""
SOON: Final = 5.0
"""Donors that are added to those since an item was new, so that a first one makes no rate."""
FLOOR: Final = -16.0
"""log2 of the popularity, relative to the highest, below which an item is not held to be any staler."""
UNTRIED: Final = -3.0
"""The same for an item without any event: nothing speaks against it yet, and a new item must be able to come up."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """slots: (B, C) candidates of each query, ascending, -1 behind them. signals: (B, C, S) float32, 0 to 1, zeros for
    -1. tables: (T, B, C) what they were made of. counts: (B, C, 2) donors, and sharing users, who have the item."""

    slots: Rows
    signals: Floats
    tables: Floats
    counts: Rows


def columns_of(evidence: Evidence, known: Known, start: int, stop: int) -> NDArray[np.int64]:
    """Distinct slots that anything speaks for in queries start to stop, ascending. Never empty: without any slot there
    is still slot 0, which nothing scores."""
    marked = np.zeros(len(known.open), np.bool_)
    marked[known.always] = True
    for entries in (evidence.donors, evidence.shared, evidence.texts):
        marked[entries.slot[(entries.query >= start) & (entries.query < stop)]] = True
    marked[0] |= not marked.any()
    return np.flatnonzero(marked)


def candidates(
    queries: Queries, known: Known, evidence: Evidence, columns: NDArray[np.int64], start: int, stop: int, limit: int
) -> Candidates:
    """Of queries start to stop. columns: as columns_of gives them. limit: items that will be asked for."""
    batch, width = stop - start, len(columns)
    place = np.full(len(known.open), MISSING, np.int64)
    place[columns] = np.arange(width)
    allowed = known.open[columns] & (known.people[columns] | known.listed[columns])
    by_people = allowed & known.people[columns]
    seen = np.zeros((batch, width), np.bool_)
    query, column = np.nonzero(queries.items[start:stop] >= 0)
    at = place[queries.items[start:stop][query, column]]
    seen[query[at >= 0], at[at >= 0]] = True

    tables = np.empty((len(TABLES), batch, width), np.float32)
    cells: list[NDArray[np.int64]] = []
    row = 0
    for entries, mask in ((evidence.donors, by_people), (evidence.shared, by_people), (evidence.texts, allowed)):
        inside = (entries.query >= start) & (entries.query < stop)
        at = place[entries.slot[inside]]
        cell = (entries.query[inside] - start) * width + at
        cells.append(cell)
        for values in entries.values:
            summed = np.bincount(cell, values[inside] * mask[at], minlength=batch * width)
            tables[row] = summed.reshape(batch, width)
            row += 1
    fresh = _fresh(known, columns)
    match = _label_match(evidence, known, columns, start, stop)
    # Only what a query has itself found, or everybody finds: an answer must not depend on who else is asked for.
    own = by_people & ((tables[:row] > 0).any(axis=0) | np.isin(columns, known.always))
    tables[row] = np.where(own & np.isfinite(known.popularity[columns]), fresh, 0)
    tables[row + 1] = np.where(own, known.users[columns], 0)
    tables[row + 2] = np.where(own, match, 0)
    tables[row + 3] = np.where(own, match * fresh, 0)
    people = known.audience(columns)
    tables[row + 4] = np.where(own, _alike(queries, known, people, start, stop), 0)
    few, many, last = _lately(known)
    tables[row + 5] = np.where(own, few[columns], 0)
    tables[row + 6] = np.where(own, many[columns], 0)
    since = _since(known, people.since)
    tables[row + 7] = np.where(own & (people.count > 0), 1 / (1 + since), 0)
    tables[row + 8] = np.where(own, people.count / (SOON + since), 0)
    tables[row + 9] = np.where(own, last[columns], 0)
    tables[:, seen] = 0

    chosen = _chosen(tables, max(BEST, limit))
    there = chosen < width
    at = np.where(there, chosen, 0)
    kept = np.take_along_axis(tables, at[None], axis=2)
    kept[:, ~there] = 0
    return Candidates(
        slots=np.where(there, columns[at], MISSING).astype(np.int32),
        signals=signals(kept, fresh[at], known.users[columns][at], evidence.strength[start:stop]),
        tables=kept,
        counts=_counts(cells[:2], at, there, width),
    )


def signals(tables: Floats, fresh: Floats, users: Rows, strength: Floats) -> Floats:
    """(T, B, C) tables of the candidates → (B, C, S). fresh: (B, C) decayed popularity ÷ the highest of all. users:
    (B, C) who have the item. strength: (B,) how far the donors are to be trusted."""
    knn, wide, sharp, together, lately, alike, text, popular, everybody, labels, labels_fresh, *others = tables
    people, taken, taken_wide, new, rate, last = others
    trust = strength[:, None]
    near = _share(text)
    found = (
        trust * _share(knn),
        trust * _share(wide),
        trust * _share(sharp),
        trust * _rank(wide),
        _share(wide),
        _share(labels),
        _share(labels_fresh),
        _rank(labels_fresh),
        _share(together),
        _share(lately),
        _share(alike),
        _share(together / np.sqrt(np.maximum(users, 1))),
        _share(lately * fresh),
        _share(alike * fresh),
        _rank(lately),
        near,
        near * near,
        _share(text * np.sqrt(fresh)),
        _rank(text),
        _share(popular),
        _share(everybody),
        _rank(popular),
        _level(knn),
        _level(wide),
        _level(sharp),
        _level(labels),
        _level(people),
        _level(together),
        _level(lately),
        _level(alike),
        _level(text),
        _level(popular),
        _level(everybody),
        _level(taken),
        _level(taken_wide),
        _level(new),
        _level(rate),
        _level(last),
        _rank(labels),
        _rank(people),
        _rank(taken),
        _rank(taken_wide),
        _rank(new),
        _rank(rate),
    )
    return np.stack(found, axis=2).astype(np.float32)


def _alike(queries: Queries, known: Known, people: People, start: int, stop: int) -> Floats:
    """(B, C) how alike the newcomer and an item's people write, above the background, mean over the people and one more
    who is not alike at all."""
    interests = queries.interests[start:stop]
    floor = np.clip(interests @ known.centre, 0, 0.95)[:, None]
    above = (interests @ people.tastes.T - floor * people.count) / ((1 - floor) * (1 + people.count))
    return np.asarray(np.maximum(above, 0), np.float32)


def _lately(known: Known) -> tuple[Floats, Floats, Floats]:
    """(I,) each: how much the donors active last have taken each item, where one that was active n donors ago counts
    2 ** -(n / FEW), the same with MANY; and how lately, 1 / (1 + n) of the nearest of those who took it."""
    recent = known.recent[known.active, -LAST_ITEMS:]  # (A, LAST_ITEMS)
    there = recent >= 0
    slots, turns = recent[there], np.arange(recent.shape[1], 0, -1)

    def taken(half: float) -> Floats:
        weights = (np.exp2(-known.ages / half)[:, None] / turns)[there]
        return np.bincount(slots, weights, minlength=len(known.open)).astype(np.float32)

    last = np.zeros(len(known.open), np.float32)
    np.maximum.at(last, slots, ((1 / (1 + known.ages))[:, None] / turns)[there].astype(np.float32))
    return taken(FEW), taken(MANY), last


def _since(known: Known, times: NDArray[np.int64]) -> Floats:
    """How many donors were active after each time, as far as they are told apart."""
    return np.searchsorted(-known.active_times, -times, side="left").astype(np.float32)


def _label_match(evidence: Evidence, known: Known, columns: NDArray[np.int64], start: int, stop: int) -> Floats:
    """(B, C) how far the labels of those who have an item are what the newcomer's labels are taken to be."""
    asked = cut(evidence.labels, start, stop)
    width = int(asked.slot.max(initial=-1)) + 1
    if not width:
        return np.zeros((stop - start, len(columns)), np.float32)
    cell = asked.query * width + asked.slot
    # What most donors have tells nobody apart.
    values = asked.values[FOR_ITEMS] * known.rarity[asked.slot]
    wanted = np.bincount(cell, values, minlength=(stop - start) * width).reshape(-1, width)
    holders = known.holders[columns]  # (C, H)
    held = holders[holders >= 0]
    # The match of each holder once, however many of the items he has.
    held_by = np.zeros(held.max(initial=0) + 1, np.bool_)
    held_by[held] = True
    users = np.flatnonzero(held_by)
    place = np.empty(len(held_by), np.int32)
    place[users] = np.arange(len(users), dtype=np.int32)
    labels = known.labels[users]  # (U, 16)
    given = np.flatnonzero((labels >= 0) & (labels < width))
    shares = known.label_shares[users].ravel()[given].astype(np.float32)
    profiles = _rows(shares, labels.ravel()[given], given // labels.shape[1], (len(users), width))
    likes = profiles @ wanted.T.astype(np.float32)  # (U, B)
    each = (holders >= 0).sum(axis=1)
    has = _rows(
        np.ones(len(held), np.float32),
        place[held],
        np.repeat(np.arange(len(columns)), each),
        (len(columns), len(users)),
    )
    # One holder more, who has no labels: a single one must not make an item all of its kind.
    match = (has @ likes) / (1 + each)[:, None].astype(np.float32)
    return np.ascontiguousarray(match.T, np.float32)


def _rows(values: Floats, column: Rows, row: NDArray[np.int64], shape: tuple[int, int]) -> csr_array:
    """A sparse matrix of entries that are sorted by row already."""
    ends = np.cumsum(np.bincount(row, minlength=shape[0]))
    return csr_array((values, column, np.concatenate([[0], ends])), shape)


def _share(table: Floats) -> Floats:
    """(B, C) as shares of each query's highest."""
    shares: Floats = table / np.maximum(table.max(axis=1, keepdims=True, initial=0), np.float32(1e-9))
    return shares


def _level(table: Floats) -> Floats:
    """(B, C) how many times each is to be doubled to be the query's highest: 1 for never, 0 for DOUBLINGS times and
    more. A sum of levels orders like a product of powers: what is weak in one table is not made up for by another."""
    levels: Floats = np.maximum(1 + np.log2(np.maximum(_share(table), np.float32(1e-9))) / np.float32(DOUBLINGS), 0)
    return levels


def _rank(table: Floats) -> Floats:
    """(B, C) 1 / log2(rank + 1), as nDCG discounts ranks; 0 where the table has nothing. Equals share no rank: the
    lower slot comes first."""
    order = np.argsort(-table, axis=1, kind="stable")
    discounts = (1 / np.log2(np.arange(2, table.shape[1] + 2))).astype(np.float32)
    ranked = np.empty(table.shape, np.float32)
    np.put_along_axis(ranked, order, np.broadcast_to(discounts, table.shape), axis=1)
    return np.where(table > 0, ranked, np.float32(0))


def _chosen(tables: Floats, best: int) -> NDArray[np.int64]:
    """(B, C) columns that are among the best of any table, ascending, each once; behind them the number of columns."""
    nothing = tables.shape[2]
    found: list[NDArray[np.int64]] = []
    for table in tables:
        columns, values = top_k(np.where(table > 0, table, -np.inf).astype(np.float32), best)
        found.append(np.where(np.isneginf(values), nothing, columns))
    every = np.sort(np.concatenate(found, axis=1), axis=1)
    every[:, 1:][every[:, 1:] == every[:, :-1]] = nothing
    every.sort(axis=1)
    most = max(1, int((every < nothing).sum(axis=1).max(initial=0)))
    return every[:, :most]


def _fresh(known: Known, slots: NDArray[np.int64]) -> Floats:
    """(C,) decayed popularity ÷ the highest of the popular, 0 to 1."""
    logs = known.popularity[slots]
    most = known.popularity[known.always].max(initial=-np.inf)
    if not np.isfinite(most):
        return np.full(len(slots), 2**UNTRIED, np.float32)
    above = np.where(np.isfinite(logs), np.clip(logs - most, FLOOR, 0), UNTRIED)
    return np.exp2(above).astype(np.float32)


def _counts(cells: Sequence[NDArray[np.int64]], at: NDArray[np.int64], there: NDArray[np.bool_], width: int) -> Rows:
    """(B, C, len(cells)) how many entries of each part stand behind the chosen columns."""
    batch, most = at.shape
    query, place = np.nonzero(there)
    chosen = np.full(batch * width, MISSING, np.int32)
    chosen[query * width + at[query, place]] = query * most + place
    counts = np.zeros((batch * most, len(cells)), np.int32)
    for number, cell in enumerate(cells):
        hit = chosen[cell]
        counts[:, number] = np.bincount(hit[hit >= 0], minlength=batch * most)
    return counts.reshape(batch, most, len(cells))


def cut(entries: Entries, start: int, stop: int) -> Entries:
    """The entries of queries start to stop, which are numbered from 0 then."""
    inside = (entries.query >= start) & (entries.query < stop)
    return Entries(entries.query[inside] - start, entries.slot[inside], entries.values[:, inside])
