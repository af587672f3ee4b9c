"""EASE, a learned item-based model in closed form (Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW
2019): ridge regression of each item on all others, none of them on itself.

Knows only the items that had been taken when it was fitted; a newcomer without any of them gets no answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from model.nearest import MISSING, Floats, Rows, top_k

MOST_ITEMS: Final = 3_000
"""Those with the most users: the fit inverts a matrix of this size, a few seconds."""
RIDGE: Final = 10.0
"""Added to each item's number of users. The paper's hundreds are for items with thousands of users."""


@dataclass(frozen=True, slots=True)
class Ease:
    """items: (I,) numbers of the data's items, ascending. weights: (I, I), how far having the one of a row speaks for
    that of a column; the diagonal is 0."""

    items: NDArray[np.int64]
    weights: Floats

    def answer(self, taken: Sequence[int], limit: int) -> Rows:
        """(limit,) items that speak for themselves after those that were taken, best first, -1 where there are no
        more."""
        place = np.searchsorted(self.items, taken)
        inside = place < len(self.items)
        own = place[inside][self.items[place[inside]] == np.array(taken, np.int64)[inside]]
        found = np.full(limit, MISSING, np.int32)
        if not len(own):
            return found
        scores = self.weights[own].sum(axis=0)
        scores[own] = 0
        scores[scores <= 0] = -np.inf
        columns, values = top_k(scores[None], limit)
        there = ~np.isneginf(values[0])
        found[: int(there.sum())] = self.items[columns[0][there]]
        return found


def fit_ease(
    user: NDArray[np.integer], item: NDArray[np.integer], *, most: int = MOST_ITEMS, ridge: float = RIDGE
) -> Ease | None:
    """(N,) users and the items that each took, -1 for none; None where nobody took any."""
    pairs = np.unique(np.stack([user[item >= 0], item[item >= 0]]).astype(np.int64), axis=1)
    if not pairs.size:
        return None
    users = np.bincount(pairs[1])
    items = np.sort(np.argsort(-users, kind="stable")[: min(most, int((users > 0).sum()))])
    inside = np.isin(pairs[1], items)
    column = np.searchsorted(items, pairs[1][inside])
    row = pairs[0][inside]
    taken = csr_array((np.ones(len(row)), (row, column)), (int(row.max()) + 1, len(items)))
    gram = (taken.T @ taken).toarray()
    gram[np.diag_indices_from(gram)] += ridge
    inverse = np.linalg.inv(gram)
    weights = -inverse / np.diag(inverse)
    weights[np.diag_indices_from(weights)] = 0
    return Ease(items, weights.astype(np.float32))
