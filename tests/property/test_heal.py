"""Wherever group, Redis and log stand, reading begins early enough and publishes late enough; and whatever happens to a
running worker, users and answers are those of an undisturbed run."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import TEXTS, World, eventually
from tests.stories import expected_ids, story
from worker.broker.base import Bounds
from worker.heal import pack_note, plan, read_note

OFFSETS = st.integers(0, 50)


@given(OFFSETS, st.lists(st.none() | OFFSETS, min_size=1, max_size=5), OFFSETS, OFFSETS)
def test_reading_begins_at_or_below_everything_that_may_be_missing(
    committed: int, watermarks: list[int | None], begin: int, began: int
) -> None:
    began = min(began, committed)
    watermarks = [None if mark is None else max(mark, began) for mark in watermarks]
    bounds = Bounds(begin, 100)
    found = plan("t", 0, committed=committed, watermarks=watermarks, bounds=bounds, begin=begin, began=began)
    needed = min(committed, *(began if mark is None else mark for mark in watermarks))
    assert bounds.begin <= found.start <= found.publish_from
    assert found.start == max(needed, begin)
    assert found.publish_from >= committed
    assert found.unrecoverable == found.start - needed
    assert found.heals == (found.start < found.publish_from)


@given(OFFSETS, st.lists(st.none() | OFFSETS, min_size=1, max_size=5), OFFSETS)
def test_a_new_group_heals_nothing_and_misses_nothing(begin: int, watermarks: list[int | None], extra: int) -> None:
    found = plan("t", 0, committed=None, watermarks=watermarks, bounds=Bounds(begin, 100 + begin), begin=begin + extra)
    assert found.start == found.publish_from == begin + extra
    assert (found.heals, found.unrecoverable) == (False, 0)


@given(st.uuids(), st.integers(0, 2**62))
def test_a_note_is_read_back_as_it_was(instance: Any, began: int) -> None:
    assert read_note(pack_note(instance.hex, began)) == (instance.hex, began)


MISHAPS = st.lists(
    st.one_of(
        st.just(("flush", 0)),
        st.tuples(st.just("lose shard"), st.integers(0, 3)),
        st.tuples(st.just("set shard back"), st.integers(0, 3)),
        st.tuples(st.just("die after step"), st.integers(1, 8)),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=12)
@given(MISHAPS)
def test_whatever_happens_users_and_answers_are_those_of_an_undisturbed_run(mishaps: list[tuple[str, int]]) -> None:
    world = World(partitions=3)
    story(world, users=6)
    world.work()
    for number, (what, which) in enumerate(mishaps, start=1):
        old = world.data.copy(which % 4)
        story(world, users=6, first=1000 * number)
        if what == "die after step":
            die(world, which)
            continue
        with world.worker() as made:
            eventually(lambda: made.value("kindred_events_applied_total") > 0, "it works")
            if what == "flush":
                world.data.flush()
            elif what == "lose shard":
                world.data.flush(which)
            else:
                world.data.restore(which, old)
    with world.worker() as made:
        story(world, users=6, first=10**6)
        made.finish()
    calm = World(partitions=3)
    for record in world.log():
        calm.broker.append(TEXTS, record.key, record.value, record.headers, record.partition, record.timestamp)
    calm.work()
    assert world.users() == calm.users()
    assert {i: n for i, (_, n) in world.aggregates().items()} == {i: n for i, (_, n) in calm.aggregates().items()}
    assert set(world.ids()) == expected_ids(world)


def die(world: World, step: int) -> None:
    def fail(done: int) -> None:
        if done == step:
            raise RuntimeError("dead")

    with world.worker(fail_point=fail) as made:
        made.await_error()
