"""Newcomers' stories, a table of them, and what each must count as."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from model.update import DAY_MS
from schemas.state import hash64
from tests.windows import NOW_MS, key_of
from trainer.compare import Tally
from trainer.online import LATER, LONGEST_WAIT_MS, RELEASES, Answer, Erased, Event, Online

HORIZON_MS = 3 * LONGEST_WAIT_MS
WINDOW_MS = 7 * DAY_MS
MINUTE = 60_000


@dataclass
class Story:
    """Told in order. at: minutes since it began."""

    online: Online = field(default_factory=lambda: Online(HORIZON_MS, WINDOW_MS))
    offset: int = 0
    first: dict[str, int] = field(default_factory=dict)

    def event(self, at: float, user: str, item: str | None = None, *, weight: float = 1.0) -> None:
        when = NOW_MS + int(at * MINUTE)
        number = None if item is None else hash64(item)
        self.first.setdefault(user, self.offset)
        self.online.take(when, Event((0, self.offset), key_of(user), number, weight, when))
        self.offset += 1

    def answer(
        self, at: float, user: str, *items: str, release: str = "r", nth: int = 1, trigger: int | None = None
    ) -> None:
        place = (0, self.first[user] if trigger is None else trigger)
        answer = Answer(place, key_of(user), nth, release, tuple(map(hash64, items)))
        self.online.take(NOW_MS + int(at * MINUTE), answer)

    def erase(self, at: float, user: str) -> None:
        self.online.take(NOW_MS + int(at * MINUTE), Erased(key_of(user)))
        self.offset += 1

    def told(self, release: str = "r", at: float = 1_000) -> Tally:
        self.online.passed(NOW_MS + int(at * MINUTE))
        return self.online.tallies().get(release, Tally())


@pytest.fixture
def story() -> Story:
    return Story()


def test_a_later_item_that_was_recommended_is_a_hit(story: Story) -> None:
    story.event(0, "new", "own")
    story.answer(1, "new", "boat", "kite")
    story.event(5, "new", "kite")
    assert story.told() == Tally(newcomers=1, questions=1, hits=1)


def test_one_that_was_not_is_a_miss_and_all_of_them_within_the_horizon_are_looked_at(story: Story) -> None:
    story.event(0, "new")
    story.answer(1, "new", "boat")
    story.event(5, "new", "kite")
    assert story.told(at=60) == Tally()
    story.event(170, "new", "boat")
    assert story.told() == Tally(1, 1, 1)


def test_nothing_is_settled_before_the_horizon_be_it_hit_or_miss(story: Story) -> None:
    for user in ("hits", "misses"):
        story.event(0, user)
        story.answer(0, user, "boat")
    story.event(2, "hits", "boat")
    story.event(2, "misses", "kite")
    assert story.told(at=179.9) == Tally()
    assert story.told(at=180) == Tally(2, 2, 1)


def test_what_comes_after_the_horizon_is_too_late(story: Story) -> None:
    story.event(0, "new")
    story.answer(1, "new", "boat")
    story.event(180, "new", "boat")
    assert story.told() == Tally(newcomers=1)


def test_who_takes_nothing_new_is_a_newcomer_and_no_question(story: Story) -> None:
    story.event(0, "new", "own")
    story.answer(1, "new", "boat")
    story.event(5, "new")
    story.event(6, "new", "own")
    assert story.told() == Tally(newcomers=1)


def test_an_answer_without_items_is_a_miss(story: Story) -> None:
    """Else the release that says nothing when in doubt would be the better one."""
    story.event(0, "new")
    story.answer(1, "new")
    story.event(5, "new", "boat")
    assert story.told() == Tally(1, 1, 0)


def test_only_the_ten_best_items_count(story: Story) -> None:
    story.event(0, "new")
    story.answer(1, "new", *(f"item {n}" for n in range(12)))
    story.event(5, "new", "item 10")
    assert story.told() == Tally(1, 1, 0)


def test_a_user_asks_once_with_the_first_event(story: Story) -> None:
    story.event(0, "new")
    story.answer(1, "new", "boat")
    story.event(5, "new", "boat")
    story.answer(6, "new", "kite", nth=2, trigger=1)
    story.event(7, "new", "kite")
    story.answer(8, "new", "hill", nth=3, trigger=2)
    assert story.told() == Tally(1, 1, 1)


def test_who_is_no_newcomer_is_not_asked(story: Story) -> None:
    story.event(0, "old", "boat")
    story.event(5, "old", "kite")
    assert story.told() == Tally()


@pytest.mark.parametrize("at", [-1, 2, 10])
def test_an_answer_counts_the_same_before_its_event_after_it_and_after_what_followed(story: Story, at: float) -> None:
    story.first["new"] = 0
    if at < 0:
        story.answer(at, "new", "boat")
    story.event(0, "new")
    if at == 2:
        story.answer(at, "new", "boat")
    story.event(5, "new", "boat")
    if at == 10:
        story.answer(at, "new", "boat")
    assert story.told() == Tally(1, 1, 1)


@pytest.mark.parametrize("at", [-61, 60])
def test_an_answer_that_is_far_from_its_event_is_not_judged(story: Story, at: float) -> None:
    story.first["new"] = 0
    if at < 0:
        story.answer(at, "new", "boat")
    story.event(0, "new")
    story.event(5, "new", "boat")
    if at > 0:
        story.answer(at, "new", "boat")
    assert story.told() == Tally()


@pytest.mark.parametrize("again", [2, 20, 200])
def test_the_first_of_an_answers_repeats_stands_also_when_another_release_repeats_it(
    story: Story, again: float
) -> None:
    story.event(0, "new")
    story.answer(1, "new", "boat")
    story.event(1.5, "new", "boat")
    story.answer(again, "new", "kite", release="later")
    story.answer(again + 1, "new", "boat")
    assert story.told() == Tally(1, 1, 1)
    assert story.told("later") == Tally()


def test_a_tombstone_ends_the_question_and_the_next_life_asks_anew(story: Story) -> None:
    story.event(0, "new")
    story.answer(1, "new", "boat")
    story.event(5, "new", "boat")
    story.erase(6, "new")
    story.answer(7, "new", "boat")
    assert story.told(at=8) == Tally()
    story.first["new"] = story.offset
    story.event(9, "new", "boat")
    story.answer(10, "new", "kite")
    story.event(11, "new", "kite")
    assert story.told() == Tally(1, 1, 1)


def test_each_release_has_what_it_answered(story: Story) -> None:
    for number, release in enumerate(("good", "good", "bad")):
        story.event(number, f"user {number}")
        story.answer(number + 0.1, f"user {number}", "boat" if release == "good" else "kite", release=release)
        story.event(number + 0.2, f"user {number}", "boat")
    assert story.told("good") == Tally(2, 2, 2, 1)
    assert story.told("bad") == Tally(1, 1, 0, 1)
    assert list(story.online.tallies()) == ["bad", "good"], "the last that answered comes first"


def test_popularity_answers_at_the_moment_of_the_event_and_not_with_the_users_own_item(story: Story) -> None:
    for user in range(20):
        story.event(0, f"old {user}", f"item {user % 10}")
    for _ in range(3):
        story.event(1, "old", "own")
    story.event(2, "first", "own")
    story.answer(2, "first")
    story.event(3, "first", "item 9")
    story.event(3, "first", "later")
    story.event(4, "second", "own")
    story.answer(4, "second")
    for user in range(3):
        story.event(5, f"then {user}", "fresh")
    story.event(6, "second", "fresh")
    assert story.told() == Tally(2, 2, 0, 1), "the second took what only became popular later"


def test_what_is_older_than_the_window_counts_no_more(story: Story) -> None:
    story.event(0, "new")
    story.answer(1, "new", "boat")
    story.event(5, "new", "boat")
    assert story.told(at=6 * 24 * 60) == Tally(1, 1, 1)
    story.answer(7 * 24 * 60, "new", nth=2)
    assert story.told(at=8 * 24 * 60) == Tally()


def test_its_room_is_bounded_and_free_again_once_questions_are_settled() -> None:
    story = Story(Online(HORIZON_MS, WINDOW_MS, room=3))
    for turn in range(5):
        story.event(0, f"user {turn}")
        story.answer(0, f"user {turn}", "boat")
        story.event(1, f"user {turn}", "boat")
        assert story.online.held <= 3
    assert story.told(at=200).hits == 3
    story.event(201, "late")
    story.answer(201, "late", "boat")
    story.event(202, "late", "boat")
    assert story.told().hits == 4


def test_users_who_come_and_are_erased_again_and_again_take_no_more_room() -> None:
    story = Story(Online(HORIZON_MS, WINDOW_MS, room=3))
    for turn in range(10):
        story.event(0, "new")
        story.erase(0, "new")
        assert story.online.held <= 3, turn


def test_answers_whose_event_never_comes_take_no_more_room() -> None:
    story = Story(Online(HORIZON_MS, WINDOW_MS, room=3))
    for trigger in range(10):
        story.answer(0, "new", "boat", trigger=trigger)
    for trigger in range(10):
        story.event(1, f"user {trigger}")
    story.event(1.5, "user 0", "boat")
    assert story.told().newcomers <= 3


def test_a_user_who_takes_very_much_is_judged_by_the_first_of_it(story: Story) -> None:
    story.event(0, "new")
    story.answer(1, "new", "boat")
    for number in range(LATER):
        story.event(2, "new", f"item {number}")
    story.event(3, "new", "boat")
    assert story.told() == Tally(1, 1, 0)


def test_of_many_releases_the_last_ones_are_kept(story: Story) -> None:
    for number in range(RELEASES + 3):
        story.event(number, f"user {number}")
        story.answer(number, f"user {number}", release=f"release {number}")
    assert story.told("release 2") == Tally()
    assert story.told("release 3").newcomers == 1
    assert len(story.online.tallies()) == RELEASES
