"""Going over to another space, and changing one's mind on the way: nothing is lost, and no vectors are mixed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from model.encoder.dummy import DummyEncoder
from schemas.announcement import ReleaseAnnouncement
from schemas.recommendation import Recommendation
from tests.builders import PATIENCE, TEXTS, Gate, Setup, Worker, World, eventually
from tests.stories import expected_ids, story
from tests.unit.worker.releases import Shelf, announce, announcement
from tests.unit.worker.two_spaces import NEW, OLD, alone, await_space, nothing_lost_or_doubled, serves, spaces
from worker.broker.memory import MemoryTransactions
from worker.serving import Serving


@pytest.fixture
def world() -> World:
    return World(partitions=3)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


# Going over.


def test_a_new_space_is_filled_while_events_flow_and_then_served(world: World, shelf: Shelf) -> None:
    path = shelf.write(0.9, encoder="dummy-128")
    with world.worker(open=shelf.open) as made:
        story(world, users=30)
        eventually(lambda: world.recommendations(), "the first release answers")
        announce(world, path)
        story(world, users=45, seed=2, first=1000)
        await_space(made, NEW)
        story(world, users=60, seed=3, first=2000)
        made.finish()
        assert made.value("kindred_swaps_total") == 1
        assert made.value("kindred_backfill_remaining") == 0
        assert made.value("kindred_release_info", release=path.name, space=NEW, backend="dummy") == 1
        assert made.service.pipeline.follower.index.donors == 60
        assert "notices" not in made.health.report()[1]
    assert set(spaces(world)) == {OLD, NEW}
    nothing_lost_or_doubled(world)
    assert world.users(world.of_space(NEW)) == alone(world, shelf, path)


def test_answers_name_the_release_and_the_space_that_gave_them(world: World, shelf: Shelf) -> None:
    def said(found: Recommendation) -> tuple[str, str]:
        return found.release, found.space

    path = shelf.write(0.9, encoder="dummy-128")
    world.write("anna")
    with world.worker(open=shelf.open) as made:
        made.finish()
        announce(world, path)
        await_space(made, NEW)
        world.write("anna")
        made.finish()
    assert [said(found) for found in world.recommendations()] == [("built-in", OLD), (path.name, NEW)]


def test_a_new_space_without_anything_in_the_log_is_served_at_once(world: World, shelf: Shelf) -> None:
    with world.worker(open=shelf.open) as made:
        announce(world, shelf.write(0.9, encoder="dummy-128"))
        await_space(made, NEW)
        world.write("anna")
        made.finish()
    assert spaces(world) == [NEW]


def test_each_of_two_workers_goes_over_by_itself(world: World, shelf: Shelf) -> None:
    path, gate = shelf.write(0.9, encoder="dummy-128"), Gate(15)
    with world.worker(open=shelf.open) as one, world.worker(name="worker-1", open=shelf.open, fail_point=gate) as two:
        story(world, users=30)
        one.finish()
        announce(world, path)
        gate.await_reached()
        await_space(one, NEW)
        story(world, users=45, seed=2, first=1000)
        one.finish()
        assert serves(two, OLD)
        gate.open()
        await_space(two, NEW)
        story(world, users=60, seed=3, first=2000)
        two.finish()
    assert set(spaces(world)) == {OLD, NEW}
    nothing_lost_or_doubled(world)
    assert world.users(world.of_space(NEW)) == alone(world, shelf, path)


def test_a_partition_that_moves_to_a_worker_of_the_older_space_is_healed_there(world: World, shelf: Shelf) -> None:
    path, gate = shelf.write(0.9, encoder="dummy-128"), Gate(15)
    with world.worker(name="worker-1", open=shelf.open, fail_point=gate) as two:
        with world.worker(open=shelf.open) as one:
            story(world, users=30)
            one.finish()
            announce(world, path)
            gate.await_reached()
            await_space(one, NEW)
            story(world, users=45, seed=2, first=1000)
            one.finish()
        eventually(lambda: two.value("kindred_partitions", state="running") == 3, "the other one has all partitions")
        assert serves(two, OLD)
        story(world, users=60, seed=3, first=2000)
        two.finish()
        eventually(lambda: two.value("kindred_healing_remaining", partition="0") == 0, "it is healed")
        gate.open()
        await_space(two, NEW)
        two.finish()
    nothing_lost_or_doubled(world)
    assert world.users(world.of_space(NEW)) == alone(world, shelf, path)


def test_with_exactly_once_each_answer_is_there_once(world: World, shelf: Shelf) -> None:
    path = shelf.write(0.9, encoder="dummy-128")
    with world.worker(open=shelf.open, transactions=MemoryTransactions) as made:
        story(world, users=30)
        announce(world, path)
        story(world, users=45, seed=2, first=1000)
        await_space(made, NEW)
        story(world, users=60, seed=3, first=2000)
        made.finish()
    nothing_lost_or_doubled(world)


def test_bad_records_are_no_more_than_one_dead_letter_each(world: World, shelf: Shelf) -> None:
    path = shelf.write(0.9, encoder="dummy-128")
    for number in range(20):
        world.spoil(partition=number % 3)
        world.write(f"user {number}", partition=None)
    with world.worker(open=shelf.open, dead_in_a_row=10) as made:
        made.finish()
        announce(world, path)
        await_space(made, NEW)
        made.finish()
        assert made.ready()
    assert len(world.dead_letters()) == 20


def test_a_batch_of_a_partition_that_is_being_taken_away_never_meets_the_new_space(world: World, shelf: Shelf) -> None:
    path, hold = shelf.write(0.9, encoder="dummy-128"), Hold(4)
    story(world, users=30)
    with world.worker(open=shelf.open, fail_point=hold) as one:
        one.finish()
        hold.on.set()
        world.write("late", partition=1)
        assert hold.reached.wait(PATIENCE)
        announce(world, path)
        eventually(lambda: one.service._exchange._drained, "what is under way is waited for")
        two = Worker(world, Setup(name="worker-1", open=shelf.open, pending=announcement(path)))
        two.begin()
        eventually(lambda: one.value("kindred_partitions", state="running") == 2, "a partition is taken away")
        turns = one.service._exchange._next_look
        eventually(lambda: one.service._exchange._next_look > turns, "it is looked at again")
        assert serves(one, OLD)
        hold.free.set()
        two.await_start()
        await_space(one, NEW)
        await_space(two, NEW)
        story(world, users=45, seed=2, first=1000)
        two.finish()
        two.end()
        assert two.error is None
    assert set(world.ids()) == expected_ids(world)
    assert world.users(world.of_space(NEW)) == alone(world, shelf, path)


def test_a_worker_without_partitions_goes_over_as_well(world: World, shelf: Shelf) -> None:
    path, world = shelf.write(0.9, encoder="dummy-128"), World(partitions=1)
    story(world, users=30)
    with world.worker(open=shelf.open) as one, world.worker(name="worker-1", open=shelf.open) as two:
        one.finish()
        eventually(lambda: two.value("kindred_partitions", state="running") == 0, "it has none")
        announce(world, path)
        await_space(one, NEW)
        await_space(two, NEW)


def test_a_partition_that_is_paused_for_bad_records_does_not_hold_up_the_others(world: World, shelf: Shelf) -> None:
    path = shelf.write(0.9, encoder="dummy-128")
    for user in ("anna", "bo"):
        world.write(user, partition=1)
    for _ in range(5):
        world.spoil(partition=0)
    with world.worker(open=shelf.open, dead_in_a_row=3) as made:
        eventually(lambda: made.value("kindred_partitions", state="paused") == 1, "it is paused")
        announce(world, path)
        await_space(made, NEW)
        world.write("cy", partition=1)
        eventually(lambda: ("cy", 1) in world.answered(), "the others are answered")
        eventually(lambda: made.value("kindred_partitions", state="paused") == 1, "it is paused again")


class Hold:
    """A fail point that holds up a step from when it is set until it is let go."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.on = threading.Event()
        self.reached = threading.Event()
        self.free = threading.Event()

    def __call__(self, step: int) -> None:
        if step == self.step and self.on.is_set():
            self.reached.set()
            assert self.free.wait(PATIENCE)


