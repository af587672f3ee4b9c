from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model.nearest import Floats, Nearest, NumpyNearest, top_k
from model.nearest_torch import TorchNearest

Factory = Callable[[int, int], Nearest]


def unit(count: int, dimension: int, seed: int = 0) -> Floats:
    vectors = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


@pytest.fixture(params=["numpy", "torch-float32", "torch-bfloat16"])
def factory(request: pytest.FixtureRequest) -> Factory:
    kinds: dict[str, Factory] = {
        "numpy": NumpyNearest,
        "torch-float32": lambda d, n: TorchNearest(d, n, dtype=torch.float32),
        "torch-bfloat16": lambda d, n: TorchNearest(d, n, dtype=torch.bfloat16),
    }
    kind: Factory = kinds[request.param]
    return kind


def filled(factory: Factory, vectors: Floats) -> Nearest:
    nearest = factory(vectors.shape[1], len(vectors) + 10)
    nearest.set(np.arange(len(vectors)), vectors)
    return nearest


def test_the_nearest_rows_are_those_of_a_full_product(factory: Factory) -> None:
    vectors, queries = unit(3000, 32), unit(7, 32, seed=1)
    rows, similarities = filled(factory, vectors).top(queries, 20)
    exact = np.sort(queries @ vectors.T, axis=1)[:, ::-1][:, :20]
    np.testing.assert_allclose(similarities, exact, atol=0.005)
    np.testing.assert_allclose(np.einsum("bd,bkd->bk", queries, vectors[rows]), similarities, atol=0.005)


def test_cutting_into_blocks_changes_nothing(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, queries = unit(500, 16), unit(3, 16, seed=1)
    exclude = np.array([130, -1, 499], np.int32)
    whole = filled(factory, vectors).top(queries, 10, exclude)
    monkeypatch.setattr("model.nearest.BLOCK_BYTES", 64 * 4 * 3)
    monkeypatch.setattr("model.nearest_torch.BLOCK_BYTES", 64 * 4 * 3)
    cut = filled(factory, vectors).top(queries, 10, exclude)
    np.testing.assert_array_equal(whole[0], cut[0])
    np.testing.assert_allclose(whole[1], cut[1], atol=1e-6)


def test_a_removed_or_hidden_row_is_not_found(factory: Factory) -> None:
    vectors = unit(50, 16)
    nearest = filled(factory, vectors)
    nearest.remove(np.array([3]))
    nearest.hide(np.array([4]))
    rows, similarities = nearest.top(vectors[3:5], 50)
    assert not np.isin(rows, [3, 4]).any()
    assert (rows[:, -2:] == -1).all()
    assert np.isneginf(similarities[:, -2:]).all()


def test_a_hidden_row_comes_back_with_its_vector_and_a_removed_one_is_forgotten(factory: Factory) -> None:
    vectors = unit(50, 16)
    nearest = filled(factory, vectors)
    nearest.hide(np.array([4]))
    nearest.show(np.array([4]))
    nearest.remove(np.array([3]))
    assert nearest.top(vectors[4:5], 1)[0].tolist() == [[4]]
    assert not nearest.get(np.array([3])).any()


def test_a_row_that_is_set_again_is_found_at_its_new_place(factory: Factory) -> None:
    vectors = unit(50, 16)
    nearest = filled(factory, vectors)
    nearest.remove(np.array([3]))
    nearest.set(np.array([3]), vectors[10:11])
    assert sorted(nearest.top(vectors[10:11], 2)[0][0].tolist()) == [3, 10]


def test_rows_that_were_skipped_are_not_found(factory: Factory) -> None:
    nearest = factory(8, 100)
    nearest.set(np.array([60]), unit(1, 8))
    rows, _ = nearest.top(unit(2, 8, seed=3), 5)
    assert rows.tolist() == [[60, -1, -1, -1, -1]] * 2


def test_the_excluded_row_of_each_query_is_left_out(factory: Factory) -> None:
    vectors = unit(40, 16)
    rows, _ = filled(factory, vectors).top(vectors[:3], 1, np.array([0, -1, 2], np.int32))
    assert rows[1, 0] == 1
    assert rows[0, 0] != 0
    assert rows[2, 0] != 2


def test_an_empty_matrix_gives_nothing(factory: Factory) -> None:
    rows, similarities = factory(8, 100).top(unit(2, 8), 3)
    assert (rows == -1).all()
    assert np.isneginf(similarities).all()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4).flatmap(
        lambda rows: arrays(
            np.float32,
            st.tuples(st.just(rows), st.integers(3, 400)),
            elements=st.sampled_from([-np.inf, -1.0, 0.0, 0.25, 0.5, 0.75, 1.0]),
        )
    )
)
def test_top_k_is_exact_also_with_ties_and_missing_values(scores: Floats) -> None:
    columns, values = top_k(scores, 3)
    np.testing.assert_array_equal(values, -np.sort(-scores, axis=1)[:, :3])
    for row in range(len(scores)):
        there = columns[row][np.isfinite(values[row])]
        np.testing.assert_array_equal(scores[row][there], values[row][: len(there)])
        expected = np.argsort(-scores[row], kind="stable")[: len(there)]
        np.testing.assert_array_equal(there, expected)


def test_a_row_costs_half_as_much_in_bf16() -> None:
    assert TorchNearest(384, 1, dtype=torch.bfloat16).row_bytes == 384 * 2 + 4
    assert NumpyNearest(384, 1).row_bytes == 384 * 4 + 4
