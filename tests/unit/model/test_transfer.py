from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from model.audience import Audience, Donors
from model.evidence import NEIGHBOURS, Known, Queries
from model.nearest import Floats, NumpyNearest, Rows
from model.signals import SIGNALS
from model.transfer import Transferred, transfer
from model.transfer_weights import TransferWeights

DIMENSION = 8
WEIGHTS = TransferWeights(tuple(0.5 for _ in SIGNALS))
"""Every signal counts, so that nothing that is tested here hangs on what the shipped blend believes."""
EAST, NORTH = np.eye(DIMENSION, dtype=np.float32)[:2]


def at_angle(radians: float) -> Floats:
    """From EAST."""
    vector: Floats = (np.cos(radians) * EAST + np.sin(radians) * NORTH).astype(np.float32)
    return vector


def padded(rows: Sequence[Sequence[int]], width: int) -> Rows:
    return np.array([[-1] * (width - len(row)) + list(row) for row in rows], np.int32).reshape(len(rows), width)


def nearest(vectors: Mapping[int, Floats], capacity: int) -> NumpyNearest:
    matrix = NumpyNearest(DIMENSION, capacity)
    if vectors:
        matrix.set(np.array(list(vectors)), np.array(list(vectors.values()), np.float32))
    return matrix


def known(
    donors: Sequence[tuple[Floats, Sequence[int]]] = (),
    item_count: int = 10,
    *,
    labels: Sequence[Sequence[int]] | None = None,
    texts: Mapping[int, Floats] | None = None,
    popularity: Mapping[int, float] | None = None,
    no_people: Sequence[int] = (),
    listed: Sequence[int] = (),
    closed: Sequence[int] = (),
) -> Known:
    """Donors as (vector, items), the last item the most recent, and the last donor the last one who was active; every
    item is held unless it is in no_people."""
    recent = padded([items for _, items in donors] or [[]], 32)
    holders = [[row for row, (_, items) in enumerate(donors) if item in items][-32:] for item in range(item_count)]
    logs = np.full(item_count, -np.inf)
    for item, log in (popularity or {}).items():
        logs[item] = log
    mask = np.zeros((3, item_count), np.bool_)
    for row, members in zip(mask, (no_people, listed, closed), strict=True):
        row[list(members)] = True
    tags = padded(labels if labels is not None else [[] for _ in donors] or [[]], 16)
    share = (tags >= 0) / np.maximum((tags >= 0).sum(axis=1, keepdims=True), 1)
    popular = np.array(sorted(popularity or {}), np.int64)
    text_vectors = [(texts or {}).get(item, np.zeros(DIMENSION, np.float32)) for item in popular.tolist()]
    vectors = np.array([vector for vector, _ in donors], np.float32).reshape(-1, DIMENSION)
    times = np.arange(len(donors), dtype=np.int64)
    held = Donors(padded(holders, 32), recent, times, lambda rows: vectors[rows])
    audience = Audience(item_count, DIMENSION)
    counts = np.bincount(tags[tags >= 0], minlength=1)
    return Known(
        donors=nearest({row: vector for row, (vector, _) in enumerate(donors)}, len(donors) + 1),
        recent=recent,
        labels=tags,
        label_shares=share.astype(np.float16),
        centre=np.zeros(DIMENSION, np.float32),
        items=nearest(texts or {}, item_count),
        item_centre=np.zeros(DIMENSION, np.float32),
        holders=padded(holders, 32),
        popularity=logs,
        users=np.array([len(rows) for rows in holders], np.int32),
        active=times[::-1],
        active_times=times[::-1],
        ages=np.arange(len(donors), dtype=np.int32),
        audience=lambda slots: audience.of(slots, held),
        rarity=np.log1p((1 + len(donors)) / (1 + np.append(counts, np.zeros(100)))).astype(np.float32),
        always=popular,
        always_vectors=np.array(text_vectors, np.float32).reshape(-1, DIMENSION),
        people=~mask[0],
        listed=mask[1],
        open=~mask[2],
    )


def ask(
    vectors: Sequence[Floats],
    items: Sequence[Sequence[int]] = (),
    *,
    rows: Sequence[int] = (),
    labels: Sequence[Sequence[int]] = (),
) -> Queries:
    count = len(vectors)
    tags = padded(labels or [[]] * count, 16)
    stacked = np.array(vectors, np.float32)
    return Queries(
        vectors=stacked,
        interests=stacked,
        rows=np.array(rows or [-1] * count, np.int32),
        items=padded(items or [[]] * count, 32),
        labels=tags,
        label_shares=((tags >= 0) / np.maximum((tags >= 0).sum(axis=1, keepdims=True), 1)).astype(np.float32),
    )


def found(result: Transferred, query: int = 0) -> list[int]:
    return [item for item in result.items[query].tolist() if item >= 0]


