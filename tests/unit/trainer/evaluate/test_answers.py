from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.head import identity
from model.nearest import MISSING
from model.transfer_weights import TransferWeights
from model.update import DAY_MS
from tests.communities import community
from tests.evaluations import until, world
from trainer.evaluate import answers as module
from trainer.evaluate.answers import KINDRED, OURS, REFIT, SHOWN, Answers, Plan, answers, ease_answers
from trainer.evaluate.counts import most_frequent
from trainer.evaluate.ease import fit_ease
from trainer.evaluate.terms import weighted
from trainer.fit.blend import BlendSettings, fit_blend
from trainer.prepare import Prepared
from trainer.questions import Questions
from trainer.replay import Moment, Replay, key_of, replay
from worker.answer import Question, answer

USERS = 60
ASK_FROM = 48
REFITS = (110, 160)
FEW = BlendSettings(epochs=30, patience=30, batch=8, rate=0.1, pull=0.1, validation=0.5, least=10)
TTL_MS = 3650 * DAY_MS
World = tuple[Prepared, NDArray[np.float16], list[str]]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world(community(USERS), tmp_path_factory.mktemp("window"))


@pytest.fixture(scope="module")
def given(small: World) -> Answers:
    return ask(small)


def ask(small: World, refits: tuple[int, ...] = REFITS) -> Answers:
    data, vectors, texts = small
    return answers(data, vectors, lambda: texts, Plan(ASK_FROM, refits, TTL_MS, FEW))


def test_the_first_and_the_third_text_after_the_warm_up_are_questions(small: World, given: Answers) -> None:
    data = small[0]
    expected = []
    count: Counter[int] = Counter()
    for event, user in enumerate(data.user.tolist()):
        count[user] += 1
        if event >= ASK_FROM and count[user] in (1, 3):
            expected.append((event, count[user]))
    assert list(zip(given.event.tolist(), given.known.tolist(), strict=True)) == expected
    shapes = {rows.shape for rows in given.items.values()}
    assert shapes == {(len(expected), SHOWN)}


def differs(given: Answers, earlier: Answers, stop: int) -> set[str]:
    """Contestants whose answers before an event are not those from a log that ends there."""
    now = given.event < stop
    assert given.event[now].tolist() == earlier.event.tolist()
    return {
        name
        for told, then in ((given.items, earlier.items), (given.labels, earlier.labels))
        for name in then
        if not np.array_equal(told[name][now], then[name])
    }


def cut(small: World, stop: int) -> World:
    return until(small[0], stop), small[1], small[2]


@pytest.mark.parametrize("stop", [90, 131, 200])
def test_nothing_that_comes_later_changes_an_answer(small: World, given: Answers, stop: int) -> None:
    assert differs(given, ask(cut(small, stop)), stop) == set()


class Ahead(Replay):
    """Its index knows all of the log before anybody is asked."""

    def __init__(self, data: Prepared, *further: Any) -> None:
        super().__init__(data, *further)
        lived = Replay(data, *further)
        lived.run(len(data.user))
        self._index, self._item_of = lived._index, lived._item_of


class Knowing(Replay):
    """A refit learns also what is taken after it."""

    def questions(self, until: int | None = None) -> Questions:
        every = super().questions()
        return every if until is None else every.where(every.event < until)


@pytest.mark.parametrize("leak", [KINDRED, REFIT, "ease", "tfidf_knn"])
def test_a_leak_that_is_planted_is_caught(small: World, monkeypatch: pytest.MonkeyPatch, leak: str) -> None:
    def leaking(small: World) -> Answers:
        data = small[0]
        if leak == KINDRED:
            monkeypatch.setattr(module, "Replay", Ahead)
        elif leak == REFIT:
            monkeypatch.setattr(module, "Replay", Knowing)
        elif leak == "ease":
            monkeypatch.setattr(module, "fit_ease", lambda *_: fit_ease(data.user, data.item))
        else:
            monkeypatch.setattr("trainer.evaluate.neighbours.weighted", lambda counts, _: weighted(counts, data.text))
        return ask(small)

    stop = REFITS[0] + 4 if leak == REFIT else 131
    whole, earlier = leaking(small), leaking(cut(small, stop))
    if leak == REFIT:
        assert whole.refits[0].weights != earlier.refits[0].weights
    else:
        assert leak in differs(whole, earlier, stop)


