"""Step 4: what newcomers would have been given, by folds of users who taught nothing of what answers them.

Everybody answers the same questions: the candidate (fitted without the fold's users), the candidate without a learned
head of its own, what is served now, and the plain methods. Items are asked for in the order of the log, and nobody
knows what came later; labels are told at the end, the newcomer's own hidden: Accuracy(D) is their mean over the folds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.head import Head, identity
from model.nearest import MISSING, Floats, Rows
from model.signals import Candidates
from model.transfer import blend, confidence, personal_share
from model.transfer_weights import TransferWeights
from trainer.fit.blend import BlendSettings, fit_blend
from trainer.fit.errors import NothingToFit
from trainer.gate import CANDIDATE, CURRENT, RAW_KNN
from trainer.prepare import Prepared
from trainer.questions import Labelled, Questions
from trainer.replay import PLAIN, replay
from trainer.scores import HIT, LABEL, NDCG, RECALL, first_is_wanted, hit, ndcg, recall, relevant

LONGEST: Final = 20
"""Items of an answer that are scored."""
_SHOWN: Final = 10
"""Items of an answer as a worker gives it."""
_TOGETHER: Final = 1024
POPULAR_LABEL: Final = "popularity"
WITHOUT_HEAD: Final = "without_head"
"""The candidate's blend, fitted with the head in service, or with none where the candidate's encoder is another one."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Q questions of held-out users who took something new later. fold, user, known, event: (Q,). scores: metric →
    contestant → (Q,). reachable: (Q,) whether what was wanted was known at all. confidence: of the candidate, with and
    without a head of its own → (Q,) what its answers would have said of themselves; empty for labels."""

    fold: NDArray[np.int64]
    user: NDArray[np.int32]
    known: NDArray[np.int32]
    event: NDArray[np.int64]
    reachable: NDArray[np.bool_]
    scores: dict[str, dict[str, Floats]]
    confidence: dict[str, Floats] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Validated:
    """items: questions about items. labels: those about the labels of a text, metric LABEL only, `reachable` true."""

    items: Scored
    labels: Scored


@dataclass(frozen=True, slots=True)
class Contest:
    """What is compared. head: the one in service. blend: how the candidate's weights are fitted; None for the current
    ones. fit_head: (U,) users to learn from → a head, None where they cannot carry one; None where none is fitted.
    adapted: (T, D) vectors of the candidate, where its encoder is another one: a head in service is none for these."""

    head: Head
    current: TransferWeights
    default: TransferWeights
    blend: BlendSettings | None
    fit_head: Callable[[NDArray[np.bool_]], Head | None] | None = None
    adapted: NDArray[np.floating] | None = None


def cross_validate(
    data: Prepared,
    vectors: NDArray[np.floating],
    contest: Contest,
    held_out: Sequence[NDArray[np.bool_]],
    *,
    seed: int,
    user_ttl_ms: int,
    ask_from: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Validated:
    """Scores of every contestant, fold by fold. held_out: (U,) of each fold. progress: told the number of events of
    each piece of a replay."""
    items: list[Scored] = []
    labels: list[Scored] = []
    for fold, theirs in enumerate(held_out):

        def lived_through(
            head: Head, adapted: NDArray[np.floating] | None = None, theirs: NDArray[np.bool_] = theirs
        ) -> tuple[Questions, Labelled]:
            asked, labelled = replay(
                data,
                vectors if adapted is None else adapted,
                head,
                user_ttl_ms=user_ttl_ms,
                ask_from=ask_from,
                held_out=theirs,
                progress=progress,
            )
            return asked.where((asked.wanted != MISSING).any(axis=1)), labelled

        fold_items, fold_labels = _fold(contest, theirs, lived_through, seed)
        items.append(_scored(fold_items, fold))
        labels.append(_labels(fold_labels, _most_frequent_label(data, theirs), fold))
    return Validated(_joined(items), _joined(labels))


@dataclass(frozen=True, slots=True)
class _Answers:
    """Q questions, contestant → (Q, 20) answers, and contestant → (Q,) their confidence."""

    asked: Questions
    given: dict[str, Rows]
    confidence: dict[str, Floats]


def _fold(
    contest: Contest,
    held_out: NDArray[np.bool_],
    lived_through: Callable[[Head, NDArray[np.floating] | None], tuple[Questions, Labelled]],
    seed: int,
) -> tuple[_Answers, dict[str, Labelled]]:
    """What everybody answers to the users of one fold; the questions are the same with every head and encoder."""
    adapted = contest.adapted
    asked, labelled = lived_through(contest.head, None)
    own, own_labelled = (asked, labelled) if adapted is None else lived_through(identity, adapted)
    theirs = held_out[asked.user]
    weights = _fitted(own.where(~theirs), contest, seed)
    mine = asked.where(theirs)
    raw, raw_labelled = (asked, labelled) if contest.head is identity else lived_through(identity, None)
    given = {name: raw.where(theirs).plain[name] for name in PLAIN}
    mine_own = own.where(theirs)
    given |= {CURRENT: ranked(mine, contest.current), CANDIDATE: ranked(mine_own, weights)}
    told = {RAW_KNN: raw_labelled, CURRENT: labelled, CANDIDATE: own_labelled}
    sure = {CANDIDATE: sure_of(mine_own, weights)}
    if contest.fit_head is None:
        return _Answers(mine, given, sure), told
    given[WITHOUT_HEAD], told[WITHOUT_HEAD], sure[WITHOUT_HEAD] = given[CANDIDATE], own_labelled, sure[CANDIDATE]
    head = contest.fit_head(~held_out)
    if head is not None:
        turned, turned_labelled = lived_through(head, adapted)
        weights, mine_turned = _fitted(turned.where(~theirs), contest, seed), turned.where(theirs)
        given[CANDIDATE], sure[CANDIDATE] = ranked(mine_turned, weights), sure_of(mine_turned, weights)
        told[CANDIDATE] = turned_labelled
    return _Answers(mine, given, sure), told


def ranked(asked: Questions, weights: TransferWeights) -> Rows:
    """(Q, 20) items of each answer, best first, -1 behind them: what `transfer` gives for the same signals."""
    scores = asked.signals.astype(np.float32) @ np.array(weights.signals, np.float32)
    scores[(asked.items == MISSING) | (scores <= 0)] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :LONGEST]
    items = np.take_along_axis(asked.items, order, axis=1)
    found: Rows = np.where(np.isneginf(np.take_along_axis(scores, order, axis=1)), MISSING, items).astype(np.int32)
    return found


def sure_of(asked: Questions, weights: TransferWeights) -> Floats:
    """(Q,) the confidence of each answer of 10 items, by the functions that a worker says it by."""
    found = [np.empty(0, np.float32)]
    for start in range(0, len(asked), _TOGETHER):
        some = slice(start, start + _TOGETHER)
        counts = np.stack([np.zeros_like(asked.sharing[some]), asked.sharing[some]], axis=2)
        signals = asked.signals[some].astype(np.float32)
        told = Candidates(asked.items[some], signals, np.empty((0, *asked.items[some].shape), np.float32), counts)
        items, _, shares, counts = blend(told, weights, _SHOWN)
        found.append(confidence(personal_share(items, shares), asked.strength[some], counts[:, :, 1]))
    return np.concatenate(found)


def _fitted(asked: Questions, contest: Contest, seed: int) -> TransferWeights:
    if contest.blend is None:
        return contest.current
    try:
        return fit_blend(asked, contest.default, contest.blend, seed=seed).weights
    except NothingToFit:
        return contest.current


def _scored(answers: _Answers, fold: int) -> Scored:
    asked = answers.asked
    scores: dict[str, dict[str, Floats]] = {HIT: {}, RECALL: {}, NDCG: {}}
    for name, answer in answers.given.items():
        found = relevant(answer, asked.wanted)
        scores[HIT][name] = hit(found, 10)
        scores[RECALL][name] = recall(found, asked.wanted, 20)
        scores[NDCG][name] = ndcg(found, asked.wanted, 10)
    return Scored(
        np.full(len(asked), fold), asked.user, asked.known, asked.event, asked.reachable, scores, answers.confidence
    )


def _labels(told: dict[str, Labelled], frequent: int, fold: int) -> Scored:
    asked = told[CURRENT]
    scores = {name: first_is_wanted(labelled.best, asked.wanted) for name, labelled in told.items()}
    always = np.full(len(asked.best), frequent, np.int32)
    scores[POPULAR_LABEL] = first_is_wanted(always, asked.wanted)
    everywhere = np.ones(len(always), np.bool_)
    return Scored(np.full(len(always), fold), asked.user, asked.known, asked.event, everywhere, {LABEL: scores})


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
        confidence={name: np.concatenate([part.confidence[name] for part in parts]) for name in parts[0].confidence},
    )