# Going back, and changing one's mind.


def test_an_older_space_is_healed_and_served_again(world: World, shelf: Shelf) -> None:
    old, path = shelf.write(0.5), shelf.write(0.9, encoder="dummy-128")
    story(world, users=30)
    with world.worker(open=shelf.open, load=shelf.load) as made:
        made.finish()
        before = world.users()
        announce(world, path)
        await_space(made, NEW)
        story(world, users=45, seed=2, first=1000)
        made.finish()
        assert world.users() == before, "a space that is not served stands still"
        announce(world, old)
        await_space(made, OLD)
        world.write("anna")
        made.finish()
        assert made.value("kindred_release_info", release=old.name, space=OLD, backend="dummy") == 1
    nothing_lost_or_doubled(world)
    calm = World(partitions=3)
    for record in world.log():
        calm.broker.append(TEXTS, record.key, record.value, record.headers, record.partition, record.timestamp)
    calm.work()
    assert world.users() == calm.users()


@pytest.mark.parametrize("step", [11, 12, 13, 14, 15, 16, 17, 18])
def test_going_back_in_the_middle_of_a_back_fill_changes_nothing(world: World, shelf: Shelf, step: int) -> None:
    current, path, gate = shelf.write(0.5), shelf.write(0.9, encoder="dummy-128"), Gate(step)
    story(world, users=30)
    with world.worker(open=shelf.open, load=shelf.load, fail_point=gate) as made:
        announce(world, current)
        eventually(lambda: made.service.lane and made.value("kindred_swaps_total") == 1, "the first one is served")
        announce(world, path)
        gate.await_reached()
        announce(world, current)
        eventually(lambda: made.service._exchange._fill is None, "the back-fill is given up")
        gate.open()
        story(world, users=45, seed=2, first=1000)
        made.finish()
        assert serves(made, OLD)
    assert set(spaces(world)) == {OLD}
    nothing_lost_or_doubled(world)


