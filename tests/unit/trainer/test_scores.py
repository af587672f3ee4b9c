from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.scores import first_is_wanted, hit, ndcg, recall, relevant


def rows(*lists: list[int]) -> np.ndarray:
    width = max(map(len, lists))
    return np.array([row + [-1] * (width - len(row)) for row in lists], np.int32)


def test_an_answer_is_relevant_where_it_names_what_is_wanted() -> None:
    found = relevant(rows([3, 1, 2], [4]), rows([2, 3], [5]))
    assert found.tolist() == [[True, False, True], [False, False, False]]


def test_an_empty_place_is_never_wanted() -> None:
    assert not relevant(rows([-1]), rows([-1])).any()


def test_a_hit_needs_one_wanted_item_among_the_best() -> None:
    found = relevant(rows([3, 1, 2], [1, 2, 3]), rows([3], [3]))
    assert hit(found, 2).tolist() == [1, 0]
    assert hit(found, 3).tolist() == [1, 1]


def test_recall_is_the_share_of_the_wanted_that_was_found() -> None:
    wanted = rows([3, 9], [3], [])
    found = relevant(rows([3, 1], [1, 3], [1, 2]), wanted)
    assert recall(found, wanted, 2).tolist() == [0.5, 1, 0]


def test_ndcg_of_a_first_place_is_one_and_falls_with_the_logarithm_of_the_rank() -> None:
    wanted = rows([3], [3], [3])
    found = relevant(rows([3, 1, 2], [1, 3, 2], [1, 2, 3]), wanted)
    assert ndcg(found, wanted, 3) == pytest.approx([1, 1 / np.log2(3), 0.5])


def test_ndcg_of_all_that_is_wanted_in_front_is_one_however_much_is_wanted() -> None:
    wanted = rows([1, 2, 3, 4])
    assert ndcg(relevant(rows([4, 2]), wanted), wanted, 2) == pytest.approx([1])


def test_the_best_label_counts_alone() -> None:
    assert first_is_wanted(np.array([5, 6, -1], np.int32), rows([5, 7], [7], [-1])).tolist() == [1, 0, 0]


ITEMS = st.lists(st.integers(0, 9), unique=True, max_size=8)
QUESTIONS = st.lists(st.tuples(ITEMS, ITEMS), min_size=1, max_size=5)


@given(QUESTIONS, st.integers(1, 8))
def test_scores_are_shares_and_agree_on_what_is_nothing(questions: list[tuple[list[int], list[int]]], k: int) -> None:
    ranked, wanted = rows(*(q[0] or [-1] for q in questions)), rows(*(q[1] or [-1] for q in questions))
    found = relevant(ranked, wanted)
    scores = hit(found, k), recall(found, wanted, k), ndcg(found, wanted, k)
    for score in scores:
        assert ((score >= 0) & (score <= 1 + 1e-6)).all()
        assert ((score > 0) == (scores[0] > 0)).all()


@given(QUESTIONS)
def test_a_better_place_is_worth_no_less(questions: list[tuple[list[int], list[int]]]) -> None:
    wanted = rows(*(q[1] or [-1] for q in questions))
    found = relevant(rows(*(q[0] or [-1] for q in questions)), wanted)
    best = np.sort(found, axis=1)[:, ::-1]
    assert (ndcg(best, wanted, 8) >= ndcg(found, wanted, 8) - 1e-6).all()
