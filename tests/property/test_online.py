"""The same log gives the same figures, in whatever pieces, order and looks its partitions were read."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.online import Lived
from trainer.compare import Tally

ITEMS = tuple(f"item {number}" for number in range(16))
"""More than an answer has, so that it matters when popularity is asked."""
END = 3_000.0
"""Minutes, by when everything is settled."""

Step = tuple[str, float, int, str | None, list[str], float]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["event", "event", "event", "forget", "release"]),
        st.floats(0, 30),  # minutes since the last one
        st.integers(0, 7),  # whose
        st.sampled_from([None, *ITEMS]),
        st.lists(st.sampled_from(ITEMS), max_size=5, unique=True),
        st.floats(0, 20),  # minutes until it is answered
    ),
    min_size=20,
    max_size=60,
)


def lived_through(steps: list[Step], partitions: int) -> tuple[Lived, list[float]]:
    """All of it, and when each step was."""
    lived, at, times = Lived(partitions), 0.0, list[float]()
    for kind, pause, user, item, answered, after in steps:
        at += pause
        times.append(at)
        if kind == "event":
            lived.event(at, f"user {user}", item, answered, after=after)
        elif kind == "forget":
            lived.forget(at, f"user {user}")
        else:
            lived.release = f"release {user}"
    return lived.until(END), times


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(1, 3), st.integers(1, 7), st.integers(1, 7))
def test_pieces_and_the_order_of_partitions_and_topics_change_nothing(
    steps: list[Step], partitions: int, texts: int, answers: int
) -> None:
    lived, _ = lived_through(steps, partitions)
    lived.texts.cut = lived.answers.cut = 1_000
    whole = lived.follower().tallies(END)
    lived.texts.cut, lived.answers.cut = texts, answers
    assert lived.follower().tallies(END) == whole


@settings(max_examples=100, deadline=None)
@given(STEPS, st.integers(1, 3), st.integers(1, 8))
def test_one_that_looked_on_the_way_has_what_one_that_begins_now_has(
    steps: list[Step], partitions: int, every: int
) -> None:
    whole, times = lived_through(steps, partitions)
    seen = Lived(partitions)
    looking = seen.follower()
    for at in [*times[::every], END]:
        now = whole.until(at)
        seen.texts.partitions, seen.answers.partitions = now.texts.partitions, now.answers.partitions
        figures = looking.tallies(at)
    assert figures == whole.follower().tallies(END)


@settings(max_examples=100, deadline=None)
@given(STEPS, st.integers(1, 3))
def test_hits_are_questions_questions_are_newcomers_and_each_life_asks_once(steps: list[Step], partitions: int) -> None:
    lived, _ = lived_through(steps, partitions)
    total = sum(lived.follower().tallies(END).values(), Tally())
    assert max(total.hits, total.popular_hits) <= total.questions <= total.newcomers
    writers = {user for kind, _, user, *_ in steps if kind == "event"}
    assert total.newcomers <= len(writers) + sum(kind == "forget" for kind, *_ in steps)
