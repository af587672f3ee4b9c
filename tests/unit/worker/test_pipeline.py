"""Steps 4 to 8 as a user sees them: what is answered, stored and published, also when records come again."""

from __future__ import annotations

from collections import Counter

import pytest

from model.users import UserWrite
from schemas.dead_letter import read_dead_letter
from schemas.recommendation import Recommendation
from schemas.state import hash64, pack_position
from tests.builders import DEAD, OUT, TEXTS, Gate, K, World, key_of
from tests.stories import story
from worker.store.base import Write


@pytest.fixture
def world() -> World:
    return World()


# What is answered.


def test_each_of_a_newcomers_first_events_is_answered_once_and_later_ones_never(world: World) -> None:
    for _ in range(K + 2):
        world.write("anna")
    world.work()
    assert world.answered() == [("anna", nth) for nth in range(1, K + 1)]


def test_an_answer_sees_every_earlier_event_also_of_its_own_batch(world: World) -> None:
    for label in ("sea", "bread", "chess"):
        world.write("anna", labels=[label], item_id=label, item_title=label)
    world.write("bo", item_id="chess", item_title="chess")
    world.write("bo", item_id="tea", item_title="tea")
    world.work(batch_max_events=100, batch_max_age=0.05)
    own: list[Recommendation] = [found for found in world.recommendations() if found.user_id == "anna"]
    assert [{interest.label for interest in found.interests} for found in own] == [
        {"sea"},
        {"sea", "bread"},
        {"sea", "bread", "chess"},
    ]
    assert all(item.item_id not in ("sea", "bread", "chess") for item in own[2].items)


def test_an_answer_sees_nothing_of_what_its_newcomer_does_later_in_the_same_batch(world: World) -> None:
    """What they take next is neither recommended on their own account nor, where others have it, kept from them."""
    for item in ("tea", "bread"):
        world.write("bo", item_id=item, item_title=item)
    world.work()
    for item in ("sea", "bread", "chess"):
        world.write("anna", item_id=item, item_title=item)
    world.work(batch_max_events=100, batch_max_age=0.05)
    own = [{item.item_id for item in found.items} for found in world.recommendations() if found.user_id == "anna"]
    assert own == [{"tea", "bread"}, {"tea"}, {"tea"}]


def test_a_user_who_is_erased_later_in_the_batch_is_nobodys_donor_in_it(world: World) -> None:
    world.write("anna", item_id="boat", item_title="boat")
    world.write("bo")
    world.forget("anna")
    world.write("anna", item_id="tea", item_title="tea")
    world.work(batch_max_events=100, batch_max_age=0.05)
    found = [(found.user_id, [item.item_id for item in found.items]) for found in world.recommendations()]
    assert found == [("anna", ["tea"]), ("bo", ["tea"]), ("anna", [])]


def test_the_answer_names_the_event_that_it_answers(world: World) -> None:
    world.write("anna", event_id="first", headers=[("traceparent", b"00-1-2-01"), ("other", b"x")])
    record = world.write("anna")
    world.work()
    first, second = world.recommendations()
    assert (first.trigger.topic, first.trigger.offset, first.trigger.event_id) == (TEXTS, 0, "first")
    assert second.trigger.event_id == f"{TEXTS}-0-{record.offset}"
    headers = dict(world.broker.records(OUT)[0].headers)
    assert headers["traceparent"] == b"00-1-2-01"
    assert "other" not in headers


def test_a_text_that_is_empty_after_cleaning_counts_moves_nothing_and_is_answered(world: World) -> None:
    world.write("anna", "https://example.org/a")
    world.write("anna", "a walk by the sea")
    world.work()
    assert world.answered() == [("anna", 1), ("anna", 2)]
    state = world.state("anna")
    alone = World()
    alone.write("anna", "a walk by the sea")
    alone.work()
    other = alone.state("anna")
    assert state is not None
    assert other is not None
    assert state.count == 2
    assert state.vector.tobytes() == other.vector.tobytes()


def test_an_item_that_others_took_is_recommended_by_its_title(world: World) -> None:
    for name in ("bo", "cy"):
        world.write(name, "a walk by the sea", item_id="boat", item_title="The little boat")
    world.write("anna", "a walk by the sea")
    world.work(batch_max_events=1)
    answer = world.recommendations()[-1]
    assert answer.user_id == "anna"
    assert [(item.item_id, item.title) for item in answer.items] == [("boat", "The little boat")]
    assert answer.donors.count == 2


def test_a_title_that_comes_with_a_later_event_is_learned(world: World) -> None:
    world.write("bo", item_id="boat")
    world.write("cy", item_id="boat", item_title="The little boat")
    world.write("anna")
    world.work(batch_max_events=1)
    assert world.recommendations()[-1].items[0].title == "The little boat"


