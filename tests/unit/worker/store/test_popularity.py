from __future__ import annotations

from math import inf

import numpy as np
import pytest

from worker.store.popularity import log2_add, log2_sum


def test_two_equal_weights_are_one_more() -> None:
    assert log2_add(3.0, 3.0) == pytest.approx(4.0)
    assert log2_add(-2000.0, -2000.0) == pytest.approx(-1999.0)


def test_nothing_adds_nothing() -> None:
    assert log2_add(-inf, 5.0) == 5.0
    assert log2_add(5.0, -inf) == 5.0
    assert log2_add(-inf, -inf) == -inf


def test_a_weight_far_below_changes_nothing_and_overflows_nothing() -> None:
    assert log2_add(1e6, -1e6) == 1e6


def test_shards_are_summed_by_item() -> None:
    rows = np.array([[0.0, -inf, 2000.0], [1.0, -inf, 2000.0], [-inf, -inf, -inf]])
    np.testing.assert_allclose(log2_sum(rows), [np.log2(3), -inf, 2001.0])
