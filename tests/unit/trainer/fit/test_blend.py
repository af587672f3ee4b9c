from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.signals import SIGNALS
from model.transfer_weights import TransferWeights
from trainer.fit.blend import BlendSettings, fit_blend, fit_default
from trainer.fit.errors import NothingToFit
from trainer.questions import Questions

COUNT = len(SIGNALS)
TRUE, FALSE = 2, 9
"""A signal that tells what is wanted, and one that tells what is not."""
DEFAULT = TransferWeights(tuple(1.0 if number == FALSE else 0.1 for number in range(COUNT)))


def questions(count: int, *, candidates: int = 12, seed: int = 0) -> Questions:
    """The wanted candidate has a high value of the true signal."""
    draw = np.random.default_rng(seed)
    signals = draw.random((count, candidates, COUNT))
    wanted = draw.integers(candidates, size=count)
    signals[np.arange(count), wanted, TRUE] += 0.8
    signals[np.arange(count), wanted, FALSE] *= 0.5
    items = np.tile(np.arange(candidates, dtype=np.int32), (count, 1))
    return Questions(
        user=np.arange(count, dtype=np.int32),
        event=np.arange(count),
        known=np.ones(count, np.int32),
        items=items,
        signals=signals.astype(np.float16),
        sharing=np.zeros(items.shape, np.int32),
        strength=np.zeros(count, np.float32),
        plain={},
        wanted=wanted[:, None].astype(np.int32),
        reachable=np.ones(count, np.bool_),
    )


def hits(asked: Questions, weights: TransferWeights) -> float:
    scores = asked.signals.astype(np.float32) @ np.array(weights.signals, np.float32)
    best: NDArray[np.int64] = scores.argmax(axis=1)
    return float((best == asked.wanted[:, 0]).mean())


def test_the_fit_believes_what_tells_and_disbelieves_what_misleads() -> None:
    found = fit_blend(questions(600), DEFAULT)
    assert found.weights.signals[TRUE] > 1.0
    assert found.weights.signals[FALSE] < 0.7
    unseen = questions(300, seed=1)
    assert hits(unseen, found.weights) > hits(unseen, DEFAULT) + 0.2
    assert found.weights.own_labels == DEFAULT.own_labels


def test_the_best_epoch_is_kept_and_the_default_is_one_of_them() -> None:
    found = fit_blend(questions(600), DEFAULT)
    assert found.chosen == min(found.epochs, key=lambda epoch: epoch.validation_loss).epoch
    astray = fit_blend(questions(600), found.weights, BlendSettings(rate=50.0, patience=1))
    assert astray.chosen == 0
    assert astray.weights == found.weights


def test_few_questions_move_it_less_than_many() -> None:
    def moved(count: int) -> float:
        found = fit_blend(questions(count), DEFAULT, BlendSettings(epochs=200, patience=200, pull=50.0))
        return float(np.linalg.norm(np.array(found.weights.signals) - np.array(DEFAULT.signals)))

    assert moved(60) < moved(1200)


def test_no_weight_is_negative() -> None:
    found = fit_blend(questions(600), DEFAULT, BlendSettings(rate=0.3))
    assert min(found.weights.signals) >= 0


def test_the_same_questions_and_seed_give_the_same_weights() -> None:
    assert fit_blend(questions(200), DEFAULT, seed=3) == fit_blend(questions(200), DEFAULT, seed=3)
    assert fit_blend(questions(200), DEFAULT, seed=3) != fit_blend(questions(200), DEFAULT, seed=4)


def test_too_few_questions_are_not_learned_from() -> None:
    with pytest.raises(NothingToFit, match="needs 50"):
        fit_blend(questions(49), DEFAULT)


def test_the_default_is_fitted_on_several_sets_that_weigh_the_same() -> None:
    """A set ten times as large must not decide alone."""
    small = questions(100)
    large = questions(1_000, seed=1)
    misled = Questions(
        **{
            **{name: getattr(large, name) for name in Questions.__slots__},
            "signals": np.roll(large.signals, 1, axis=2),
        }
    )
    weights = np.array(fit_default([small, misled]).signals)
    assert weights[TRUE] > 0.5
    assert weights[TRUE + 1] > 0.5
