from __future__ import annotations

from collections import Counter

from ops.demo.prequential import Given, Post, Score, judge, most_popular


def posts(*pairs: tuple[str, str | None]) -> list[Post]:
    return [Post(user, item) for user, item in pairs]


def test_an_answer_hits_when_the_user_later_writes_about_one_of_its_items() -> None:
    log = posts(("a", "x"), ("a", "y"))
    assert judge(log, {("a", 1): Given(1, ["q", "y"])}) == Score(questions=1, hits=1, popular_hits=0)


def test_only_the_first_ten_items_count() -> None:
    log = posts(("a", "x"), ("a", "y"))
    given = [f"other {n}" for n in range(10)] + ["y"]
    assert judge(log, {("a", 1): Given(1, given)}).hits == 0


def test_what_the_user_had_already_seen_is_neither_a_question_nor_a_hit() -> None:
    log = posts(("a", "x"), ("a", "x"))
    assert judge(log, {("a", 1): Given(1, ["x"])}) == Score()


def test_an_answer_to_the_last_event_cannot_be_judged() -> None:
    log = posts(("a", "x"), ("a", "y"))
    assert judge(log, {("a", 2): Given(2, ["x"])}).questions == 0


def test_popularity_knows_only_what_came_before() -> None:
    before = posts(("b", "y"), ("a", "x"), ("a", "y"))
    after = posts(("a", "x"), ("b", "y"), ("a", "y"))
    assert judge(before, {("a", 1): Given(2, ["q"])}).popular_hits == 1
    assert judge(after, {("a", 1): Given(1, ["q"])}).popular_hits == 0


def test_what_was_sent_before_the_answer_was_there_is_neither_wanted_nor_unknown() -> None:
    log = posts(("a", "x"), ("a", "y"), ("b", "z"), ("a", "z"))
    assert judge(log, {("a", 1): Given(2, ["y"])}) == Score(questions=1, hits=0, popular_hits=0)
    assert judge(log, {("a", 1): Given(3, ["z"])}) == Score(questions=1, hits=1, popular_hits=1)
    assert judge(log, {("a", 1): Given(4, ["z"])}) == Score()


def test_popularity_leaves_out_what_the_user_has_seen() -> None:
    assert most_popular(Counter({"x": 5, "y": 3, "z": 1}), {"x"}, 2) == ["y", "z"]


def test_posts_without_an_item_count_as_events() -> None:
    log = posts(("a", None), ("a", "x"), ("a", "y"))
    assert judge(log, {("a", 2): Given(2, ["y"])}) == Score(questions=1, hits=1, popular_hits=0)


def test_rates_of_nothing_are_zero() -> None:
    assert Score().hit_rate == Score().popular_rate == 0.0
