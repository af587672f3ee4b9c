"""Micro-batches: every row once, sorted, within the budget."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model.encoder.padding import micro_batches, pad, unit


@given(st.lists(st.integers(0, 300), max_size=60), st.integers(1, 600), st.integers(1, 4))
def test_every_row_with_tokens_is_in_one_batch_that_keeps_the_budget(
    lengths: list[int], budget: int, parts: int
) -> None:
    sizes = np.array(lengths, np.int32)
    batches = micro_batches(sizes, budget, parts=parts)
    rows = [int(row) for batch in batches for row in batch]
    assert sorted(rows) == [row for row, size in enumerate(lengths) if size]
    assert [lengths[row] for row in rows] == sorted((size for size in lengths if size), reverse=True)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[int(batch[0])] <= budget


def test_little_work_is_shared_by_all_streams() -> None:
    lengths = np.full(8, 10, np.int32)
    assert len(micro_batches(lengths, 1024)) == 1
    assert len(micro_batches(lengths, 1024, parts=4)) == 4


def test_a_batch_is_filled_up_to_its_longest_row() -> None:
    ids = [np.array(row, np.int32) for row in ([5, 6, 7], [8], [9, 9, 9, 9, 9])]
    padded, mask = pad(ids, np.array([0, 1]), 0)
    assert padded.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_a_width_is_rounded_up_and_never_beyond_what_the_model_takes() -> None:
    ids = [np.ones(size, np.int32) for size in (5, 12)]
    assert pad(ids, np.array([0]), 0, multiple=8)[0].shape == (1, 8)
    assert pad(ids, np.array([1]), 0, multiple=8, limit=13)[0].shape == (1, 13)


def test_rows_of_zeros_stay_zeros_when_the_others_get_length_one() -> None:
    scaled = unit(np.array([[3, 4], [0, 0]], np.float32))
    assert np.allclose(scaled, np.array([[0.6, 0.8], [0, 0]]))
