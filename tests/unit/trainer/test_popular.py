from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from model.update import POPULARITY_HALF_LIFE_MS
from trainer.popular import BEST, Popular

NOW = 1_750_000_000_000


def test_what_is_taken_most_comes_first_and_equals_by_their_hash() -> None:
    popular = Popular()
    for item in (5, 9, 2, 9, 7, 7, 7):
        popular.add(item, 1.0, NOW)
    assert popular.best() == (7, 9, 2, 5)


def test_what_was_taken_long_ago_counts_less() -> None:
    popular = Popular()
    for _ in range(3):
        popular.add(1, 1.0, NOW - 2 * POPULARITY_HALF_LIFE_MS)
    popular.add(2, 1.0, NOW)
    assert popular.best() == (2, 1)


def test_an_event_without_weight_makes_nothing_popular() -> None:
    popular = Popular()
    popular.add(1, 0.0, NOW)
    assert popular.best() == ()


@given(st.lists(st.tuples(st.integers(0, 40), st.floats(0.1, 8)), max_size=200))
def test_the_best_are_those_with_the_largest_sums(events: list[tuple[int, float]]) -> None:
    popular, sums = Popular(), dict[int, float]()
    for item, weight in events:
        popular.add(item, weight, NOW)
        sums[item] = sums.get(item, 0.0) + weight
    best = popular.best()
    assert len(best) == min(BEST, len(sums))
    least = min((sums[item] for item in best), default=0.0)
    assert all(sums[item] <= least * (1 + 1e-9) for item in sums.keys() - set(best))


def test_its_room_is_bounded_and_the_popular_stay() -> None:
    popular = Popular(room=100)
    for item in range(1_000):
        popular.add(item, 1.0, NOW)
        popular.add(7, 1.0, NOW)
    assert popular.best()[0] == 7
    assert len(popular) <= 100