def between(similarity: float) -> Floats:
    return np.asarray(similarity * EAST + np.sqrt(1 - similarity**2) * NORTH, np.float32)


def test_what_the_most_similar_donor_took_comes_first() -> None:
    base = known([(EAST, [1]), (between(0.3), [2])])
    result = transfer(ask([EAST, between(0.3)]), base, WEIGHTS)
    assert found(result, 0)[0] == 1
    assert found(result, 1)[0] == 2
    assert result.donors.tolist() == [2, 2]


def test_a_user_is_never_his_own_donor() -> None:
    base = known([(EAST, [1]), (between(0.5), [2])])
    result = transfer(ask([EAST], rows=[0]), base, WEIGHTS)
    assert found(result) == [2]
    assert result.donors.tolist() == [1]


def test_what_sharing_users_took_is_found_without_any_similarity() -> None:
    base = known([(NORTH, [1, 3, 4]), (NORTH, [5])])
    result = transfer(ask([EAST], [[3]]), base, WEIGHTS)
    assert set(found(result)) == {1, 4}
    assert result.counts[0, 0].tolist() == [0, 1]
    assert result.sources.tolist() == [1]


def test_a_holder_who_has_dropped_the_item_since_is_not_a_sharing_user() -> None:
    base = known([(NORTH, [1, 4])])
    base.holders[3, -1] = 0
    assert found(transfer(ask([EAST], [[3]]), base, WEIGHTS)) == []


def test_seen_items_are_never_recommended() -> None:
    base = known([(EAST, [1, 2])], popularity={1: 5.0, 3: 0.0}, texts={1: EAST})
    assert set(found(transfer(ask([EAST], [[1]]), base, WEIGHTS))) == {2, 3}


def test_withdrawn_and_expired_items_are_never_recommended() -> None:
    base = known([(EAST, [1, 2])], popularity={1: 5.0}, texts={1: EAST}, closed=[1])
    assert found(transfer(ask([EAST]), base, WEIGHTS)) == [2]


def test_an_item_with_too_few_people_is_not_recommended_on_their_account() -> None:
    base = known([(EAST, [1, 2]), (NORTH, [1, 3])], popularity={1: 5.0}, texts={1: EAST}, no_people=[1])
    assert 1 not in found(transfer(ask([EAST], [[3]]), base, WEIGHTS))


def test_a_catalogue_item_without_people_is_recommended_by_its_text_alone() -> None:
    base = known([(EAST, [1, 2])], popularity={1: 5.0, 2: 1.0}, texts={1: EAST}, no_people=[1], listed=[1])
    result = transfer(ask([EAST]), base, WEIGHTS)
    place = found(result).index(1)
    np.testing.assert_allclose(result.shares[0, place], [0, 0, 1, 0], atol=1e-6)


def test_a_zero_vector_is_answered_from_popularity() -> None:
    base = known([(EAST, [9])], popularity={1: 0.0, 2: 3.0, 3: 1.0})
    result = transfer(ask([np.zeros(DIMENSION, np.float32)]), base, WEIGHTS)
    assert found(result)[0] == 2
    assert set(found(result)) == {1, 2, 3}
    np.testing.assert_allclose(result.shares[0, :3], [[0, 0, 0, 1]] * 3, atol=1e-6)
    assert result.strength[0] == 0
    assert result.donors[0] == 0


def test_without_anything_else_what_was_taken_last_comes_first() -> None:
    base = known([(EAST, [1]), (EAST, [2]), (EAST, [3])], popularity={1: 0.0, 2: 0.0, 3: 0.0})
    assert found(transfer(ask([np.zeros(DIMENSION, np.float32)]), base, WEIGHTS)) == [3, 2, 1]


def test_an_item_whose_people_write_alike_comes_before_one_whose_people_do_not() -> None:
    """Beyond the nearest donors, who are too many here to leave room for either."""
    crowd = [(EAST, [9])] * NEIGHBOURS
    people = [(between(0.1), [1]), (between(0.6), [2])] * 2
    base = known([*people, *crowd], popularity={1: 0.0, 2: 0.0})
    only = TransferWeights(tuple(float(name == "donors.people_level") for name, _ in SIGNALS))
    assert found(transfer(ask([EAST], [[9]]), base, only)) == [2, 1]


def test_an_item_of_no_known_donor_is_not_held_to_be_new() -> None:
    base = known([(EAST, [1])], popularity={1: 0.0, 2: 5.0})
    only = TransferWeights(tuple(float(name.startswith("popularity.new")) for name, _ in SIGNALS))
    assert found(transfer(ask([EAST]), base, only)) == [1]


