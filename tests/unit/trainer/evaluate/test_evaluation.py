from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.encoder.dummy import DummyEncoder
from model.nearest import MISSING
from tests.communities import HOUR_MS, community
from tests.evaluations import world
from tests.windows import NOW_MS, MemoryLog, fill
from trainer.errors import TooLittleData
from trainer.evaluate.answers import KINDRED, REFIT, Answers
from trainer.evaluate.evaluation import Evaluation, Settings, evaluate
from trainer.evaluate.measured import ALL, NOVELTY, RECALL, measured, novelty
from trainer.evaluate.picture import drawn
from trainer.scores import HIT, LABEL, NDCG
from trainer.window import Window


def evaluated(events: Iterable[dict[str, Any]], directory: Path, settings: Settings | None = None) -> Evaluation:
    log = MemoryLog(cut=500)
    for turn, event in enumerate(events):
        log.write(event.pop("user_id"), event.pop("text"), timestamp=NOW_MS + turn * HOUR_MS, **event)
    with Window(directory / "window.sqlite") as window:
        fill(window, log)
        return evaluate(window, DummyEncoder(), "people", settings or Settings(), directory)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return evaluated(community(60), tmp_path_factory.mktemp("window"))


def test_json_has_names_that_stay(found: Evaluation) -> None:
    plain = json.loads(json.dumps(found.plain(), allow_nan=False))
    assert plain.keys() == {
        "name", "events", "users", "items", "labels", "languages", "encoder", "settings", "known_items", "reachable",
        "coverage", "judged", "refits", "notes", "seconds",
    }  # fmt: skip
    items, labels = plain["judged"]["items"], plain["judged"]["labels"]
    assert items.keys() == labels.keys() == {"questions", "contestants", "metrics", "best_baseline", "groups"}
    assert items["contestants"] == [
        "kindred", "kindred_refit", "popularity", "decayed_popularity", "cooccurrence", "raw_knn", "tfidf_knn", "ease",
    ]  # fmt: skip
    assert labels["contestants"] == ["kindred", "raw_knn", "tfidf_knn", "most_frequent"]
    assert items["metrics"] == ["hit@10", "recall@10", "ndcg@10", "novelty"]
    assert labels["metrics"] == ["label_accuracy"]
    every = items["groups"]["all"]
    assert every.keys() == {"questions", "users", "scores", "gains"}
    assert every["scores"]["kindred"]["hit@10"].keys() == {"mean", "low", "high"}
    assert every["gains"].keys() == {"kindred", "kindred_refit"}
    assert {"known:1", "known:3", "refit:after"} <= items["groups"].keys()
    assert {"language:en", "language:none"} <= labels["groups"].keys()
    assert [fit["share"] for fit in plain["refits"]] == [0.4, 0.6, 0.8]


def test_kindred_finds_what_a_community_takes_next(found: Evaluation) -> None:
    part = found.measured.items
    assert part is not None
    scores = part.groups[ALL].scores
    assert scores[KINDRED][HIT].mean > scores["popularity"][HIT].mean
    assert 0 < found.measured.reachable <= 1
    assert scores[KINDRED][HIT].mean <= found.measured.reachable + 1e-6
    for mean in (mean for by in scores.values() for mean in by.values()):
        assert mean.low <= mean.mean <= mean.high


def test_the_groups_of_texts_known_make_up_all(found: Evaluation) -> None:
    part = found.measured.labels
    assert part is not None
    known = [part.groups[name] for name in ("known:1", "known:3")]
    assert sum(group.questions for group in known) == part.questions
    whole = sum(group.questions * group.scores[KINDRED][LABEL].mean for group in known) / part.questions
    assert whole == pytest.approx(part.groups[ALL].scores[KINDRED][LABEL].mean, abs=1e-6)


def test_a_gain_is_the_difference_to_the_best_baseline(found: Evaluation) -> None:
    part = found.measured.items
    assert part is not None
    for metric in (HIT, NDCG, RECALL):
        scores = part.groups[ALL].scores
        best = max(scores[name][metric].mean for name in scores if name not in (KINDRED, REFIT))
        assert scores[part.best[metric]][metric].mean == best
        gain = part.groups[ALL].gains[KINDRED][metric].mean
        assert gain == pytest.approx(scores[KINDRED][metric].mean - best, abs=1e-6)
    assert NOVELTY not in part.best


