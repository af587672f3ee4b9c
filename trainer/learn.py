"""Steps 3 and 4 on one prepared window: heads and blends fitted, and the same fits cross-validated.

Knows nothing of Kafka, of the gate, or of where a release goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.head import Head, HeadWeights, identity, interest
from model.nearest import MISSING
from model.transfer_weights import TransferWeights
from trainer.crossval import Contest, Validated, cross_validate
from trainer.fit.blend import BlendFit, BlendSettings, fit_blend
from trainer.fit.errors import NothingToFit
from trainer.fit.head import HeadFit, HeadSettings, fit_head
from trainer.fit.texts import Texts
from trainer.folds import fold_of_users
from trainer.prepare import Prepared
from trainer.replay import replay

STOPPING: Final = 0.15
"""Share of the users who may be learned from that tell a head's or an encoder's fit when to stop."""
Tell = Callable[[int, int, int], None]
"""Step, done, of."""


@dataclass(frozen=True, slots=True)
class Learner:
    """data, vectors: the window. head, current: of the release in service. blend, head_settings: None for what is not
    fitted. device: of the fits of torch weights. directory: for their checkpoints. adapted: vectors of the candidate's
    own encoder; None for the one in service. taught: whether the release in service holds what was learned from
    users, a head or an adapted encoder."""

    data: Prepared
    vectors: NDArray[np.float16]
    head: Head
    current: TransferWeights
    blend: BlendSettings | None
    head_settings: HeadSettings | None
    user_ttl_ms: int
    ask_from: int
    seed: int
    device: str
    directory: Path
    tell: Tell
    adapted: NDArray[np.float16] | None = None
    taught: bool = False

    def fit_head(self, learners: NDArray[np.bool_]) -> HeadFit | None:
        """From the texts of (U,) users; None where none is to be fitted, or the data cannot carry one."""
        if self.head_settings is None:
            return None
        data = self.data
        rows = np.flatnonzero(learners[data.user] & (data.text != MISSING))
        texts = Texts(self._vectors, data.user[rows], data.text[rows], data.labels[rows], len(data.label_names))
        stopping = np.random.default_rng(self.seed).random(data.users) < STOPPING
        try:
            return fit_head(
                texts,
                stopping,
                self.head_settings,
                seed=self.seed,
                device=self.device,
                alone=True,  # seconds, and for every fold anew
                checkpoints=self.directory / "head",
            )
        except NothingToFit:
            return None

    def fit_blend(self, head: HeadFit | None, part: int, parts: int) -> BlendFit | None:
        """On all newcomers' questions, as they look with this head; None where none is to be fitted, or the data cannot
        carry it. part: of so many parts of step 3, for the progress."""
        if self.blend is None:
            return None
        events = len(self.data.user)
        asked, _ = replay(
            self.data,
            self._vectors,
            self._head if head is None else head_of(head),
            user_ttl_ms=self.user_ttl_ms,
            ask_from=self.ask_from,
            progress=_counted(self.tell, 3, parts * events, part * events),
        )
        try:
            return fit_blend(asked, TransferWeights.default(), self.blend, seed=self.seed)
        except NothingToFit:
            return None

    def cross_validate(self, folds: int, *, with_head: bool) -> Validated:
        """On all users in folds, as long as nothing that answers has learned from any; else on the reserved ones, in
        whom nobody knows anyone: a head or an encoder, in service or the candidate's own, knows the others by heart."""
        data = self.data
        held_out: Sequence[NDArray[np.bool_]] = (data.reserved,)
        if not self.taught and self.adapted is None:
            fold = fold_of_users(np.bincount(data.user, minlength=data.users), folds, self.seed)
            held_out = [fold == number for number in range(folds)]

        def learned(learners: NDArray[np.bool_]) -> Head | None:
            found = self.fit_head(learners)
            return None if found is None else head_of(found)

        contest = Contest(
            self.head,
            self.current,
            TransferWeights.default(),
            self.blend,
            learned if with_head else None,
            self.adapted,
        )
        lives = (1 if self.adapted is None else 2) + (1 if with_head else 0)
        return self._validated(contest, held_out, 4, lives)

    def contest(self, adapted: NDArray[np.float16]) -> Validated:
        """An adapted encoder as the candidate, and the one in service as the current one, both without a head and with
        the weights in service, on the reserved users."""
        weights = self.current
        contest = Contest(identity, weights, weights, None, None, adapted)
        return self._validated(contest, (self.data.reserved,), 3, 2)

    def _validated(self, contest: Contest, held_out: Sequence[NDArray[np.bool_]], step: int, lives: int) -> Validated:
        """lives: how often the window is lived through, a fold."""
        of = len(held_out) * len(self.data.user) * lives
        return cross_validate(
            self.data,
            self.vectors,
            contest,
            held_out,
            seed=self.seed,
            user_ttl_ms=self.user_ttl_ms,
            ask_from=self.ask_from,
            progress=_counted(self.tell, step, of, 0),
        )

    @property
    def _vectors(self) -> NDArray[np.float16]:
        return self.vectors if self.adapted is None else self.adapted

    @property
    def _head(self) -> Head:
        return self.head if self.adapted is None else identity


def head_of(fitted: HeadFit) -> Head:
    return partial(interest, head_weights(fitted))


def head_weights(fitted: HeadFit) -> HeadWeights:
    return HeadWeights(**{name.replace(".", "_"): values for name, values in fitted.tensors.items()})


def _counted(tell: Tell, step: int, of: int, before: int) -> Callable[[int], None]:
    done = before

    def more(count: int) -> None:
        nonlocal done
        done += count
        tell(step, done, of)

    return more