@pytest.mark.parametrize("name", ["popularity", "cooccurrence", "raw_knn", "tfidf_knn", "ease", *OURS])
def test_no_answer_holds_what_the_user_has_or_nobody_has_taken_yet(small: World, given: Answers, name: str) -> None:
    data = small[0]
    for event, row in zip(given.event.tolist(), given.items[name].tolist(), strict=True):
        items = [item for item in row if item != MISSING]
        assert len(set(items)) == len(items)
        assert not set(items) & set(data.item[: event + 1][data.user[: event + 1] == data.user[event]].tolist())
        assert set(items) <= set(data.item[:event].tolist())


def test_kindred_answers_as_a_worker_does(small: World, given: Answers) -> None:
    """The whole of `worker.answer`, on the same index in the same moment."""
    data, vectors, _ = small
    told: list[list[str]] = []

    def hear(moment: Moment) -> None:
        for event, known, state in zip(moment.events.tolist(), moment.known, moment.seen, strict=True):
            if known in (1, 3):
                asked = Question(
                    "somebody", key_of(int(data.user[event])), int(known), "user-text", 0, event, "e", "text",
                    state.vector, state.items, state.labels, 0,
                )  # fmt: skip
                (said,) = answer([asked], moment.index, TransferWeights.default(), release="r", space="s")
                told.append([item["item_id"] for item in said["items"]])

    Replay(data, vectors, identity, TTL_MS).run(ASK_FROM, hear=hear)
    mine = [[data.item_ids[item] for item in row if item != MISSING] for row in given.items[KINDRED].tolist()]
    assert mine == told


def test_a_refit_sees_what_was_asked_and_taken_before_it(small: World, given: Answers) -> None:
    """The same weights as from a log that ends there; and others than from one that goes on."""
    data, vectors, _ = small
    for fit in given.refits:
        past, _ = replay(until(data, fit.before), vectors, identity, user_ttl_ms=TTL_MS, ask_from=ASK_FROM)
        expected = fit_blend(past, TransferWeights.default(), FEW, seed=0)
        assert fit.weights == expected.weights
        assert fit.questions == expected.questions > 0
    whole, _ = replay(data, vectors, identity, user_ttl_ms=TTL_MS, ask_from=ASK_FROM)
    leaking = whole.where(whole.event < given.refits[0].before)
    assert fit_blend(leaking, TransferWeights.default(), FEW).questions > given.refits[0].questions


def test_before_the_first_refit_both_answer_the_same(given: Answers) -> None:
    before = given.event < REFITS[0]
    np.testing.assert_array_equal(given.items[KINDRED][before], given.items[REFIT][before])
    assert (given.items[KINDRED] != given.items[REFIT]).any()


def test_without_refits_there_is_one_contestant_of_ours(small: World) -> None:
    assert REFIT not in ask(small, ()).items


def test_labels_are_told_with_the_users_own_hidden(small: World, given: Answers) -> None:
    data, vectors, texts = small
    place = int(np.flatnonzero(given.known == 3)[20])
    mine = data.user == given.user[place]
    labels = np.where(mine[:, None], (data.labels + 1) % len(data.label_names), data.labels).astype(np.int32)
    again = ask((replace(data, labels=labels), vectors, texts))
    for name in given.labels:
        assert given.labels[name][place] == again.labels[name][place], name
    right = (given.labels[KINDRED][:, None] == given.own_labels).any(axis=1)
    assert right[-40:].mean() > 0.8


# The plain methods, worked out in the plainest way.


def ranking(scores: dict[int, float], data: Prepared, event: int) -> list[tuple[int, float]]:
    """Best first, without what the user has."""
    own = set(data.item[: event + 1][data.user[: event + 1] == data.user[event]].tolist())
    return sorted(((item, score) for item, score in scores.items() if item not in own), key=lambda one: -one[1])[:SHOWN]


def same(found: NDArray[Any], expected: list[tuple[int, float]], scores: dict[int, float]) -> None:
    """The same scores in the same order: whoever has the same score may stand in any order."""
    items = [item for item in found.tolist() if item != MISSING]
    assert len(items) == len(expected)
    np.testing.assert_allclose([scores[item] for item in items], [score for _, score in expected], rtol=1e-4)


def takers(data: Prepared, event: int) -> dict[int, set[int]]:
    found: defaultdict[int, set[int]] = defaultdict(set)
    for user, item in zip(data.user[:event].tolist(), data.item[:event].tolist(), strict=True):
        found[item].add(user)
    return found


def test_popularity_is_how_many_had_an_item_by_then(small: World, given: Answers) -> None:
    data = small[0]
    for event, row in zip(given.event.tolist(), given.items["popularity"], strict=True):
        scores = {item: float(len(users)) for item, users in takers(data, event).items()}
        same(row, ranking(scores, data, event), scores)


