from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from ops.audit.replay import CUT, ERASED, EXPIRED, PARTIAL, REPEATED, ROAMS, entangled
from ops.audit.rules import Stretch
from ops.audit.spill import Spill
from schemas.state import unpack_position
from tests.unit.ops.audit.stories import RULES, TTL_MS, bad, event, history, replayed, tombstone


@pytest.fixture
def spill() -> Iterator[Spill]:
    with Spill() as made:
        yield made


def needed(spill: Spill, *, ended: bool = False) -> list[tuple[int, int, int]]:
    return [(q.partition, q.offset, q.nth) for q in spill.unanswered(ROAMS | PARTIAL, ended=ended)]


def test_a_users_first_events_are_questions_and_all_count(spill: Spill) -> None:
    replayed(spill, *(event("a", offset) for offset in range(5)))
    found = history(spill, "a")
    assert found.state is not None
    assert (found.state.count, unpack_position(found.position)) == (5, {0: 4})
    assert needed(spill) == [(0, 0, 1), (0, 1, 2), (0, 2, 3)]


def test_a_replay_in_pieces_gives_what_a_replay_in_one_gives() -> None:
    records = [event(user, 2 * n + place, weight=n, labels=[user]) for n in range(6) for place, user in enumerate("ab")]
    with Spill() as one, Spill() as other:
        replayed(one, *records)
        replay = replayed(other)
        for record in records:
            replay.take([record], whole=True)
        assert history(one, "a").position == history(other, "a").position
        first, second = history(one, "a").state, history(other, "a").state
        assert first is not None
        assert second is not None
        assert first.vector.tobytes() == second.vector.tobytes()
        assert list(one.labels()) == list(other.labels())


def test_a_repeated_event_id_counts_once_and_asks_once(spill: Spill) -> None:
    replayed(spill, event("a", 0, event_id="x"), event("a", 1, event_id="x"), event("a", 2))
    found = history(spill, "a")
    assert found.events == 2
    assert found.flags & REPEATED
    assert needed(spill) == [(0, 0, 1), (0, 2, 2)]


def test_answers_to_an_erased_user_are_owed_only_where_nothing_was_killed(spill: Spill) -> None:
    replayed(spill, event("a", 0), tombstone("a", 1), event("b", 2), tombstone("b", 3), event("b", 4))
    assert history(spill, "a").state is None
    assert history(spill, "b").flags & ERASED
    assert needed(spill) == [(0, 4, 1)]
    assert needed(spill, ended=True) == [(0, 0, 1), (0, 2, 1), (0, 4, 1)]


def test_a_user_who_was_away_too_long_begins_anew(spill: Spill) -> None:
    replayed(spill, event("a", 0, item_id="i"), event("a", 1, day=TTL_MS / 86_400_000 + 1))
    found = history(spill, "a")
    assert found.state is not None
    assert (found.state.count, found.life) == (1, 1)
    assert found.flags & EXPIRED
    ((item,),) = spill.items()
    assert (item.users, item.spare) == (0, 1), "Redis may have dropped the user before, and the count stayed"


def test_the_order_of_partitions_does_not_matter_to_a_plain_user_of_two(spill: Spill) -> None:
    replayed(spill, event("a", 0, item_id="i"), event("a", 7, partition=1, item_id="j"))
    found = history(spill, "a")
    assert found.flags & ROAMS
    assert not entangled(found, TTL_MS)
    for place in ((0, 0), (1, 7)):
        question = spill.question(*place)
        assert question is not None
        assert (question.nth, len(question.seen)) == (1, 1), "nothing of the other partition is counted on"


@pytest.mark.parametrize(
    "first",
    [
        [event("a", 0), tombstone("a", 1)],
        [event("a", 0, event_id="x"), event("a", 1, event_id="x")],
        [event("a", 0), event("a", 1, day=31)],
        [event("a", 0, weight=300)],
        [event("a", n, item_id=f"i{n}") for n in range(32)],
        [event("a", n, event_id=f"e{n}") for n in range(17)],
    ],
    ids=["erased", "repeated", "away", "heavy", "many items", "many ids"],
)
def test_where_order_decides_the_user_is_entangled(spill: Spill, first: list[object]) -> None:
    replayed(spill, *first, event("a", 3, partition=1))  # type: ignore[arg-type]
    assert entangled(history(spill, "a"), TTL_MS)


def test_a_log_that_begins_in_the_middle_makes_partial_users_until_they_are_erased(spill: Spill) -> None:
    replayed(spill, event("a", 100), event("b", 101), tombstone("b", 102), event("b", 103), whole=False)
    assert history(spill, "a").flags & PARTIAL
    assert not history(spill, "b").flags & PARTIAL
    assert history(spill, "b").flags & CUT, "of the life before the tombstone the numbers are not known"
    assert needed(spill) == [(0, 103, 1)]


def test_what_an_operator_skipped_is_not_applied_and_bad_records_of_it_need_no_letter(spill: Spill) -> None:
    rules = replace(RULES, skipped=(Stretch(0, 1, 3),))
    replay = replayed(spill, event("a", 0), event("a", 1), bad(2), bad(3), rules=rules)
    assert replay.counts.skipped == 2
    assert history(spill, "a").events == 1
    assert [letter.offset for letter in spill.unlettered()] == [3]


def test_what_needs_no_answer_is_applied_all_the_same(spill: Spill) -> None:
    rules = replace(RULES, unanswered=(Stretch(0, 0, 2),), answer_after_ms=RULES.now_ms + 1)
    replayed(spill, event("a", 0), bad(1), event("a", 2), event("a", 3, day=1), rules=rules)
    assert history(spill, "a").events == 3
    assert needed(spill) == [(0, 3, 3)]
    assert not list(spill.unlettered())


def test_a_sample_computes_the_vectors_of_some_users_only(spill: Spill) -> None:
    users = [f"user {n}" for n in range(200)]
    replay = replayed(spill, *(event(user, n) for n, user in enumerate(users)), rules=replace(RULES, sample=10))
    assert replay.counts.events == 200
    assert 5 < replay.counts.encoded < 45
