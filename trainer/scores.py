"""How good ranked answers are, question by question. Pure.

Binary gains throughout: an item of the answer is wanted or it is not.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.nearest import MISSING, Floats, Rows

Relevant = NDArray[np.bool_]
"""(Q, L) whether the l-th best item of an answer is wanted."""

HIT: Final = "hit@10"
RECALL: Final = "recall@20"
NDCG: Final = "ndcg@10"
LABEL: Final = "label_accuracy"
METRICS: Final = (HIT, RECALL, NDCG, LABEL)


def relevant(ranked: Rows, wanted: Rows) -> Relevant:
    """ranked: (Q, L) items, best first, -1 where there are no more. wanted: (Q, W) distinct items, -1 for none."""
    found: Relevant = ((ranked[:, :, None] == wanted[:, None, :]) & (ranked[:, :, None] != MISSING)).any(axis=2)
    return found


def hit(found: Relevant, k: int) -> Floats:
    """(Q,) 1 where any of the k best items is wanted."""
    return np.asarray(found[:, :k].any(axis=1), np.float32)


def recall(found: Relevant, wanted: Rows, k: int) -> Floats:
    """(Q,) share of the wanted items that are among the k best; 0 where none is wanted."""
    count = (wanted != MISSING).sum(axis=1)
    score: Floats = (found[:, :k].sum(axis=1) / np.maximum(count, 1)).astype(np.float32)
    return score


def ndcg(found: Relevant, wanted: Rows, k: int) -> Floats:
    """(Q,) normalised discounted cumulative gain of the k best (Järvelin and Kekäläinen, "Cumulated Gain-Based
    Evaluation of IR Techniques", TOIS 2002): Σ 1 / log2(rank + 1) over the wanted, ÷ the highest it could be."""
    discounts = 1 / np.log2(np.arange(2, k + 2))
    gains = found[:, :k] @ discounts[: found[:, :k].shape[1]]
    count = np.minimum((wanted != MISSING).sum(axis=1), k)
    ideal = np.concatenate([[1.0], np.cumsum(discounts)])[count]
    score: Floats = (gains / ideal).astype(np.float32)
    return score


def first_is_wanted(best: Rows, wanted: Rows) -> Floats:
    """(Q,) 1 where the best label, -1 for none, is among the (Q, W) wanted ones."""
    score: Floats = relevant(best[:, None], wanted)[:, 0].astype(np.float32)
    return score
