"""The `blend` fit: how far each signal is to be believed, learned from what past newcomers took later.

A listwise loss over each question's candidates (softmax cross-entropy; Cao et al., "Learning to Rank: From Pairwise
Approach to Listwise Approach", ICML 2007), for which the probability of all wanted candidates together counts. Weights
stay 0 or more and are pulled towards where they began, as if a number of further questions had asked for that: the
fewer questions, the nearer the default. The best epoch on the latest questions is kept; the default is one of them.

Knows nothing of how signals are made; whoever calls says whose questions these are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from model.nearest import MISSING
from model.signals import SIGNALS
from model.transfer_weights import TransferWeights
from trainer.fit.errors import NothingToFit
from trainer.fit.training import repeatable
from trainer.questions import Questions

CPU: Final = torch.device("cpu")
"""A few dozen weights: a GPU would wait for its own launches."""


LEAST: Final = 0.02
"""Of a weight of the default."""


@dataclass(frozen=True, slots=True)
class BlendSettings:
    """epochs: at most. patience: epochs without a better one before it stops. batch: questions a step, of each set.
    rate: Adam's. pull: questions' worth of the pull towards the default. validation: share of the questions, the latest
    ones, that decide which epoch is kept. least: questions to learn from, below which there is no fit."""

    epochs: int = 40
    patience: int = 6
    batch: int = 256
    rate: float = 0.03
    pull: float = 5.0
    validation: float = 0.2
    least: int = 50


@dataclass(frozen=True, slots=True)
class BlendEpoch:
    """Mean losses, natural logarithms. loss: over the epoch's questions, None for epoch 0, the default."""

    epoch: int
    loss: float | None
    validation_loss: float


@dataclass(frozen=True, slots=True)
class BlendFit:
    """questions: that it learned from, those that decided included. chosen: the epoch whose weights these are."""

    weights: TransferWeights
    epochs: tuple[BlendEpoch, ...]
    chosen: int
    questions: int

    def report(self) -> dict[str, object]:
        """All but the weights, as plain JSON."""
        epochs = [asdict(epoch) for epoch in self.epochs]
        return {"epochs": epochs, "chosen": self.chosen, "questions": self.questions}


@dataclass(frozen=True, slots=True)
class _Lists:
    """Questions of which a candidate is wanted. signals: (Q, C, S). wanted, there: (Q, C) bool."""

    signals: Tensor
    wanted: Tensor
    there: Tensor

    def __len__(self) -> int:
        return len(self.signals)

    def some(self, rows: Tensor | slice) -> _Lists:
        return _Lists(self.signals[rows], self.wanted[rows], self.there[rows])


def fit_blend(
    questions: Questions, default: TransferWeights, settings: BlendSettings | None = None, *, seed: int = 0
) -> BlendFit:
    """Weights for a release, never worse than the default on the latest questions. Questions in the order of the log.

    Same questions, same seed: the same weights to the last bit. Raises NothingToFit.
    """
    settings = settings or BlendSettings()
    lists = _lists(questions)
    if len(lists) < settings.least:
        raise NothingToFit(
            f"{len(lists)} of {len(questions)} past newcomers' questions had something among the candidates that was "
            f"taken later; the blend needs {settings.least}"
        )
    cut = len(lists) - max(1, int(len(lists) * settings.validation))
    learned, decides = lists.some(slice(cut)), lists.some(slice(cut, None))
    start = torch.tensor(default.signals)
    best, best_loss, chosen = start, float(_loss(decides, start)), 0
    epochs = [BlendEpoch(0, None, best_loss)]
    with repeatable(seed, CPU):
        descent = _Descent([learned], start, settings)
        for epoch in range(1, settings.epochs + 1):
            loss = descent.epoch()
            found = float(_loss(decides, descent.weights))
            epochs.append(BlendEpoch(epoch, loss, found))
            if found < best_loss:
                best, best_loss, chosen = descent.weights, found, epoch
            elif epoch - chosen >= settings.patience:
                break
    return BlendFit(_weights(best, default.own_labels), tuple(epochs), chosen, len(lists))


def fit_default(
    sets: Sequence[Questions], settings: BlendSettings | None = None, *, seed: int = 0, own_labels: float = 0.5
) -> TransferWeights:
    """One blend for several data sets together, each weighing the same, from nothing but small equal weights. None ends
    below LEAST: where all else is silent, the one signal that is not still says what comes first."""
    settings = settings or BlendSettings(pull=30.0)
    with repeatable(seed, CPU):
        descent = _Descent([_lists(questions) for questions in sets], torch.full((len(SIGNALS),), 0.1), settings)
        for _ in range(settings.epochs):
            descent.epoch()
    return _weights(descent.weights.clamp(min=LEAST), own_labels)


class _Descent:
    """Adam on the mean of the sets' losses; an epoch draws as many batches as the largest set has."""

    def __init__(self, sets: Sequence[_Lists], start: Tensor, settings: BlendSettings) -> None:
        self._sets = sets
        self._start = start
        self._settings = settings
        self._weights = start.clone().requires_grad_(True)
        self._adam = torch.optim.Adam([self._weights], lr=settings.rate)
        self._pull = settings.pull / (sum(map(len, sets)) / len(sets))

    @property
    def weights(self) -> Tensor:
        return self._weights.detach().clone()

    def epoch(self) -> float:
        """Returns the mean loss, without the pull."""
        batch = self._settings.batch
        orders = [torch.randperm(len(some)) for some in self._sets]
        steps = max(1, max(map(len, self._sets)) // batch)
        losses = []
        for step in range(steps):
            drawn = [
                some.some(order[torch.arange(step * batch, (step + 1) * batch) % len(some)])
                for some, order in zip(self._sets, orders, strict=True)
            ]
            loss = torch.stack([_loss(lists, self._weights) for lists in drawn]).mean()
            losses.append(float(loss.detach()))
            pulled = loss + self._pull * ((self._weights - self._start) ** 2).sum()
            self._adam.zero_grad()
            pulled.backward()  # type: ignore[no-untyped-call]
            self._adam.step()
            with torch.no_grad():
                self._weights.clamp_(min=0)
        return float(np.mean(losses))


def _loss(lists: _Lists, weights: Tensor) -> Tensor:
    """-log of the softmax probability that is on wanted candidates, mean over the lists."""
    scores = (lists.signals @ weights).masked_fill(~lists.there, -torch.inf)
    wanted = torch.logsumexp(scores.masked_fill(~lists.wanted, -torch.inf), 1)
    return (torch.logsumexp(scores, 1) - wanted).mean()


def _lists(questions: Questions) -> _Lists:
    there = questions.items != MISSING
    wanted = (questions.items[:, :, None] == questions.wanted[:, None, :]).any(axis=2) & there
    found = wanted.any(axis=1)
    return _Lists(
        torch.from_numpy(questions.signals[found].astype(np.float32)),
        torch.from_numpy(wanted[found]),
        torch.from_numpy(there[found]),
    )


def _weights(weights: Tensor, own_labels: float) -> TransferWeights:
    # Rounded, so that a release says what it holds in a line a person can read.
    return TransferWeights(tuple(round(float(weight), 4) for weight in weights), own_labels)
