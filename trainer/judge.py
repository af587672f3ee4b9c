"""What the gate is given, and what a release says of itself: the cross-validation's scores as groups, checks and means.

Pure. The metric that decides is nDCG@10 over all of a newcomer's first questions: it tells a hit at the first place
from one at the tenth, so that fewer questions show a difference. Where no question about items could be answered at all
(each item is taken by one user), it is label accuracy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import isfinite
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.release import Verdict
from trainer.crossval import WITHOUT_HEAD, Scored, Validated
from trainer.gate import CANDIDATE, CURRENT, RAW_KNN, Check, Judged, Limits, gate, paired_gain
from trainer.measure import Measured
from trainer.prepare import Prepared
from trainer.scores import LABEL, NDCG

DECIDES: Final = NDCG
LENGTH: Final = 1e-3
"""By how much the length of a golden interest vector may differ from 1."""
UNNOTICED_S: Final = 0.001
"""An answer that takes no longer is quick, whatever the ratio: encoding the newcomer's text takes ten times as long."""
_VARIANTS: Final = (CANDIDATE, WITHOUT_HEAD)
MOST_GROUPS: Final = 50
"""Labels and languages that are looked at by themselves: the most frequent ones."""


def judged(data: Prepared, validated: Validated, *, first: bool) -> Judged:
    """first: nothing has been announced yet, so that raw kNN is to be beaten."""
    part, metric = decisive(validated)
    found = part.scores[metric]
    scores = {name: found[name] for name in ((CANDIDATE, RAW_KNN) if first else (CANDIDATE, RAW_KNN, CURRENT))}
    return Judged(metric, part.user.astype(np.int64), scores, dict(_groups(data, part)))


def decisive(validated: Validated) -> tuple[Scored, str]:
    """The questions that decide, and the metric."""
    by_labels = len(validated.labels.user) and not validated.items.reachable.any()
    return (validated.labels, LABEL) if by_labels else (validated.items, DECIDES)


def checks(validated: Validated, fitted: bool, *, first: bool) -> tuple[Check, ...]:
    """What must hold besides. A first release must not be worse beyond chance than the built-in one, which has served
    until now."""
    new = Check("fit", fitted, "nothing was fitted: the candidate is what serves already")
    part, metric = decisive(validated)
    if not first or len(np.unique(part.user)) < 2:
        return (new,)
    found = part.scores[metric]
    gain = paired_gain(found[CANDIDATE] - found[CURRENT], part.user.astype(np.int64), Limits())
    said = f"{metric} is {_mean(found[CANDIDATE]):.4f}, the built-in release's {_mean(found[CURRENT]):.4f}"
    return (new, Check("built-in release", gain.high >= 0, said))


def fitness(measured: Measured, limits: Limits) -> tuple[Check, ...]:
    """What a release must be besides good: the same vectors for the same texts, fast, and small."""
    ratio, size = 1 + limits.latency_margin, limits.release_bytes
    cosine, length = measured.golden_cosine, measured.golden_length
    vectors = (
        f"cosine {cosine:.4f} to those that they must be, at least {limits.golden_cosine} is asked for; an "
        f"interest vector's length is off by {length:.4f}, at most {LENGTH} is allowed"
    )
    return (
        Check(
            "golden vectors",
            cosine >= limits.golden_cosine and length <= LENGTH,
            vectors,
            {"golden.cosine": cosine, "golden.length": length},
        ),
        Check(
            "latency",
            measured.latency_ratio <= ratio or (measured.latency <= UNNOTICED_S and isfinite(measured.latency_ratio)),
            f"answers take {measured.latency_ratio:.2f} times as long as with the release in service "
            f"({measured.latency * 1000:.1f} ms a newcomer), at most {ratio:.2f} times is allowed",
            {"latency.ratio": measured.latency_ratio, "latency.seconds": measured.latency},
        ),
        Check(
            "size",
            measured.bytes <= size,
            f"{measured.bytes / 1e6:,.1f} MB of weights, at most {size / 1e6:,.1f} MB are allowed",
            {"size.bytes": float(measured.bytes)},
        ),
    )


