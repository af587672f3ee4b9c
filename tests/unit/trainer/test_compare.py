from __future__ import annotations

import math

import numpy as np
import pytest

from trainer.compare import LEAST, Tally, difference


def tally(questions: int, hits: int) -> Tally:
    return Tally(newcomers=questions, questions=questions, hits=hits)


def test_the_interval_is_newcombes() -> None:
    """56/70 against 48/80, the example of his paper: 0.0524 to 0.3339 at 95 %."""
    found = difference(tally(70, 56), tally(80, 48), level=0.95)
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize(
    ("current", "before", "worse"),
    [
        (tally(1_000, 300), tally(1_000, 300), False),
        (tally(1_000, 270), tally(1_000, 300), False),
        (tally(1_000, 200), tally(1_000, 300), True),
        (tally(10_000, 2_700), tally(10_000, 3_000), True),
        (tally(1_000, 400), tally(1_000, 300), False),
        (tally(LEAST, 0), tally(LEAST, LEAST), True),
        (tally(LEAST, 0), tally(LEAST, 0), False),
    ],
)
def test_worse_is_what_chance_does_not_explain(current: Tally, before: Tally, worse: bool) -> None:
    found = difference(current, before)
    assert found is not None
    assert found.worse is worse
    assert found.low <= found.mean <= found.high


@pytest.mark.parametrize(("current", "before"), [(LEAST - 1, LEAST), (LEAST, LEAST - 1), (0, 0)])
def test_few_questions_are_not_compared(current: int, before: int) -> None:
    assert difference(tally(current, 0), tally(before, before)) is None


def test_a_release_that_is_looked_at_after_every_newcomer_is_seldom_called_worse_by_chance() -> None:
    draw = np.random.default_rng(0)
    before = tally(2_000, 600)
    called = 0
    for _ in range(100):
        hits = np.cumsum(draw.random(1_000) < 0.3)
        found = [difference(tally(n, int(hits[n - 1])), before) for n in range(LEAST, 1_001, 25)]
        called += any(one is not None and one.worse for one in found)
    assert called <= 3


def test_nothing_asked_has_no_rate() -> None:
    assert math.isnan(Tally().hit_rate)
    assert math.isnan(Tally(newcomers=3).popular_hit_rate)
