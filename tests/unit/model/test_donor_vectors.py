"""Donors' vectors under a head that is exchanged while donors come, change and go."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from model.donor_vectors import BLOCK, DonorVectors, NearestFactory, unit
from model.head import identity
from model.nearest import Floats, NumpyNearest

D = 8
DRAW = np.random.default_rng(1)


def mirrored(vectors: Floats) -> Floats:
    return np.ascontiguousarray(vectors[:, ::-1])


def bent(vectors: Floats) -> Floats:
    """A head that does not care for a vector's length alone: 2 x is not bent as x is."""
    moved: Floats = (vectors + np.square(vectors)) * vectors.any(axis=1, keepdims=True)
    return moved


def narrow(vectors: Floats) -> Floats:
    return np.ascontiguousarray(vectors[:, :3])


def torch_nearest(dimension: int, capacity: int) -> object:
    from model.nearest_torch import TorchNearest

    return TorchNearest(dimension, capacity)


def some(count: int) -> Floats:
    return DRAW.normal(size=(count, D)).astype(np.float32)


def filled(count: int, head: Callable[[Floats], Floats] = identity, capacity: int = 64) -> DonorVectors:
    made = DonorVectors(D, capacity, NumpyNearest, head)
    made.put(np.arange(count), some(count))
    return made


def held(vectors: DonorVectors, rows: int) -> Floats:
    return vectors.interests.get(np.arange(rows))


def means(vectors: DonorVectors, rows: int) -> Floats:
    return vectors._means.get(np.arange(rows))


@pytest.mark.parametrize("before", [identity, mirrored])
@pytest.mark.parametrize("head", [identity, mirrored, bent, narrow])
def test_after_an_exchange_everything_is_as_if_the_head_had_always_been_there(
    before: Callable[[Floats], Floats], head: Callable[[Floats], Floats]
) -> None:
    vectors = filled(20, before)
    vectors.turn(head, vectors.turned(head))
    told = means(vectors, 20)
    assert np.allclose(held(vectors, 20), unit(head(told)), atol=1e-6)
    assert np.allclose(vectors.centre, unit(head(told)).mean(axis=0), atol=1e-6)
    more = some(1)
    vectors.put(np.array([20]), more)
    assert np.allclose(held(vectors, 21)[20], unit(head(unit(more)))[0], atol=1e-6)
    found, similarity = vectors.interests.top(vectors.project(unit(more)), 1)
    assert found.tolist() == [[20]]
    assert similarity[0, 0] == pytest.approx(1, abs=1e-5)


def test_a_head_is_given_means_of_length_1_whatever_their_weight() -> None:
    vectors = filled(0, bent)
    (mean,) = some(1)
    vectors.put(np.array([0, 1]), np.stack([mean, mean * 0.1]))
    heavy, light = held(vectors, 2)
    assert np.allclose(heavy, light, atol=1e-6)


def test_what_changes_while_the_others_are_turned_is_not_lost() -> None:
    vectors = filled(10)

    def meanwhile(found: Floats) -> Floats:
        """A head under which others write, once."""
        if len(found) == 10:
            vectors.put(np.array([2, 12]), latest)
            vectors.put(np.array([5]), np.zeros((1, D), np.float32))
            vectors.remove(np.array([7]))
        return mirrored(found)

    latest = some(2)
    turned = vectors.turned(meanwhile)
    vectors.turn(meanwhile, turned)
    found = held(vectors, 13)
    assert np.allclose(found[[2, 12]], unit(mirrored(latest)), atol=1e-6)
    assert not found[[5, 7]].any()
    rows, _ = vectors.interests.top(unit(some(1)), 13)
    assert sorted(rows[rows >= 0].tolist()) == [0, 1, 2, 3, 4, 6, 8, 9, 12]


def test_a_change_that_was_under_way_when_turning_began_is_made_again() -> None:
    vectors = filled(4)
    turned = vectors.turned(mirrored)
    turned.interests.set(np.arange(4), some(4))  # as torn reads would have left them
    vectors.turn(mirrored, turned)
    assert np.allclose(held(vectors, 4), unit(mirrored(means(vectors, 4))), atol=1e-6)


def test_what_was_turned_of_other_donors_or_by_another_head_is_not_used() -> None:
    other = filled(3).turned(mirrored)
    vectors = filled(3)
    vectors.turn(mirrored, other)
    assert np.allclose(held(vectors, 3), unit(mirrored(means(vectors, 3))), atol=1e-6)
    vectors.turn(narrow, vectors.turned(bent))
    assert held(vectors, 3).shape == (3, 3)


def test_donors_that_never_had_a_vector_stay_unfound() -> None:
    vectors = DonorVectors(D, 64, NumpyNearest)
    vectors.put(np.arange(3), np.zeros((3, D), np.float32))
    vectors.turn(mirrored, vectors.turned(mirrored))
    rows, _ = vectors.interests.top(unit(some(1)), 3)
    assert rows.tolist() == [[-1, -1, -1]]


def test_many_donors_go_through_the_head_in_pieces() -> None:
    seen: list[int] = []

    def counting(found: Floats) -> Floats:
        seen.append(len(found))
        return mirrored(found)

    vectors = filled(2 * BLOCK + 5, capacity=3 * BLOCK)
    vectors.turned(counting)
    assert max(seen) == BLOCK
    assert sum(seen) == 1 + 2 * BLOCK + 5


def test_a_learned_head_costs_a_second_matrix_and_the_identity_none() -> None:
    vectors = filled(1)
    alone = vectors.row_bytes
    vectors.turn(mirrored)
    assert vectors.row_bytes == alone + 4 * D + 4
    vectors.turn(identity)
    assert vectors.row_bytes == alone
    assert vectors.interests is vectors._means


def test_the_torch_matrix_is_turned_as_well() -> None:
    nearest: NearestFactory = torch_nearest  # type: ignore[assignment]
    vectors = DonorVectors(D, 64, nearest)
    vectors.put(np.arange(5), some(5))
    vectors.turn(mirrored, vectors.turned(mirrored))
    assert np.allclose(held(vectors, 5), unit(mirrored(means(vectors, 5))), atol=0.02)
