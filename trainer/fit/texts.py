"""What head and encoder are fitted to, as arrays, and which of it learns, is asked about and is compared with.

Users are numbers and a user is on one side only: the mask of who is held out is over users. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.fit.errors import NothingToFit
from trainer.fit.losses import NO_LABEL, epoch_order

Rows = NDArray[np.int64]
"""Numbers of texts, below N."""

_ASKED: Final = 4096
"""Held-out texts that are asked about: the standard error is below .008, and epochs are compared on the same texts."""
_BANK: Final = 32_768
"""Texts they are compared with: 100 GFLOP an epoch at 384 dimensions, seconds on two cores."""


@dataclass(frozen=True, slots=True)
class Texts:
    """vectors: (T, D) float16 or float32, unit rows or zeros, in memory or mapped from a file. user, text: (N,) int32,
    who wrote and which row of vectors. labels: (N, W) int32 below label_count, -1 for none."""

    vectors: NDArray[np.floating]
    user: NDArray[np.int32]
    text: NDArray[np.int32]
    labels: NDArray[np.int32]
    label_count: int


@dataclass(frozen=True, slots=True)
class Written:
    """The same before an encoder. ids: T texts as token ids, special tokens included; none without any. title: (N,)
    int32, the row of ids that is the title of the text's item, -1 for none. The rest: as in `Texts`."""

    ids: Sequence[NDArray[np.int32]]
    user: NDArray[np.int32]
    text: NDArray[np.int32]
    title: NDArray[np.int32]
    labels: NDArray[np.int32]
    label_count: int


@dataclass(frozen=True, slots=True)
class Sides:
    """train: rows to learn from. asked: rows of held-out users, by label (with by_labels) or in pairs of one user.
    bank: rows of others that they are compared with. contrast: whether users in train have two texts."""

    train: Rows
    asked: Rows
    bank: Rows
    by_labels: bool
    contrast: bool


def sides(
    texts: Texts | Written, held_out: NDArray[np.bool_], seed: int, *, most: tuple[int, int] | None = None
) -> Sides:
    """held_out: (U,) by number of user. What is asked is drawn by seed and bounded, whatever the number of texts. most:
    texts that are asked about and compared with, where they are dearer than vectors that are known.

    Raises NothingToFit where not both sides have texts with labels, nor both have users with two texts.
    """
    most_asked, most_compared = most or (_ASKED, _BANK)
    outside = held_out[texts.user]
    labelled = (texts.labels != NO_LABEL).any(axis=1)
    paired = np.bincount(texts.user, minlength=1)[texts.user] > 1
    train, contrast = np.flatnonzero(~outside), bool(paired[~outside].any())
    draw = np.random.default_rng(seed)
    if (labelled & ~outside).any() and (labelled & outside).any():
        asked = _some(np.flatnonzero(labelled & outside), most_asked, draw)
        bank = _some(np.flatnonzero(labelled & ~outside), most_compared, draw)
        return Sides(train, asked, bank, True, contrast)
    if not contrast or not (paired & outside).any():
        raise NothingToFit(
            f"{len(train)} texts to learn from and {int(outside.sum())} held out: on both sides there must be texts "
            "with labels, or users with two texts"
        )
    rows = np.flatnonzero(paired & outside)
    order, pair = epoch_order(texts.user[rows], seed, 0)
    whole = np.bincount(pair)[pair] == 2
    return Sides(train, rows[order[whole][:most_asked]], _some(train, most_compared, draw), False, contrast)


def _some(rows: Rows, count: int, draw: np.random.Generator) -> Rows:
    """At most so many of them, in their order."""
    return np.sort(draw.choice(rows, min(count, len(rows)), replace=False))
