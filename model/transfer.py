"""Transfer: the scoring of items and labels for newcomers, from what is known of everybody else.

Four parts gather and score candidates: items of similar donors, items of users who share an item with the newcomer,
items whose own text is near, and decayed popularity. Each part is scaled to its query's maximum and a weighted sum
blends them. A batch is computed as a whole: matrix products, gathers and scatter-adds over dense (B, C) tables, where C
are the candidates of any newcomer of the batch.

Pure functions over arrays: this module does not know who a row is, what an item is called, or what time it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.evidence import Entries, Evidence, Known, Queries, gather
from model.nearest import MISSING, Floats, Rows, top_k
from model.transfer_weights import TransferWeights

__all__ = ["PARTS", "Known", "Queries", "TransferWeights", "Transferred", "transfer"]

PARTS: Final = ("donors", "shared_items", "item_text", "popularity")
DONORS, SHARED, TEXT, POPULAR = range(4)

LABELS: Final = 5
"""Labels in an answer."""
FLOOR: Final = -16.0
"""log2 of the popularity, relative to the highest, below which an item is not held to be any staler."""
UNTRIED: Final = -3.0
"""The same for an item without any event: nothing speaks against it yet, and a new item must be able to come up."""
TABLE_CELLS: Final = 1 << 20
"""Cells of one dense table; a batch that needs more is halved, so that memory stays bounded."""


@dataclass(frozen=True, slots=True)
class Transferred:
    """Answers to B queries, best first.

    items: (B, L) slots, -1 where there are no more. scores: (B, L), 0 there. shares: (B, L, 4) what each part gave of
    the score, adding up to 1. counts: (B, L, 2) donors, and sharing users, who have the item. sources: (B,) how many of
    the newcomer's items others have. donors: (B,) similar donors used. similarity: (B,) their mean cosine. strength:
    (B,) 0 to 1, how far the donors are to be trusted. labels, label_scores: (B, 5), -1 and 0 where there are no more.
    """

    items: Rows
    scores: Floats
    shares: Floats
    counts: Rows
    sources: Rows
    donors: Rows
    similarity: Floats
    strength: Floats
    labels: Rows
    label_scores: Floats


def transfer(queries: Queries, known: Known, weights: TransferWeights, limit: int = 10) -> Transferred:
    """Score items and labels for a batch of newcomers; `limit` items each at most."""
    evidence = gather(queries, known, weights)
    return _blend(queries, known, weights, limit, evidence, 0, len(queries.rows))


def _blend(
    queries: Queries, known: Known, weights: TransferWeights, limit: int, evidence: Evidence, start: int, stop: int
) -> Transferred:
    """Queries start to stop: tables, scaling, weighted sum, the best."""
    parts = [_between(entries, start, stop) for entries in (evidence.donors, evidence.shared, evidence.texts)]
    labels = _between(evidence.labels, start, stop)
    batch = stop - start
    slots, place = _columns([*(part.slot for part in parts), known.popular], len(known.open))
    label_slots, label_place = _columns([labels.slot], int(labels.slot.max(initial=0)) + 1)
    if batch > 1 and batch * max(len(slots), len(label_slots)) > TABLE_CELLS:
        middle = (start + stop) // 2
        halves = [_blend(queries, known, weights, limit, evidence, *ends) for ends in ((start, middle), (middle, stop))]
        return _joined(halves[0], halves[1])

    allowed = known.open[slots] & (known.people[slots] | known.listed[slots])
    by_people = allowed & known.people[slots]
    fresh, popular = _popularity(known, slots, by_people, weights)
    query, column = np.nonzero(queries.items[start:stop] >= 0)
    seen = place[queries.items[start:stop][query, column]]
    query, seen = query[seen >= 0], seen[seen >= 0]

    strength = evidence.strength[start:stop]
    scale = _scale(weights.popularity * (1 + weights.lean * (1 - strength)), _highest(popular, query, seen, batch))
    total = scale[:, None] * popular
    tables: list[Floats] = []
    scales: list[Floats] = []
    cells: list[NDArray[np.int64]] = []
    trusts: tuple[Floats | float, ...] = (weights.donors * strength, weights.shared_items, weights.item_text)
    freshness = (weights.donor_freshness, weights.shared_freshness, weights.text_freshness)
    for part, trust, power in zip(parts, trusts, freshness, strict=True):
        at = place[part.slot]
        cell = part.query * len(slots) + at
        factor = np.where(allowed if part is parts[TEXT] else by_people, fresh ** np.float32(power), 0)
        flat = np.bincount(cell, part.value * factor[at], minlength=batch * len(slots))
        dense = flat.reshape(batch, len(slots)).astype(np.float32)
        dense[query, seen] = 0
        part_scale = _scale(trust, dense.max(axis=1, initial=0))
        total += part_scale[:, None] * dense
        tables.append(dense)
        scales.append(part_scale)
        cells.append(cell)
    total[total <= 0] = -np.inf
    total[query, seen] = -np.inf
    best, scores = top_k(total, limit)
    missing = np.isneginf(scores)
    scores = np.where(missing, 0, scores)
    given = [
        part_scale[:, None] * np.take_along_axis(dense, best, axis=1)
        for part_scale, dense in zip(scales, tables, strict=True)
    ]
    given.append(scale[:, None] * popular[best])
    shares = np.stack(given, axis=2)
    shares /= np.maximum(shares.sum(axis=2, keepdims=True), np.float32(1e-9))
    shares[missing] = 0
    counts = _counts(cells[:TEXT], best, missing, len(slots))
    cell = labels.query * len(label_slots) + label_place[labels.slot]
    label_scores = np.bincount(cell, labels.value, minlength=batch * len(label_slots)).astype(np.float32)
    label_scores[label_scores <= 0] = -np.inf
    best_labels, label_values = top_k(label_scores.reshape(batch, len(label_slots)), LABELS)
    no_label = np.isneginf(label_values)
    return Transferred(
        items=np.where(missing, MISSING, slots[best]).astype(np.int32),
        scores=scores,
        shares=shares,
        counts=counts,
        sources=evidence.sources[start:stop],
        donors=evidence.used[start:stop],
        similarity=evidence.similarity[start:stop],
        strength=evidence.strength[start:stop],
        labels=np.where(no_label, MISSING, label_slots[best_labels]).astype(np.int32),
        label_scores=np.where(no_label, 0, label_values),
    )


def _scale(trust: Floats | float, highest: Floats) -> Floats:
    """What brings a part's highest score to its trust."""
    scale: Floats = (trust / np.maximum(highest, 1e-9)).astype(np.float32)
    return scale