# Replays.


def test_a_replay_publishes_the_same_ids_and_changes_no_state(world: World) -> None:
    story(world)
    world.work()
    before, first = world.users(), world.ids()
    world.broker.committed.clear()
    with world.worker() as made:
        made.finish()
        assert made.value("kindred_events_skipped_total", reason="replayed") == len(world.log())
        assert made.value("kindred_events_applied_total") == 0
    assert world.users() == before
    assert world.ids() == Counter(dict.fromkeys(first, 2))


def test_a_repeated_event_id_is_neither_counted_nor_answered(world: World) -> None:
    world.write("anna", event_id="same")
    world.write("anna", event_id="same")
    with world.worker() as made:
        made.finish()
        assert made.value("kindred_events_skipped_total", reason="repeated") == 1
    assert world.answered() == [("anna", 1)]


def test_an_erased_user_starts_anew_with_the_next_event(world: World) -> None:
    for _ in range(4):
        world.write("anna", item_id="boat", item_title="boat")
    world.forget("anna")
    world.work()
    assert world.state("anna") is None
    assert world.users()[key_of("anna")][0] != b""
    world.write("anna")
    world.work()
    state = world.state("anna")
    assert state is not None
    assert (state.count, state.items) == (1, ())
    assert world.answered()[-1] == ("anna", 1)


def test_an_erased_user_is_no_donor_any_more(world: World) -> None:
    world.write("bo", item_id="boat", item_title="boat")
    world.forget("bo")
    world.write("anna")
    world.work(batch_max_events=1)
    answer = world.recommendations()[-1]
    assert (answer.donors.count, answer.items) == (0, ())


def test_a_late_write_of_a_worker_that_lost_its_partition_does_not_bring_an_erased_user_back(world: World) -> None:
    world.write("anna")
    gate = Gate(5)
    with world.worker(fail_point=gate) as made:
        gate.await_reached()
        # The new owner has got as far as the tombstone, while the old one stands before its save.
        world.store().save(Write({0: 2}, [{} for _ in range(world.shards)], [erased("anna", offset=1)]))
        gate.open()
        made.finish()
        assert made.value("kindred_writes_refused_total") == 1
    assert world.state("anna") is None
    assert world.answered() == []


def erased(user: str, offset: int) -> UserWrite:
    return UserWrite(key_of(user), b"", pack_position({0: offset}), None)


# Bad records.


def test_every_bad_record_becomes_one_dead_letter_with_its_reason_and_place(world: World) -> None:
    world.spoil(b"no json")
    world.write("anna")
    world.spoil(b"\xff\xff")
    world.spoil(b"[]")
    world.write("bo", weight=-1)
    with world.worker(name="worker-7") as made:
        made.finish()
        assert made.value("kindred_events_dead_total", reason="not_json") == 1
    letters = world.dead_letters()
    assert [(letter.reason, letter.offset) for letter in letters] == [
        ("not_json", 0),
        ("not_utf8", 2),
        ("wrong_shape", 3),
        ("bad_weight", 4),
    ]
    assert letters[0].value == b"no json"
    assert {letter.worker for letter in letters} == {"worker-7"}
    assert world.answered() == [("anna", 1)]


def test_a_dead_letter_keeps_the_records_own_headers(world: World) -> None:
    world.broker.append(TEXTS, b"x", b"no json", [("mine", b"1")], 0)
    world.work()
    (record,) = world.broker.records(DEAD)
    assert list(read_dead_letter(record.headers, record.key, record.value).headers) == [("mine", b"1")]


# Two writers.


def test_a_refused_write_is_computed_again_and_its_stale_answer_is_not_published(world: World) -> None:
    world.write("anna", "bread and jazz", labels=["old"])
    world.write("anna", "a walk by the sea", labels=["new"])
    gate = Gate(5)
    with world.worker(fail_point=gate, batch_max_age=0.05) as made:
        gate.await_reached()
        other = World()
        other.write("anna", "bread and jazz", labels=["old"])
        other.broker.now_ms = world.broker.now_ms
        other.work()
        (found,) = other.store().load([key_of("anna")])
        copied = other.users()[key_of("anna")]
        world.store().save(
            Write({0: 1}, [{} for _ in range(world.shards)], [UserWrite(key_of("anna"), b"", copied[0], copied[1])])
        )
        assert found.state is not None
        gate.open()
        made.finish()
        assert made.value("kindred_writes_refused_total") == 1
        assert made.value("kindred_events_applied_total") == 1
    state = world.state("anna")
    assert state is not None
    assert state.count == 2
    assert sorted(world.answered()) == [("anna", 1), ("anna", 2)]
    assert state.labels == {hash64("old"): 1.0, hash64("new"): 1.0}