def test_weak_donors_make_the_answer_lean_on_popularity() -> None:
    shares = []
    for similarity in (0.95, 0.5, 0.1):
        base = known([(between(similarity), [1])] * 20, popularity={1: 0.0})
        result = transfer(ask([EAST]), base, WEIGHTS)
        shares.append(float(result.shares[0, 0, 3]))
    assert shares == sorted(shares)
    assert shares[2] > shares[0]


def test_an_item_nearest_by_text_is_found() -> None:
    base = known(texts={7: EAST, 8: NORTH})
    assert found(transfer(ask([EAST]), base, WEIGHTS)) == [7]


def test_the_nearest_donor_tells_labels_and_not_the_many_who_are_further() -> None:
    near, far = at_angle(0.1), at_angle(0.6)
    base = known([(near, [1]), *[(far, [2])] * 9], labels=[[4], *[[5]] * 9])
    result = transfer(ask([EAST]), base, WEIGHTS)
    assert result.labels[0, :2].tolist() == [4, 5]
    assert result.label_scores[0].sum() == pytest.approx(1.0)


def test_labels_come_from_donors_and_from_the_newcomer() -> None:
    base = known([(EAST, [1]), (NORTH, [2])], labels=[[4], [5]])
    result = transfer(ask([EAST, EAST], labels=[[], [9]]), base, WEIGHTS)
    assert result.labels[0].tolist() == [4, -1, -1, -1, -1]
    assert set(result.labels[1].tolist()) == {4, 9, -1}
    assert result.label_scores[0, 0] == pytest.approx(1.0)


def test_an_empty_base_gives_an_empty_answer() -> None:
    result = transfer(ask([EAST, NORTH], [[], [1]]), known(item_count=2), WEIGHTS)
    assert (result.items == -1).all()
    assert (result.labels == -1).all()
    assert not result.scores.any()


def random_case(seed: int) -> tuple[Queries, Known]:
    random = np.random.default_rng(seed)

    def units(count: int) -> Floats:
        vectors = random.standard_normal((count, DIMENSION)).astype(np.float32)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)

    donors: list[Any] = [(v, random.choice(60, random.integers(0, 9), replace=False)) for v in units(80)]
    base = known(
        donors,
        60,
        labels=[random.choice(12, random.integers(0, 4), replace=False).tolist() for _ in donors],
        texts=dict(enumerate(units(40))),
        popularity={item: float(random.normal()) for item in range(20)},
        no_people=[2, 3, 30],
        listed=[3],
        closed=[4, 50],
    )
    items = [random.choice(60, random.integers(0, 4), replace=False).tolist() for _ in range(9)]
    labels = [random.choice(12, random.integers(0, 3), replace=False).tolist() for _ in range(9)]
    return ask(list(units(9)), items, rows=[3, -1, 5, -1, -1, 79, -1, 0, -1], labels=labels), base


def assert_same(one: Transferred, other: Transferred) -> None:
    for field in fields(Transferred):
        np.testing.assert_allclose(getattr(one, field.name), getattr(other, field.name), atol=1e-5, err_msg=field.name)


@pytest.mark.parametrize("seed", range(5))
def test_an_answer_does_not_depend_on_who_else_is_asked_for(seed: int) -> None:
    queries, base = random_case(seed)
    together = transfer(queries, base, WEIGHTS)
    for number in range(len(queries.rows)):
        alone = Queries(*(getattr(queries, field.name)[number : number + 1] for field in fields(Queries)))
        part = Transferred(*(getattr(together, field.name)[number : number + 1] for field in fields(Transferred)))
        assert_same(transfer(alone, base, WEIGHTS), part)


def test_halving_a_batch_that_is_too_large_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, base = random_case(1)
    whole = transfer(queries, base, WEIGHTS)
    monkeypatch.setattr("model.transfer.TABLE_CELLS", 100)
    assert_same(transfer(queries, base, WEIGHTS), whole)


@pytest.mark.parametrize("seed", range(5))
def test_shares_add_up_and_scores_fall(seed: int) -> None:
    result = transfer(*random_case(seed), WEIGHTS)
    there = result.items >= 0
    np.testing.assert_allclose(result.shares.sum(axis=2)[there], 1, atol=1e-5)
    assert (np.diff(result.scores, axis=1) <= 1e-6).all()
    for row in result.items:
        named = row[row >= 0]
        assert len(set(named.tolist())) == len(named)


def test_as_many_items_are_given_as_were_asked_for() -> None:
    queries, base = random_case(2)
    assert transfer(queries, base, WEIGHTS, 25).items.shape == (9, 25)


def test_counts_are_right_where_fewer_items_are_found_than_asked_for() -> None:
    base = known([(EAST, [0]), (EAST, [0])])
    result = transfer(ask([EAST]), base, WEIGHTS)
    assert result.counts[0, :2, 0].tolist() == [2, 0]
