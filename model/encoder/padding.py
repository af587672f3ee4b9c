"""Token rows → micro-batches sorted by length and closed by padded tokens. Knows no framework."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def micro_batches(lengths: NDArray[np.int32], budget: int, *, parts: int = 1) -> list[Rows]:
    """Indices of the rows with tokens, longest first, in batches of at most `budget` tokens, padding included.

    A row longer than the budget is a batch of its own. Where there is less work than `parts` full batches, the budget
    is lowered so that `parts` streams still have one each.
    """
    total = int(lengths.sum())
    budget = min(budget, max(-(-total // parts), 1)) if parts > 1 else budget
    order = np.argsort(-lengths, kind="stable")
    order = order[: int(np.count_nonzero(lengths))]
    batches, start = [], 0
    while start < len(order):
        size = max(budget // int(lengths[order[start]]), 1)
        batches.append(order[start : start + size])
        start += size
    return batches


def pad(
    ids: Sequence[NDArray[np.int32]], rows: Rows, padding: int, *, multiple: int = 1, limit: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(B, T) ids and (B, T) mask (1 = token) of the chosen rows, filled up with the id `padding`; T is a multiple of
    `multiple`, or `limit` where that is less."""
    longest = max(len(ids[row]) for row in rows)
    width = -(-longest // multiple) * multiple
    width = max(longest, min(width, limit or width))
    padded = np.full((len(rows), width), padding, np.int64)
    mask = np.zeros((len(rows), width), np.int64)
    for line, row in enumerate(rows):
        size = len(ids[row])
        padded[line, :size] = ids[row]
        mask[line, :size] = 1
    return padded, mask


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, D) rows scaled to length 1; rows of zeros stay zeros."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return scaled
