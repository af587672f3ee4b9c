"""Answers → numbers: how good everybody was, by group, with intervals, and Kindred against the best single baseline.

Pure. A question counts for items if its user takes something new later, and for labels if its text has any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.nearest import MISSING, Floats, Rows
from trainer.evaluate.answers import OURS, SHOWN, Answers
from trainer.evaluate.intervals import means
from trainer.prepare import Prepared
from trainer.scores import HIT, LABEL, NDCG, first_is_wanted, hit, ndcg, recall, relevant

RECALL: Final = "recall@10"
NOVELTY: Final = "novelty"
"""Mean over an answer's items of -log2 of their share of all that had been taken until then: bits."""
ITEM_METRICS: Final = (HIT, RECALL, NDCG, NOVELTY)
LABEL_METRICS: Final = (LABEL,)
ALL: Final = "all"
MOST_GROUPS: Final = 50
"""Labels and languages that are looked at by themselves: the most frequent ones."""
GROUP_USERS: Final = 20
"""A group with fewer users tells nothing."""
_ACTIVITY: Final = ((1, 1), (2, 3), (4, 9), (10, None))
"""Bands of the number of a user's texts in the whole stream."""


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over questions and its 95 % interval."""

    mean: float
    low: float
    high: float


Scores = Mapping[str, Mapping[str, Mean]]
"""Contestant → metric → mean."""


@dataclass(frozen=True, slots=True)
class Group:
    """gains: of Kindred's contestants over the part's best baseline in a metric, question by question."""

    questions: int
    users: int
    scores: Scores
    gains: Scores


@dataclass(frozen=True, slots=True)
class Part:
    """Questions of one kind. best: metric → the baseline with the highest mean over all questions; novelty has none.
    groups: name → numbers; `all`, `known:1`, `known:3`, `language:…`, `label:…`, `texts:2-3`, `refit:before`, …"""

    contestants: tuple[str, ...]
    metrics: tuple[str, ...]
    best: Mapping[str, str]
    groups: Mapping[str, Group]

    @property
    def questions(self) -> int:
        return self.groups[ALL].questions


@dataclass(frozen=True, slots=True)
class Measured:
    """items: None where no question's answer was ever known when it was asked. labels: None where no text that was
    asked after has any. coverage: contestant → share of the items known in the end that it ever recommended.
    known_items: how many these are. reachable: share of the questions about items whose answer was known."""

    items: Part | None
    labels: Part | None
    coverage: Mapping[str, float]
    known_items: int
    reachable: float


def measured(data: Prepared, given: Answers, *, seed: int = 0) -> Measured:
    """At least one question of either kind is to be there for the part not to be None."""
    asked = (given.wanted != MISSING).any(axis=1)
    labelled = (given.own_labels != MISSING).any(axis=1)
    items = labels = None
    coverage: dict[str, float] = {}
    known = 0
    if given.reachable[asked].any():
        items = _part(data, given, asked, _item_scores(data, given, asked), ITEM_METRICS, seed)
        last = int(given.event[asked][-1])
        known = len(np.unique(data.item[:last][data.item[:last] >= 0]))
        coverage = {name: _distinct(rows[asked]) / max(1, known) for name, rows in given.items.items()}
    if labelled.any():
        own = given.own_labels[labelled]
        told = {name: {LABEL: first_is_wanted(best[labelled], own)} for name, best in given.labels.items()}
        labels = _part(data, given, labelled, told, LABEL_METRICS, seed)
    reachable = float(given.reachable[asked].mean()) if asked.any() else 0.0
    return Measured(items, labels, coverage, known, reachable)


def _item_scores(data: Prepared, given: Answers, asked: NDArray[np.bool_]) -> dict[str, dict[str, Floats]]:
    wanted, events = given.wanted[asked], given.event[asked]
    answers = {name: rows[asked] for name, rows in given.items.items()}
    new = novelty(data, events, answers)
    scores: dict[str, dict[str, Floats]] = {}
    for name, rows in answers.items():
        found = relevant(rows, wanted)
        scores[name] = {
            HIT: hit(found, SHOWN),
            RECALL: recall(found, wanted, SHOWN),
            NDCG: ndcg(found, wanted, SHOWN),
            NOVELTY: new[name],
        }
    return scores


def novelty(data: Prepared, events: NDArray[np.int64], answers: Mapping[str, Rows]) -> dict[str, Floats]:
    """Contestant → (Q,) bits, NaN where it recommends nothing. events: (Q,) ascending."""
    counts = np.zeros(max(1, len(data.item_ids)), np.float64)
    found = {name: np.full(len(events), np.nan, np.float32) for name in answers}
    start = 0
    for place, event in enumerate(events.tolist()):
        taken = data.item[start:event]
        np.add.at(counts, taken[taken >= 0], 1)
        start = event
        for name, rows in answers.items():
            row = rows[place][rows[place] >= 0]
            if len(row):
                found[name][place] = -np.log2(counts[row] / counts.sum()).mean()
    return found


def _part(
    data: Prepared,
    given: Answers,
    asked: NDArray[np.bool_],
    scores: Mapping[str, Mapping[str, Floats]],
    metrics: tuple[str, ...],
    seed: int,
) -> Part:
    """scores: contestant → metric → (Q of those asked,)."""
    contestants, user = tuple(scores), given.user[asked]
    baselines = [name for name in contestants if name not in OURS]
    best = {
        metric: max(baselines, key=lambda name: float(scores[name][metric].mean()))
        for metric in metrics
        if metric != NOVELTY
    }
    names = {name: inside for name, inside in _groups(data, given, asked) if _worth(user[inside], name)}
    columns = {(name, metric): scores[name][metric] for name in contestants for metric in metrics}
    ours = [name for name in contestants if name in OURS]
    columns |= {
        (f"{name} - best", metric): scores[name][metric] - scores[against][metric]
        for name in ours
        for metric, against in best.items()
    }
    found = means(user, np.stack(list(columns.values()), axis=1), np.stack(list(names.values())), seed=seed)
    groups: dict[str, Group] = {}
    for (group, inside), numbers in zip(names.items(), found, strict=True):
        by = {
            key: Mean(*(float(ends[place]) for ends in (numbers.mean, numbers.low, numbers.high)))
            for place, key in enumerate(columns)
        }
        groups[group] = Group(
            int(inside.sum()),
            len(np.unique(user[inside])),
            {name: {metric: by[name, metric] for metric in metrics} for name in contestants},
            {name: {metric: by[f"{name} - best", metric] for metric in best} for name in ours},
        )
    return Part(contestants, metrics, best, groups)


def _worth(user: NDArray[np.int32], name: str) -> bool:
    return name == ALL or name.startswith("known:") or len(np.unique(user)) >= GROUP_USERS


def _groups(data: Prepared, given: Answers, asked: NDArray[np.bool_]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    known, events = given.known[asked], given.event[asked]
    yield ALL, np.ones(len(events), np.bool_)
    for count in np.unique(known).tolist():
        yield f"known:{count}", known == count
    if given.refits:
        first = given.refits[0].before
        yield "refit:before", events < first
        yield "refit:after", events >= first
    texts = np.bincount(data.user[data.text >= 0], minlength=data.users)[given.user[asked]]
    for low, high in _ACTIVITY:
        name = f"{low}+" if high is None else f"{low}" if low == high else f"{low}-{high}"
        yield f"texts:{name}", (texts >= low) & (texts <= (high or texts.max(initial=low)))
    languages = data.lang[events]
    for language in _frequent(languages):
        yield f"language:{data.languages[language] or 'none'}", languages == language
    labels = data.labels[events]
    for label in _frequent(labels[labels >= 0]):
        yield f"label:{data.label_names[label]}", (labels == label).any(axis=1)


def _frequent(numbers: NDArray[np.integer]) -> list[int]:
    found, counts = np.unique(numbers, return_counts=True)
    return [int(number) for number in found[np.argsort(-counts, kind="stable")[:MOST_GROUPS]]]


def _distinct(rows: Rows) -> int:
    return len(np.unique(rows[rows >= 0]))
