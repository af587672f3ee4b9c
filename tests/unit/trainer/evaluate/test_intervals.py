from __future__ import annotations

import numpy as np
import pytest

from trainer.evaluate import intervals
from trainer.evaluate.intervals import means
from trainer.gate import Limits, paired_gain


def test_means_and_intervals_are_those_of_the_gate() -> None:
    draw = np.random.default_rng(1)
    user = draw.integers(80, size=300)
    values = draw.normal(size=(300, 2)) + user[:, None] % 3
    (found,) = means(user, values, np.ones((1, 300), np.bool_), resamples=2_000)
    for column in range(2):
        gate = paired_gain(values[:, column], user, Limits())
        np.testing.assert_allclose(found.mean[column], gate.mean, rtol=1e-5)
        np.testing.assert_allclose([found.low[column], found.high[column]], [gate.low, gate.high], atol=0.03)


def test_users_are_drawn_and_not_questions() -> None:
    """A hundred questions of one user say no more than one."""
    user = np.repeat(np.arange(20), 100)
    values = (user % 2).astype(float)[:, None]
    (found,) = means(user, values, np.ones((1, len(user)), np.bool_))
    assert found.high[0] - found.low[0] > 0.35
    (alone,) = means(np.arange(len(user)), values, np.ones((1, len(user)), np.bool_))
    assert alone.high[0] - alone.low[0] < 0.1


def test_groups_and_questions_without_a_value_are_left_out() -> None:
    user = np.arange(40)
    values = np.stack([np.arange(40.0), np.where(np.arange(40) < 39, np.nan, 5.0)], axis=1)
    groups = np.stack([np.arange(40) < 10, np.arange(40) >= 10, np.zeros(40, np.bool_)])
    first, second, none = means(user, values, groups)
    assert first.mean[0] == 4.5
    assert np.isnan(first.mean[1])
    assert second.mean[1] == second.low[1] == second.high[1] == 5
    assert np.isnan(none.mean).all()
    assert np.isnan(none.low).all()


def test_the_same_seed_gives_the_same_intervals() -> None:
    draw = np.random.default_rng(0)
    user, values, groups = np.arange(50), draw.normal(size=(50, 1)), np.ones((1, 50), np.bool_)
    assert means(user, values, groups, seed=3)[0].low == means(user, values, groups, seed=3)[0].low
    assert means(user, values, groups, seed=3)[0].low != means(user, values, groups, seed=4)[0].low


def test_groups_in_pieces_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    user, values, groups = draw.integers(30, size=90), draw.normal(size=(90, 2)), draw.random((5, 90)) < 0.5
    whole = means(user, values, groups)
    monkeypatch.setattr(intervals, "_CELLS", 1)
    pieces = means(user, values, groups)
    assert [one.low.tolist() for one in pieces] == [one.low.tolist() for one in whole]
