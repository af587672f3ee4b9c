"""Means over questions, with intervals of the bootstrap over users: questions of one user are not independent. Pure.

(Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, §13.3: percentile intervals.) The same as
`trainer.gate.paired_gain`, for many columns and groups at once: all share their resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

LEVEL: Final = 0.95
RESAMPLES: Final = 1_000
_TOGETHER: Final = 50
_CELLS: Final = 1 << 25
"""Of the sums of users, groups and columns that are held at once."""


@dataclass(frozen=True, slots=True)
class Means:
    """(M,) means, and the ends of their intervals; NaN where there is nothing to average."""

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def means(
    user: NDArray[np.integer],
    values: NDArray[np.floating],
    groups: NDArray[np.bool_],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> list[Means]:
    """One a group. user: (Q,). values: (Q, M), NaN for a question that has none. groups: (G, Q)."""
    _, place = np.unique(user, return_inverse=True)
    users = int(place.max(initial=-1)) + 1
    together = max(1, _CELLS // max(1, users * values.shape[1]))
    found: list[Means] = []
    for start in range(0, len(groups), together):
        some = groups[start : start + together]
        sums, counts = _by_user(place, users, values, some)
        # The same draws for each piece of the groups: what is held at once must change no interval.
        draw = np.random.default_rng(seed)
        drawn = np.concatenate([_resampled(sums, counts, rows, draw) for rows in _pieces(resamples)])
        drawn = drawn.reshape(resamples, len(some), -1)
        mean = _ratio(sums.sum(axis=0), counts.sum(axis=0)).reshape(len(some), -1)
        ends = [(1 - level) / 2, (1 + level) / 2]
        found += [Means(mean[group], *_quantiles(drawn[:, group], ends)) for group in range(len(some))]
    return found


def _pieces(resamples: int) -> list[int]:
    return [min(_TOGETHER, resamples - start) for start in range(0, resamples, _TOGETHER)]


def _resampled(
    sums: NDArray[np.float32], counts: NDArray[np.float32], rows: int, draw: np.random.Generator
) -> NDArray[np.float64]:
    """(rows, G * M) means, each of as many users as there are, drawn with replacement."""
    users = len(sums)
    chosen = draw.integers(users, size=(rows, users)) + np.arange(rows)[:, None] * users
    times = np.bincount(chosen.ravel(), minlength=rows * users).reshape(rows, users).astype(np.float32)
    return _ratio(times @ sums, times @ counts)


def _by_user(
    place: NDArray[np.intp], users: int, values: NDArray[np.floating], groups: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(U, G * M) each: sums of the values of a user's questions, and how many there are."""
    there = np.isfinite(values)
    full = np.where(there, values, 0).astype(np.float32)
    sums = np.zeros((users, len(groups), values.shape[1]), np.float32)
    counts = np.zeros_like(sums)
    for number, inside in enumerate(groups):
        np.add.at(sums[:, number], place[inside], full[inside])
        np.add.at(counts[:, number], place[inside], there[inside].astype(np.float32))
    return sums.reshape(users, -1), counts.reshape(users, -1)


def _ratio(sums: NDArray[np.floating], counts: NDArray[np.floating]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).astype(np.float64)
    return found


def _quantiles(drawn: NDArray[np.float64], ends: list[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(M,) each; a group that a resample misses counts no such resample."""
    found = np.full((2, drawn.shape[1]), np.nan)
    for column in range(drawn.shape[1]):
        there = drawn[np.isfinite(drawn[:, column]), column]
        if len(there):
            found[:, column] = np.quantile(there, ends)
    return found[0], found[1]