def head_wins(validated: Validated, limits: Limits) -> Verdict:
    """Whether the candidate's learned head is worth having; see `part_wins`."""
    return part_wins(validated, limits, WITHOUT_HEAD)


def part_wins(validated: Validated, limits: Limits, without: str) -> Verdict:
    """Whether what the candidate has and the contestant `without` lacks is worth having: it must tell newcomers' labels
    better (where there are none: find their items better) beyond chance, and not find items worse beyond chance."""
    part, metric = (validated.labels, LABEL) if len(validated.labels.user) else (validated.items, DECIDES)
    scores = part.scores[metric]
    compared = Judged(metric, part.user.astype(np.int64), {CANDIDATE: scores[CANDIDATE], CURRENT: scores[without]}, {})
    items = validated.items
    if len(np.unique(items.user)) < 2:
        return gate(compared, (), limits)
    found = items.scores[DECIDES]
    gain = paired_gain(found[CANDIDATE] - found[without], items.user.astype(np.int64), limits)
    said = f"{DECIDES} is {_mean(found[CANDIDATE]):.4f}, {_mean(found[without]):.4f} without it"
    return gate(compared, (Check("items", gain.high >= 0, said),), limits)


def without_head(validated: Validated) -> Validated:
    """The same questions with a candidate that has no head of its own."""

    def dropped(part: Scored) -> Scored:
        scores = {
            metric: {CANDIDATE: found[WITHOUT_HEAD]} | {name: found[name] for name in found if name not in _VARIANTS}
            for metric, found in part.scores.items()
        }
        sure = {CANDIDATE: part.confidence[WITHOUT_HEAD]} if WITHOUT_HEAD in part.confidence else part.confidence
        return replace(part, scores=scores, confidence=sure)

    return Validated(dropped(validated.items), dropped(validated.labels))


def metrics(validated: Validated) -> dict[str, float]:
    """metric.contestant.known → mean over the folds, and `….spread`, their standard deviation; known: number of texts,
    or `all`. Accuracy(D) is label_accuracy.candidate.1."""
    found: dict[str, float] = {}
    for part in (validated.items, validated.labels):
        for metric, contestants in part.scores.items():
            for name, scores in contestants.items():
                for known, inside in _by_known(part):
                    means = [_mean(scores[inside & (part.fold == fold)]) for fold in np.unique(part.fold[inside])]
                    if means:
                        found[f"{metric}.{name}.{known}"] = float(np.mean(means))
                        found[f"{metric}.{name}.{known}.spread"] = float(np.std(means))
    found["questions"] = float(len(validated.items.user))
    found["reachable"] = _mean(validated.items.reachable)
    found["questions.labels"] = float(len(validated.labels.user))
    return found


def accuracy(validated: Validated) -> float:
    """Accuracy(D): the mean over the folds of the label accuracy with one text known; 0 without labels."""
    return metrics(validated).get(f"{LABEL}.{CANDIDATE}.1", 0.0)


def _by_known(part: Scored) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    yield "all", np.ones(len(part.known), np.bool_)
    for known in np.unique(part.known).tolist():
        yield str(known), part.known == known


def _groups(data: Prepared, part: Scored) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    for known in np.unique(part.known).tolist():
        yield f"{known} text{'s' if known > 1 else ''} known", part.known == known
    languages = data.lang[part.event]
    for language in _frequent(languages):
        yield f"language {data.languages[language] or 'not told'}", languages == language
    labels = data.labels[part.event]
    for label in _frequent(labels[labels >= 0]):
        yield f"label {data.label_names[label]}", (labels == label).any(axis=1)


def _frequent(numbers: NDArray[np.integer]) -> list[int]:
    found, counts = np.unique(numbers, return_counts=True)
    return [int(number) for number in found[np.argsort(-counts, kind="stable")[:MOST_GROUPS]]]


def _mean(scores: NDArray[np.floating] | NDArray[np.bool_]) -> float:
    return float(scores.mean()) if len(scores) else 0.0
