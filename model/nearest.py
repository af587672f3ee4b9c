"""Exact nearest rows by dot product: the one heavy step of transfer, behind a protocol.

Rows are small integers that the caller hands out; vectors of length 1 make the product a cosine. This module knows
nothing of users, items or spaces, and nothing of torch: `model/nearest_torch.py` has the other implementation.
"""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = NDArray[np.int32]

MISSING: Final = -1
BLOCK_BYTES: Final = 16 << 20
"""Similarities held at a time, so that a million rows need no matrix of (B, 1M). 128 queries on 10k rows of 64 numbers:
57 µs a query in blocks of 1 MB, 37 in 4 MB, 26 in 8 and 16 MB."""
GROUPS_PER_RESULT: Final = 4
"""Groups of columns for each result asked of `top_k`: with 4, little more than k values pass the bound."""
LOWEST: Final = np.finfo(np.float32).min


class Nearest(Protocol):
    """A matrix of at most `capacity` rows, used from one thread. Rows never set take no memory on a CPU."""

    capacity: int
    dimension: int

    @property
    def row_bytes(self) -> int:
        """Bytes that a row takes once it is set."""
        ...

    def set(self, rows: NDArray[np.integer], vectors: Floats) -> None:
        """Store (N, D) vectors in N distinct rows and show them."""
        ...

    def remove(self, rows: NDArray[np.integer]) -> None:
        """Hide rows and forget their vectors."""
        ...

    def hide(self, rows: NDArray[np.integer]) -> None:
        """Leave rows out of answers, keeping their vectors."""
        ...

    def show(self, rows: NDArray[np.integer]) -> None:
        """Undo `hide`; only for rows that were set and not removed."""
        ...

    def get(self, rows: NDArray[np.integer]) -> Floats:
        """(N, D) float32 vectors as stored, of rows that were set; zeros for those removed since."""
        ...

    def top(self, queries: Floats, k: int, exclude: Rows | None = None) -> tuple[Rows, Floats]:
        """The k best shown rows of each of (B, D) queries, best first: rows (B, k), similarities (B, k).

        exclude: (B,) one row a query that is left out, or -1. Where there are fewer than k, the rest is -1 and -inf.
        """
        ...


