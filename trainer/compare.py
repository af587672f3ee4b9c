"""Is one release worse than another beyond chance? Two shares of hits, each of users of its own. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

LEVEL: Final = 0.999
"""Of the interval. It is looked at again with every newcomer: at 95 % one good release in six would be called worse at
some time, at this level fewer than one in a hundred (docs/decisions/online.md)."""
LEAST: Final = 50
"""Questions that each release must have been asked before the two are compared."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What newcomers made of the answers of one release. newcomers: those whose time is over; questions: those of them
    who took something new to them in that time; hits, popular_hits: where that was among the ten items of the answer,
    and among the ten most popular ones."""

    newcomers: int = 0
    questions: int = 0
    hits: int = 0
    popular_hits: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.newcomers + other.newcomers,
            self.questions + other.questions,
            self.hits + other.hits,
            self.popular_hits + other.popular_hits,
        )

    @property
    def hit_rate(self) -> float:
        """hit@10; not a number before the first question."""
        return self.hits / self.questions if self.questions else math.nan

    @property
    def popular_hit_rate(self) -> float:
        return self.popular_hits / self.questions if self.questions else math.nan


@dataclass(frozen=True, slots=True)
class Difference:
    """Between two hit rates, and its interval."""

    mean: float
    low: float
    high: float

    @property
    def worse(self) -> bool:
        return self.high < 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """The release in service and the one before it. difference: None while too few have been asked."""

    current: str
    before: str
    difference: Difference | None


def difference(current: Tally, before: Tally, level: float = LEVEL) -> Difference | None:
    """current's hit rate less before's; None with fewer questions than LEAST to either.

    Newcombe's interval of the difference of two independent proportions from their Wilson intervals (R. G. Newcombe,
    Statistics in Medicine 17, 1998, 873-890, method 10). Independent because a user is asked once, whoever answers.
    """
    if min(current.questions, before.questions) < LEAST:
        return None
    mean = current.hit_rate - before.hit_rate
    (low, high), (low_before, high_before) = _wilson(current, level), _wilson(before, level)
    return Difference(
        mean,
        mean - math.hypot(current.hit_rate - low, high_before - before.hit_rate),
        mean + math.hypot(high - current.hit_rate, before.hit_rate - low_before),
    )


def _wilson(tally: Tally, level: float) -> tuple[float, float]:
    """The interval of one share (E. B. Wilson, Journal of the American Statistical Association 22, 1927, 209-212)."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    n, share = tally.questions, tally.hit_rate
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)
