from __future__ import annotations

from pathlib import Path

import numpy as np

from model.nearest import MISSING
from tests.evaluations import world
from trainer.evaluate.counts import cooccurring, most_popular
from trainer.prepare import Prepared


def taken(directory: Path, *pairs: str) -> Prepared:
    """ "ax": user a takes item x; x is a number of the data in the order of first appearance."""
    events = [{"user_id": pair[0], "text": f"text {turn}", "item_id": pair[1]} for turn, pair in enumerate(pairs)]
    return world(events, directory)[0]


def test_a_user_counts_once_and_old_events_fade(tmp_path: Path) -> None:
    data = taken(tmp_path, "ax", "bx", "cy", "cy", "dy", "ez", "fq")
    data.occurred[:] = data.occurred[0]
    data.occurred[5] += 400 * 86_400_000
    by_users, fading = most_popular(data, np.array([6]), 4)
    assert by_users.tolist() == [[0, 1, 2, MISSING]]
    assert fading[0, 0] == 2, "the newest"


def test_what_is_one_s_own_is_no_answer(tmp_path: Path) -> None:
    data = taken(tmp_path, "ax", "bx", "by", "cz", "ay")
    for rows in most_popular(data, np.array([4]), 3):
        assert rows.tolist() == [[2, MISSING, MISSING]]
    assert most_popular(data, np.empty(0, np.int64), 3)[0].shape == (0, 3)


def test_each_own_item_s_takers_weigh_one_together(tmp_path: Path) -> None:
    data = taken(tmp_path, "ax", "ay", "bx", "bz", "cw", "cq", "dx", "dw")
    # Of x there are two takers, with y and z a half each; of w one, with q.
    assert cooccurring(data, np.array([7]), 4).tolist() == [[4, 1, 2, MISSING]]
    assert cooccurring(data, np.array([0]), 2).tolist() == [[MISSING, MISSING]]


def test_a_return_to_an_item_counts_the_newcomer_out(tmp_path: Path) -> None:
    data = taken(tmp_path, "ax", "bx", "by", "ax")
    assert cooccurring(data, np.array([3]), 2).tolist() == [[1, MISSING]]
