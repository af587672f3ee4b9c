from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from trainer.page.place_names import Box, free_place

FRAME = (0.0, 0.0, 400.0, 300.0)
DISTANCES = (10.0, 25.0, 50.0)
Points = list[tuple[float, float]]


def apart(one: Box, other: Box) -> bool:
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_a_name_stands_at_the_right_of_its_point_where_that_is_free() -> None:
    assert free_place((100, 100), (40, 10), [], FRAME, DISTANCES) == (110, 95, 150, 105)


def test_a_name_at_the_edge_stays_inside() -> None:
    assert free_place((399, 100), (40, 10), [], FRAME, DISTANCES) == (349, 95, 389, 105)


def test_where_there_is_no_room_a_name_is_left_out() -> None:
    assert free_place((100, 100), (500, 10), [], FRAME, DISTANCES) is None


@given(st.lists(st.tuples(st.floats(0, 400), st.floats(0, 300)), min_size=2, max_size=30))
def test_no_name_covers_another_or_leaves_the_frame(points: Points) -> None:
    taken: list[Box] = []
    for point in points:
        box = free_place(point, (60.0, 12.0), taken, FRAME, DISTANCES)
        if box is not None:
            assert box[0] >= 0
            assert box[1] >= 0
            assert box[2] <= 400
            assert box[3] <= 300
            taken.append(box)
    assert all(apart(one, other) for one, other in combinations(taken, 2))
