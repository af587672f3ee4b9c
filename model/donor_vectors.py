"""Donors' vectors, a row each: their means in the encoder's space, and the interest vectors that a head makes of them.

With the identity as head both are one matrix. Belongs to the index's thread; only `turned` may run beside it. Knows
nothing of users, and nothing of where a head comes from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.head import Head, identity
from model.item_table import drift
from model.nearest import Floats, Nearest

NearestFactory = Callable[[int, int], Nearest]
"""(dimension, capacity) → an empty matrix."""
ROW_BYTES: Final = 9
"""Of a row, beside its vectors."""
BLOCK: Final = 4096
"""Rows that go through a head at once: what it needs in between is small beside the matrices."""


@dataclass(frozen=True, slots=True)
class Turned:
    """The interest vectors that a head makes of `of`'s donors. since: changes from this one on are not in them."""

    of: DonorVectors
    head: Head
    interests: Nearest
    centre: Floats
    since: int


class DonorVectors:
    """capacity: rows. nearest: makes a matrix; there are two of them once the head is learned.

    interests: (capacity, E) of length 1, only rows that have one are shown. centre: (E,) their running mean.
    """

    def __init__(self, dimension: int, capacity: int, nearest: NearestFactory, head: Head = identity) -> None:
        self.head = head
        self._nearest = nearest
        self._dimension = dimension
        self._capacity = capacity
        self._means = nearest(dimension, capacity)
        self.interests = self._matrix(head)
        self.centre: Floats = np.zeros(self.interests.dimension, np.float32)
        self._told = np.zeros(capacity, np.bool_)
        """Whether the row has a mean."""
        self._changed = np.zeros(capacity, np.int64)
        """The number of the row's last change."""
        self._changes = 0
        self._high = 0

    def _matrix(self, head: Head) -> Nearest:
        if head is identity:
            return self._means
        width = head(np.zeros((1, self._dimension), np.float32)).shape[1]
        return self._nearest(width, self._capacity)

    @property
    def row_bytes(self) -> int:
        """Bytes that a row takes once it is set."""
        means = 0 if self.interests is self._means else self._means.row_bytes
        return ROW_BYTES + means + self.interests.row_bytes

    def put(self, rows: NDArray[np.int64], means: Floats) -> None:
        """(N, D) means of any length, for N distinct rows; one of zeros is a donor that nobody finds."""
        self._number(rows)
        units = unit(means)
        self._told[rows] = _store(self._means, rows, units)
        interests = units
        if self.interests is not self._means:
            interests = unit(self.head(units))
            _store(self.interests, rows, interests)
        self.centre = drift(self.centre, interests[interests.any(axis=1)])

    def remove(self, rows: NDArray[np.int64]) -> None:
        self._number(rows)
        self._told[rows] = False
        self._means.remove(rows)
        if self.interests is not self._means:
            self.interests.remove(rows)

    def project(self, units: Floats) -> Floats:
        """(N, D) vectors of length 1 → (N, E) interest vectors of length 1; zeros stay zeros."""
        return units if self.head is identity else unit(self.head(units))

    def of(self, rows: NDArray[np.integer]) -> Floats:
        """(N, E) interest vectors of donors, zeros for those who have none."""
        vectors = self.interests.get(rows)
        vectors[~self._told[rows]] = 0
        return vectors

    def turned(self, head: Head) -> Turned:
        """All interest vectors anew, for `turn`. May run in another thread: nothing here is changed, and what changes
        meanwhile is made up for by `turn`."""
        since, high = self._changes, self._high
        told = np.flatnonzero(self._told[:high])
        interests = self._matrix(head)
        centre = np.zeros(interests.dimension, np.float64)
        for start in range(0, len(told), BLOCK):
            rows = told[start : start + BLOCK]
            units = self._means.get(rows)
            made = units if head is identity else unit(head(units))
            if interests is not self._means:
                _store(interests, rows, made)
            centre += made.sum(axis=0)
        return Turned(self, head, interests, (centre / max(1, len(told))).astype(np.float32), since)

    def turn(self, head: Head, turned: Turned | None = None) -> None:
        """From now on this head's interest vectors: those given, if they were made of these donors by this head, and
        what has changed since; otherwise all of them are computed here."""
        if turned is None or turned.of is not self or turned.head is not head:
            turned = self.turned(head)
        self.head, self.interests, self.centre = head, turned.interests, turned.centre
        if self.interests is self._means:
            return
        # The first of these may have been under way while the others were read.
        late = np.flatnonzero(self._changed[: self._high] >= turned.since)
        told = self._told[late]
        self.interests.remove(late[~told])
        if told.any():
            _store(self.interests, late[told], unit(head(self._means.get(late[told]))))

    def _number(self, rows: NDArray[np.int64]) -> None:
        """Before anything of a change is done, so that whoever reads meanwhile can be told of it."""
        if not len(rows):
            return
        self._high = max(self._high, int(rows.max()) + 1)
        self._changes += 1
        self._changed[rows] = self._changes


def unit(vectors: Floats) -> Floats:
    """(N, D) → rows of length 1; zeros stay zeros."""
    length = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    scaled: Floats = vectors / np.maximum(length, np.float32(1e-9))[:, None]
    return scaled


def _store(matrix: Nearest, rows: NDArray[np.int64], vectors: Floats) -> NDArray[np.bool_]:
    """Set the rows, and remove those of zeros; which have a vector."""
    told: NDArray[np.bool_] = np.asarray(vectors.any(axis=1))
    if told.all():
        matrix.set(rows, vectors)
    else:
        matrix.remove(rows[~told])
        matrix.set(rows[told], vectors[told])
    return told
