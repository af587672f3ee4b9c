from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.nearest import MISSING
from trainer.evaluate.ease import fit_ease


def test_what_was_taken_together_comes_together() -> None:
    user = np.repeat(np.arange(8), 2)
    item = np.array([0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 2, 3, 0, 2, 1, 3])
    model = fit_ease(user, item, ridge=1.0)
    assert model is not None
    assert model.answer([0], 4)[0] == 1
    assert model.answer([3], 4)[0] == 2
    assert 0 not in model.answer([0], 4)
    assert (np.diag(model.weights) == 0).all()


def test_the_columns_are_ridge_regressions_without_the_item_itself() -> None:
    """Each column of EASE is the ridge regression of its item on all others."""
    draw = np.random.default_rng(0)
    taken = draw.random((40, 6)) < 0.4
    taken[0] = True
    user, item = np.nonzero(taken)
    model = fit_ease(user, item, ridge=3.0)
    assert model is not None
    for column in range(6):
        others = [other for other in range(6) if other != column]
        x, y = taken[:, others].astype(float), taken[:, column].astype(float)
        expected = np.linalg.solve(x.T @ x + 3 * np.eye(5), x.T @ y)
        np.testing.assert_allclose(model.weights[others, column], expected, rtol=1e-4)


def test_only_the_items_with_the_most_users_are_learned() -> None:
    user, item = np.array([0, 1, 2, 0, 1, 0, 5]), np.array([7, 7, 7, 3, 3, 9, -1])
    model = fit_ease(user, item, most=2)
    assert model is not None
    assert model.items.tolist() == [3, 7]
    assert model.answer([9, 10**6], 3).tolist() == [MISSING] * 3
    assert model.answer([9, 3], 3).tolist() == [7, MISSING, MISSING]


@pytest.mark.parametrize("item", [np.array([-1, -1]), np.empty(0, np.int64)])
def test_nothing_taken_is_no_model(item: NDArray[np.int64]) -> None:
    assert fit_ease(np.arange(len(item)), item) is None
