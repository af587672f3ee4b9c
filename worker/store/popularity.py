"""Sums of popularity, which is kept as log2 of a forward-decayed weight and so never overflows.

Knows no store: the Redis adapter sums shards with it, the in-memory store adds single events. `save.lua` adds the same
way.
"""

from __future__ import annotations

from math import inf, log, log1p

import numpy as np
from numpy.typing import NDArray

LOG2_E = 1 / log(2)


def log2_add(a: float, b: float) -> float:
    """log2(2^a + 2^b) without leaving the range of a float; -inf stands for nothing."""
    if a < b:
        a, b = b, a
    if b == -inf:
        return a
    return a + log1p(2.0 ** (b - a)) * LOG2_E


def log2_sum(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S, N) log2 weights, -inf where a shard has none → (N,) log2 of their sums over the shards."""
    top = rows.max(axis=0, initial=-inf)  # (N,)
    base = np.where(np.isneginf(top), 0.0, top)
    with np.errstate(divide="ignore"):
        total: NDArray[np.float64] = base + np.log2(np.exp2(rows - base).sum(axis=0))
    return total
