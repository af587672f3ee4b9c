"""What decides, and on which questions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.refits import run, validated, window
from trainer.crossval import Scored, Validated
from trainer.gate import CANDIDATE, CURRENT, RAW_KNN
from trainer.judge import checks, judged
from trainer.page.words import verdict
from trainer.scores import LABEL, NDCG


def of_items(found: Validated, reachable: bool) -> Validated:
    there = np.zeros(len(found.items.user), np.bool_)
    there[0] = reachable
    return replace(found, items=replace(found.items, reachable=there))


def told_by_heart(part: Scored) -> Scored:
    """Labels that the candidate tells always, and nobody else ever."""
    scores = {
        name: np.full(len(part.user), float(name == CANDIDATE), np.float32) for name in (CANDIDATE, CURRENT, RAW_KNN)
    }
    return replace(part, scores={LABEL: scores})


@pytest.mark.parametrize("reachable", [True, False])
def test_items_decide_if_one_could_be_told_and_else_labels(tmp_path: Path, reachable: bool) -> None:
    data, _ = window(tmp_path)
    found = of_items(validated(questions=60, labelled=45), reachable)
    told = judged(data, found, first=False)
    part = found.items if reachable else found.labels
    assert told.metric == (NDCG if reachable else LABEL)
    assert told.user.tolist() == part.user.tolist()
    assert {name: scores.tolist() for name, scores in told.scores.items()} == {
        name: part.scores[told.metric][name].tolist() for name in (CANDIDATE, RAW_KNN, CURRENT)
    }
    assert all(len(inside) == len(part.user) for inside in told.groups.values())


def test_without_labels_items_decide_although_none_can_be_told(tmp_path: Path) -> None:
    data, _ = window(tmp_path)
    found = of_items(validated(questions=60, labelled=0), reachable=False)
    assert judged(data, found, first=True).metric == NDCG


def test_a_first_release_must_not_tell_labels_worse_than_the_built_in_one_where_they_decide() -> None:
    found = of_items(validated(questions=60, labelled=45), reachable=False)
    better = replace(found, labels=told_by_heart(found.labels))
    worse = replace(better, labels=replace(better.labels, scores={LABEL: swapped(better.labels)}))
    assert [check.holds for check in checks(better, True, first=True)] == [True, True]
    assert [check.holds for check in checks(worse, True, first=True)] == [True, False]


def swapped(part: Scored) -> dict[str, np.ndarray[tuple[int], np.dtype[np.floating]]]:
    scores = part.scores[LABEL]
    return {CANDIDATE: scores[CURRENT], CURRENT: scores[CANDIDATE], RAW_KNN: scores[RAW_KNN]}


def test_the_report_names_what_has_decided(tmp_path: Path) -> None:
    found = of_items(validated(questions=60, labelled=45), reachable=False)
    done = run(tmp_path, validated=found)
    made = done.done.made
    assert made is not None
    numbers = {"label_accuracy.candidate": 0.5, "label_accuracy.current": 0.25, "gain.mean": 0.25}
    of_labels = done.done.verdict.model_copy(update={"numbers": numbers | {"gain.low": 0.1, "gain.high": 0.4}})
    said = " ".join(verdict(replace(done.done, verdict=of_labels), made))
    assert "Over 45 questions" in said
    assert "label accuracy is 0.5000 against 0.2500 of the release in service (+100.0%)" in said
