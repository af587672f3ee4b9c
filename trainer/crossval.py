"""Step 4: what newcomers would have been given, by folds of users who taught nothing of what answers them.

Everybody answers the same questions: the candidate (its weights fitted without the fold's users), what is served now,
and the plain methods. Items are asked for in the order of the log, and nobody knows what came later; labels are told at
the end, with the newcomer's own hidden: Accuracy(D) is their mean over the folds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.head import Head
from model.nearest import MISSING, Floats, Rows
from model.transfer_weights import TransferWeights
from trainer.fit.blend import BlendSettings, fit_blend
from trainer.fit.errors import NothingToFit
from trainer.folds import fold_of_users
from trainer.gate import CANDIDATE, CURRENT
from trainer.prepare import Prepared
from trainer.replay import PLAIN, Labelled, Questions, replay
from trainer.scores import HIT, LABEL, NDCG, RECALL, first_is_wanted, hit, ndcg, recall, relevant

LONGEST: Final = 20
"""Items of an answer that are scored."""
POPULAR_LABEL: Final = "popularity"


@dataclass(frozen=True, slots=True)
class Scored:
    """Q questions of held-out users who took something new later. fold, user, known, event: (Q,). scores: metric →
    contestant → (Q,). reachable: (Q,) whether what was wanted was known at all."""

    fold: NDArray[np.int64]
    user: NDArray[np.int32]
    known: NDArray[np.int32]
    event: NDArray[np.int64]
    reachable: NDArray[np.bool_]
    scores: dict[str, dict[str, Floats]]


@dataclass(frozen=True, slots=True)
class Validated:
    """items: questions about items. labels: those about the labels of a text, metric LABEL only, `reachable` true."""

    items: Scored
    labels: Scored


@dataclass(frozen=True, slots=True)
class Contest:
    """What is compared. head: of the current release and, with other weights, of the candidate. fit: whether the blend
    is fitted for the candidate; else it has the current weights."""

    head: Head
    current: TransferWeights
    default: TransferWeights
    fit: BlendSettings | None


def cross_validate(
    data: Prepared,
    vectors: NDArray[np.floating],
    contest: Contest,
    *,
    folds: int,
    seed: int,
    user_ttl_ms: int,
    ask_from: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Validated:
    """Scores of every contestant, fold by fold. progress: told the number of events of each piece of a replay.

    Raises ValueError for more folds than users.
    """
    fold_of = fold_of_users(np.bincount(data.user, minlength=data.users), folds, seed)
    items: list[Scored] = []
    labels: list[Scored] = []
    for fold in range(folds):
        held_out = fold_of == fold
        asked, labelled = replay(
            data,
            vectors,
            contest.head,
            user_ttl_ms=user_ttl_ms,
            ask_from=ask_from,
            held_out=held_out,
            progress=progress,
        )
        asked = asked.where((asked.wanted != MISSING).any(axis=1))
        theirs = held_out[asked.user]
        candidate = _fitted(asked.where(~theirs), contest, seed)
        items.append(_items(asked.where(theirs), {CANDIDATE: candidate, CURRENT: contest.current}, fold))
        labels.append(_labels(labelled, _most_frequent_label(data, held_out), fold))
    return Validated(_joined(items), _joined(labels))


def ranked(asked: Questions, weights: TransferWeights) -> Rows:
    """(Q, 20) items of each answer, best first, -1 behind them: what `transfer` gives for the same signals."""
    scores = asked.signals.astype(np.float32) @ np.array(weights.signals, np.float32)
    scores[(asked.items == MISSING) | (scores <= 0)] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :LONGEST]
    items = np.take_along_axis(asked.items, order, axis=1)
    found: Rows = np.where(np.isneginf(np.take_along_axis(scores, order, axis=1)), MISSING, items).astype(np.int32)
    return found


def _fitted(asked: Questions, contest: Contest, seed: int) -> TransferWeights:
    if contest.fit is None:
        return contest.current
    try:
        return fit_blend(asked, contest.default, contest.fit, seed=seed).weights
    except NothingToFit:
        return contest.current


def _items(asked: Questions, blends: dict[str, TransferWeights], fold: int) -> Scored:
    answers = {name: ranked(asked, weights) for name, weights in blends.items()}
    answers |= {name: asked.plain[name] for name in PLAIN}
    scores: dict[str, dict[str, Floats]] = {HIT: {}, RECALL: {}, NDCG: {}}
    for name, answer in answers.items():
        found = relevant(answer, asked.wanted)
        scores[HIT][name] = hit(found, 10)
        scores[RECALL][name] = recall(found, asked.wanted, 20)
        scores[NDCG][name] = ndcg(found, asked.wanted, 10)
    return Scored(np.full(len(asked), fold), asked.user, asked.known, asked.event, asked.reachable, scores)


def _labels(asked: Labelled, frequent: int, fold: int) -> Scored:
    told = first_is_wanted(asked.best, asked.wanted)
    always = first_is_wanted(np.full(len(asked.best), frequent, np.int32), asked.wanted)
    scores = {LABEL: {CANDIDATE: told, CURRENT: told, "raw_knn": told, POPULAR_LABEL: always}}
    everywhere = np.ones(len(told), np.bool_)
    return Scored(np.full(len(told), fold), asked.user, asked.known, asked.event, everywhere, scores)


def _most_frequent_label(data: Prepared, held_out: NDArray[np.bool_]) -> int:
    taught = data.labels[~held_out[data.user]]
    counts = np.bincount(taught[taught != MISSING], minlength=1)
    return int(counts.argmax()) if counts.any() else MISSING


def _joined(parts: list[Scored]) -> Scored:
    metrics = parts[0].scores
    return Scored(
        fold=np.concatenate([part.fold for part in parts]),
        user=np.concatenate([part.user for part in parts]),
        known=np.concatenate([part.known for part in parts]),
        event=np.concatenate([part.event for part in parts]),
        reachable=np.concatenate([part.reachable for part in parts]),
        scores={
            metric: {name: np.concatenate([part.scores[metric][name] for part in parts]) for name in metrics[metric]}
            for metric in metrics
        },
    )
