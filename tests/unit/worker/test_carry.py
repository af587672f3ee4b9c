"""What a user begins with in a new space when the log has lost the first events."""

from __future__ import annotations

import numpy as np
import pytest

from model.users import Stored
from schemas.state import Position, UserState, pack_position, unpack_place, unpack_state
from tests.builders import World, key_of
from worker.carry import Carry, carried
from worker.store.base import Write
from worker.store.memory import MemoryStore

ANNA = key_of("anna")


def stored(position: Position, first: tuple[tuple[int, int], ...], count: int) -> Stored:
    state = UserState(np.ones(4, np.float16), 1.0, 50, 60, count, first, items=(7, 8), labels={3: 2.0}, event_ids=(9,))
    return Stored(pack_position(position), state)


@pytest.mark.parametrize(
    ("position", "first", "count", "begins", "kept_position", "kept_first", "kept_count"),
    [
        pytest.param({0: 9}, ((0, 1), (0, 5)), 4, {0: 10}, {0: 9}, ((0, 1), (0, 5)), 4, id="nothing is left"),
        pytest.param({0: 9}, ((0, 1), (0, 5)), 4, {0: 3}, {0: 2}, ((0, 1),), 1, id="the first one is gone"),
        pytest.param({0: 9}, ((0, 1), (0, 2)), 4, {0: 3}, {0: 2}, ((0, 1), (0, 2)), 2, id="all first ones are gone"),
        pytest.param(
            {0: 9, 1: 4}, ((0, 1), (1, 4)), 2, {0: 10, 1: 0}, {0: 9}, ((0, 1),), 1, id="one partition lost all of it"
        ),
    ],
)
def test_an_old_user_keeps_the_number_of_events_that_are_gone(
    position: Position,
    first: tuple[tuple[int, int], ...],
    count: int,
    begins: Position,
    kept_position: Position,
    kept_first: tuple[tuple[int, int], ...],
    kept_count: int,
) -> None:
    write = carried(ANNA, stored(position, first, count), begins, 8)
    assert write is not None
    assert write.expected == b""
    assert unpack_place(write.position) == (kept_position, None)
    assert write.state is not None
    state = unpack_state(write.state)
    assert (state.first, state.count) == (kept_first, kept_count)
    assert state.vector.shape == (8,)
    assert not state.vector.any()


def test_a_user_without_events_left_keeps_all_but_the_vector() -> None:
    write = carried(ANNA, stored({0: 9}, ((0, 1),), 4), {0: 10}, 8)
    assert write is not None
    assert write.state is not None
    state = unpack_state(write.state)
    assert (state.items, state.labels, state.event_ids, state.seen_at) == ((7, 8), {3: 2.0}, (9,), 60)
    assert write.entered == (7, 8)
    assert write.labels == ((3, 2.0),)


@pytest.mark.parametrize("begins", [{0: 0}, {0: 1}, {}])
def test_a_user_of_whom_the_log_has_all_first_events_is_left_to_it(begins: Position) -> None:
    assert carried(ANNA, stored({0: 9}, ((0, 1), (0, 5)), 4), begins, 8) is None


def test_an_erasure_that_the_log_has_lost_is_carried_with_its_time() -> None:
    write = carried(ANNA, Stored(pack_position({0: 9, 1: 4}, (1_000, 0))), {0: 10, 1: 5}, 8)
    assert write is not None
    assert write.state is None
    assert unpack_place(write.position) == ({0: 9, 1: 4}, (1_000, 0))


def test_nobody_is_looked_at_while_the_log_is_whole() -> None:
    def never() -> MemoryStore:
        raise AssertionError("nothing is to be carried")

    world = World()
    Carry(never, 8).over(world.store(), {0: 5, 1: 0}, {0: 5})


def test_who_is_in_the_new_space_already_stays_as_he_is_there() -> None:
    world = World()
    world.write("anna")
    world.work()
    old = MemoryStore(world.data)
    new = MemoryStore(world.of_space("b" * 16))
    Carry(lambda: old, 8).over(new, {0: 1}, {})
    before = world.users(world.of_space("b" * 16))
    assert list(before) == [ANNA]
    position, _ = before[ANNA]
    (found,) = new.load([ANNA])
    assert found.state is not None
    new.save(Write({}, [{} for _ in range(4)], []))
    Carry(lambda: old, 8).over(new, {0: 1}, {})
    assert world.users(world.of_space("b" * 16)) == before
    assert unpack_place(position) == ({0: 0}, None)
