from __future__ import annotations

import pytest

from tests.online import SPAN, Lived
from trainer.compare import LEAST, Tally
from trainer.errors import Stopped
from trainer.follow import Figures, Span


@pytest.fixture
def lived() -> Lived:
    return Lived()


def test_newcomers_are_judged_by_what_they_take_later(lived: Lived) -> None:
    lived.newcomer(0, "one", hit=True)
    lived.newcomer(1, "two", hit=False)
    looking = lived.follower()
    assert looking.tallies(59) == {"first": Tally()}
    assert looking.tallies(62) == {"first": Tally(2, 2, 1, 1)}


def test_a_look_goes_on_where_the_last_one_ended_and_a_new_trainer_has_the_same_figures(lived: Lived) -> None:
    looking = lived.follower()
    for turn in range(40):
        if turn == 20:
            lived.announce("second")
        lived.newcomer(turn * 5, f"user {turn}", hit=turn % 3 == 0)
        looking.look(turn * 5 + 2)
    figures = looking.look(300)
    assert figures.tallies["first"].questions == figures.tallies["second"].questions == 20
    assert lived.follower().look(300) == figures


def test_it_reads_as_far_back_as_its_window_and_no_more_records_than_it_may(lived: Lived) -> None:
    for day in range(60):
        lived.newcomer(day * 24 * 60, f"user {day}", hit=True)
    assert lived.follower().tallies(60 * 24 * 60)["first"].questions == 7
    bounded = lived.follower(Span(SPAN.horizon_ms, SPAN.window_ms, newest=8))
    assert 1 <= bounded.tallies(60 * 24 * 60)["first"].questions <= 4


def test_what_is_told_late_or_in_the_future_stops_nothing(lived: Lived) -> None:
    lived.event(10_000_000, "from the future", "boat")
    lived.newcomer(0, "one", hit=True)
    looking = lived.follower()
    looking.look(5)
    lived.newcomer(3, "late", hit=True)
    assert looking.tallies(70)["first"].hits >= 1
    lived.newcomer(71, "two", hit=True)
    assert looking.tallies(140)["first"].hits >= 2


def test_records_that_cannot_be_read_are_passed_over(lived: Lived) -> None:
    for log in (lived.texts, lived.answers, lived.releases):
        log.append(b"key", b"not json")
    lived.answers.append(b"key", None)
    lived.newcomer(0, "one", hit=True)
    lived.texts.mark()
    assert lived.follower().tallies(70) == {"first": Tally(1, 1, 1, 0)}


def test_an_erased_user_is_asked_no_more(lived: Lived) -> None:
    lived.newcomer(0, "one", hit=True)
    lived.forget(5, "one")
    assert lived.follower().tallies(70) == {"first": Tally()}


def test_topics_that_are_not_there_yet_have_no_figures(lived: Lived) -> None:
    made, lived.answers.id = lived.answers.id, None
    looking = lived.follower()
    lived.newcomer(0, "one", hit=True)
    assert looking.tallies(70) == {}
    lived.answers.id = made
    lived.newcomer(71, "two", hit=True)
    assert looking.tallies(140)["first"].hits == 1


@pytest.mark.parametrize("remade", ["another id", "a shorter log"])
def test_a_topic_that_was_made_anew_begins_anew(lived: Lived, remade: str) -> None:
    lived.newcomer(0, "one", hit=True)
    looking = lived.follower()
    assert looking.tallies(70)["first"].questions == 1
    anew = Lived(release="second")
    anew.newcomer(71, "two", hit=True)
    if remade == "another id":
        lived.texts.id = "another"
        anew.newcomer(71, "three", hit=True)
    else:
        anew.texts.partitions = [[] for _ in anew.texts.partitions]
        anew.answers.partitions = [[] for _ in anew.answers.partitions]
    lived.texts.partitions, lived.answers.partitions = anew.texts.partitions, anew.answers.partitions
    assert "first" not in looking.tallies(140)


def test_a_partition_that_is_added_is_read_from_its_beginning(lived: Lived) -> None:
    looking = Lived.follower(lived)
    looking.look(0)
    for log in (lived.texts, lived.answers):
        log.partitions.append([])
        log.begins.append(0)
    lived.count = 3
    for turn in range(6):
        lived.newcomer(turn, f"user {turn}", hit=True)
    assert looking.tallies(70)["first"].hits == 6


def test_what_retention_has_taken_is_passed_over(lived: Lived) -> None:
    lived.newcomer(0, "one", hit=True)
    looking = lived.follower()
    looking.look(2)
    for turn in range(10):
        lived.newcomer(3, f"user {turn}", hit=True)
    lived.texts.begins = [len(records) - 2 for records in lived.texts.partitions]
    assert looking.tallies(70)["first"].questions >= 1


def test_the_announced_release_is_compared_with_the_one_before_it(lived: Lived) -> None:
    def live(users: range, *, hit: bool) -> None:
        for user in users:
            lived.newcomer(user, f"user {user}", hit=hit)

    looking = lived.follower()
    live(range(LEAST), hit=True)
    assert compared(looking.look(200)) is None, "nothing is announced"
    lived.announce("bad")
    live(range(200, 200 + LEAST), hit=False)
    assert compared(looking.look(220)) == ("bad", "first", None), "too few are settled"
    assert compared(looking.look(400)) == ("bad", "first", True)
    lived.announce("good", "bad", "first")
    live(range(400, 400 + LEAST), hit=True)
    assert compared(looking.look(600)) == ("good", "bad", False)
    lived.announce("first")
    assert compared(looking.look(601)) == ("first", "good", False), "gone back to"


def compared(figures: Figures) -> tuple[str, str, bool | None] | None:
    """Which two releases, and whether the former is the worse one."""
    one = figures.comparison
    return None if one is None else (one.current, one.before, None if one.difference is None else one.difference.worse)


def test_a_look_that_is_stopped_reads_no_more(lived: Lived) -> None:
    lived.newcomer(0, "one", hit=True)
    looking = lived.follower()
    looking.stopped = True
    with pytest.raises(Stopped):
        looking.look(70)
    looking.stopped = False
    assert looking.tallies(70)["first"].hits == 1