def top_k(scores: Floats, k: int) -> tuple[NDArray[np.int64], Floats]:
    """Columns and values of the k highest of each row of (B, N) scores, best first; of equals the lower column.

    A value of -inf is never among them: where fewer than k are left, the rest is column 0 with value -inf.

    Exact: the columns are cut into groups, and the k-th highest maximum of a group bounds the k-th highest value from
    below. Two passes of maxima and comparisons then leave little more than k values a row to sort.
    """
    batch, width = scores.shape
    groups = GROUPS_PER_RESULT * k
    if width >= 4 * groups:
        used = width - width % groups
        maxima = scores[:, :used].reshape(batch, -1, groups).max(axis=1)
        bound = np.partition(maxima, groups - k, axis=1)[:, groups - k, None]
        flat = np.flatnonzero(scores >= np.maximum(bound, LOWEST))
    else:
        flat = np.flatnonzero(scores > -np.inf)
    row, column = np.divmod(flat, max(1, width))
    counts = np.bincount(row, minlength=batch)
    place = np.arange(len(flat)) - (np.cumsum(counts) - counts)[row]
    values = np.full((batch, max(k, int(counts.max(initial=0)))), -np.inf, np.float32)
    columns = np.zeros(values.shape, np.int64)
    values[row, place] = scores.ravel()[flat]
    columns[row, place] = column
    if values.shape[1] > 8 * k:
        values, columns = _cut(values, columns, k)
    order = np.argsort(-values, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(columns, order, axis=1), np.take_along_axis(values, order, axis=1)


def _cut(values: Floats, columns: NDArray[np.int64], k: int) -> tuple[Floats, NDArray[np.int64]]:
    """The k highest of each row in their old order; among values equal to the k-th, the first ones."""
    least = np.partition(values, values.shape[1] - k, axis=1)[:, -k, None]
    above, equal = values > least, values == least
    room = k - above.sum(axis=1, keepdims=True)
    keep = above | (equal & (np.cumsum(equal, axis=1) <= room))
    shape = (len(values), k)
    return values[keep].reshape(shape), columns[keep].reshape(shape)


class Shown:
    """Which rows of a matrix are shown: a bias of 0 or -inf a row, added only to blocks that have a hidden row."""

    def __init__(self, capacity: int) -> None:
        self.bias = np.empty(capacity, np.float32)
        self.high = 0
        """Rows from here on were never set."""
        self._hidden = 0

    def reach(self, rows: NDArray[np.integer]) -> None:
        """Extend the used part to take in these rows; those in between are hidden."""
        high = int(rows.max()) + 1
        if high > self.high:
            self.bias[self.high : high] = -np.inf
            self._hidden += high - self.high
            self.high = high

    def mark(self, rows: NDArray[np.integer], shown: bool) -> None:
        """Show or hide distinct rows."""
        were_hidden = int(np.count_nonzero(self.bias[rows]))
        self._hidden += -were_hidden if shown else len(rows) - were_hidden
        self.bias[rows] = 0.0 if shown else -np.inf

    def any_hidden(self) -> bool:
        return self._hidden > 0


class NumpyNearest:
    """float32 in numpy: needs no torch, for small indexes and tests. Keeps the promises of `Nearest`."""

    def __init__(self, dimension: int, capacity: int) -> None:
        self.dimension = dimension
        self.capacity = capacity
        # Pages that were never written cost nothing, so the capacity is taken at once and nothing is ever copied.
        self._matrix: Floats = np.empty((capacity, dimension), np.float32)
        self._shown = Shown(capacity)

    @property
    def row_bytes(self) -> int:
        return self.dimension * 4 + 4

    def set(self, rows: NDArray[np.integer], vectors: Floats) -> None:
        if not len(rows):
            return
        fresh = self._shown.high
        self._shown.reach(rows)
        self._matrix[fresh : self._shown.high] = 0.0
        self._matrix[rows] = vectors
        self._shown.mark(rows, True)

    def remove(self, rows: NDArray[np.integer]) -> None:
        rows = rows[rows < self._shown.high]
        self._shown.mark(rows, False)
        self._matrix[rows] = 0.0

    def hide(self, rows: NDArray[np.integer]) -> None:
        self._shown.mark(rows[rows < self._shown.high], False)

    def show(self, rows: NDArray[np.integer]) -> None:
        self._shown.mark(rows[rows < self._shown.high], True)

    def get(self, rows: NDArray[np.integer]) -> Floats:
        vectors: Floats = self._matrix[rows]
        return vectors

    def top(self, queries: Floats, k: int, exclude: Rows | None = None) -> tuple[Rows, Floats]:
        batch, high = len(queries), self._shown.high
        block = max(k, BLOCK_BYTES // (4 * max(1, batch)))
        found_rows: list[NDArray[np.int64]] = []
        found: list[Floats] = []
        for start in range(0, high, block):
            stop = min(high, start + block)
            scores = queries @ self._matrix[start:stop].T
            if self._shown.any_hidden():
                scores += self._shown.bias[start:stop]
            if exclude is not None:
                inside = np.flatnonzero((exclude >= start) & (exclude < stop))
                scores[inside, exclude[inside] - start] = -np.inf
            columns, values = top_k(scores, min(k, stop - start))
            found_rows.append(columns + start)
            found.append(values)
        return merge(found_rows, found, batch, k)


def merge(rows: list[NDArray[np.int64]], values: list[Floats], batch: int, k: int) -> tuple[Rows, Floats]:
    """The best k of the bests of several blocks; what is hidden (-inf) or lacking becomes -1."""
    if not rows:
        return np.full((batch, k), MISSING, np.int32), np.full((batch, k), -np.inf, np.float32)
    all_rows = rows[0] if len(rows) == 1 else np.concatenate(rows, axis=1)
    all_values = values[0] if len(values) == 1 else np.concatenate(values, axis=1)
    if len(rows) > 1:
        columns, all_values = top_k(all_values, min(k, all_values.shape[1]))
        all_rows = np.take_along_axis(all_rows, columns, axis=1)
    best = np.where(np.isneginf(all_values), MISSING, all_rows).astype(np.int32)
    lacking = k - best.shape[1]
    if lacking:
        best = np.pad(best, ((0, 0), (0, lacking)), constant_values=MISSING)
        all_values = np.pad(all_values, ((0, 0), (0, lacking)), constant_values=-np.inf)
    return best, all_values