def _highest(popular: Floats, query: NDArray[np.int64], seen: NDArray[np.int64], batch: int) -> Floats:
    """(B,) the highest popularity among the candidates (C,) that each query has not seen (query, column pairs)."""
    most = int(np.bincount(query, minlength=1).max()) + 1
    order = np.argsort(-popular, kind="stable")[:most]
    rank = np.full(len(popular), MISSING, np.int64)
    rank[order] = np.arange(len(order))
    taken = np.zeros((batch, len(order) + 1), np.bool_)
    taken[query, rank[seen]] = True  # a seen item that is not among the first goes to the spare last column
    first = taken[:, :-1].argmin(axis=1)
    return np.where(taken[np.arange(batch), first], 0, popular[order[first]]).astype(np.float32)


def _counts(
    cells: Sequence[NDArray[np.int64]], best: NDArray[np.int64], missing: NDArray[np.bool_], width: int
) -> Rows:
    """(B, L, len(cells)) how many entries of each part stand behind the chosen columns."""
    batch, limit = best.shape
    query, place = np.nonzero(~missing)
    chosen = np.full(batch * width, MISSING, np.int32)
    chosen[query * width + best[query, place]] = query * limit + place
    counts = np.zeros((best.size, len(cells)), np.int32)
    for number, cell in enumerate(cells):
        hit = chosen[cell]
        counts[:, number] = np.bincount(hit[hit >= 0], minlength=best.size)
    return counts.reshape(batch, limit, len(cells))


def _between(entries: Entries, start: int, stop: int) -> Entries:
    inside = (entries.query >= start) & (entries.query < stop)
    if inside.all():
        return entries if start == 0 else Entries(entries.query - start, entries.slot, entries.value)
    return Entries(entries.query[inside] - start, entries.slot[inside], entries.value[inside])


def _columns(slots: Sequence[NDArray[np.integer]], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct slots, ascending, and (size,) the column of each slot, -1 for the others.

    Without any slot there is still one column, of slot 0, which nothing scores: tables are never without width.
    """
    marked = np.zeros(size, np.bool_)
    for some in slots:
        marked[some] = True
    if not marked.any():
        marked[0] = True
    distinct = np.flatnonzero(marked)
    place = np.full(size, MISSING, np.int64)
    place[distinct] = np.arange(len(distinct))
    return distinct, place


def _popularity(
    known: Known, slots: NDArray[np.int64], by_people: NDArray[np.bool_], weights: TransferWeights
) -> tuple[Floats, Floats]:
    """Of the candidates (C,): decayed popularity ÷ the highest of the popular; and the score of the fourth part."""
    logs = known.popularity[slots]
    tried = np.isfinite(logs)
    most = known.popularity[known.popular].max(initial=-np.inf)
    above = (
        np.where(tried, np.clip(logs - most, FLOOR, 0), UNTRIED) if np.isfinite(most) else np.full(len(logs), UNTRIED)
    )
    popular = np.where(tried & by_people, np.exp2(above * weights.popularity_power), 0)
    return np.exp2(above).astype(np.float32), popular.astype(np.float32)


def _joined(first: Transferred, second: Transferred) -> Transferred:
    columns = [np.concatenate([getattr(first, f.name), getattr(second, f.name)]) for f in fields(Transferred)]
    return Transferred(*columns)
