from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.calibration import BINS, FEWEST, SLOTS, calibration


def drawn(seed: int = 0, count: int = 4_000, power: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Answers of confidence c that hit with probability c to this power."""
    draw = np.random.default_rng(seed)
    sure = draw.random(count)
    return sure.astype(np.float32), (draw.random(count) < sure**power).astype(np.float32)


def test_hits_that_come_as_often_as_confidence_says_lie_on_the_diagonal() -> None:
    found = calibration(*drawn())
    assert found is not None
    assert len(found.bins) == BINS
    assert found.error < 0.03
    assert found.order > 0.4
    inside = sum(each.low <= each.confidence <= each.high for each in found.bins)
    assert inside >= BINS - 2, "of ten intervals of 95 %"


def test_too_much_confidence_is_told() -> None:
    found = calibration(*drawn(power=4.0))
    assert found is not None
    assert found.error > 0.2
    assert found.order > 0.3, "the order is right nevertheless"
    assert all(each.hits < each.confidence for each in found.bins[1:-1])


def test_confidence_that_says_nothing_has_no_order() -> None:
    sure, hits = drawn()
    found = calibration(sure, np.random.default_rng(1).permutation(hits))
    assert found is not None
    assert abs(found.order) < 0.05


def test_answers_that_are_equally_sure_stay_together() -> None:
    sure = np.repeat(np.array([0.0, 0.5, 1.0]), 100)
    found = calibration(sure, sure)
    assert found is not None
    assert [(each.count, each.confidence) for each in found.bins] == [(100, 0.0), (100, 0.5), (100, 1.0)]
    same = calibration(np.full(60, 0.4), np.ones(60))
    assert same is not None
    assert [each.count for each in same.bins] == [60]
    assert same.order == 0


def test_too_few_answers_tell_nothing() -> None:
    assert calibration(np.ones(FEWEST - 1), np.ones(FEWEST - 1)) is None
    assert calibration(np.ones(FEWEST), np.ones(FEWEST)) is not None


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.7, 1.0]), st.booleans()), min_size=FEWEST, max_size=300))
def test_every_answer_is_counted_once_and_intervals_hold_their_share(answers: list[tuple[float, bool]]) -> None:
    sure, hits = (np.array(column, np.float64) for column in zip(*answers, strict=True))
    found = calibration(sure, hits)
    assert found is not None
    assert sum(each.count for each in found.bins) == len(answers) == sum(found.histogram)
    assert len(found.histogram) == SLOTS
    assert sum(each.count * each.hits for each in found.bins) == pytest.approx(hits.sum())
    assert all(each.low - 1e-9 <= each.hits <= each.high + 1e-9 for each in found.bins)
    assert [each.confidence for each in found.bins] == sorted(each.confidence for each in found.bins)
