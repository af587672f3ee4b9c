"""What is popular at the moment, decayed and bounded: the answer that a recommendation must beat. Pure."""

from __future__ import annotations

import heapq
import math
from typing import Final

import numpy as np

from model.update import POPULARITY_HALF_LIFE_MS, forward_weight

BEST: Final = 11
"""Ten, and one more, because a user's own item is left out."""
ITEMS: Final = 100_000
"""Items that are counted; beyond it the less popular half is forgotten."""


class Popular:
    """Sums of forward-decayed weights (model/update.py), as log2. They only ever grow, so the best ones are kept in
    their order as events come."""

    def __init__(self, room: int = ITEMS) -> None:
        self._room = room
        self._sums: dict[int, float] = {}
        self._best: list[int] = []
        self._told: tuple[int, ...] | None = ()

    def __len__(self) -> int:
        return len(self._sums)

    def add(self, item: int, weight: float, occurred: int) -> None:
        """weight: of an event with this item, 0 for none; occurred: its time in milliseconds."""
        gain = forward_weight(weight, occurred, POPULARITY_HALF_LIFE_MS)
        if gain == -math.inf:
            return
        self._sums[item] = float(np.logaddexp2(self._sums.get(item, -math.inf), gain))
        if item not in self._best:
            self._best.append(item)
        self._best.sort(key=self._rank)
        del self._best[BEST:]
        self._told = None
        if len(self._sums) > self._room:
            kept = heapq.nsmallest(max(BEST, self._room // 2), self._sums, key=self._rank)
            self._sums = {item: self._sums[item] for item in kept}

    def best(self) -> tuple[int, ...]:
        """The BEST most popular items, the most popular first; of equals the one with the smaller hash."""
        if self._told is None:
            self._told = tuple(self._best)
        return self._told

    def _rank(self, item: int) -> tuple[float, int]:
        return -self._sums[item], item