def test_recent_popularity_halves_every_thirty_days(small: World, given: Answers) -> None:
    data = small[0]
    for event, row in zip(given.event.tolist(), given.items["decayed_popularity"], strict=True):
        scores: defaultdict[int, float] = defaultdict(float)
        for past in range(event):
            scores[int(data.item[past])] += 2.0 ** ((data.occurred[past] - data.occurred[event]) / (30 * DAY_MS))
        same(row, ranking(scores, data, event), scores)


def test_cooccurrence_is_what_those_who_share_an_item_have(small: World, given: Answers) -> None:
    data = small[0]
    for event, row in zip(given.event.tolist(), given.items["cooccurrence"], strict=True):
        user, by = int(data.user[event]), takers(data, event)
        scores: defaultdict[int, float] = defaultdict(float)
        for own in set(data.item[: event + 1][data.user[: event + 1] == user].tolist()):
            others = by.get(own, set()) - {user}
            for item, users in by.items():
                if item != own and users & others:
                    scores[item] += len(users & others) / len(others)
        same(row, ranking(scores, data, event), scores)


def test_raw_neighbours_are_users_by_the_mean_of_their_texts(small: World, given: Answers) -> None:
    data, vectors, _ = small

    def mean(user: int, stop: int) -> NDArray[np.float64]:
        rows = data.text[:stop][data.user[:stop] == user]
        age = (data.occurred[:stop][data.user[:stop] == user] - data.occurred[stop - 1]) / (180 * DAY_MS)
        summed = (vectors[rows].astype(np.float64) * 2.0 ** age[:, None]).sum(axis=0)
        return np.asarray(summed / np.linalg.norm(summed))

    agreed = 0
    some = range(0, len(given.event), 7)
    for place in some:
        event, user = int(given.event[place]), int(given.user[place])
        query = mean(user, event + 1)
        others = sorted(set(data.user[:event].tolist()) - {user})
        near = sorted(((float(query @ mean(other, event)), other) for other in others), reverse=True)[:50]
        scores: defaultdict[int, float] = defaultdict(float)
        for similarity, other in near:
            for item in set(data.item[:event][data.user[:event] == other].tolist()):
                scores[item] += max(0.0, similarity)
        expected = [item for item, _ in ranking(dict(scores), data, event)]
        agreed += len(set(expected) & set(given.items["raw_knn"][place].tolist())) >= len(expected) - 1
    assert agreed >= 0.9 * len(some)  # states are rounded to float16, so that near equals may change places


def test_ease_is_refitted_on_what_was_taken_before(small: World, given: Answers) -> None:
    data = small[0]
    fits = (ASK_FROM, *REFITS)
    for place in range(0, len(given.event), 5):
        event = int(given.event[place])
        before = max(cut for cut in fits if cut <= event)
        taken = np.zeros((data.users, len(data.item_ids)))
        taken[data.user[:before], data.item[:before]] = 1
        taken = taken[:, taken.any(axis=0)]  # items are numbered as they appear
        inverse = np.linalg.inv(taken.T @ taken + 10 * np.eye(taken.shape[1]))
        weights = -inverse / np.diag(inverse)
        np.fill_diagonal(weights, 0)
        own = [
            i
            for i in set(data.item[: event + 1][data.user[: event + 1] == data.user[event]].tolist())
            if i < len(weights)
        ]
        scores = {item: score for item, score in enumerate(weights[own].sum(axis=0).tolist()) if score > 1e-9}
        same(given.items["ease"][place], ranking(scores, data, event), scores)
    assert (ease_answers(data, given.event, (10**6,)) == MISSING).all()


def test_the_most_frequent_label_is_that_of_the_past(small: World, given: Answers) -> None:
    data = small[0]
    found = most_frequent(data, given.event)
    for event, best in zip(given.event.tolist(), found.tolist(), strict=True):
        labels = data.labels[:event]
        assert best == np.bincount(labels[labels >= 0]).argmax()
    assert most_frequent(data, np.array([0])).tolist() == [MISSING]


def test_an_empty_index_answers_nothing(tmp_path: Path) -> None:
    """A stream without items and labels is lived through like any other."""
    lines = ({"user_id": f"u{turn % 9}", "text": f"word{turn}"} for turn in range(40))
    found = ask(world(lines, tmp_path), ())
    assert all((rows == MISSING).all() for rows in found.items.values())
    assert all((best == MISSING).all() for best in found.labels.values())
