"""Transfer: the scoring of items and labels for newcomers, from what is known of everybody else.

A candidate's score is a weighted sum of its signals, and so each part's share of it is what it is. Weights are not
negative: whatever speaks for an item never speaks against it. A batch is computed as a whole: matrix products, gathers
and scatter-adds over dense tables, never newcomer by newcomer.

Pure functions over arrays: this module does not know who a row is, what an item is called, or what time it is.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from model.evidence import TOLD, Evidence, Known, Queries, gather
from model.nearest import MISSING, Floats, Rows, top_k
from model.signals import PARTS, POPULAR, SIGNAL_PARTS, Candidates, candidates, columns_of, cut
from model.transfer_weights import TransferWeights

LABELS: Final = 5
"""Labels in an answer."""
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
    evidence = gather(queries, known, weights.own_labels)
    return _some(queries, known, weights, limit, evidence, 0, len(queries.rows))


def _some(
    queries: Queries, known: Known, weights: TransferWeights, limit: int, evidence: Evidence, start: int, stop: int
) -> Transferred:
    """Queries start to stop; halved while they are too many for one table."""
    columns = columns_of(evidence, known, start, stop)
    most_labels = int(evidence.labels.slot.max(initial=0)) + 1
    if stop - start > 1 and (stop - start) * max(len(columns), most_labels) > TABLE_CELLS:
        middle = (start + stop) // 2
        halves = [_some(queries, known, weights, limit, evidence, *ends) for ends in ((start, middle), (middle, stop))]
        return _joined(halves[0], halves[1])
    found = candidates(queries, known, evidence, columns, start, stop, limit)
    items, scores, shares, counts = blend(found, weights, limit)
    labels, label_scores = _labels(evidence, start, stop)
    return Transferred(
        items=items,
        scores=scores,
        shares=shares,
        counts=counts,
        sources=evidence.sources[start:stop],
        donors=evidence.used[start:stop],
        similarity=evidence.similarity[start:stop],
        strength=evidence.strength[start:stop],
        labels=labels,
        label_scores=label_scores,
    )


def blend(found: Candidates, weights: TransferWeights, limit: int) -> tuple[Rows, Floats, Floats, Rows]:
    """The best candidates of each query: items, scores, shares and counts, as in Transferred."""
    given = found.signals * np.array(weights.signals, np.float32)
    total = given.sum(axis=2)
    total[(total <= 0) | (found.slots < 0)] = -np.inf
    best, scores = top_k(total, limit)
    missing = np.isneginf(scores)
    behind = np.take_along_axis(given, best[:, :, None], axis=1)
    shares = np.stack([behind[:, :, part == SIGNAL_PARTS].sum(axis=2) for part in range(len(PARTS))], axis=2)
    shares /= np.maximum(shares.sum(axis=2, keepdims=True), np.float32(1e-9))
    shares[missing] = 0
    counts = np.take_along_axis(found.counts, best[:, :, None], axis=1)
    counts[missing] = 0
    items = np.where(missing, MISSING, np.take_along_axis(found.slots, best, axis=1)).astype(np.int32)
    return items, np.where(missing, 0, scores), shares, counts


def personal_share(items: Rows, shares: Floats) -> Floats:
    """(B,) mean share of the parts that depend on the newcomer, over the items; 0 without items. As in Transferred."""
    count = np.maximum((items >= 0).sum(axis=1), 1)
    return np.asarray(shares[:, :, :POPULAR].sum(axis=(1, 2)) / count, np.float32)


def confidence(personal: Floats, strength: Floats, sharing: Rows) -> Floats:
    """(B,) 0 to 1: the personal share, as far as the donors are near or several users share items with the newcomer.

    sharing: (B, L) sharing users who have each item, as in Transferred.counts.
    """
    doubt = (1 - strength) / (1 + sharing.max(axis=1, initial=0))
    sure: Floats = np.clip(personal * (1 - doubt), 0, 1)
    return sure


def _labels(evidence: Evidence, start: int, stop: int) -> tuple[Rows, Floats]:
    entries = cut(evidence.labels, start, stop)
    batch = stop - start
    slots, place = np.unique(np.append(entries.slot, 0), return_inverse=True)
    cell = entries.query * len(slots) + place[:-1]
    scores = np.bincount(cell, entries.values[TOLD], minlength=batch * len(slots)).astype(np.float32)
    scores[scores <= 0] = -np.inf
    best, values = top_k(scores.reshape(batch, len(slots)), LABELS)
    nothing = np.isneginf(values)
    return np.where(nothing, MISSING, slots[best]).astype(np.int32), np.where(nothing, 0, values)


def _joined(first: Transferred, second: Transferred) -> Transferred:
    columns = [np.concatenate([getattr(first, f.name), getattr(second, f.name)]) for f in fields(Transferred)]
    return Transferred(*columns)