def test_where_nobody_shares_an_item_only_labels_are_judged(tmp_path: Path) -> None:
    own = (event | {"item_id": f"own-{turn}"} for turn, event in enumerate(community(60)))
    result = evaluated(own, tmp_path)
    assert result.measured.items is None
    assert result.measured.labels is not None
    assert "Items are not judged: 0 of 240 items were taken by more than one user" in result.notes[0]
    assert result.plain()["judged"]["items"] is None


def test_without_labels_only_items_are_judged(tmp_path: Path) -> None:
    bare = ({name: value for name, value in event.items() if name != "labels"} for event in community(60))
    result = evaluated(bare, tmp_path, Settings(refit_at=()))
    assert result.measured.labels is None
    assert result.measured.items is not None
    assert result.measured.items.contestants[:2] == (KINDRED, "popularity")
    assert any("Labels are not judged" in note for note in result.notes)


def test_too_few_users_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TooLittleData, match=r"at least 10 must; give more events, or a shorter warm-up"):
        evaluated(community(8), tmp_path)


def test_an_item_whose_title_changes_is_told(tmp_path: Path) -> None:
    events = list(community(60))
    events[-1]["item_title"] = "Another name"
    assert any(note.startswith("Items with more than one title: 1") for note in evaluated(events, tmp_path).notes)


def test_novelty_is_bits_of_the_share_until_then(tmp_path: Path) -> None:
    taken = ["x", "x", "y", "x", "z"]
    events = ({"user_id": f"u{turn}", "text": f"t{turn}", "item_id": item} for turn, item in enumerate(taken))
    data, _, _ = world(events, tmp_path)
    rows = np.array([[0, 1, MISSING], [MISSING] * 3])
    bits = novelty(data, np.array([3, 4]), {"one": rows, "other": rows[::-1]})
    np.testing.assert_allclose(bits["one"], [(-np.log2(2 / 3) - np.log2(1 / 3)) / 2, np.nan])
    np.testing.assert_allclose(bits["other"], [np.nan, (-np.log2(3 / 4) - np.log2(1 / 4)) / 2])


def test_scores_are_those_of_the_answers(tmp_path: Path) -> None:
    """Two hits of four questions, one by the tenth place; coverage counts distinct items."""
    events = ({"user_id": f"u{turn % 6}", "text": f"t{turn}", "item_id": f"i{turn % 20}"} for turn in range(60))
    data, _, _ = world(events, tmp_path)
    rows = np.arange(40).reshape(4, 10) % 20
    given = Answers(
        event=np.array([30, 31, 32, 33]),
        user=np.array([0, 1, 2, 3], np.int32),
        known=np.array([1, 1, 3, 3], np.int32),
        wanted=np.array([[9, -1], [0, -1], [3, 15], [-1, -1]], np.int32),
        reachable=np.array([True, True, False, True]),
        items={KINDRED: rows.astype(np.int32), "popularity": np.full((4, 10), MISSING, np.int32)},
        labels={},
        own_labels=np.full((4, 1), MISSING, np.int32),
        refits=(),
    )
    result = measured(data, given)
    part = result.items
    assert part is not None
    assert part.questions == 3, "the last one wants nothing"
    scores = part.groups[ALL].scores[KINDRED]
    assert scores[HIT].mean == pytest.approx(2 / 3)
    assert scores[RECALL].mean == pytest.approx((1 + 0 + 0.5) / 3)
    assert result.reachable == pytest.approx(2 / 3)
    assert result.coverage == {KINDRED: 1.0, "popularity": 0.0}
    assert result.known_items == 20
    assert np.isnan(part.groups[ALL].scores["popularity"][NOVELTY].mean)


def test_a_picture_is_drawn_also_of_what_is_not_judged(found: Evaluation, tmp_path: Path) -> None:
    own = (event | {"item_id": f"own-{turn}"} for turn, event in enumerate(community(60)))
    picture = drawn([found, evaluated(own, tmp_path)])
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 10_000