def test_a_third_space_that_is_announced_during_a_back_fill_is_the_one_that_is_served(
    world: World, shelf: Shelf
) -> None:
    path, third = shelf.write(0.9, encoder="dummy-128"), shelf.write(0.9, encoder="dummy-32")
    gate = Gate(15)
    story(world, users=30)
    with world.worker(open=shelf.open, fail_point=gate) as made:
        announce(world, path)
        gate.await_reached()
        announce(world, third)
        gate.open()
        await_space(made, DummyEncoder(32).space)
        story(world, users=45, seed=2, first=1000)
        made.finish()
    assert NEW not in spaces(world)
    nothing_lost_or_doubled(world)


def test_a_release_of_the_space_in_service_that_is_announced_during_a_back_fill_ends_it(
    world: World, shelf: Shelf
) -> None:
    other, path, gate = shelf.write(0.5), shelf.write(0.9, encoder="dummy-128"), Gate(15)
    story(world, users=30)
    with world.worker(open=shelf.open, load=shelf.load, fail_point=gate) as made:
        announce(world, path)
        gate.await_reached()
        announce(world, other)
        eventually(lambda: made.service._parts.swap.serving.release == other.name, "the other one is served")
        gate.open()
        made.finish()
        assert serves(made, OLD)
    assert NEW not in spaces(world)


def test_a_refused_release_leaves_a_back_fill_alone(world: World, shelf: Shelf) -> None:
    path, gate = shelf.write(0.9, encoder="dummy-128"), Gate(15)
    story(world, users=30)
    with world.worker(open=shelf.open, load=shelf.load, fail_point=gate) as made:
        announce(world, path)
        gate.await_reached()
        announce(world, shelf.releases / "never-written")
        eventually(lambda: made.value("kindred_releases_refused_total", reason="no_manifest") == 1, "it is refused")
        gate.open()
        await_space(made, NEW)


def test_a_release_of_a_space_that_was_just_left_is_not_served_with_the_vectors_of_the_next(
    world: World, shelf: Shelf
) -> None:
    """Made ready for the old space in the moment in which the new one went into service: it is considered again."""
    old, path = shelf.write(0.5), shelf.write(0.9, encoder="dummy-128")
    entered, opened = threading.Event(), threading.Event()

    def load(announced: ReleaseAnnouncement) -> Serving:
        entered.set()
        assert opened.wait(PATIENCE)
        return shelf.load(announced)

    gate = Gate(15)
    story(world, users=30)
    with world.worker(open=shelf.open, load=load, fail_point=gate) as made:
        announce(world, path)
        gate.await_reached()
        announce(world, old)
        assert entered.wait(PATIENCE)
        gate.open()
        await_space(made, NEW)
        opened.set()
        await_space(made, OLD)
        story(world, users=45, seed=2, first=1000)
        made.finish()
    nothing_lost_or_doubled(world)
    assert all((found.space == OLD) == (found.release in ("built-in", old.name)) for found in world.recommendations())
