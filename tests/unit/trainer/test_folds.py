from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.users import user_key
from trainer.folds import RESERVED, fold_of_users, reserved_users


@given(st.lists(st.integers(1, 50), min_size=5, max_size=200), st.integers(2, 5), st.integers(0, 9))
def test_every_user_has_one_fold_and_folds_are_of_one_size(events: list[int], folds: int, seed: int) -> None:
    found = fold_of_users(np.array(events), folds, seed)
    sizes = np.bincount(found, minlength=folds)
    assert found.shape == (len(events),)
    assert len(sizes) == folds
    assert sizes.max() - sizes.min() <= 1


@given(st.integers(0, 20))
def test_the_busy_are_shared_out(seed: int) -> None:
    events = np.array([1] * 90 + [100] * 10)
    found = fold_of_users(events, 5, seed)
    assert np.bincount(found[events == 100], minlength=5).tolist() == [2] * 5


def test_the_same_seed_gives_the_same_folds_and_another_one_others() -> None:
    events = np.arange(100)
    assert (fold_of_users(events, 5, 1) == fold_of_users(events, 5, 1)).all()
    assert (fold_of_users(events, 5, 1) != fold_of_users(events, 5, 2)).any()


@pytest.mark.parametrize(("users", "folds"), [(10, 1), (3, 4), (0, 2)])
def test_what_cannot_be_dealt_is_an_error(users: int, folds: int) -> None:
    with pytest.raises(ValueError, match=f"{folds} folds of {users} users"):
        fold_of_users(np.ones(users, np.int64), folds, 0)


def test_reserved_users_are_told_by_their_hash_alone_whoever_else_is_there() -> None:
    keys = [user_key(f"user-{number}", b"secret") for number in range(5_000)]
    found = reserved_users(keys)
    assert found.dtype == np.bool_
    assert found.mean() == pytest.approx(RESERVED, abs=0.02)
    assert (reserved_users(keys[3_000:]) == found[3_000:]).all()
    assert reserved_users([]).shape == (0,)
