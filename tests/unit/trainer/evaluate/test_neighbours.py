from __future__ import annotations

from collections import Counter, defaultdict
from math import log

import numpy as np
import pytest
from numpy.typing import NDArray

from model.nearest import MISSING, Floats
from tests.communities import community
from tests.evaluations import world
from trainer.evaluate import neighbours
from trainer.evaluate.neighbours import Asked, ByTerms, ByVectors, items_of, labels_of, nearest_texts
from trainer.evaluate.terms import counted, terms
from trainer.prepare import Prepared

World = tuple[Prepared, NDArray[np.float16], list[str]]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world(community(30, noise=3), tmp_path_factory.mktemp("window"))


def asked_of(data: Prepared) -> Asked:
    """Every third event."""
    events = np.arange(40, len(data.user), 3)
    own = [np.flatnonzero(data.user[: event + 1] == data.user[event]) for event in events]
    return Asked(events, [data.text[rows].tolist() for rows in own])


def tfidf(data: Prepared, texts: list[str], asked: Asked) -> list[list[tuple[float, int]]]:
    """Each question's neighbours, worked out with dictionaries; all questions are one block."""
    past = [set(terms(texts[row])) for row in data.text[: asked.event[0]].tolist()]

    def weights(text: str) -> dict[str, float]:
        having = Counter(terms(text))
        found = {
            term: (1 + log(count)) * (log((1 + len(past)) / (1 + sum(term in one for one in past))) + 1)
            for term, count in having.items()
        }
        length = sum(value**2 for value in found.values()) ** 0.5
        return {term: value / length for term, value in found.items()}

    rows = [weights(text) for text in texts]
    neighbours_of = []
    for event, own in zip(asked.event.tolist(), asked.texts, strict=True):
        query: defaultdict[str, float] = defaultdict(float)
        for row in own:
            for term, value in rows[row].items():
                query[term] += value
        length = sum(value**2 for value in query.values()) ** 0.5
        found = []
        for other in range(event):
            if data.user[other] != data.user[event]:
                product = sum(value * query[term] for term, value in rows[int(data.text[other])].items())
                found.append((round(product / length, 5), -other))
        neighbours_of.append([(value, -other) for value, other in sorted(found, reverse=True)[:50] if value > 0])
    return neighbours_of


def test_tfidf_neighbours_and_what_they_say_are_those_worked_out_by_hand(small: World) -> None:
    data, _, texts = small
    asked = asked_of(data)
    near, values = nearest_texts(data, asked, ByTerms(counted(texts), data.text))
    expected = tfidf(data, texts, asked)
    items, labels = items_of(data, asked, near, values, 10), labels_of(data, near, values)
    for place, others in enumerate(expected):
        np.testing.assert_allclose(values[place][: len(others)], [value for value, _ in others], atol=2e-5)
        event = int(asked.event[place])
        best: dict[int, float] = {}
        votes: defaultdict[int, float] = defaultdict(float)
        for value, other in zip(values[place].tolist(), near[place].tolist(), strict=True):
            if other != MISSING:
                user = int(data.user[other])
                best[user] = max(best.get(user, 0), value)
                votes[int(data.labels[other, 0])] += value
        scores: defaultdict[int, float] = defaultdict(float)
        for user, value in best.items():
            for item in set(data.item[:event][data.user[:event] == user].tolist()):
                scores[item] += value
        for item in data.item[: event + 1][data.user[: event + 1] == data.user[event]].tolist():
            scores.pop(item, None)
        top = sorted(scores.values(), reverse=True)[:10]
        np.testing.assert_allclose([scores[item] for item in items[place].tolist()], top, atol=1e-3)
        np.testing.assert_allclose(votes[int(labels[place])], max(votes.values()), atol=1e-3)


def test_vectors_compare_the_mean_of_the_texts(small: World) -> None:
    data, vectors, _ = small
    asked = asked_of(data)
    near, values = nearest_texts(data, asked, ByVectors(vectors))
    place = 11
    event = int(asked.event[place])
    query = vectors[list(asked.texts[place])].astype(np.float64).sum(axis=0)
    query /= np.linalg.norm(query)
    others = [other for other in range(event) if data.user[other] != data.user[event]]
    expected = sorted((float(query @ vectors[data.text[other]]) for other in others), reverse=True)[:50]
    there = near[place] != MISSING
    np.testing.assert_allclose(values[place][there], expected[: int(there.sum())], atol=2e-5)
    assert set(near[place][there].tolist()) <= set(others)


def test_columns_in_pieces_give_the_same(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    data, vectors, _ = small
    whole = nearest_texts(data, asked_of(data), ByVectors(vectors))
    monkeypatch.setattr(neighbours, "_COLUMNS", 17)
    pieces = nearest_texts(data, asked_of(data), ByVectors(vectors))
    np.testing.assert_array_equal(whole[1], pieces[1])
    np.testing.assert_array_equal(whole[0], pieces[0])


def test_whoever_wrote_nothing_has_no_neighbours(small: World) -> None:
    data, vectors, texts = small
    asked = Asked(np.array([50]), [[]])
    for similar in (ByVectors(vectors), ByTerms(counted(texts), data.text)):
        near, values = nearest_texts(data, asked, similar)
        assert (near == MISSING).all()
        assert items_of(data, asked, near, values, 10).tolist() == [[MISSING] * 10]
        assert labels_of(data, near, values).tolist() == [MISSING]


def test_nobody_is_asked(small: World) -> None:
    data, vectors, _ = small
    near, values = nearest_texts(data, Asked(np.empty(0, np.int64), []), ByVectors(vectors))
    found: Floats = values
    assert near.shape == found.shape == (0, 50)
    assert items_of(data, Asked(np.empty(0, np.int64), []), near, values, 10).shape == (0, 10)
