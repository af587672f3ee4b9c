"""Users dealt into folds, so that nobody's events are ever on both sides of one; and those who are never learned from.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.users import UserKey

RESERVED: Final = 0.2
"""Share of all users of whom no head and no encoder that is served ever learns."""


def reserved_users(keys: Sequence[UserKey]) -> NDArray[np.bool_]:
    """(U,) whether a user is of those who teach no head and no encoder, but in folds: by the hash that stands for them,
    so that it is the same users in every window for as long as the secret is the same one."""
    bound = int(RESERVED * (1 << 64))
    return np.array([int.from_bytes(key[:8], "big") < bound for key in keys], np.bool_)


def fold_of_users(events: NDArray[np.integer], folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each user, stratified by activity: every fold has its share of the silent and of the busy.

    events: (U,) how many each user has. Users are ordered by it (shuffled among equals), and each run of `folds` users
    is dealt to the folds in a random order. Sizes of folds differ by one at most. Raises ValueError for fewer than two
    folds or more folds than users.
    """
    if not 2 <= folds <= len(events):
        raise ValueError(f"{folds} folds of {len(events)} users: at least 2, and no more than users")
    draw = np.random.default_rng(seed)
    order = np.lexsort((draw.random(len(events)), events))
    dealt = np.concatenate([draw.permutation(folds) for _ in range(-(-len(events) // folds))])[: len(events)]
    found = np.empty(len(events), np.int64)
    found[order] = dealt
    return found
