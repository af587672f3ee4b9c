"""What a refit's page shows, as plain numbers, taken from what the steps came to. Knows no picture, no HTML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from model.signals import PARTS, SIGNALS
from model.transfer_weights import TransferWeights
from trainer.crossval import WITHOUT_HEAD, Scored, Validated
from trainer.fit.blend import BlendFit
from trainer.fit.head import HeadFit
from trainer.gate import CANDIDATE, CURRENT, RAW_KNN, Gain, Limits, paired_gain
from trainer.scores import HIT, LABEL, METRICS, NDCG

CONTESTANTS: Final = {
    CANDIDATE: "candidate",
    WITHOUT_HEAD: "without its head",
    CURRENT: "in service",
    RAW_KNN: "raw kNN",
    "cooccurrence": "co-occurrence",
    "popularity": "popularity",
    "decayed_popularity": "decayed popularity",
}
"""Who answers, in the order in which they are shown, as people call them."""
TITLES: Final = {HIT: "hit@10", NDCG: "nDCG@10", LABEL: "label accuracy"} | {"recall@20": "recall@20"}
AGAINST: Final = {CURRENT: "the release in service", RAW_KNN: "raw kNN", "popularity": "popularity"}
"""Over whom a gain is told."""
Points = list[tuple[int, float | None]]
ALL: Final = "all"
RESAMPLES: Final = 500
"""Of a bootstrap that decides nothing."""


@dataclass(frozen=True, slots=True)
class Row:
    """One contestant. folds: mean of each fold over all questions. cells: number of texts known, or ALL → mean over the
    folds and standard deviation."""

    name: str
    folds: tuple[float, ...]
    cells: Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Folds:
    """One metric. known: the columns."""

    title: str
    known: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Gains:
    """Of the candidate over another contestant, by number of texts known, and ALL."""

    title: str
    against: str
    points: Mapping[str, Gain]


@dataclass(frozen=True, slots=True)
class Line:
    """One panel of learning curves. lines: name → (epoch, value). chosen: the epoch that was kept."""

    title: str
    lines: Mapping[str, tuple[tuple[int, float], ...]]
    chosen: int


@dataclass(frozen=True, slots=True)
class Weight:
    """How far a signal is believed: as shipped, in the release in service, in the candidate."""

    part: str
    signal: str
    shipped: float
    before: float
    now: float


def folds(validated: Validated) -> tuple[Folds, ...]:
    """A table a metric that was asked after, in the order of METRICS."""
    found = []
    for part, metric in _asked(validated):
        known = (*[str(number) for number in np.unique(part.known).tolist()], ALL)
        rows = []
        for name in _there(part, metric):
            cells = {}
            for each in known:
                means = _fold_means(part, metric, name, each)
                cells[each] = (float(np.mean(means)), float(np.std(means)))
            rows.append(Row(CONTESTANTS[name], _fold_means(part, metric, name, ALL), cells))
        found.append(Folds(TITLES[metric], known, tuple(rows)))
    return tuple(found)


def gains(validated: Validated, limits: Limits | None = None) -> tuple[Gains, ...]:
    """In what decides and in label accuracy, with the bootstrap's intervals over users; none where too few ask."""
    limits = replace(limits or Limits(), resamples=RESAMPLES)
    found = []
    for part, metric in _asked(validated):
        if metric not in (NDCG, LABEL):
            continue
        scores = part.scores[metric]
        for against, called in AGAINST.items():
            if against not in scores:
                continue
            points = {}
            for known in (*np.unique(part.known).tolist(), ALL):
                inside = np.ones(len(part.known), np.bool_) if known == ALL else part.known == known
                user = part.user[inside].astype(np.int64)
                if len(np.unique(user)) >= 2:
                    difference = (scores[CANDIDATE] - scores[against])[inside]
                    points[str(known)] = paired_gain(difference, user, limits)
            if points:
                found.append(Gains(TITLES[metric], called, points))
    return tuple(found)


def curves(head: HeadFit | None, blend: BlendFit | None) -> tuple[Line, ...]:
    """Of every fit that has epochs."""
    found = []
    if head is not None:
        of_labels: Points = [(each.epoch, each.label_loss) for each in head.epochs]
        of_contrast: Points = [(each.epoch, each.contrast_loss) for each in head.epochs]
        told: dict[str, Points] = {
            head.measured: [(each.epoch, each.measure) for each in head.epochs],
            "accuracy of its label scores": [(each.epoch, each.label_accuracy) for each in head.epochs],
        }
        found += [
            Line("head: loss of labels", _told({"learned from": of_labels}), head.chosen),
            Line("head: loss of the contrast", _told({"learned from": of_contrast}), head.chosen),
            Line("head: held-out users", _told(told), head.chosen),
        ]
    if blend is not None:
        lines: dict[str, Points] = {
            "learned from": [(each.epoch, each.loss) for each in blend.epochs],
            "the latest questions": [(each.epoch, each.validation_loss) for each in blend.epochs],
        }
        found.append(Line("blend: loss", _told(lines), blend.chosen))
    return tuple(line for line in found if line.lines)


def weights(now: Mapping[str, float], before: Mapping[str, float]) -> tuple[Weight, ...]:
    """A row a signal, in the order of the signals."""
    shipped = TransferWeights.default().to_dict()
    return tuple(
        Weight(
            PARTS[part].replace("_", " "),
            name.split(".", 1)[1].replace("_", " "),
            shipped[name],
            before.get(name, 0.0),
            now.get(name, 0.0),
        )
        for name, part in SIGNALS
    )


def confident(validated: Validated) -> tuple[np.ndarray, np.ndarray] | None:
    """(Q,) confidence of the candidate's answers and (Q,) whether one of ten items was a hit; None where it is not
    known."""
    sure = validated.items.confidence.get(CANDIDATE)
    return None if sure is None or not len(sure) else (sure, validated.items.scores[HIT][CANDIDATE])


def _asked(validated: Validated) -> Iterator[tuple[Scored, str]]:
    for metric in METRICS:
        for part in (validated.items, validated.labels):
            if metric in part.scores and len(part.user):
                yield part, metric


def _there(part: Scored, metric: str) -> list[str]:
    return [name for name in CONTESTANTS if name in part.scores[metric]]


def _fold_means(part: Scored, metric: str, name: str, known: str) -> tuple[float, ...]:
    inside = np.ones(len(part.known), np.bool_) if known == ALL else part.known == int(known)
    scores = part.scores[metric][name]
    return tuple(float(scores[inside & (part.fold == fold)].mean()) for fold in np.unique(part.fold[inside]))


def _told(lines: Mapping[str, Points]) -> dict[str, tuple[tuple[int, float], ...]]:
    """Without what was not measured."""
    found = {
        name: tuple((epoch, value) for epoch, value in points if value is not None) for name, points in lines.items()
    }
    return {name: points for name, points in found.items() if points}
