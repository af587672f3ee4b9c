"""A release of another space: filled from the log beside the one in service, then served, or nothing changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.encoder.base import Encoder
from model.encoder.dummy import DummyEncoder
from model.users import UserKey
from schemas.announcement import ReleaseAnnouncement
from schemas.recommendation import Recommendation
from tests.builders import (
    PATIENCE,
    TEXTS,
    Gate,
    Setup,
    Worker,
    World,
    eventually,
    expected_ids,
    in_order,
    key_of,
    story,
)
from tests.unit.worker.releases import Shelf, announce, announcement
from worker.broker.memory import MemoryTransactions
from worker.heal import read_note
from worker.serving import Serving
from worker.store.base import StoreRefused, Write
from worker.store.keys import INSTANCE_NOTE
from worker.store.memory import MemoryData, MemoryStore

OLD, NEW = DummyEncoder().space, DummyEncoder(128).space


@pytest.fixture
def world() -> World:
    return World(partitions=3)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def serves(made: Worker, space: str) -> bool:
    return made.service.lane.serving.space == space


def await_space(made: Worker, space: str) -> None:
    eventually(lambda: serves(made, space) or made.error, f"space {space[:8]} is served ({made.why()})")


def spaces(world: World) -> list[str]:
    return [found.space for found in world.recommendations()]


def alone(world: World, shelf: Shelf, path: Path) -> dict[UserKey, tuple[bytes, bytes | None]]:
    """The users of a space as a worker leaves them that knows no other: a serial replay of the same log."""
    calm = World(partitions=world.partitions)
    for record in world.log():
        calm.broker.append(TEXTS, record.key, record.value, record.headers, record.partition, record.timestamp)
    calm.work(first=lambda: shelf.open(announcement(path)))
    return calm.users(calm.of_space(DummyEncoder(128).space))


def nothing_lost_or_doubled(world: World) -> None:
    assert set(world.ids()) == expected_ids(world)
    assert max(world.ids().values()) == 1
    in_order(world)


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


# Dying, and failing.


@pytest.mark.parametrize("step", [11, 13, 14, 15, 16, 17, 18])
def test_a_worker_that_dies_at_a_step_of_a_back_fill_goes_on_with_it_when_it_starts_again(
    world: World, shelf: Shelf, step: int
) -> None:
    path = shelf.write(0.9, encoder="dummy-128")
    gate = Gate(step)
    story(world, users=30)
    with world.worker(open=shelf.open, fail_point=gate, batch_max_events=4) as made:
        announce(world, path)
        gate.await_reached()
        made.service._loop.start_over.set()  # type: ignore[union-attr]  # whatever else happens meanwhile
        made.service.stop()
        gate.open()
    with world.worker(open=shelf.open, pending=announcement(path)) as made:
        await_space(made, NEW)
        story(world, users=45, seed=2, first=1000)
        made.finish()
    nothing_lost_or_doubled(world)
    assert world.users(world.of_space(NEW)) == alone(world, shelf, path)


def test_a_back_fill_goes_on_from_where_another_one_stopped(world: World, shelf: Shelf) -> None:
    path, gate = shelf.write(0.9, encoder="dummy-128"), Gate(18)
    story(world, users=30)
    with world.worker(open=shelf.open, fail_point=gate, batch_max_events=4) as made:
        made.finish()
        announce(world, path)
        gate.await_reached()
        gate.open()
    done = {n: mark for shard in world.of_space(NEW).stored for n, mark in shard.watermarks.items()}
    assert done
    with world.worker(open=shelf.open, pending=announcement(path)) as made:
        await_space(made, NEW)
    assert world.users(world.of_space(NEW)) == alone(world, shelf, path)


def test_a_new_space_that_redis_loses_while_it_is_filled_is_filled_again(world: World, shelf: Shelf) -> None:
    path, gate = shelf.write(0.9, encoder="dummy-128"), Gate(18)
    story(world, users=30)
    with world.worker(open=shelf.open, fail_point=gate, batch_max_events=4) as made:
        made.finish()
        announce(world, path)
        gate.await_reached()
        world.of_space(NEW).stored[1] = MemoryData(shards=4).stored[1]
        gate.open()
        await_space(made, NEW)
        story(world, users=45, seed=2, first=1000)
        made.finish()
    nothing_lost_or_doubled(world)
    assert world.users(world.of_space(NEW)) == alone(world, shelf, path)


def test_a_back_fill_that_fails_leaves_the_old_space_in_service_and_is_told(world: World, shelf: Shelf) -> None:
    class Full(MemoryStore):
        def save(self, write: Write) -> set[int]:
            if self._data is world.of_space(NEW):
                raise StoreRefused("no room for another space")
            return super().save(write)

    path = shelf.write(0.9, encoder="dummy-128")
    story(world, users=30)
    with world.worker(open=shelf.open, store=Full) as made:
        announce(world, path)
        eventually(lambda: made.value("kindred_releases_refused_total", reason="backfill") == 1, "it is counted")
        assert "no room for another space" in str(made.health.report()[1]["notices"])
        story(world, users=45, seed=2, first=1000)
        made.finish()
        assert made.ready()
        assert serves(made, OLD)
    nothing_lost_or_doubled(world)


def test_a_back_fill_that_failed_is_tried_again_when_its_release_is_announced_again(world: World, shelf: Shelf) -> None:
    failing = threading.Event()
    failing.set()

    class Full(MemoryStore):
        def save(self, write: Write) -> set[int]:
            if self._data is world.of_space(NEW) and failing.is_set():
                raise StoreRefused("no room for another space")
            return super().save(write)

    path = shelf.write(0.9, encoder="dummy-128")
    story(world, users=30)
    with world.worker(open=shelf.open, store=Full) as made:
        announce(world, path)
        eventually(lambda: made.value("kindred_releases_refused_total", reason="backfill") == 1, "it is counted")
        failing.clear()
        announce(world, path)
        await_space(made, NEW)
        assert "notices" not in made.health.report()[1]


def test_a_worker_that_has_no_room_for_another_space_goes_on_with_the_old_one(
    world: World, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shelf.write(0.9, encoder="dummy-128")
    story(world, users=30)
    with world.worker(open=shelf.open) as made:
        made.finish()

        def full(*_: object, **__: object) -> None:
            raise MemoryError("no room for a second index")

        monkeypatch.setattr("worker.service.Backfill", full)
        announce(world, path)
        eventually(lambda: made.value("kindred_releases_refused_total", reason="backfill") == 1, "it is counted")
        world.write("anna")
        made.finish()
        assert serves(made, OLD)


def test_a_redis_that_is_emptied_while_a_space_is_filled_is_that_of_the_group_afterwards(
    world: World, shelf: Shelf
) -> None:
    """Else the worker would commit for data that is no more, and take itself for another stack."""
    path, gate = shelf.write(0.9, encoder="dummy-128"), Gate(18)
    story(world, users=30)
    with world.worker(open=shelf.open, fail_point=gate, batch_max_events=4) as made:
        made.finish()
        announce(world, path)
        gate.await_reached()
        world.of_space(NEW).flush()
        world.data.flush()
        gate.open()
        await_space(made, NEW)
        story(world, users=45, seed=2, first=1000)
        made.finish()
        instance = made.service.pipeline.instance
    assert instance == world.data.notes[INSTANCE_NOTE]
    assert {read_note(found.metadata)[0] for found in world.broker.committed.values()} == {instance}
    assert set(world.ids()) == expected_ids(world)
    assert world.users(world.of_space(NEW)) == alone(world, shelf, path)


def test_a_worker_that_ends_in_a_back_fill_closes_what_it_has_opened(world: World, shelf: Shelf) -> None:
    closed: list[str] = []

    class Told(MemoryStore):
        def close(self) -> None:
            closed.append("new" if self._data is world.of_space(NEW) else "old")

    path, gate = shelf.write(0.9, encoder="dummy-128"), Gate(15)
    story(world, users=30)
    with world.worker(open=shelf.open, store=Told, fail_point=gate) as made:
        announce(world, path)
        gate.await_reached()
        made.service.stop()
        gate.open()
    eventually(lambda: sorted(closed) == ["new", "old"], "both are closed")


# Who is forgotten.


@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_an_erased_user_is_erased_in_every_space(world: World, shelf: Shelf, when: str) -> None:
    path, gate = shelf.write(0.9, encoder="dummy-128"), Gate(15)
    story(world, users=30)
    world.write("anna", partition=1)
    with world.worker(open=shelf.open, fail_point=gate) as made:
        made.finish()
        if when == "before":
            world.forget("anna", partition=1)
            made.finish()
        announce(world, path)
        gate.await_reached()
        if when == "during":
            world.forget("anna", partition=1)
            made.finish()
        gate.open()
        await_space(made, NEW)
        made.finish()
        if when == "after":
            world.forget("anna", partition=1)
            made.finish()
        assert world.state("anna") is None
        assert world.state("anna", world.of_space(NEW)) is None
        assert key_of("anna") not in made.service.pipeline.follower.index._rows


def test_an_old_user_whose_events_the_log_has_lost_is_no_newcomer_in_the_new_space(world: World, shelf: Shelf) -> None:
    path = shelf.write(0.9, encoder="dummy-128")
    for _ in range(5):
        world.write("anna", item_id="boat", item_title="boat")
    for _ in range(2):
        world.write("bo")
    with world.worker(open=shelf.open) as made:
        made.finish()
        world.broker.truncate(TEXTS, 0, 6)
        announce(world, path)
        await_space(made, NEW)
        made.finish()
        found = {name: world.state(name, world.of_space(NEW)) for name in ("anna", "bo")}
        assert found["anna"] is not None
        assert found["bo"] is not None
        assert (found["anna"].count, found["bo"].count) == (5, 2)
        assert not found["anna"].vector.any()
        assert found["bo"].vector.any()
        before = len(world.recommendations())
        for name in ("anna", "bo", "bo"):
            world.write(name)
        made.finish()
        assert [found.user_id for found in world.recommendations()[before:]] == ["bo"]


# While it lasts.


def opening(shelf: Shelf, opened: list[str]) -> Callable[[ReleaseAnnouncement], tuple[Encoder, Serving]]:
    def open_(announced: ReleaseAnnouncement) -> tuple[Encoder, Serving]:
        opened.append(announced.release)
        return shelf.open(announced)

    return open_


def test_a_release_that_is_announced_twice_is_filled_once(world: World, shelf: Shelf) -> None:
    path, gate, opened = shelf.write(0.9, encoder="dummy-128"), Gate(15), list[str]()
    story(world, users=30)
    with world.worker(open=opening(shelf, opened), fail_point=gate) as made:
        announce(world, path)
        gate.await_reached()
        announce(world, path)
        gate.open()
        await_space(made, NEW)
        announce(world, path)
        made.finish()
    assert opened == [path.name]


def test_readyz_tells_how_far_a_back_fill_is_and_stays_ready(world: World, shelf: Shelf) -> None:
    path, gate = shelf.write(0.9, encoder="dummy-128"), Gate(15)
    story(world, users=30)
    with world.worker(open=shelf.open, fail_point=gate) as made:
        made.finish()
        announce(world, path)
        gate.await_reached()

        def told() -> Any:
            ready, said = made.health.report()
            return ready and f"space {NEW[:12]} is filled beside" in str(said.get("notices"))

        eventually(told, "it is told")
        assert made.value("kindred_backfill_remaining") > 0
        gate.open()
        await_space(made, NEW)
