"""What transfer gathers for a batch of newcomers, before anything is added up: near donors and their items and labels,
users who share an item, items near by text.

How much a donor or a sharing user counts is answered in several ways at once (sharply or widely by similarity, with and
without a preference for what was taken last): the blend says which of them to believe.

Pure functions over arrays: this module does not know how the parts are blended, who a row is or what an item is called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.audience import People
from model.nearest import MISSING, Floats, Nearest, Rows

NEIGHBOURS: Final = 50
"""Donors that a newcomer is compared with: the k of the plain text kNN that transfer is measured against."""
TEXTS: Final = 50
"""Items taken by their text."""
WIDE: Final = 0.5
SHARP: Final = 0.1
"""Temperatures of the softmax over donors, in similarity above the background (1 = identical)."""
TELLING: Final = 0.05
"""The same for what a newcomer's labels are told to be: the few nearest know best, in either language (the others are
for items, where a wide circle finds more)."""
RECENCY: Final = 1.0
SHARED_RECENCY: Final = 1.6
"""A user's n-th most recent item counts n ** -RECENCY where the last ones are preferred."""
LATEST: Final = 2048
"""Donors active last that are told apart by how many came after them."""
STRENGTH_HALF: Final = 0.15
"""Donors' similarity above the background at which they are trusted by half."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of N donors and I ≥ 1 items, as arrays that are read and never changed here.

    donors: interest vectors by donor row. recent: (N, 32) item slots of a donor, most recent last, -1 before them.
    labels, label_shares: (N, 16) label slots (-1 for none) and their shares of the donor's label weight.
    centre: (D,) mean of donors' interest vectors: what similarity any two users have anyway.
    items: text vectors by item slot. item_centre: their mean.
    holders: (I, H) donor rows that lately took the item, -1 for none; may be outdated (recent decides).
    popularity: (I,) log2 of decayed sums (only differences count), -inf for none. users: (I,) known users who have it.
    always, always_vectors: (P,) slots of the most popular and of those that were taken last, candidates for everybody,
    (P, D) their text vectors, zeros where there is none.
    active, ages, active_times: (A,) donor rows that were active last, latest first, at most LATEST; how many were
    active after each; and when each was, milliseconds since 1970.
    audience: item slots → what the people of these items are like.
    rarity: (L,) by label slot: log(1 + donors ÷ donors that have the label).
    people: (I,) whether enough known users have the item to recommend it on their account.
    listed: (I,) whether the item may be recommended although nobody has it (it is in the catalogue).
    open: (I,) whether the item may be recommended at all at this time.
    """

    donors: Nearest
    recent: Rows
    labels: Rows
    label_shares: NDArray[np.float16]
    centre: Floats
    items: Nearest
    item_centre: Floats
    holders: Rows
    popularity: NDArray[np.float64]
    users: Rows
    always: NDArray[np.int64]
    always_vectors: Floats
    active: NDArray[np.int64]
    ages: Rows
    active_times: NDArray[np.int64]
    audience: Callable[[NDArray[np.int64]], People]
    rarity: Floats
    people: NDArray[np.bool_]
    listed: NDArray[np.bool_]
    open: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Queries:
    """B newcomers. vectors, interests: (B, D) in the encoder's space and after the head, length 1 or all zeros.

    rows: (B,) the newcomer's own row among the donors, -1 if none. items: (B, S) slots of the newcomer's items, never
    recommended, -1 for none. labels, label_shares: (B, 16) the newcomer's own labels, -1 for none, and their shares.
    """

    vectors: Floats
    interests: Floats
    rows: Rows
    items: Rows
    labels: Rows
    label_shares: Floats


@dataclass(frozen=True, slots=True)
class Entries:
    """Scatter-add input: query, slot and values of each of E entries. values: (V, E), one row for each way to count."""

    query: NDArray[np.int64]
    slot: Rows
    values: Floats


FOR_ITEMS, TOLD = range(2)
"""The ways in which labels are counted."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was gathered for a batch, before any table: entries of each part and the strength of donors."""

    donors: Entries
    shared: Entries
    texts: Entries
    labels: Entries
    used: Rows
    similarity: Floats
    strength: Floats
    sources: Rows


def gather(queries: Queries, known: Known, own_labels: float) -> Evidence:
    """own_labels: share of the newcomer's own labels in the label scores."""
    rows, similarities = known.donors.top(queries.interests, NEIGHBOURS, queries.rows)
    present = (rows >= 0) & (similarities > 0)
    background = queries.interests @ known.centre
    contrast = _contrast(similarities, background, present)
    wide, sharp = _influence(contrast, present, WIDE), _influence(contrast, present, SHARP)
    used = present.sum(axis=1)
    near = (wide * contrast).sum(axis=1)
    strength = near / (near + np.float32(STRENGTH_HALF)) * (used / (used + 3.0))
    alike = np.where(present, similarities, 0).astype(np.float32)
    shared, sources = _shared(queries, known, background)
    return Evidence(
        donors=_donors_items(rows, present, (alike, wide, sharp), known),
        shared=shared,
        texts=_texts(queries, known),
        labels=_labels(queries, rows, (wide, _influence(contrast, present, TELLING)), known, own_labels),
        used=used.astype(np.int32),
        similarity=alike.sum(axis=1) / np.maximum(used, 1).astype(np.float32),
        strength=strength.astype(np.float32),
        sources=sources,
    )


