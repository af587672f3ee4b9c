from __future__ import annotations

import numpy as np

from model.audience import NEVER, Audience, Donors
from model.nearest import Floats, Rows

EAST, NORTH = np.eye(2, dtype=np.float32)
VECTORS = np.array([EAST, NORTH, NORTH])


def donors(holders: list[list[int]], recent: list[list[int]]) -> Donors:
    return Donors(np.array(holders, np.int32), np.array(recent, np.int32), np.array([30, 20, 10]), interests)


def interests(rows: Rows) -> Floats:
    return VECTORS[rows]


def test_an_items_people_are_added_up() -> None:
    people = Audience(3, 2).of(np.array([2, 0]), donors([[0, 1, 2], [-1, -1, -1], [1, -1, 2]], [[0], [0], [0]]))
    assert people.count.tolist() == [0, 3]
    np.testing.assert_array_equal(people.tastes, [[0, 0], [1, 2]])
    assert people.since.tolist() == [NEVER, 10]


def test_who_has_dropped_the_item_since_is_none_of_them() -> None:
    people = Audience(1, 2).of(np.array([0]), donors([[0, 1]], [[0], [5], [5]]))
    assert people.count.tolist() == [1]
    np.testing.assert_array_equal(people.tastes, [EAST])
    assert people.since.tolist() == [30]


def test_a_change_is_seen_and_leaves_nothing_of_who_is_gone() -> None:
    audience, slot = Audience(1, 2), np.array([0])
    assert audience.of(slot, donors([[0, 1]], [[0], [0], [5]])).count.tolist() == [2]
    audience.changed(slot)
    people = audience.of(slot, donors([[0, 1]], [[5], [0], [5]]))
    assert people.count.tolist() == [1]
    np.testing.assert_array_equal(people.tastes, [NORTH])
