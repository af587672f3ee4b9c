"""What the people of an item are like, a row an item: the sum of their interest vectors, how many they are, since
when.

Made when it is asked for, and anew once somebody has taken the item or is gone: what its people write later is seen
with the next change. Belongs to the index's thread. Knows nothing of users but the rows that the index gives them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.nearest import Floats, Rows

ROW_BYTES: Final = 13
"""Of a row, beside its vector."""
BLOCK: Final = 256
"""Items made at once: their holders' vectors are held meanwhile, 12 MB at 384 dimensions."""
NEVER: Final = -(1 << 62)
"""Before every time; its negative is a number too."""


@dataclass(frozen=True, slots=True)
class People:
    """Of C items. tastes: (C, E) sum of the interest vectors of those among the latest holders who still have the item.
    count: (C,) how many they are. since: (C,) when the first of them was last active as the row was made, milliseconds
    since 1970; NEVER where there is nobody."""

    tastes: Floats
    count: Rows
    since: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Donors:
    """The index's arrays that rows are made of. holders: (I, H) by item. recent: (N, R) item slots by donor. last_time:
    (N,) milliseconds since 1970. interests: donor rows → (…, E) interest vectors, zeros for those who have none."""

    holders: Rows
    recent: Rows
    last_time: NDArray[np.int64]
    interests: Callable[[Rows], Floats]


class Audience:
    """capacity: items. width: E. Rows that are never asked for take no memory."""

    def __init__(self, capacity: int, width: int) -> None:
        # A sum of 32 vectors of length 1 stays far within float16, and so does what one of them adds.
        self._tastes = np.empty((capacity, width), np.float16)
        self._count = np.empty(capacity, np.int32)
        self._since = np.empty(capacity, np.int64)
        self._made = np.zeros(capacity, np.bool_)

    @staticmethod
    def row_bytes(width: int) -> int:
        """Bytes that an item takes."""
        return ROW_BYTES + 2 * width

    def changed(self, slots: NDArray[np.integer]) -> None:
        """Somebody has taken these items, or who had them is gone, or they are other items now. Nothing of those who
        are gone stays behind."""
        made = slots[self._made[slots]]
        self._tastes[made] = 0
        self._made[made] = False

    def of(self, slots: NDArray[np.int64], donors: Donors) -> People:
        missing = slots[~self._made[slots]]
        for start in range(0, len(missing), BLOCK):
            self._make(missing[start : start + BLOCK], donors)
        return People(self._tastes[slots].astype(np.float32), self._count[slots], self._since[slots])

    def _make(self, slots: NDArray[np.int64], donors: Donors) -> None:
        holders = donors.holders[slots]  # (C, H)
        item, place = np.nonzero(holders >= 0)
        row = holders[item, place]
        still = (donors.recent[row] == slots[item, None]).any(axis=1)
        item, row = item[still], row[still]
        tastes = np.zeros((len(slots), self._tastes.shape[1]), np.float32)
        since = np.full(len(slots), np.iinfo(np.int64).max)
        count = np.bincount(item, minlength=len(slots))
        if len(row):
            starts = np.flatnonzero(np.diff(item, prepend=-1))
            tastes[item[starts]] = np.add.reduceat(donors.interests(row), starts, axis=0)
            since[item[starts]] = np.minimum.reduceat(donors.last_time[row], starts)
        since[count == 0] = NEVER
        self._tastes[slots], self._count[slots], self._since[slots] = tastes, count, since
        self._made[slots] = True