def _influence(contrast: Floats, present: NDArray[np.bool_], temperature: float) -> Floats:
    """(B, K) softmax over donors."""
    influence = np.where(present, np.exp((contrast - contrast[:, :1]) / np.float32(temperature)), 0)
    scaled: Floats = (influence / np.maximum(influence.sum(axis=1, keepdims=True), 1e-9)).astype(np.float32)
    return scaled


def _contrast(similarities: Floats, background: Floats, present: NDArray[np.bool_]) -> Floats:
    """Similarity above what any two have, 0 to 1: encoders differ in how similar they find unrelated texts."""
    floor = np.clip(background, 0, 0.95)[:, None]
    return np.where(present, np.clip((similarities - floor) / (1 - floor), 0, 1), 0).astype(np.float32)


def _fade(width: int, power: float) -> Floats:
    """(width,) weights of columns with the most recent last: n ** -power for the n-th most recent."""
    return (np.arange(width, 0, -1, dtype=np.float32)) ** np.float32(-power)


def _donors_items(rows: Rows, present: NDArray[np.bool_], ways: tuple[Floats, Floats, Floats], known: Known) -> Entries:
    """Values: by plain similarity; widely and sharply by influence, the last items first."""
    recent = known.recent[rows]  # (B, K, 32); a missing row reads some donor's items and is left out
    width = recent.shape[2]
    flat = np.flatnonzero((recent >= 0) & present[:, :, None])
    donor, column = np.divmod(flat, width)
    alike, wide, sharp = (way.ravel()[donor] for way in ways)
    fade = _fade(width, RECENCY)[column]
    return Entries(donor // rows.shape[1], recent.ravel()[flat], np.stack([alike, wide * fade, sharp * fade]))


def _shared(queries: Queries, known: Known, background: Floats) -> tuple[Entries, Rows]:
    """Other items of users who have an item of the newcomer, each item's users together weighing 1. Values: plain; the
    last items first; by the users' similarity to the newcomer."""
    query, column = np.nonzero(queries.items >= 0)
    item = queries.items[query, column]
    holders = known.holders[item]  # (P, H)
    pair, place = np.nonzero((holders >= 0) & (holders != queries.rows[query][:, None]))
    user = holders[pair, place]
    recent = known.recent[user]  # (E, 32)
    same = recent == item[pair][:, None]
    holds = same.any(axis=1)
    per_pair = np.bincount(pair[holds], minlength=len(item))
    sources = np.bincount(query[per_pair > 0], minlength=len(queries.rows)).astype(np.int32)
    width = recent.shape[1]
    flat = np.flatnonzero((recent >= 0) & ~same & holds[:, None])
    holder, column = np.divmod(flat, width)
    alike = _likeness(queries, query[pair], user, holds, known, background)
    pair = pair[holder]
    weight = (1 / np.maximum(per_pair, 1)).astype(np.float32)[pair]
    values = np.stack([weight, weight * _fade(width, SHARED_RECENCY)[column], weight * alike[holder]])
    return Entries(query[pair], recent.ravel()[flat], values), sources


def _likeness(
    queries: Queries,
    query: NDArray[np.int64],
    user: Rows,
    holds: NDArray[np.bool_],
    known: Known,
    background: Floats,
) -> Floats:
    """(E,) similarity of each sharing user to the newcomer, above the background; 0 for those that do not hold."""
    similarity = np.zeros(len(user), np.float32)
    at = np.flatnonzero(holds)
    similarity[at] = np.einsum("ed,ed->e", known.donors.get(user[at]), queries.interests[query[at]])
    return _contrast(similarity[:, None], background[query], (similarity > 0)[:, None])[:, 0]


def _texts(queries: Queries, known: Known) -> Entries:
    """The items nearest by text, and how near the ones are that are candidates for everybody: often one of these is
    meant."""
    slots, similarities = known.items.top(queries.vectors, TEXTS)
    is_always = np.zeros(len(known.open), np.bool_)
    is_always[known.always] = True
    slots = np.where(is_always[slots], MISSING, slots)
    always = np.broadcast_to(known.always.astype(np.int32), (len(slots), len(known.always)))
    slots = np.concatenate([slots, always], axis=1)
    similarities = np.concatenate([similarities, queries.vectors @ known.always_vectors.T], axis=1)
    present = (slots >= 0) & (similarities > 0)
    contrast = _contrast(similarities, queries.vectors @ known.item_centre, present)
    query, column = np.nonzero(contrast > 0)
    return Entries(query, slots[query, column], contrast[None, query, column])


def _labels(queries: Queries, rows: Rows, ways: tuple[Floats, Floats], known: Known, own_labels: float) -> Entries:
    """Values: as a wide circle of donors has them, for what items go with them; as the nearest do, to be told."""
    labels = known.labels[rows]  # (B, K, 16)
    wide, near = ways
    flat = np.flatnonzero((labels >= 0) & (wide > 0)[:, :, None])
    donor, column = np.divmod(flat, labels.shape[2])
    shares = known.label_shares[rows.ravel()[donor], column]
    query, column = np.nonzero(queries.labels >= 0)
    # A newcomer's own labels share the score with the donors'; without own labels the donors have all of it.
    own = np.where((queries.labels >= 0).any(axis=1), np.float32(own_labels), np.float32(0))
    asked = donor // rows.shape[1]
    mine, theirs = own[query] * queries.label_shares[query, column], 1 - own[asked]
    values = [np.concatenate([mine, theirs * way.ravel()[donor] * shares]) for way in (wide, near)]
    return Entries(
        np.concatenate([query, asked]),
        np.concatenate([queries.labels[query, column], labels.ravel()[flat]]),
        np.stack(values).astype(np.float32),
    )
